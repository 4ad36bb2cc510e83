//! The policy language: text, checks, evaluation, explanation, and compilation to kernel tables.
//!
//! [`parse`] reads a text into a [`Policy`]. [`eval`](eval::eval) is what a policy means, written down plainly;
//! [`compile`](compile::compile) turns it into the tables that the kernel programs decide by, and
//! [`Matcher`] walks those tables as the kernel does, so that the two can be tested against each other. [`replay`] asks
//! it about what was recorded.
#![forbid(unsafe_code)]

pub mod abstract_name;
pub mod approvable;
pub mod approval;
pub mod brokers;
pub mod call;
pub mod class;
pub mod code;
pub mod compile;
pub mod compose;
pub mod diagnostic;
pub mod diff;
pub mod eval;
mod eval_allow;
mod eval_call;
pub mod explain;
pub mod glob;
pub mod host;
pub mod learn;
pub mod lint;
pub mod loader;
pub mod matcher;
pub mod mcp;
pub mod moment;
mod moved;
pub mod object;
pub mod parse;
pub mod period;
pub mod policy;
pub mod posture;
mod render;
pub mod replay;
pub mod request;
pub mod roots;
pub mod session;
pub mod source;
mod suggest;
pub mod syntax;
pub mod testing;
pub mod tool;
pub mod url;
mod yaml;

pub use approval::{Approval, Approver};
pub use class::{Class, Classed};
pub use code::Code;
pub use compile::{Before, Tables, Target, compile, compile_after};
pub use compose::compose;
pub use diagnostic::Diagnostics;
pub use diff::{Diff, diff};
pub use eval::eval;
pub use explain::{Explanation, explain};
pub use host::{Home, Host, Located, Mount, MountTable, Resolver};
pub use lint::{Lints, lint};
pub use loader::{Alone, Loader, NotLoaded};
pub use matcher::{Image, Matcher};
pub use moment::Moment;
pub use parse::{parse, parse_server, parse_tests, parse_tests_with, parse_with};
pub use period::{NoPeriod, Period};
pub use policy::Policy;
pub use request::{Decision, Executed, Holds, Lineage, Object, Request, Subject};
pub use roots::{LiteralRoot, Shape, literal_roots};
pub use session::{Account, Known, RepositoryPattern, Session, SessionCondition};
pub use tool::{Features, ToolCall};
