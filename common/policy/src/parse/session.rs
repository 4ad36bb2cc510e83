//! What an item of `except` or `only` asks of the session.

use treeline_event::{
    Claims,
    attributes::{GROUPS_MAX, REPOSITORIES_MAX},
};

use super::{
    fields::{Fields, clip},
    scalar,
};
use crate::{
    code::Code,
    diagnostic::Diagnostics,
    session::{Account, CLAIMS, Known, RepositoryPattern, Session, SessionCondition},
    source::Spanned,
    syntax::{
        rule_shape::SESSION,
        scalars::{CLAIM, REPOSITORY},
        test_shape::OF_TEST,
    },
    yaml::{Node, Value},
};

/// The value of `session`. Where an item can let something through, it can ask for nothing that the session's own user can
/// have it say.
pub(super) fn condition(node: &Node, takes_claims: bool, out: &mut Diagnostics) -> Option<SessionCondition> {
    if let Value::Scalar { .. } = node.value {
        let help = Some("write `session: {groups: [contractors]}`".into());
        let message = format!("`session` has to be a mapping, not {}", node.describe());
        out.error(Code::WrongType, node.span, message, help);
        return None;
    }
    let fields = Fields::of(node, &SESSION, out)?;
    let claimed = CLAIMS.into_iter().filter_map(|key| fields.get(key).map(|node| (key, node)));
    let mut is_refused = false;
    for (key, node) in claimed.filter(|_| !takes_claims) {
        let message = format!("`{key}` is what a session says of itself, which can let nothing through");
        let help =
            "ask for `users` or `groups`; claims count in `only` of rules that refuse, record or adopt";
        out.error(Code::Claim, node.span, message, Some(help.into()));
        is_refused = true;
    }
    let mut accounts = |key: &str| list(&fields, key, out, account);
    let (users, groups) = (accounts("users"), accounts("groups"));
    let mut claims = |key: &str| {
        list(&fields, key, out, |node, out| scalar::text(node, &format!("an item of `{key}`"), &CLAIM, out))
    };
    let (agents, entry_points) = (claims(CLAIMS[0]), claims(CLAIMS[1]));
    let repositories = list(&fields, CLAIMS[2], out, repository);
    let condition = SessionCondition {
        users: users?,
        groups: groups?,
        agents: agents?,
        entry_points: entry_points?,
        repositories: repositories?,
    };
    if condition.is_any() {
        let keys: Vec<&str> = SESSION.keys().map(|key| key.name).collect();
        let help = format!("give {}", crate::suggest::list(&keys));
        out.error(Code::ForEverybody, fields.head(), "every session is meant by this", Some(help));
        return None;
    }
    (!is_refused).then_some(condition)
}

/// A sorted list, empty without the key; none if not all of it could be read, for it must not become wider.
fn list<T: Ord + Clone>(
    fields: &Fields<'_>,
    key: &str,
    out: &mut Diagnostics,
    read: impl Fn(&Node, &mut Diagnostics) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(node) = fields.get(key) else { return Some(Vec::new()) };
    let items = scalar::list(node, &format!("`{key}`"), out, read);
    let Value::Sequence(nodes) = &node.value else { return None };
    if items.is_empty() || items.len() != nodes.len() {
        return None;
    }
    let mut values: Vec<T> = items.into_iter().map(|Spanned { value, .. }| value).collect();
    values.sort();
    Some(values)
}

/// The session of a test.
pub(super) fn session(node: &Node, out: &mut Diagnostics) -> Option<Session> {
    let fields = Fields::of(node, &OF_TEST, out)?;
    let known = |account: Account| match account {
        Account::Id(id) => Known { id: Some(id), name: None },
        Account::Name(name) => Known { id: None, name: Some(name) },
    };
    let user = fields.maybe("user", |node| account(node, out));
    let groups = all(&fields, "groups", GROUPS_MAX, out, account);
    let mut text = |key: &str| fields.maybe(key, |node| scalar::text(node, &format!("`{key}`"), &CLAIM, out));
    let (agent, entry_point) = (text("agent"), text("entry_point"));
    let repositories =
        all(&fields, "repositories", REPOSITORIES_MAX, out, |node, out| match repository(node, out)? {
            RepositoryPattern::Is(remote) => Some(remote),
            RepositoryPattern::Below(_) => {
                let help = "a test is about one session: name the remote that it has";
                out.error(Code::BadPattern, node.span, "this is more than one repository", Some(help.into()));
                None
            }
        });
    let claims = Claims { agent: agent?, entry_point: entry_point?, repositories: repositories? };
    let groups = groups?.map(|groups| groups.into_iter().map(known).collect());
    Some(Session { user: user?.map(known), groups, claims })
}

/// A list that can be empty, or nothing without the key; the outer none if not all of it could be read.
fn all<T: Ord + Clone>(
    fields: &Fields<'_>,
    key: &str,
    max: usize,
    out: &mut Diagnostics,
    read: impl Fn(&Node, &mut Diagnostics) -> Option<T>,
) -> Option<Option<Vec<T>>> {
    let Some(node) = fields.get(key) else { return Some(None) };
    match &node.value {
        Value::Sequence(nodes) if nodes.is_empty() => Some(Some(Vec::new())),
        Value::Sequence(nodes) if nodes.len() > max => {
            let message =
                format!("{} items in `{key}`; at most {max} can be known of a session", nodes.len());
            out.error(Code::TooLong, node.span.head(), message, None);
            None
        }
        _ => list(fields, key, out, read).map(Some),
    }
}

/// A user or a group: a number is an id.
fn account(node: &Node, out: &mut Diagnostics) -> Option<Account> {
    if let Value::Scalar { text, plain: true } = &node.value
        && node.describe() == "a number"
    {
        // `parse` would take a plus, too. The last one stands for nobody.
        let id = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
        let id = id.filter(|id| *id != u32::MAX);
        if id.is_none() {
            let help = format!("write a whole number from 0 to {}, or a name in quotes", u32::MAX - 1);
            out.error(Code::BadNumber, node.span, format!("`{}` is no id", clip(text)), Some(help));
        }
        return id.map(Account::Id);
    }
    scalar::text(node, "a user or a group", &CLAIM, out).map(Account::Name)
}

/// A remote of a repository, or all below a place.
fn repository(node: &Node, out: &mut Diagnostics) -> Option<RepositoryPattern> {
    let text = scalar::text(node, "a repository", &REPOSITORY, out)?;
    if RepositoryPattern::is_valid(&text) {
        return Some(RepositoryPattern::of(&text));
    }
    let help = "write a host and a path in lower case, as in `github.com/acme/app`, or `github.com/acme/*` for all below";
    out.error(Code::BadPattern, node.span, format!("`{}` is no repository", clip(&text)), Some(help.into()));
    None
}
