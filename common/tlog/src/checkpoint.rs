//! Checkpoints: the text that says how large a log is and what its root hash is, `c2sp.org/tlog-checkpoint`.
//!
//! Treeline's logs add three extension lines in this order: `boot` (which boot of the machine), `time` (wall clock,
//! milliseconds) and `epoch` (the checkpoint's ordinal, without gaps). Further lines are kept as they are.

use std::fmt;
use std::str::FromStr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use thiserror::Error;

use crate::hash::{EMPTY_ROOT, Hash};

/// The most extension lines that are read.
pub const EXTENSIONS_MAX: usize = 64;

/// Why a text is not a checkpoint.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// The first line is missing or empty.
    #[error("the checkpoint has no origin in its first line")]
    Origin,
    /// The second line is not a decimal number without leading zeros.
    #[error("the checkpoint's second line is not a tree size")]
    Size,
    /// The third line is not a hash in base64.
    #[error("the checkpoint's third line is not a root hash in base64")]
    Root,
    /// The tree without entries has another root.
    #[error("the checkpoint is for a tree without entries and has another root than such a tree")]
    RootOfNothing,
    /// An empty extension line, too many of them, or no newline at the end.
    #[error("the checkpoint's extension lines are malformed")]
    Extension,
}

/// What a log says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root hash of the tree of these entries.
    pub root: Hash,
    /// Further lines, none of them empty.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// The value of the first extension line that starts with `name` and a space.
    #[must_use]
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    }

    /// The checkpoint's ordinal in its log, if it is a checkpoint of Treeline's.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.extension("epoch")?.parse().ok()
    }

    /// When it was signed by the machine's clock, in milliseconds since 1970; only as good as that clock.
    #[must_use]
    pub fn time_ms(&self) -> Option<u64> {
        self.extension("time")?.parse().ok()
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64_STANDARD.encode(self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Extension)?.split('\n');
        let origin = lines.next().filter(|l| !l.is_empty()).ok_or(CheckpointError::Origin)?.to_owned();
        let size = lines.next().and_then(parse_decimal).ok_or(CheckpointError::Size)?;
        let root: Hash = lines
            .next()
            .and_then(|line| BASE64_STANDARD.decode(line).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(CheckpointError::Root)?;
        if size == 0 && root != EMPTY_ROOT {
            return Err(CheckpointError::RootOfNothing);
        }
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.len() > EXTENSIONS_MAX || extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Extension);
        }
        Ok(Self { origin, size, root, extensions })
    }
}

/// A decimal number in the one way of writing it.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_specifications_example_is_read_and_written() {
        let checkpoint: Checkpoint = EXAMPLE.parse().expect("a checkpoint");
        assert_eq!(
            (checkpoint.origin.as_str(), checkpoint.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(checkpoint.to_string(), EXAMPLE);
    }

    #[test]
    fn extensions_are_found_by_name() {
        let checkpoint: Checkpoint =
            format!("{EXAMPLE}boot 1f2e\ntime 17\nepoch 3\n").parse().expect("a checkpoint");
        assert_eq!(checkpoint.extension("boot"), Some("1f2e"));
        assert_eq!((checkpoint.time_ms(), checkpoint.epoch()), (Some(17), Some(3)));
        assert_eq!(checkpoint.extension("epo"), None);
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        let check = |text: String, expect| assert_eq!(text.parse::<Checkpoint>(), Err(expect), "{text:?}");
        check(String::new(), CheckpointError::Extension);
        check(format!("\n1\n{root}\n"), CheckpointError::Origin);
        check(format!("a\n01\n{root}\n"), CheckpointError::Size);
        check(format!("a\n+1\n{root}\n"), CheckpointError::Size);
        check("a\n1\nAAAA\n".to_owned(), CheckpointError::Root);
        check("a\n1\n".to_owned(), CheckpointError::Root);
        check(format!("a\n0\n{root}\n"), CheckpointError::RootOfNothing);
        check(format!("a\n1\n{root}\n\n"), CheckpointError::Extension);
        check(format!("a\n1\n{root}"), CheckpointError::Extension);
    }

    proptest! {
        #[test]
        fn every_checkpoint_is_read_back(
            origin in "[a-z./]{1,20}", size in 1_u64.., root: [u8; 32], extensions in prop::collection::vec("[ -~]{1,30}", 0..5),
        ) {
            let checkpoint = Checkpoint { origin, size, root, extensions };
            prop_assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        }

        #[test]
        fn no_text_panics(text in "(\\PC|\n){0,200}") {
            let _ = text.parse::<Checkpoint>();
        }
    }
}
