//! What is written in a file of tests.

use treeline_event::attributes::{GROUPS_MAX, REPOSITORIES_MAX};

use super::{
    call_shape::{PACKAGE, TRAITS},
    rule_shape::ACCOUNT,
    scalars::{ANSWER, BELOW, CLAIM, DATE, HASH, OBJECT, PATH, REMOTE, TOOL_OBJECT, URL, USER},
    shape::{Demand, List, Names, Record, Shape, list_of, optional, required, words},
};

/// Homes and mounts of a machine: more than the patterns of a test need.
pub(crate) const PLACES_MAX: usize = 64;
/// Executables before a process in its lineage, for one test.
pub(crate) const BELOW_MAX: usize = 64;

/// A file of tests.
pub(crate) static TESTS: Record = Record {
    name: "tests",
    what: "a test file",
    doc: "What a policy is to decide, one operation at a time.",
    keys: &[&[
        required("policy", Shape::Text(&BELOW), "The policy: a path from the directory of this file on."),
        optional("machine", Shape::Record(&MACHINE), "Where it is tested."),
        required("tests", Shape::List(&LIST), "The tests."),
    ]],
    demands: &[],
    is_inline: false,
};

static LIST: List =
    List { item: Shape::Record(&TEST), may_be_empty: false, is_unique: false, items_max: None };

/// The machine of tests.
pub(crate) static MACHINE: Record = Record {
    name: "machine",
    what: "`machine`",
    doc: "A machine that is made up: nothing is looked up on the one that runs the tests.",
    keys: &[&[
        optional("homes", Shape::Names(&HOMES), "The home of each user; `{root: /root}` without it."),
        optional("mounts", Shape::List(&MOUNTS), "Where other filesystems than that of `/` are mounted."),
        optional("now", Shape::Scalar(&DATE), "The time for rules that expire."),
        optional("cwd", Shape::Scalar(&PATH), "Where tools are called; the repository's root without it."),
        optional("repository", Shape::Scalar(&PATH), "The root of the repository there."),
    ]],
    demands: &[],
    is_inline: false,
};

static HOMES: Names =
    Names { name: &USER, value: Shape::Scalar(&PATH), names_max: PLACES_MAX, is_inline: true };
static MOUNTS: List = List { items_max: Some(PLACES_MAX), ..list_of(Shape::Scalar(&PATH)) };

/// One test.
pub(crate) static TEST: Record = Record {
    name: "test",
    what: "a test",
    doc: "One operation, and what is to come of it.",
    keys: &[&[
        required("do", Shape::Scalar(&OBJECT), "What is done."),
        optional("sha256", Shape::Scalar(&HASH), "With `exec`: the content of what is executed."),
        optional("input", Shape::Any, "With `tool`: what the tool is given."),
        optional("server", Shape::Record(&CALLED), "With `mcp`: the server; unknown without it."),
        optional("machine", Shape::Record(&POSTURE), "With `posture`: what is known of the machine."),
        optional("by", EXECUTED, "The executable that acts. Without it nothing is known of who acts."),
        optional(
            "below",
            Shape::List(&LINEAGE),
            "The executables before it in the lineage; `[]` is the session's root.",
        ),
        optional("session", Shape::Record(&OF_TEST), "What is known of its session; nothing without it."),
        required("expect", Shape::Scalar(&ANSWER), "What the policy is to decide."),
    ]],
    demands: &[Demand::TextNeeds { key: "do", pattern: TOOL_OBJECT, other: "input" }],
    is_inline: true,
};

/// The session of a test.
pub(crate) static OF_TEST: Record = Record {
    name: "session-of-test",
    what: "`session`",
    doc: "A session. What is not said is not known of it.",
    keys: &[&[
        optional("user", ACCOUNT, "Who began it: a name or a number."),
        optional("groups", Shape::List(&ACCOUNTS), "All groups of that user; `[]` for none."),
        optional("agent", Shape::Text(&CLAIM), "The agent, as it says."),
        optional("entry_point", Shape::Text(&CLAIM), "The way to use the agent, as it says."),
        optional("repositories", Shape::List(&REMOTES), "The remotes of its repository; `[]` for none."),
    ]],
    demands: &[],
    is_inline: true,
};

static ACCOUNTS: List = List { may_be_empty: true, items_max: Some(GROUPS_MAX), ..list_of(ACCOUNT) };
static REMOTES: List =
    List { may_be_empty: true, items_max: Some(REPOSITORIES_MAX), ..list_of(Shape::Text(&REMOTE)) };

/// The word for what is not known of a server.
pub(crate) const UNKNOWN: [(&str, ()); 1] = [("unknown", ())];
static UNKNOWN_WORD: [&str; 1] = words(&UNKNOWN);

const PATH_OR_UNKNOWN: Shape = Shape::Either(&[Shape::Word(&UNKNOWN_WORD), Shape::Scalar(&PATH)]);
const HASH_OR_UNKNOWN: Shape = Shape::Either(&[Shape::Word(&UNKNOWN_WORD), Shape::Scalar(&HASH)]);
const PACKAGE_OR_UNKNOWN: Shape = Shape::Either(&[Shape::Word(&UNKNOWN_WORD), Shape::Record(&PACKAGE)]);
const URL_OR_UNKNOWN: Shape = Shape::Either(&[Shape::Word(&UNKNOWN_WORD), Shape::Text(&URL)]);

/// A server.
pub(crate) static CALLED: Record = Record {
    name: "called",
    what: "`server`",
    doc: "A server: what is not said, it has not; what is `unknown`, it may have.",
    keys: &[&[
        optional("interpreter", PATH_OR_UNKNOWN, "The path of what its process executes."),
        optional("interpreter_sha256", HASH_OR_UNKNOWN, "What that holds."),
        optional("script", PATH_OR_UNKNOWN, "The path of the script that this runs."),
        optional("script_sha256", HASH_OR_UNKNOWN, "What the script holds."),
        optional("package", PACKAGE_OR_UNKNOWN, "The package that the script is of."),
        optional("url", URL_OR_UNKNOWN, "The address of a remote server, which has nothing else."),
    ]],
    demands: &[
        Demand::Excludes("url", "interpreter"),
        Demand::Excludes("url", "interpreter_sha256"),
        Demand::Excludes("url", "script"),
        Demand::Excludes("url", "script_sha256"),
        Demand::Excludes("url", "package"),
    ],
    is_inline: true,
};

/// What is known of the machine.
pub(crate) static POSTURE: Record = Record {
    name: "posture",
    what: "`machine`",
    doc: "What the machine has, or has not; what is not said is unknown.",
    keys: &[&TRAITS],
    demands: &[],
    is_inline: true,
};

const EXECUTED: Shape = Shape::Either(&[Shape::Scalar(&PATH), Shape::Record(&EXECUTABLE)]);

static LINEAGE: List =
    List { item: EXECUTED, may_be_empty: true, is_unique: false, items_max: Some(BELOW_MAX) };

/// An executable that is more than its path.
pub(crate) static EXECUTABLE: Record = Record {
    name: "executable",
    what: "an executable",
    doc: "An executable file, and what is known of it.",
    keys: &[&[
        required("executable", Shape::Scalar(&PATH), "Its own path."),
        optional("sha256", Shape::Scalar(&HASH), "Its content."),
        optional(
            "loads_code",
            Shape::Boolean,
            "Whether it was started with a variable that puts other code into it.",
        ),
    ]],
    demands: &[],
    is_inline: true,
};
