//! What a shell command does, as far as its text tells: programs with their arguments, files, hosts and secrets, and what of
//! it cannot be told.
//!
//! [`features`] never runs anything and looks nothing up. What it finds is never less than what a shell would do, or
//! [`Features::opaque`] says why: a text that two readers could take apart in different ways, a name that is known only when the
//! command runs, an `eval`. What a *program* does by itself (`make`, `git` with its hooks and aliases, a script) is not in the text,
//! and not here: for that there are the kernel's rules.
//!
//! The grammar is `brush-parser`'s, which can hang and take memory without bound on a few bytes. [`lex`] refuses what is known to do
//! so, in time that grows with the text alone; against the rest [`features`] has to run in a process that can be ended.
#![forbid(unsafe_code)]

mod arithmetic;
mod builtins;
mod call;
mod command;
mod curl;
mod dialect;
mod directories;
mod escape;
mod files;
mod git;
mod known;
mod lex;
mod lost;
mod operands;
mod options;
mod parse;
mod programs;
mod redirect;
pub mod secrets;
mod sed;
mod unit;
mod variables;
mod walk;
mod word;
mod wrapper;

pub use treeline_policy::tool::Workplace as Context;
use treeline_policy::tool::{Features, Opaque};

pub use self::call::{Here, Shell, of_call};

/// Bytes of a command that are looked at.
pub const COMMAND_LEN_MAX: usize = 64 << 10;

/// What a command does, as bash would take it apart.
#[must_use]
pub fn features(command: &str, context: &Context) -> Features {
    let secrets = secrets::kinds(command);
    let mut features = if command.len() > COMMAND_LEN_MAX {
        Features::unknown(Opaque::Bounds)
    } else if command.contains('\0') {
        Features::unknown(Opaque::Syntax)
    } else {
        walk::walk(command, context)
    };
    features.secrets = secrets;
    features.is_scanned = true;
    features.repository.clone_from(&context.repository);
    features.sorted()
}
