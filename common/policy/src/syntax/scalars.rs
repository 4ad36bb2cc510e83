//! Scalars of the language: texts with bounds, and what has a syntax of its own.

use super::shape::{Form, Numbers, Scalar, Text};
use treeline_event::attributes::CLAIM_LEN_MAX;

use crate::object::TOOL_NAME_LEN_MAX;

/// Lower-case letters and digits, separated by `-`.
const KEBAB: &str = "^[a-z0-9]+(-[a-z0-9]+)*$";
/// Characters of a word of a command, a flag, a program, or a package's name or version.
const WORD_CHARS_MAX: usize = 256;
/// The largest whole number that every reader of JSON keeps exactly.
const WHOLE_MAX: i64 = (1 << 53) - 1;

/// A policy's name: it is in every denial.
pub(crate) static NAME: Text = Text { chars_max: 64, form: Form::Line };
/// A description.
pub(crate) static DESCRIPTION: Text = Text { chars_max: 4096, form: Form::Lines };
/// Who answers for a policy.
pub(crate) static OWNER: Text = Text { chars_max: 256, form: Form::Line };
/// An id: it is in every entry that the rule makes.
pub(crate) static ID: Text = Text { chars_max: 64, form: Form::Exactly(KEBAB) };
/// The id of a rule whose refusals can be approved of.
pub(crate) static RULE_ID: Text = Text {
    chars_max: 64,
    form: Form::Exactly("^(default/(read|write|exec|connect|unix)|[a-z0-9]+(-[a-z0-9]+)*)$"),
};
/// A user or a group of the machine, by name or number.
pub(crate) static ACCOUNT: Text =
    Text { chars_max: 64, form: Form::Exactly(r"^[A-Za-z0-9_.][A-Za-z0-9_.@\\-]*\$?$") };
/// A reason: it is shown in a terminal and read by an agent.
pub(crate) static REASON: Text = Text { chars_max: 1024, form: Form::Lines };
/// A remedy: it is shown with the reason.
pub(crate) static REMEDY: Text = Text { chars_max: 1024, form: Form::Lines };
/// A link, as long as every browser takes it: https, a host without a user, and ASCII.
pub(crate) static LINK: Text =
    Text { chars_max: 2000, form: Form::Exactly(r#"^https://[!-"$-.0->A-~]+([/?#][!-~]*)?$"#) };
/// The name that an auditor has for a control.
pub(crate) static CONTROL: Text = Text { chars_max: 64, form: Form::Line };
/// The name of a user in a test.
pub(crate) static USER: Text = Text { chars_max: 64, form: Form::Line };
/// What a session says of itself.
pub(crate) static CLAIM: Text = Text { chars_max: CLAIM_LEN_MAX, form: Form::Line };
/// A remote of a repository.
pub(crate) static REMOTE: Text =
    Text { chars_max: CLAIM_LEN_MAX, form: Form::Exactly(r"^[0-9a-z_.:-]+(/[!-)+-.0-@\[-~]+)+$") };
/// A remote of a repository: a host and a path, as in `github.com/acme/app`, or `/*` at the end for all below.
pub(crate) static REPOSITORY: Text = Text {
    chars_max: CLAIM_LEN_MAX,
    form: Form::Exactly(r"^[0-9a-z_.:-]+((/[!-)+-.0-@\[-~]+)+(/\*)?|/\*)$"),
};
/// A name of a tool.
pub(crate) static TOOL: Text =
    Text { chars_max: TOOL_NAME_LEN_MAX, form: Form::Exactly("^[A-Za-z0-9_.:-]+$") };
/// A word of a command: something is to be seen of it.
pub(crate) static WORD: Text = Text {
    chars_max: WORD_CHARS_MAX,
    form: Form::Exactly(r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"),
};
/// A name of a package of npm.
pub(crate) static NPM: Text = Text {
    chars_max: WORD_CHARS_MAX,
    form: Form::Exactly("^(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$"),
};
/// A name of a package of the Python Package Index.
pub(crate) static PYPI: Text =
    Text { chars_max: WORD_CHARS_MAX, form: Form::Exactly("^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$") };
/// A version of a package.
pub(crate) static PACKAGE_VERSION: Text =
    Text { chars_max: WORD_CHARS_MAX, form: Form::Exactly("^[A-Za-z0-9.+!_-]+$") };
/// A program: a name, or a path from `/` on.
pub(crate) static PROGRAM: Text = Text {
    chars_max: WORD_CHARS_MAX,
    form: Form::Exactly(
        r"^(/[^\x00-\x1f\x7f-\x9f]*|[^/\x00-\x1f\x7f-\x9f]*[^/\s\x00-\x1f\x7f-\x9f][^/\x00-\x1f\x7f-\x9f]*)$",
    ),
};
/// A flag, without its value.
pub(crate) static FLAG: Text =
    Text { chars_max: WORD_CHARS_MAX, form: Form::Exactly(r"^-[^=\x00-\x1f\x7f-\x9f]+$") };
/// A host, as it is compared, or `*.` and a domain.
pub(crate) static HOST: Text =
    Text { chars_max: WORD_CHARS_MAX, form: Form::Exactly(r"^(\*\.)?[0-9a-z_.:-]+$") };
/// An address of a service.
pub(crate) static URL: Text =
    Text { chars_max: 2000, form: Form::Exactly(r"^([Hh][Tt][Tt][Pp]|[Ww][Ss])[Ss]?://[!-~]+$") };
/// A path below the directory of the file that it is in: no name of it is empty, `.` or `..`.
pub(crate) static BELOW: Text = Text {
    chars_max: 256,
    form: Form::Exactly(r"^([^/.~][^/]*|\.[^/.][^/]*|\.\.[^/]+)(/([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+))*$"),
};

/// The version of the language.
pub(crate) static VERSION: Scalar = Scalar {
    name: "version",
    doc: "The version of the policy language.",
    pattern: None,
    numbers: Numbers::From(super::VERSION as i64, super::VERSION as i64),
    examples: &["1"],
};
/// The number of a revision.
pub(crate) static REVISION: Scalar = Scalar {
    name: "revision",
    doc: "A number that grows with every revision.",
    pattern: None,
    numbers: Numbers::From(1, WHOLE_MAX),
    examples: &["42"],
};
/// The priority of a rule.
pub(crate) static PRIORITY: Scalar = Scalar {
    name: "priority",
    doc: "A rule that allows lifts those of its kind with a lower one.",
    pattern: None,
    numbers: Numbers::From(-1000, 1000),
    examples: &["0", "10", "-3"],
};
/// The number of a user or a group; the largest stands for nobody.
pub(crate) static ID_NUMBER: Scalar = Scalar {
    name: "account-number",
    doc: "The number of a user or a group.",
    pattern: None,
    numbers: Numbers::From(0, u32::MAX as i64 - 1),
    examples: &["0", "1000"],
};
/// A pattern for paths.
pub(crate) static GLOB: Scalar = Scalar {
    name: "glob",
    doc: "A pattern for paths: it begins with `/`, `~/` (the home of every user) or `**/` (everywhere). A name has one `*`, or `?` for single bytes; `**` stands for any directories.",
    pattern: Some(r"^(/|~/|~$|\*\*/|\*\*$)"),
    numbers: Numbers::None,
    examples: &["\"~/.ssh/**\"", "\"/etc/shadow\"", "\"**/.env\""],
};
/// A pattern for paths, or a list of them.
pub(crate) static GLOBS: Scalar = Scalar {
    name: "glob-or-list",
    doc: "A pattern for paths, or `$name` for a list of `lists.paths`.",
    pattern: Some(r"^(/|~/|~$|\*\*/|\*\*$|\$)"),
    numbers: Numbers::None,
    examples: &["\"~/.aws/**\"", "\"/var/lib/*/keys\""],
};
/// A unix socket, or a list of paths.
pub(crate) static SOCKETS: Scalar = Scalar {
    name: "socket-or-list",
    doc: "A unix socket: a pattern for its path, `@` and a pattern for its abstract name, or `$name` for a list of `lists.paths`.",
    pattern: Some(r"^(/|~/|~$|\*\*/|\*\*$|\$|@)"),
    numbers: Numbers::None,
    examples: &["\"/run/docker.sock\"", "\"@/tmp/.X11-unix/*\""],
};
/// Addresses, or a list of them.
pub(crate) static NETS: Scalar = Scalar {
    name: "net-or-list",
    doc: "An address, a block of them, or `$name` for a list of `lists.addresses`. Host names cannot be matched.",
    pattern: Some(r"^([0-9A-Fa-f:.]+(/[0-9]+)?$|\$)"),
    numbers: Numbers::None,
    examples: &["\"10.0.0.0/8\"", "\"169.254.169.254\"", "\"fd00::/8\""],
};
/// A content.
pub(crate) static HASH: Scalar = Scalar {
    name: "hash",
    doc: "A SHA-256: what `sha256sum FILE` prints first.",
    pattern: Some("^[0-9A-Fa-f]{64}$"),
    numbers: Numbers::Any,
    examples: &["\"5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef\""],
};
/// A content, or a list of them.
pub(crate) static HASHES: Scalar = Scalar {
    name: "hash-or-list",
    doc: "A SHA-256, or `$name` for a list of `lists.hashes`.",
    pattern: Some(r"^([0-9A-Fa-f]{64}$|\$)"),
    numbers: Numbers::Any,
    examples: &["\"0f2f2ea1e1c0ab0fb3d9d7b0cf0b36ea7e50a8e8d0c97ee5a0bb8dcc5d5f2b6a\""],
};
/// A port or a range.
pub(crate) static PORT: Scalar = Scalar {
    name: "port",
    doc: "A port, or a range of them such as `8000-8999`.",
    pattern: Some("^ *[0-9]+ *(- *[0-9]+ *)?$"),
    numbers: Numbers::From(0, 65_535),
    examples: &["443", "\"8000-8999\"", "\"53\""],
};
/// A moment.
pub(crate) static DATE: Scalar = Scalar {
    name: "date",
    doc: "A date, which is its first second in UTC, or a moment of UTC such as `2099-01-02T06:30:00Z`.",
    pattern: Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?$"),
    numbers: Numbers::None,
    examples: &["\"2099-01-02\"", "\"2099-01-02T06:30:00Z\""],
};
/// A length of time.
pub(crate) static DURATION: Scalar = Scalar {
    name: "duration",
    doc: "A length of time: a whole number of seconds (`90s`), minutes (`15m`) or hours (`8h`), a day at the most.",
    pattern: Some("^[1-9][0-9]{0,4}[smh]$"),
    numbers: Numbers::None,
    examples: &["\"15m\"", "\"90s\"", "\"8h\""],
};
/// A file's own path.
pub(crate) static PATH: Scalar = Scalar {
    name: "path",
    doc: "A file's own path, from `/` on and without `..`.",
    pattern: Some("^/"),
    numbers: Numbers::None,
    examples: &["\"/usr/bin/git\"", "\"/home/ada/.ssh/id_ed25519\""],
};
/// What of [`OBJECT`] is a call of a tool.
pub(crate) const TOOL_OBJECT: &str = r"^[\s\x85]*tool([\s\x85]|$)";
/// What is done.
pub(crate) static OBJECT: Scalar = Scalar {
    name: "object",
    doc: "What is done: an operation on a path, `exec PATH`, `connect ADDRESS:PORT`, `unix PATH`, `unix @NAME`, `raw-socket`, `trace`, `tool NAME`, `mcp NAME` or `posture`.",
    pattern: Some(
        r"^[\s\x85]*(read|write|create|delete|rename|link|exec|connect|unix|raw-socket|trace|tool|mcp|posture)([\s\x85]|$)",
    ),
    numbers: Numbers::None,
    examples: &[
        "\"exec /usr/bin/nc\"",
        "\"exec /usr/bin/ssh\"",
        "\"mcp search\"",
        "\"tool Bash\"",
        "\"posture\"",
    ],
};
/// What a policy is to decide.
pub(crate) static ANSWER: Scalar = Scalar {
    name: "answer",
    doc: "What the policy is to decide: `allow`, or `deny RULE`, `record RULE` or `adopt RULE` with the rule that decides.",
    pattern: Some(r"^[ \t\n\f\r]*(allow|(deny|record|adopt)[ \t\n\f\r]+[^ \t\n\f\r]+)[ \t\n\f\r]*$"),
    numbers: Numbers::None,
    examples: &["\"allow\"", "\"deny ssh-keys\""],
};
