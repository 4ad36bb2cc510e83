//! The `treeline` binary.
fn main() {}
