//! What is known of the session of who acts.

use treeline_policy::{Known, RepositoryPattern, Session};

/// One thing that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// As it was given.
    pub(super) text: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    User(Known),
    /// A group; none for no groups.
    Group(Option<Known>),
    Agent(String),
    EntryPoint(String),
    /// A remote; none for no repository.
    Repository(Option<String>),
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// There is no such key, or nothing behind it.
pub(super) fn fact(text: &str) -> Result<Fact, String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let known = |value: &str| match value.parse::<u32>() {
        Ok(id) if digits => Known { id: Some(id), name: None },
        _ => Known { id: None, name: Some(value.to_owned()) },
    };
    let what = match (key, value) {
        ("no-groups", "") => What::Group(None),
        ("no-repository", "") => What::Repository(None),
        (_, "") => Err(format!("nothing is said by `{text}`; write {KEYS}"))?,
        ("user", name) => What::User(known(name)),
        ("group", name) => What::Group(Some(known(name))),
        ("agent", name) => What::Agent(name.to_owned()),
        ("entry-point", name) => What::EntryPoint(name.to_owned()),
        ("repository", remote) if RepositoryPattern::is_valid(remote) && !remote.ends_with("/*") => {
            What::Repository(Some(remote.to_owned()))
        }
        ("repository", _) => Err(format!(
            "`{value}` is no remote; write a host and a path in lower case, as in `repository=github.com/acme/app`; keys are {KEYS}"
        ))?,
        _ => Err(format!("there is no `{key}`; write {KEYS}"))?,
    };
    Ok(Fact { text: text.to_owned(), what })
}

const KEYS: &str = "`user=NAME`, `group=NAME`, `no-groups`, `agent=NAME`, `entry-point=NAME`, `repository=HOST/PATH` \
                    or `no-repository`";

/// A session of which all of this is known. Groups and remotes that are given are all that there are.
pub(super) fn session(facts: &[Fact]) -> Session {
    let mut session = Session::default();
    for Fact { what, .. } in facts.iter().cloned() {
        match what {
            What::User(user) => session.user = Some(user),
            What::Group(group) => session.groups.get_or_insert_default().extend(group),
            What::Agent(name) => session.claims.agent = Some(name),
            What::EntryPoint(name) => session.claims.entry_point = Some(name),
            What::Repository(remote) => session.claims.repositories.get_or_insert_default().extend(remote),
        }
    }
    session
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_known() {
        let of = |texts: &[&str]| {
            let facts: Vec<Fact> = texts.iter().map(|text| fact(text).expect("a fact")).collect();
            session(&facts)
        };
        assert_eq!(of(&[]), Session::default());
        let found = of(&["user=ada", "group=ops", "group=50", "agent=claude-code", "no-repository"]);
        assert_eq!(found.user, Some(Known { id: None, name: Some("ada".into()) }));
        let groups = found.groups.expect("known");
        assert_eq!((groups.len(), groups[1].id), (2, Some(50)));
        assert_eq!(found.claims.agent.as_deref(), Some("claude-code"));
        assert_eq!((found.claims.entry_point, found.claims.repositories), (None, Some(Vec::new())));
        assert_eq!(of(&["no-groups"]).groups, Some(Vec::new()));
    }

    #[test]
    fn what_is_not_understood() {
        for (text, expect) in [
            ("usr=ada", "there is no `usr`"),
            ("user", "nothing is said"),
            ("user=", "nothing"),
            ("no-groups=x", "there is no"),
            ("repository=GitHub.com/a", "is no remote"),
        ] {
            let error = fact(text).expect_err("no fact");
            assert!(error.contains(expect) && error.contains("`group=NAME`"), "{error}");
        }
    }
}
