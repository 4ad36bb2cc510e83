//! What is written where refusals can be approved of for a while.

use super::{
    scalars::{ACCOUNT, DURATION, RULE_ID},
    shape::{Demand, List, Record, Shape, list_of, optional, required},
};

/// Names in one list of an approval.
const NAMES_MAX: usize = 64;

/// An item of `approvals`.
pub(crate) static APPROVAL: Record = Record {
    name: "approval",
    what: "an item of `approvals`",
    doc: "Rules of this policy, and who may approve of what they refuse, for how long at the most.",
    keys: &[&[
        required("rules", Shape::List(&RULES), "The rules, by their ids; `default/KIND` for a default."),
        required("by", Shape::Record(&BY), "Who may approve."),
        required("for_at_most", Shape::Scalar(&DURATION), "For how long at the most."),
    ]],
    demands: &[],
    is_inline: true,
};

/// The value of `by`.
pub(crate) static BY: Record = Record {
    name: "approvers",
    what: "`by`",
    doc: "Who may approve: users, and members of groups, by name or number. Nobody else may, root included.",
    keys: &[&[
        optional("users", Shape::List(&ACCOUNTS), "Users."),
        optional("groups", Shape::List(&ACCOUNTS), "Groups."),
    ]],
    demands: &[Demand::AnyOf(&["users", "groups"])],
    is_inline: true,
};

static RULES: List = List { items_max: Some(NAMES_MAX), ..list_of(Shape::Text(&RULE_ID)) };
static ACCOUNTS: List = List { items_max: Some(NAMES_MAX), ..list_of(Shape::Text(&ACCOUNT)) };
