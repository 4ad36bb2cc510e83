//! The line between a standalone launcher and its sensor: an unnamed pair of sockets, and words, each on a line.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

/// Bytes of a word: a session, a pid, or how the command ended.
const WORD_LEN_MAX: u64 = 256;

/// One end.
#[derive(Debug)]
pub struct Line(BufReader<UnixStream>);

impl Line {
    /// Our end, and the other one for a child's standard input.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(BufReader::new(ours)), theirs.into()))
    }

    /// The end that this process was started with.
    ///
    /// # Errors
    /// As dup(2).
    pub fn of_standard_input() -> io::Result<Self> {
        Ok(Self(BufReader::new(rustix::io::dup(io::stdin())?.into())))
    }

    /// Waits for a word; none when the other end is gone, or says too much.
    pub fn hear(&mut self) -> Option<String> {
        let mut word = String::new();
        (&mut self.0).take(WORD_LEN_MAX).read_line(&mut word).ok()?;
        word.strip_suffix('\n').map(str::to_owned)
    }

    /// Says a word. When the other end is gone, that is noticed by whoever waits for its answer.
    pub fn say(&mut self, word: &str) {
        let _ = self.0.get_mut().write_all(format!("{word}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_until_the_other_end_is_gone() {
        let (mut ours, theirs) = Line::pair().expect("a pair of sockets");
        let mut theirs = Line(BufReader::new(theirs.into()));
        ours.say("one");
        ours.say("two");
        assert_eq!(theirs.hear().as_deref(), Some("one"));
        assert_eq!(theirs.hear().as_deref(), Some("two"));
        ours.say(&"x".repeat(300));
        assert_eq!(theirs.hear(), None, "too long");
        drop(theirs);
        assert_eq!(ours.hear(), None);
        ours.say("to nobody");
    }
}
