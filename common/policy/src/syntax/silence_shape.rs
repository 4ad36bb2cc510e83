//! What is written where an author keeps what a lint warns of.

use super::{
    scalars::REASON,
    shape::{Key, Record, Shape, optional},
};
use crate::code::Code;

/// The value of the key `silence`, of a rule or of a file.
pub(crate) static SILENCE: Record = Record {
    name: "silence",
    what: "`silence`",
    doc: "Warnings that are meant to be, by their codes, each with the reason why.",
    keys: &[&KEYS],
    demands: &[],
    is_inline: true,
};

static KEYS: [Key; Code::LINTS.len()] = {
    const EMPTY: Key = optional("", Shape::Text(&REASON), "Why it is meant to be.");
    let mut keys = [EMPTY; Code::LINTS.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at].name = Code::LINTS[at].name();
        at += 1;
    }
    keys
};
