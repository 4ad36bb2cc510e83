//! Placeholder of the policy crate, replaced by its branch.

/// A checked policy.
#[derive(Clone, Debug)]
pub struct Policy {}
