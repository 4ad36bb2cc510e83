//! What rules ask of a session as a whole: its user and its groups, and what it says of itself.

use std::fmt;

use treeline_event::{Claims, Group, SessionAttributes};

use crate::request::Holds;

/// What is known of a session. What is not there is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Who began it.
    pub user: Option<Known>,
    /// That user's groups, all of them.
    pub groups: Option<Vec<Known>>,
    /// What it says of itself.
    pub claims: Claims,
}

/// A user or a group, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: Option<u32>,
    /// Its name.
    pub name: Option<String>,
}

impl Session {
    /// What the entry about its beginning says.
    #[must_use]
    pub fn new(attributes: &SessionAttributes) -> Self {
        let SessionAttributes { within: _, uid, user, groups, claims } = attributes;
        // Of a group without a name it is known that it has none.
        let known =
            |group: &Group| Known { id: Some(group.gid), name: Some(group.name.clone().unwrap_or_default()) };
        Self {
            user: (uid.is_some() || user.is_some()).then(|| Known { id: *uid, name: user.clone() }),
            groups: groups.as_ref().map(|groups| groups.iter().map(known).collect()),
            claims: claims.clone(),
        }
    }
}

/// What an item of `except` or `only` asks of the session: one of each list that is not empty. Something is always asked
/// for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionCondition {
    /// Users; sorted, as all of these lists are.
    pub users: Vec<Account>,
    /// Groups of its user.
    pub groups: Vec<Account>,
    /// Agents.
    pub agents: Vec<String>,
    /// Ways to use the agent.
    pub entry_points: Vec<String>,
    /// Remotes of the repository that it began in.
    pub repositories: Vec<RepositoryPattern>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// By id.
    Id(u32),
    /// By name.
    Name(String),
}

/// A repository by a remote, or all below a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryPattern {
    /// This one.
    Is(String),
    /// Written with `/*` at its end: all below.
    Below(String),
}

/// The keys of what a session says of itself.
pub const CLAIMS: [&str; 3] = ["agents", "entry_points", "repositories"];

impl SessionCondition {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all that is asked for holds of a session.
    #[must_use]
    pub fn holds(&self, session: &Session) -> Holds {
        let Session { user, groups, claims } = session;
        let remotes = claims.repositories.as_deref();
        let by_remote = any_of(&self.repositories, remotes, |wanted, remote| wanted.matches(remote));
        let is = |wanted: &[String], said: &Option<String>| {
            any_of(wanted, said.as_ref().map(std::slice::from_ref), |wanted, said| wanted == said)
        };
        account(&self.users, user.as_ref().map(std::slice::from_ref))
            .min(account(&self.groups, groups.as_deref()))
            .min(is(&self.agents, &claims.agent))
            .min(is(&self.entry_points, &claims.entry_point))
            .min(by_remote)
    }

    /// Whether it holds wherever another one does.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        fn all<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            let is_in = |one: &T| wide.iter().any(|wide| covers(wide, one));
            wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(is_in))
        }
        all(&self.users, &other.users, Account::eq)
            && all(&self.groups, &other.groups, Account::eq)
            && all(&self.agents, &other.agents, String::eq)
            && all(&self.entry_points, &other.entry_points, String::eq)
            && all(&self.repositories, &other.repositories, RepositoryPattern::covers)
    }

    /// The same for one of what it asks for at a time: each session of which it holds is in one of these, if it is known for one
    /// reason only.
    #[must_use]
    pub(crate) fn elements(&self) -> Vec<Self> {
        fn each<T: Clone>(list: &[T], with: impl Fn(Vec<T>) -> SessionCondition) -> Vec<SessionCondition> {
            list.iter().skip(1).map(|one| with(vec![one.clone()])).collect()
        }
        fn first<T: Clone>(list: &[T]) -> Vec<T> {
            list.first().cloned().into_iter().collect()
        }
        let one = Self {
            users: first(&self.users),
            groups: first(&self.groups),
            agents: first(&self.agents),
            entry_points: first(&self.entry_points),
            repositories: first(&self.repositories),
        };
        let others = [
            each(&self.users, |users| Self { users, ..one.clone() }),
            each(&self.groups, |groups| Self { groups, ..one.clone() }),
            each(&self.agents, |agents| Self { agents, ..one.clone() }),
            each(&self.entry_points, |entry_points| Self { entry_points, ..one.clone() }),
            each(&self.repositories, |repositories| Self { repositories, ..one.clone() }),
        ];
        [one].into_iter().chain(others.into_iter().flatten()).collect()
    }

    /// A session of which each of these holds, as far as one can: all is known of it, and what none asks for is something
    /// that no policy names.
    #[must_use]
    pub(crate) fn example_of(conditions: &[&Self]) -> Session {
        const NOBODY: u32 = 4_294_000_000;
        let known = |account: &Account| match account {
            Account::Id(id) => Known { id: Some(*id), name: Some("nobody-in-particular".to_owned()) },
            Account::Name(name) => Known { id: Some(NOBODY), name: Some(name.clone()) },
        };
        let user = conditions.iter().find_map(|one| one.users.first());
        let user = user.map_or_else(|| known(&Account::Id(NOBODY)), known);
        let groups = conditions.iter().filter_map(|one| one.groups.first()).map(known).collect();
        let first = |of: fn(&Self) -> &Vec<String>| {
            let first = conditions.iter().find_map(|one| of(one).first().cloned());
            Some(first.unwrap_or_else(|| "nothing-in-particular".to_owned()))
        };
        let remotes = conditions.iter().filter_map(|one| one.repositories.first());
        let claims = Claims {
            agent: first(|one| &one.agents),
            entry_point: first(|one| &one.entry_points),
            repositories: Some(remotes.map(RepositoryPattern::example).collect()),
        };
        Session { user: Some(user), groups: Some(groups), claims }
    }

    /// Each key with what it asks for, of those that ask.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, Vec<String>)> {
        fn texts<T: ToString>(list: &[T]) -> Vec<String> {
            list.iter().map(T::to_string).collect()
        }
        let parts = [
            ("users", texts(&self.users)),
            ("groups", texts(&self.groups)),
            (CLAIMS[0], texts(&self.agents)),
            (CLAIMS[1], texts(&self.entry_points)),
            (CLAIMS[2], texts(&self.repositories)),
        ];
        parts.into_iter().filter(|(_, texts)| !texts.is_empty()).collect()
    }
}

/// Whether one of those that are wanted is there; so it is where nothing is asked for, and unknown where nothing is known.
fn any_of<W, T>(wanted: &[W], known: Option<&[T]>, matches: impl Fn(&W, &T) -> bool) -> Holds {
    match known {
        _ if wanted.is_empty() => Holds::Yes,
        None => Holds::Unknown,
        Some(known) if known.iter().any(|one| wanted.iter().any(|wanted| matches(wanted, one))) => Holds::Yes,
        Some(_) => Holds::No,
    }
}

/// The same for users and groups, of each of which a part may not be known.
fn account(wanted: &[Account], known: Option<&[Known]>) -> Holds {
    let is = |wanted: bool| if wanted { Holds::Yes } else { Holds::No };
    let holds = |wanted: &Account, known: &Known| match (wanted, known) {
        (Account::Id(wanted), Known { id: Some(id), .. }) => is(wanted == id),
        (Account::Name(wanted), Known { name: Some(name), .. }) => is(wanted == name),
        (Account::Id(_), Known { id: None, .. }) | (Account::Name(_), Known { name: None, .. }) => {
            Holds::Unknown
        }
    };
    match known {
        _ if wanted.is_empty() => Holds::Yes,
        None => Holds::Unknown,
        Some(known) => {
            let all = known.iter().flat_map(|known| wanted.iter().map(|wanted| holds(wanted, known)));
            all.max().unwrap_or(Holds::No)
        }
    }
}

impl RepositoryPattern {
    /// Whether a text is a host and a path in lower case, or `/*` for all below. As the syntax has it.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let Some((host, path)) = text.split_once('/') else { return false };
        let is_of_host =
            |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || b"_.:-".contains(&byte);
        let path = if path == "*" { None } else { Some(path.strip_suffix("/*").unwrap_or(path)) };
        let is_of_name = |byte: u8| byte.is_ascii_graphic() && byte != b'*' && !byte.is_ascii_uppercase();
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_of_name);
        !host.is_empty()
            && host.bytes().all(is_of_host)
            && path.is_none_or(|path| path.split('/').all(is_name))
    }

    /// From its text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.strip_suffix("/*") {
            Some(place) => Self::Below(place.to_owned()),
            None => Self::Is(text.to_owned()),
        }
    }

    fn matches(&self, remote: &String) -> bool {
        match self {
            Self::Is(wanted) => wanted == remote,
            Self::Below(place) => is_below(remote, place),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(_), _) => self == other,
            (Self::Below(_), Self::Is(remote)) => self.matches(remote),
            (Self::Below(wide), Self::Below(place)) => wide == place || is_below(place, wide),
        }
    }

    fn example(&self) -> String {
        match self {
            Self::Is(remote) => remote.clone(),
            Self::Below(place) => format!("{place}/any"),
        }
    }
}

fn is_below(remote: &str, place: &str) -> bool {
    remote.strip_prefix(place).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            // Not to be taken for an id.
            Self::Name(name) if name.parse::<u32>().is_ok() => write!(f, "{name:?}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(remote) => f.write_str(remote),
            Self::Below(place) => write!(f, "{place}/*"),
        }
    }
}

impl fmt::Display for SessionCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts().into_iter().map(|(key, texts)| format!("{key} {}", texts.join(" or ")));
        write!(f, "session of {}", parts.collect::<Vec<_>>().join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Account {
        Account::Name(name.into())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn ada() -> Session {
        let groups = vec![Group { gid: 100, name: Some("staff".into()) }, Group { gid: 7, name: None }];
        let claims = Claims {
            agent: Some("claude-code".into()),
            entry_point: None,
            repositories: Some(texts(&["github.com/acme/app"])),
        };
        let (uid, user, groups) = (Some(1000), Some("ada".into()), Some(groups));
        let attributes = SessionAttributes { within: None, uid, user, groups, claims };
        Session::new(&attributes)
    }

    #[test]
    fn conditions() {
        let check = |condition: SessionCondition, expect: Holds| {
            assert_eq!(condition.holds(&ada()), expect, "{condition}");
            let unknown = if condition.is_any() { Holds::Yes } else { Holds::Unknown };
            assert_eq!(condition.holds(&Session::default()), unknown);
            assert_eq!(condition.holds(&SessionCondition::example_of(&[&condition])), Holds::Yes);
            assert!(condition.covers(&condition) && SessionCondition::default().covers(&condition));
        };
        let any = SessionCondition::default;
        let users = |users: &[Account]| SessionCondition { users: users.into(), ..any() };
        let groups = |groups: &[Account]| SessionCondition { groups: groups.into(), ..any() };
        let agents = |agents: &[&str]| SessionCondition { agents: texts(agents), ..any() };
        let at = |places: &[&str]| SessionCondition {
            repositories: places.iter().map(|place| RepositoryPattern::of(place)).collect(),
            ..any()
        };
        check(any(), Holds::Yes);
        check(users(&[name("ada")]), Holds::Yes);
        check(users(&[Account::Id(1000)]), Holds::Yes);
        check(users(&[Account::Id(1001), name("bob")]), Holds::No);
        check(groups(&[name("staff"), name("ops")]), Holds::Yes);
        check(groups(&[Account::Id(7)]), Holds::Yes);
        check(groups(&[Account::Id(8)]), Holds::No);
        // A group without a name is none that is named; one of which it is not known may be.
        check(groups(&[name("ops")]), Holds::No);
        let nameless =
            Session { groups: Some(vec![Known { id: Some(7), name: None }]), ..Session::default() };
        assert_eq!(groups(&[name("ops")]).holds(&nameless), Holds::Unknown);
        check(agents(&["claude-code"]), Holds::Yes);
        check(agents(&["other"]), Holds::No);
        check(SessionCondition { entry_points: texts(&["cli"]), ..any() }, Holds::Unknown);
        check(at(&["github.com/acme/*"]), Holds::Yes);
        check(at(&["github.com/acme/app"]), Holds::Yes);
        check(at(&["github.com/acme"]), Holds::No);
        check(at(&["github.com/ac/*", "gitlab.com/*"]), Holds::No);
        check(SessionCondition { groups: vec![name("ops")], ..agents(&["other"]) }, Holds::No);
    }

    #[test]
    fn covering() {
        let check = |wide: &[&str], narrow: &[&str], expect: bool| {
            let of = |places: &[&str]| SessionCondition {
                repositories: places.iter().map(|place| RepositoryPattern::of(place)).collect(),
                ..SessionCondition::default()
            };
            assert_eq!(of(wide).covers(&of(narrow)), expect, "{wide:?} {narrow:?}");
        };
        check(&["h/a/*"], &["h/a/b", "h/a/c/*"], true);
        check(&["h/a/*"], &["h/a/*"], true);
        check(&["h/a/b"], &["h/a/*"], false);
        check(&["h/a/*"], &["h/ab"], false);
        check(&["h/a"], &[], false);
        check(&[], &["h/a"], true);
    }
}
