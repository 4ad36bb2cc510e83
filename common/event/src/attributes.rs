//! What is known of a session from its beginning on.

use serde::{Deserialize, Serialize};

use crate::process::SessionId;

/// Groups of a user that are kept: Linux lets a process have 65 536, and nobody has a hundred.
pub const GROUPS_MAX: usize = 256;
/// Repositories that are kept of what a session says of itself.
pub const REPOSITORIES_MAX: usize = 16;
/// Bytes of a text that a session says of itself.
pub const CLAIM_LEN_MAX: usize = 256;

/// What is known of a session from its beginning on. What is not there is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAttributes {
    /// The session within which it began: it counts as what that one is, whoever asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<SessionId>,
    /// Id of its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Name of its user, as the user database had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Groups of that user, as the user database had them; at most [`GROUPS_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Group>>,
    /// What it says of itself.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub claims: Claims,
}

impl SessionAttributes {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A group of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub gid: u32,
    /// Its name, when the machine knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a session's launcher says: its user can have it say anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The agent, such as `claude-code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// How the agent is used, in its own words, such as `cli`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<String>,
    /// The remotes of the repository that it begins in, such as `github.com/acme/app`; none of them outside of every
    /// repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<Vec<String>>,
}

impl Claims {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why these cannot be kept: one is too long, empty or has control characters, or there are too many.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let repositories = self.repositories.as_deref().unwrap_or_default();
        if repositories.len() > REPOSITORIES_MAX {
            return Some(format!("{} repositories; at most {REPOSITORIES_MAX} are kept", repositories.len()));
        }
        let texts = self.agent.iter().chain(&self.entry_point).chain(repositories);
        let is_bad = |text: &&String| {
            text.is_empty() || text.len() > CLAIM_LEN_MAX || text.chars().any(char::is_control)
        };
        let is_bad = texts.into_iter().any(|text| is_bad(&text));
        is_bad.then(|| {
            format!("a claim is empty, longer than {CLAIM_LEN_MAX} bytes, or has control characters")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_written() {
        let check = |attributes: &SessionAttributes, expect: &str| {
            let text = serde_json::to_string(attributes).expect("JSON");
            assert_eq!(text, expect);
            let back: SessionAttributes = serde_json::from_str(&text).expect("the same");
            assert_eq!(back, *attributes);
        };
        check(&SessionAttributes::default(), "{}");
        let claims = Claims { repositories: Some(Vec::new()), ..Claims::default() };
        let groups = Some(vec![Group { gid: 5, name: Some("ops".into()) }, Group { gid: 6, name: None }]);
        let expect =
            r#"{"user":"ada","groups":[{"gid":5,"name":"ops"},{"gid":6}],"claims":{"repositories":[]}}"#;
        let known =
            SessionAttributes { user: Some("ada".into()), groups, claims, ..SessionAttributes::default() };
        check(&known, expect);
        let within =
            SessionAttributes { within: Some(SessionId(1)), uid: Some(7), ..SessionAttributes::default() };
        check(&within, r#"{"within":"0000000000000001","uid":7}"#);
    }

    #[test]
    fn claims_have_bounds() {
        let check =
            |claims: Claims, is_fine: bool| assert_eq!(claims.fault().is_none(), is_fine, "{claims:?}");
        let agent = |agent: &str| Claims { agent: Some(agent.into()), ..Claims::default() };
        check(Claims::default(), true);
        check(agent("claude-code"), true);
        check(agent(&"x".repeat(CLAIM_LEN_MAX)), true);
        for bad in ["", "a\nb", &"x".repeat(CLAIM_LEN_MAX + 1)] {
            check(agent(bad), false);
        }
        let in_many = |count| Claims { repositories: Some(vec!["h/r".into(); count]), ..Claims::default() };
        check(in_many(REPOSITORIES_MAX), true);
        check(in_many(REPOSITORIES_MAX + 1), false);
    }
}
