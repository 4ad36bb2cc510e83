//! The excepted executable, started so that the exception does not apply.

use super::{Case, denied};
use crate::act::tool;

pub(super) const CASES: &[Case] = &[
    denied("exception-with-preloaded-library", "keys", || read_with("LD_PRELOAD=/nonexistent")),
    denied("exception-with-configured-library", "keys", || read_with("OPENSSL_CONF=/nonexistent")),
];

/// Has the excepted executable read the key with one more variable in its environment.
fn read_with(variable: &str) -> std::io::Result<()> {
    let command = format!("{variable} exec /usr/local/bin/trusted act read /home/dev/.ssh/id_ed25519");
    tool(&["/usr/bin/bash", "-c", &command])
}
