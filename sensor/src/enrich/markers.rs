//! Environment variables that say which agent, session or role a process belongs to.

/// Names that are recorded. They are claims of the process that set them, never proof, and none of them is a secret:
/// tokens, keys and messaging sockets (`CLAUDE_CODE_MESSAGING_SOCKET`, its `_TOKEN`, `ANTHROPIC_API_KEY`) stay out.
pub const MARKERS: [&str; 13] = [
    "AI_AGENT",
    "CLAUDECODE",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_EXECPATH",
    "CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS",
    "CLAUDE_CODE_MCP_ALLOWLIST_ENV",
    "CLAUDE_CODE_SESSION_ATTENDED",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_SUBPROCESS_ENV_SCRUB",
    "CLAUDE_EFFORT",
    "CLAUDE_PID",
    "CLAUDE_PROJECT_DIR",
];

/// Longest value that is kept, in bytes: the longest marker is a path.
pub const VALUE_LEN_MAX: usize = 4096;

/// The markers of an environment block (`NAME=value`, NUL separated), each once: the first one wins, as in getenv(3).
///
/// The end of a block may be missing (the kernel side reads a bounded prefix): a last entry without its NUL is
/// dropped, because half a value would be a wrong one. So are values that are too long or not UTF-8.
#[must_use]
pub fn parse(block: &[u8]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let Some(end) = block.iter().rposition(|byte| *byte == 0) else { return found };
    for entry in block[..end].split(|byte| *byte == 0) {
        let Some(at) = entry.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&entry[..at], &entry[at + 1..]);
        let Some(marker) = MARKERS.iter().find(|marker| marker.as_bytes() == name) else { continue };
        if value.len() > VALUE_LEN_MAX || found.iter().any(|(name, _)| name == marker) {
            continue;
        }
        if let Ok(value) = std::str::from_utf8(value) {
            found.push(((*marker).to_owned(), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(block: &[u8], expect: &[(&str, &str)]) {
        let found = parse(block);
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn only_markers_whole_and_once() {
        check(b"", &[]);
        check(b"CLAUDECODE=1\0HOME=/root\0CLAUDE_PID=7\0", &[("CLAUDECODE", "1"), ("CLAUDE_PID", "7")]);
        check(b"CLAUDE_PID=1\0CLAUDE_PID=2\0", &[("CLAUDE_PID", "1")]);
        check(b"CLAUDECODE=1\0CLAUDE_PID=12", &[("CLAUDECODE", "1")]);
        check(b"AI_AGENT=a=b\0CLAUDECODE\0=x\0\0", &[("AI_AGENT", "a=b")]);
        check(b"CLAUDE_PROJECT_DIR=\xff\0XCLAUDECODE=1\0", &[]);
        check(
            b"CLAUDE_CODE_MESSAGING_SOCKET=/s\0CLAUDE_CODE_MESSAGING_SOCKET_TOKEN=t\0ANTHROPIC_API_KEY=k\0",
            &[],
        );
    }

    #[test]
    fn no_marker_is_a_secret() {
        for marker in MARKERS {
            assert!(
                !["TOKEN", "KEY", "SECRET", "SOCKET"].iter().any(|word| marker.contains(word)),
                "{marker}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_block_is_survived(block: Vec<u8>) {
            prop_assert!(parse(&block).len() <= MARKERS.len());
        }
    }
}
