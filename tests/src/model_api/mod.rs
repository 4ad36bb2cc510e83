//! A model API on loopback that says what a script tells it to say.
//!
//! Claude Code asks `POST /v1/messages` for every turn and sends the whole conversation each time. The server answers with
//! the script's next step, a text and tool calls, until the steps are used up; then it ends the turn. It keeps what it was
//! sent, so a test can see what every tool gave back and prove that a secret never arrived here.
//!
//! The tool calls carry ids that name their step, and the next step is found by the ids that the conversation holds. So
//! the server needs no state, repeats itself when a request is sent twice, and is not confused by prompts that Claude Code adds
//! by itself (reminders, the end of a background command).
//!
//! Invariant: it listens on 127.0.0.1 only, and every request, connection and recording has a bound.

mod answer;
mod conversation;
mod http;
mod script;
mod server;

pub use conversation::ToolResult;
pub use http::{Request, RequestError, read_request};
pub use script::{Call, CallId, Script, ScriptError, Step};
pub use server::{ModelApi, Received};
