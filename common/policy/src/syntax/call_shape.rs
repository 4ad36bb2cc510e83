//! What is written in rules about calls of tools and servers, and about the machine.

use super::{
    policy_shape::{LIST_OF_HASHES, LIST_OF_PATHS},
    rule_shape::{Action, LOOSENED_BY_KEY, SEVERITIES},
    scalars::{FLAG, GLOB, HOST, NPM, PACKAGE_VERSION, PROGRAM, PYPI, REASON, TOOL, URL, WORD},
    shape::{Demand, Key, List, Record, Shape, list_of, optional, required, words},
};
use crate::{
    call::Files,
    mcp::Registry,
    posture::Trait,
    tool::{Opaque, Secret},
};

/// Every tool.
pub(crate) const EVERY_TOOL: &str = "*";
/// Every kind of what is asked for.
pub(crate) const ANY: [(&str, ()); 1] = [("any", ())];
/// The words for whether a machine of which it is not known falls short.
pub(crate) const ON_UNKNOWN: [(&str, bool); 2] = [("deny", true), ("allow", false)];

static ACTIONS_OF_DEFAULTS: [&str; 2] = words(&Action::OF_DEFAULTS);
static ANY_WORD: [&str; 1] = words(&ANY);
static EVERY_TOOL_WORD: [&str; 1] = [EVERY_TOOL];
static FILES_WORDS: [&str; 2] = words(&Files::WORDS);
static SECRETS: [&str; Secret::WORDS.len()] = words(&Secret::WORDS);
static OPAQUE: [&str; Opaque::WORDS.len()] = words(&Opaque::WORDS);
static ON_UNKNOWN_WORDS: [&str; 2] = words(&ON_UNKNOWN);

/// The keys of a rule about calls of tools.
pub(super) static TOOL_KEYS: [Key; 2] = [
    required("tools", NAMES, "The tools, as the agent calls them; `[\"*\"]` for all of them."),
    optional("when", Shape::Record(&WHEN), "What the arguments have to say; without it every call is meant."),
];

/// The keys of a rule about calls of servers.
pub(super) static MCP_KEYS: [Key; 2] = [
    optional("servers", Shape::List(&SERVERS), "The servers, by what they are; all of them without it."),
    optional("tools", NAMES, "Their tools, as the server calls them; all of them without it."),
];

/// The keys of a rule about the machine.
pub(super) static POSTURE_KEYS: [Key; 2] = [
    required("require", Shape::Record(&REQUIRE), "What the machine has to have, or not to have."),
    optional(
        "on_unknown",
        Shape::Word(&ON_UNKNOWN_WORDS),
        "Whether a machine of which it is not known falls short: `deny` (the default) or `allow`.",
    ),
];

/// Names of tools: all of them, or some.
const NAMES: Shape = Shape::Either(&[Shape::List(&EVERY), Shape::List(&LIST_OF_TOOLS)]);
static EVERY: List = List { items_max: Some(1), ..list_of(Shape::Word(&EVERY_TOOL_WORD)) };
static LIST_OF_TOOLS: List = list_of(Shape::Text(&TOOL));

/// The value of `when`.
pub(crate) static WHEN: Record = Record {
    name: "when",
    what: "`when`",
    doc: "What the arguments of a call have to say. All of its keys have to hold.",
    keys: &[&WHEN_KEYS],
    demands: &[Demand::AnyOf(&[
        "programs", "words", "flags", "reads", "writes", "hosts", "secrets", "opaque",
    ])],
    is_inline: true,
};

static WHEN_KEYS: [Key; 8] = [
    optional(
        "programs",
        Shape::List(&PROGRAMS),
        "A command that runs one of these: names, or paths from `/` on.",
    ),
    optional("words", Shape::List(&WORDS), "A command that has each of these arguments."),
    optional("flags", Shape::List(&FLAGS), "A command that has one of these flags, without their values."),
    optional("reads", FILES, "A file that is read."),
    optional("writes", FILES, "A file that is written, made, moved or removed."),
    optional("hosts", Shape::List(&HOSTS), "A host that is named."),
    optional(
        "secrets",
        Shape::Either(&[Shape::Word(&ANY_WORD), Shape::List(&LIST_OF_SECRETS)]),
        "A secret in the arguments, told by its shape.",
    ),
    optional(
        "opaque",
        Shape::Either(&[Shape::Word(&ANY_WORD), Shape::List(&LIST_OF_OPAQUE)]),
        "A part that cannot be followed.",
    ),
];

const FILES: Shape = Shape::Either(&[Shape::Word(&FILES_WORDS), Shape::List(&LIST_OF_PATHS)]);
static PROGRAMS: List = list_of(Shape::Text(&PROGRAM));
static WORDS: List = list_of(Shape::Text(&WORD));
static FLAGS: List = list_of(Shape::Text(&FLAG));
static HOSTS: List = list_of(Shape::Text(&HOST));
static LIST_OF_SECRETS: List = list_of(Shape::Word(&SECRETS));
static LIST_OF_OPAQUE: List = list_of(Shape::Word(&OPAQUE));
static SERVERS: List = list_of(Shape::Record(&SERVER));

/// An item of `servers`.
pub(crate) static SERVER: Record = Record {
    name: "server",
    what: "an item of `servers`",
    doc: "A server by what it is. All of its keys have to hold.",
    keys: &[&[
        optional("package", Shape::Record(&PACKAGE), "The package that the script is of."),
        optional("interpreter", Shape::Scalar(&GLOB), "What the server's process executes: a pattern."),
        optional("interpreter_sha256", Shape::List(&LIST_OF_HASHES), "What that holds."),
        optional("script_sha256", Shape::List(&LIST_OF_HASHES), "What the script holds that it runs."),
        optional("url", Shape::Text(&URL), "The address of a remote server, or one above it."),
    ]],
    demands: &[Demand::AnyOf(&["package", "interpreter", "interpreter_sha256", "script_sha256", "url"])],
    is_inline: true,
};

/// The value of `package`.
pub(crate) static PACKAGE: Record = Record {
    name: "package",
    what: "`package`",
    doc: "A package of a registry, in one version or in any.",
    keys: &[&[
        optional(Registry::WORDS[0].0, Shape::Text(&NPM), "Its name in the registry of npm."),
        optional(Registry::WORDS[1].0, Shape::Text(&PYPI), "Its name in the Python Package Index."),
        optional("version", Shape::Text(&PACKAGE_VERSION), "Its version, compared byte by byte."),
    ]],
    demands: &[
        Demand::AnyOf(&[Registry::WORDS[0].0, Registry::WORDS[1].0]),
        Demand::Excludes(Registry::WORDS[0].0, Registry::WORDS[1].0),
    ],
    is_inline: true,
};

/// The value of `require`.
pub(crate) static REQUIRE: Record = Record {
    name: "require",
    what: "`require`",
    doc: "What the machine has to have (`true`), or not to have (`false`).",
    keys: &[&TRAITS],
    demands: &[Demand::AnyOf(&TRAIT_NAMES)],
    is_inline: true,
};

static TRAIT_NAMES: [&str; Trait::WORDS.len()] = words(&Trait::WORDS);

/// What is said of a machine.
pub(super) static TRAITS: [Key; Trait::WORDS.len()] = [
    optional(Trait::DiskEncryption.name(), Shape::Boolean, "The disk with the files is encrypted."),
    optional(Trait::SecureBoot.name(), Shape::Boolean, "What was booted is signed, and was verified."),
    optional(
        Trait::EndpointProtection.name(),
        Shape::Boolean,
        "Another product that protects the machine runs.",
    ),
];

/// The value of `defaults`.
pub(crate) static DEFAULTS: Record = Record {
    name: "defaults",
    what: "`defaults`",
    doc: "What holds where no rule is about it. Rules that allow lift it.",
    keys: &[&DEFAULTS_KEYS],
    demands: &[],
    is_inline: false,
};

static DEFAULTS_KEYS: [Key; 7] = [
    optional("read", Shape::Record(&DEFAULT), "For reading files."),
    optional("write", Shape::Record(&DEFAULT), "For all else that is done with files."),
    optional("exec", Shape::Record(&DEFAULT), "For execution."),
    optional("connect", Shape::Record(&DEFAULT), "For addresses in the network."),
    optional("unix", Shape::Record(&DEFAULT), "For unix sockets."),
    optional("tool", Shape::Record(&DEFAULT), "For calls of tools."),
    optional("mcp", Shape::Record(&DEFAULT), "For calls of servers."),
];

/// A default.
pub(crate) static DEFAULT: Record = Record {
    name: "default",
    what: "a default",
    doc: "A rule about all there is of its kind, below all others.",
    keys: &[&[
        required("action", Shape::Word(&ACTIONS_OF_DEFAULTS), "What comes of it."),
        optional("severity", Shape::Word(&SEVERITIES), "How bad a match is; `medium` without it."),
        LOOSENED_BY_KEY,
        required("reason", Shape::Text(&REASON), "Why. It is shown to the agent and to the developer."),
    ]],
    demands: &[],
    is_inline: true,
};
