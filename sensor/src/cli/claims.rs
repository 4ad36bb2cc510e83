//! What the launcher says of the session that it begins.

use std::ffi::OsString;

use treeline_event::{Claims, attributes::CLAIM_LEN_MAX};

use super::repository;

/// What Claude Code says in this variable of how it is used, to those whom it starts. Who starts it can say so as well.
const ENTRY_POINT: &str = "CLAUDE_CODE_ENTRYPOINT";

/// The claims of a session that begins here with this command.
pub(super) fn of(origin: &str, command: &[OsString]) -> Claims {
    let is_claude = origin == "claude";
    let said = std::env::var(ENTRY_POINT).ok().filter(|text| is_fit(text));
    Claims {
        agent: is_claude.then(|| "claude-code".to_owned()),
        entry_point: said.or_else(|| is_claude.then(|| own_entry_point(command).to_owned())),
        repositories: std::env::current_dir().ok().and_then(|dir| repository::remotes(&dir)),
    }
}

/// What Claude Code will say by its arguments: with `-p` it answers once and ends.
fn own_entry_point(command: &[OsString]) -> &'static str {
    let prints = command.iter().skip(1).any(|word| word == "-p" || word == "--print");
    if prints { "sdk-cli" } else { "cli" }
}

fn is_fit(text: &str) -> bool {
    !text.is_empty() && text.len() <= CLAIM_LEN_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_claude_code_is_used() {
        let check = |words: &[&str], expect: &str| {
            let command: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(own_entry_point(&command), expect);
        };
        check(&["claude"], "cli");
        check(&["claude", "--model", "x", "-p", "hello"], "sdk-cli");
        check(&["claude", "--print", "hello"], "sdk-cli");
        check(&["-p"], "cli");
    }

    #[test]
    fn what_is_claimed_can_be_kept() {
        let claims = of("claude", &[OsString::from("claude")]);
        assert_eq!((claims.agent.as_deref(), claims.fault()), (Some("claude-code"), None));
        assert_eq!(of("run", &[OsString::from("make")]).agent, None);
    }
}
