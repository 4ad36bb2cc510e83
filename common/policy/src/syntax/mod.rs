//! The syntax of policies and of their tests: what can be written where, as the reader, editors and `fmt` need it.
//!
//! [`shape`] is how it is described, and the files `*_shape` are the description. A key that is added there is known to the
//! reader, is in the schema, and has its place when a file is printed; what it means is the reader's to say.

pub(crate) mod approval_shape;
pub(crate) mod call_shape;
mod format;
mod json;
mod layout;
pub(crate) mod policy_shape;
mod print;
pub(crate) mod rule_shape;
mod scalar;
pub(crate) mod scalars;
mod schema;
pub(crate) mod shape;
pub(crate) mod silence_shape;
pub(crate) mod test_shape;
#[cfg(test)]
mod tests;

pub use self::{
    format::{Unformatted, format},
    json::Json,
    schema::schema,
};
use self::{
    policy_shape::{PART, POLICY},
    shape::Record,
    test_shape::TESTS,
};

/// The version of the language that this crate reads.
pub const VERSION: u32 = 1;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// A policy.
    Policy,
    /// A file that a policy includes.
    Part,
    /// The tests of a policy.
    Tests,
}

impl Document {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Policy, Self::Part, Self::Tests];

    /// What is written in it.
    fn record(self) -> &'static Record {
        match self {
            Self::Policy => &POLICY,
            Self::Part => &PART,
            Self::Tests => &TESTS,
        }
    }
}
