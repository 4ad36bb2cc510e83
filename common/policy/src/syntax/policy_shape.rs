//! What is written in a policy and in the files that it includes, but for its rules.

use treeline_abi::paths;

use super::{
    approval_shape::APPROVAL,
    call_shape::DEFAULTS,
    rule_shape::RULE,
    scalars::{BELOW, DESCRIPTION, GLOBS, HASHES, ID, NAME, NETS, OWNER, REVISION, VERSION},
    shape::{Demand, Key, List, Names, Record, Shape, list_of, optional, required, words},
    silence_shape::SILENCE,
};
use crate::policy::Mode;

/// Rules of a policy. The sensor's own need room, too.
pub(crate) const RULES_MAX: usize = paths::RULES_MAX as usize - treeline_event::OWN_RULES.len();
/// Lists of a policy: one can be in another, and so on, and each is looked into by a call within a call.
pub(crate) const LISTS_MAX: usize = 256;

/// Approvals of a policy.
pub(crate) const APPROVALS_MAX: usize = 64;

/// The words for a mode.
pub(crate) const MODES: [(&str, Mode); 2] = [("monitor", Mode::Monitor), ("enforce", Mode::Enforce)];
/// The words for a mode, alone.
pub(super) static MODE_WORDS: [&str; 2] = words(&MODES);

/// A policy.
pub(crate) static POLICY: Record = Record {
    name: "policy",
    what: "a policy",
    doc: "What the processes of a tracked session may not do, or what of it is recorded.",
    keys: &[&[VERSION_KEY], &HEAD, &PARTS, &[DEFAULTS_KEY], &[APPROVALS_KEY], &[RULES_KEY]],
    demands: &[Demand::AnyOf(&["rules", "include"])],
    is_inline: false,
};

/// A file that a policy includes.
pub(crate) static PART: Record = Record {
    name: "part",
    what: "an included file",
    doc: "A part of a policy, which includes it.",
    keys: &[&[VERSION_KEY], &PARTS, &[RULES_KEY]],
    demands: &[],
    is_inline: false,
};

const VERSION_KEY: Key = required("version", Shape::Scalar(&VERSION), "The version of the policy language.");

/// Of a rule, too.
pub(super) const SILENCE_KEY: Key = optional(
    "silence",
    Shape::Record(&SILENCE),
    "Warnings of `treeline policy check` that are meant to be, with the reason.",
);

static HEAD: [Key; 5] = [
    required("name", Shape::Text(&NAME), "Its name. It is in every denial."),
    optional("description", Shape::Text(&DESCRIPTION), "What it is for."),
    optional("owner", Shape::Text(&OWNER), "Who answers for it, such as an address of mail."),
    optional("revision", Shape::Scalar(&REVISION), "Its number among its revisions."),
    optional(
        "mode",
        Shape::Word(&MODE_WORDS),
        "Whether rules that do not say refuse (`enforce`, the default) or only record (`monitor`).",
    ),
];

static PARTS: [Key; 3] = [
    SILENCE_KEY,
    optional(
        "include",
        Shape::List(&INCLUDE),
        "Files that are a part of this policy: paths below the directory of this file.",
    ),
    optional("lists", Shape::Record(&LISTS), "Lists that rules can use by `$name`."),
];

const DEFAULTS_KEY: Key =
    optional("defaults", Shape::Record(&DEFAULTS), "What holds where no rule is about it.");
const APPROVALS_KEY: Key = optional(
    "approvals",
    Shape::List(&APPROVALS),
    "Which of this policy's refusals can be approved of for a while, and by whom.",
);
const RULES_KEY: Key =
    optional("rules", Shape::List(&RULES), "What may not be done. Their order never matters.");

static APPROVALS: List = List {
    item: Shape::Record(&APPROVAL),
    may_be_empty: false,
    is_unique: false,
    items_max: Some(APPROVALS_MAX),
};
static INCLUDE: List = list_of(Shape::Text(&BELOW));
static RULES: List =
    List { item: Shape::Kinds(&RULE), may_be_empty: true, is_unique: false, items_max: Some(RULES_MAX) };

/// The lists of a policy.
pub(crate) static LISTS: Record = Record {
    name: "lists",
    what: "`lists`",
    doc: "Lists that rules can use by `$name`. A list can have others of its kind in it.",
    keys: &[&[
        optional("paths", Shape::Names(&PATHS), "Lists of patterns for paths."),
        optional("addresses", Shape::Names(&ADDRESSES), "Lists of addresses and blocks."),
        optional("hashes", Shape::Names(&HASHED), "Lists of contents, by SHA-256."),
    ]],
    demands: &[],
    is_inline: false,
};

static PATHS: Names = named(Shape::List(&LIST_OF_PATHS));
static ADDRESSES: Names = named(Shape::List(&LIST_OF_ADDRESSES));
static HASHED: Names = named(Shape::List(&LIST_OF_HASHES));
pub(super) static LIST_OF_PATHS: List = list_of(Shape::Scalar(&GLOBS));
pub(super) static LIST_OF_ADDRESSES: List = list_of(Shape::Scalar(&NETS));
pub(super) static LIST_OF_HASHES: List = list_of(Shape::Scalar(&HASHES));

const fn named(value: Shape) -> Names {
    Names { name: &ID, value, names_max: LISTS_MAX, is_inline: false }
}
