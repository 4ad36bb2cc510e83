//! What is written in a rule. A kind of rule is a row of [`RULE`]: its own keys between those that every rule has.

use super::{
    call_shape::{MCP_KEYS, POSTURE_KEYS, TOOL_KEYS},
    policy_shape::{LIST_OF_ADDRESSES, LIST_OF_HASHES, LIST_OF_PATHS, MODE_WORDS, SILENCE_KEY},
    scalars::{
        CLAIM, CONTROL, DATE, GLOB, HASH, ID, ID_NUMBER, LINK, PORT, PRIORITY, REASON, REMEDY, REPOSITORY,
        SOCKETS,
    },
    shape::{Demand, Key, Kinds, List, Presence, Record, Shape, list_of, optional, required, words},
};
use crate::{
    brokers,
    policy::{FileOperation, Level, Severity},
    session::CLAIMS,
};

/// Controls that one rule can be evidence for.
pub(crate) const CONTROLS_MAX: usize = 32;

/// What a rule does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Deny,
    Record,
    Adopt,
    Allow,
}

impl Action {
    /// The words in a rule about brokers.
    pub(crate) const OF_BROKERS: [(&'static str, Self); 3] =
        [("deny", Self::Deny), ("record", Self::Record), ("adopt", Self::Adopt)];
    /// The words in every other rule that has some.
    pub(crate) const OF_RULES: [(&'static str, Self); 3] =
        [("deny", Self::Deny), ("record", Self::Record), ("allow", Self::Allow)];
    /// The words in a default.
    pub(crate) const OF_DEFAULTS: [(&'static str, Self); 2] =
        [("deny", Self::Deny), ("record", Self::Record)];
}

pub(super) static SEVERITIES: [&str; 5] = words(&Severity::WORDS);
/// Levels whose rules can be let loosen others: there is one above them, and what is local only tightens.
pub(crate) const LEVELS_THAT_LOOSEN: [(&str, Level); 1] = [(Level::WORDS[1].0, Level::Team)];
static LOOSENERS: [&str; 1] = words(&LEVELS_THAT_LOOSEN);
static OPERATIONS: [&str; 6] = words(&FileOperation::WORDS);
static ACTIONS: [&str; 3] = words(&Action::OF_RULES);
static ACTIONS_OF_BROKERS: [&str; 3] = words(&Action::OF_BROKERS);

const ONE_ACTION: Demand = Demand::Excludes("mode", "action");
const ALLOWS_FOR_ITSELF: Demand = Demand::WordExcludes { key: "action", word: "allow", other: "loosened_by" };
const ALLOWS_ALL_PATHS: Demand = Demand::WordExcludes { key: "action", word: "allow", other: "except_paths" };

/// A rule.
pub(crate) static RULE: Kinds = Kinds {
    name: "rule",
    what: "a rule",
    doc: "What may not be done, or what of it is recorded, and why.",
    by: "kind",
    kinds: &[
        (
            "file",
            Record {
                name: "file-rule",
                what: "a rule of kind `file`",
                doc: "Operations on files.",
                keys: &[&HEAD, &ACTION_KEYS, &FILE, &TAIL],
                demands: &[ONE_ACTION, ALLOWS_FOR_ITSELF, ALLOWS_ALL_PATHS],
                is_inline: false,
            },
        ),
        (
            "exec",
            Record {
                name: "exec-rule",
                what: "a rule of kind `exec`",
                doc: "Code that is brought to run. A file matches by its path or by its content.",
                keys: &[&HEAD, &ACTION_KEYS, &EXEC, &TAIL],
                demands: &[
                    Demand::AnyOf(&["paths", "sha256"]),
                    ONE_ACTION,
                    ALLOWS_FOR_ITSELF,
                    ALLOWS_ALL_PATHS,
                    Demand::Needs("except_paths", "paths"),
                    Demand::WordExcludes { key: "action", word: "allow", other: "sha256" },
                ],
                is_inline: false,
            },
        ),
        (
            "connect",
            Record {
                name: "connect-rule",
                what: "a rule of kind `connect`",
                doc: "Destinations in the network, and unix sockets.",
                keys: &[&HEAD, &ACTION_KEYS, &CONNECT, &TAIL],
                demands: &[
                    Demand::AnyOf(&["to", "unix"]),
                    Demand::Needs("ports", "to"),
                    Demand::Needs("except_to", "to"),
                    Demand::Needs("except_unix", "unix"),
                    ONE_ACTION,
                    ALLOWS_FOR_ITSELF,
                    Demand::WordExcludes { key: "action", word: "allow", other: "except_unix" },
                ],
                is_inline: false,
            },
        ),
        (
            "broker",
            Record {
                name: "broker-rule",
                what: "a rule of kind `broker`",
                doc: "Programs that run others for whoever asks, outside of the session.",
                keys: &[&HEAD, &BROKER, &TAIL],
                demands: &[
                    ONE_ACTION,
                    Demand::WordExcludes { key: "action", word: "adopt", other: "except" },
                    Demand::WordExcludes { key: "action", word: "adopt", other: "loosened_by" },
                ],
                is_inline: false,
            },
        ),
        (
            "tool",
            Record {
                name: "tool-rule",
                what: "a rule of kind `tool`",
                doc: "Calls of an agent's tools, by what their arguments say.",
                keys: &[&HEAD, &ACTION_KEYS, &TOOL_KEYS, &TAIL],
                demands: &[
                    ONE_ACTION,
                    ALLOWS_FOR_ITSELF,
                    Demand::WordExcludesIn {
                        key: "action",
                        word: "allow",
                        within: "when",
                        others: &["secrets", "opaque"],
                    },
                ],
                is_inline: false,
            },
        ),
        (
            "mcp",
            Record {
                name: "mcp-rule",
                what: "a rule of kind `mcp`",
                doc: "Calls of servers of the Model Context Protocol, by what the servers are.",
                keys: &[&HEAD, &ACTION_KEYS, &MCP_KEYS, &TAIL],
                demands: &[ONE_ACTION, ALLOWS_FOR_ITSELF],
                is_inline: false,
            },
        ),
        (
            "posture",
            Record {
                name: "posture-rule",
                what: "a rule of kind `posture`",
                doc: "The state of the machine: it matches one that falls short.",
                keys: &[&HEAD, &POSTURE_KEYS, &TAIL],
                demands: &[],
                is_inline: false,
            },
        ),
    ],
};

static HEAD: [Key; 4] = [
    required(
        "id",
        Shape::Text(&ID),
        "Its name, unique in the policy: lower-case letters and digits, separated by `-`.",
    ),
    required("kind", Shape::Kind, "What it is about."),
    optional(
        "mode",
        Shape::Word(&MODE_WORDS),
        "Whether it refuses (`enforce`) or only records (`monitor`); without it, the policy's mode.",
    ),
    optional("severity", Shape::Word(&SEVERITIES), "How bad a match is; `medium` without it."),
];

/// What most rules can have.
static ACTION_KEYS: [Key; 3] = [
    optional(
        "action",
        Shape::Word(&ACTIONS),
        "Instead of `mode`: `deny`, `record`, or `allow`, which lifts rules of its kind with a lower `priority`.",
    ),
    PRIORITY_KEY,
    LOOSENED_BY_KEY,
];
const PRIORITY_KEY: Key = optional(
    "priority",
    Shape::Scalar(&PRIORITY),
    "Which rules it lifts, which lift it, and who is named first; 0 without it.",
);

/// Of a default, too.
pub(super) const LOOSENED_BY_KEY: Key = optional(
    "loosened_by",
    Shape::List(&LOOSENED_BY),
    "Levels below the policy's whose rules can allow against it: `team`. None without it.",
);

static FILE: [Key; 3] = [
    required("paths", Shape::List(&LIST_OF_PATHS), "The files: patterns, or lists of them."),
    optional(
        "operations",
        Shape::List(&LIST_OF_OPERATIONS),
        "What is done with them; everything without it.",
    ),
    EXCEPT_PATHS,
];
const EXCEPT_PATHS: Key =
    optional("except_paths", Shape::List(&LIST_OF_PATHS), "Files of `paths` that are not meant.");

static EXEC: [Key; 3] = [
    optional("paths", Shape::List(&LIST_OF_PATHS), "The files: patterns, or lists of them."),
    EXCEPT_PATHS,
    optional("sha256", Shape::List(&LIST_OF_HASHES), "The contents, by SHA-256."),
];

static CONNECT: [Key; 6] = [
    optional("to", Shape::List(&LIST_OF_ADDRESSES), "Addresses and blocks."),
    optional("ports", Shape::List(&LIST_OF_PORTS), "Ports and ranges of them; every port without it."),
    optional("except_to", Shape::List(&LIST_OF_EXCEPT_TO), "Addresses and ports that are not meant."),
    optional("unix", Shape::List(&LIST_OF_SOCKETS), "Unix sockets, by path or by abstract name."),
    optional("except_unix", Shape::List(&LIST_OF_SOCKETS), "Sockets of `unix` that are not meant."),
    Key { name: "hosts", shape: Shape::List(&LIST_OF_PATHS), presence: Presence::Refused, doc: "" },
];

static BROKER: [Key; 4] = [
    optional(
        "action",
        Shape::Word(&ACTIONS_OF_BROKERS),
        "Instead of `mode`: `deny`, `record`, or `adopt`, which takes whoever does the work into the session.",
    ),
    PRIORITY_KEY,
    LOOSENED_BY_KEY,
    required("brokers", Shape::List(&LIST_OF_BROKERS), "The brokers."),
];

static TAIL: [Key; 8] = [
    optional("expires", Shape::Scalar(&DATE), "From when on it is not in force."),
    required("reason", Shape::Text(&REASON), "Why. It is shown to the agent and to the developer."),
    optional("remedy", Shape::Text(&REMEDY), "What to do instead."),
    optional("link", Shape::Text(&LINK), "An https address with more about it."),
    optional("controls", Shape::List(&CONTROLS), "Controls that it is evidence for, by their names."),
    optional("except", Shape::List(&EXCEPTIONS), "Who it does not hold for."),
    optional("only", Shape::List(&ONLY), "Who it holds for; everybody without it."),
    SILENCE_KEY,
];

static LIST_OF_OPERATIONS: List = list_of(Shape::Word(&OPERATIONS));
static LOOSENED_BY: List = list_of(Shape::Word(&LOOSENERS));
static LIST_OF_PORTS: List = list_of(Shape::Scalar(&PORT));
static LIST_OF_SOCKETS: List = list_of(Shape::Scalar(&SOCKETS));
static LIST_OF_BROKERS: List = list_of(Shape::Word(&brokers::WORDS));
static LIST_OF_EXCEPT_TO: List =
    List { item: Shape::Record(&EXCEPT_TO), may_be_empty: false, is_unique: false, items_max: None };
static CONTROLS: List = List { items_max: Some(CONTROLS_MAX), ..list_of(Shape::Text(&CONTROL)) };
static EXCEPTIONS: List = list_of(Shape::Record(&EXCEPTION));
static ONLY: List = list_of(Shape::Record(&ONLY_ITEM));

/// An item of `except_to`.
pub(crate) static EXCEPT_TO: Record = Record {
    name: "except-to",
    what: "an item of `except_to`",
    doc: "Addresses, with the ports that are meant.",
    keys: &[&[
        required("to", Shape::List(&LIST_OF_ADDRESSES), "Addresses and blocks."),
        optional("ports", Shape::List(&LIST_OF_PORTS), "Ports and ranges of them; every port without it."),
    ]],
    demands: &[],
    is_inline: false,
};

/// An item of `except`.
pub(crate) static EXCEPTION: Record =
    Record { name: "exception", what: "an exception", doc: "Who the rule does not hold for.", ..SUBJECT };
/// An item of `only`.
pub(crate) static ONLY_ITEM: Record =
    Record { name: "only", what: "an item of `only`", doc: "Who the rule holds for.", ..SUBJECT };

const SUBJECT: Record = Record {
    name: "",
    what: "",
    doc: "",
    keys: &[
        &EXECUTABLE,
        &[
            optional(
                "descendant_of",
                Shape::Record(&ANCESTOR),
                "It, or a process before it in its lineage, has executed this.",
            ),
            optional("session", Shape::Record(&SESSION), "Its session is such a one."),
            optional("reason", Shape::Text(&REASON), "Why; read by people."),
        ],
    ],
    demands: &[Demand::AnyOf(&SUBJECT_KEYS)],
    is_inline: false,
};

/// What an item of `except` or `only` can ask for: one of these at the least.
pub(crate) const SUBJECT_KEYS: [&str; 4] = ["executable", "sha256", "descendant_of", "session"];

/// The value of `session`.
pub(crate) static SESSION: Record = Record {
    name: "session",
    what: "`session`",
    doc: "A session: one of each list has to be so.",
    keys: &[&[
        optional("users", Shape::List(&ACCOUNTS), "Users, by name or number: who began the session."),
        optional("groups", Shape::List(&ACCOUNTS), "Groups, by name or number, of that user."),
        optional(CLAIMS[0], Shape::List(&CLAIMED), "Agents, as the session's launcher says."),
        optional(CLAIMS[1], Shape::List(&CLAIMED), "Ways to use the agent, as the launcher says."),
        optional(
            CLAIMS[2],
            Shape::List(&REPOSITORIES),
            "Remotes of the repository that it began in, as the launcher says, or `/*` for all below.",
        ),
    ]],
    demands: &[Demand::AnyOf(&["users", "groups", CLAIMS[0], CLAIMS[1], CLAIMS[2]])],
    is_inline: true,
};

/// A user or a group: a name or a number.
pub(super) const ACCOUNT: Shape = Shape::Either(&[Shape::Text(&CLAIM), Shape::Scalar(&ID_NUMBER)]);
static ACCOUNTS: List = list_of(ACCOUNT);
static CLAIMED: List = list_of(Shape::Text(&CLAIM));
static REPOSITORIES: List = list_of(Shape::Text(&REPOSITORY));

/// The value of `descendant_of`.
pub(crate) static ANCESTOR: Record = Record {
    name: "ancestor",
    what: "`descendant_of`",
    doc: "A file that was executed: by its path, its content, or both.",
    keys: &[&EXECUTABLE],
    demands: &[Demand::AnyOf(&["executable", "sha256"])],
    is_inline: true,
};

static EXECUTABLE: [Key; 2] = [
    optional(
        "executable",
        Shape::Scalar(&GLOB),
        "The executable file that runs: a pattern for its own path.",
    ),
    optional("sha256", Shape::Scalar(&HASH), "The content of that file."),
];
