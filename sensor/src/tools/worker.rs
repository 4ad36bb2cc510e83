//! The process that takes shell commands apart.
//!
//! It reads questions from its input and writes answers to its output until the input ends. The parser in it can hang, and can take
//! memory without bound: the first thing that it does is to give up what it does not need, and who asks it ends it when it is late.

use std::io::{self, Read, Write};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use treeline_policy::{
    Features,
    tool::{Opaque, Workplace},
};

use super::confine::confine;
use crate::control::proto::{decode, encode, frame_len};

/// Name of the verb.
pub const VERB: &str = "__shell-reader";

/// What it says when it is ready.
pub const READY: u8 = b'.';

/// What it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The command.
    pub command: String,
    /// Where it would be run.
    pub place: Workplace,
}

/// Answers questions until there are no more.
///
/// # Errors
/// What is not needed cannot be given up, or who asks is gone or says what is no question.
pub fn run(input: &mut dyn Read, output: &mut dyn Write) -> Result<()> {
    confine().context("cannot give up what is not needed")?;
    output.write_all(&[READY])?;
    output.flush()?;
    while let Some(frame) = next(input).context("cannot read a question")? {
        let Question { command, place } = decode(&frame).context("cannot read a question")?;
        let features = treeline_shell::features(&command, &place);
        let answer = encode(&features).or_else(|_| encode(&Features::unknown(Opaque::Bounds)))?;
        output.write_all(&answer).and_then(|()| output.flush()).context("cannot answer")?;
    }
    Ok(())
}

/// The next frame; none at the end.
fn next(input: &mut dyn Read) -> Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let mut body = vec![0; frame_len(head)?];
    input.read_exact(&mut body)?;
    Ok(Some(body))
}
