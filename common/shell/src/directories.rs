//! Paths, and the directories that a command can be in.

use treeline_policy::tool::Place;

/// Working directories that are kept apart. Commands that may fail double them.
const CWDS_MAX: usize = 8;

/// A path without `.`, `..` and empty names, seen from a directory; none if it is relative and the directory is not absolute.
/// Symbolic links are not followed: `a/b/..` is `a`, wherever `b` leads.
#[must_use]
pub(crate) fn normal(directory: &str, path: &str) -> Option<String> {
    let base = if path.starts_with('/') { "" } else { directory };
    if !path.starts_with('/') && !base.starts_with('/') {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    for name in base.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    Some(format!("/{}", names.join("/")))
}

/// The directories that a command can be in; none if it can be anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directories(Option<Vec<String>>);

impl Directories {
    pub(crate) const ANYWHERE: Self = Self(None);

    pub(crate) fn of(cwd: Option<&str>) -> Self {
        Self(cwd.and_then(|cwd| normal("", cwd)).map(|cwd| vec![cwd]))
    }

    /// Bytes of all of them.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().flatten().map(|one| one.len() + 1).sum()
    }

    /// The one, if there is only one.
    pub(crate) fn only(&self) -> Option<&str> {
        match self.0.as_deref() {
            Some([one]) => Some(one),
            _ => None,
        }
    }

    /// Either of both.
    pub(crate) fn or(&self, other: &Self) -> Self {
        let (Some(these), Some(those)) = (&self.0, &other.0) else { return Self::ANYWHERE };
        let mut all: Vec<String> = these.iter().chain(those).cloned().collect();
        all.sort_unstable();
        all.dedup();
        Self((all.len() <= CWDS_MAX).then_some(all))
    }

    /// Where a path leads from them.
    pub(crate) fn join(&self, path: &str) -> Self {
        if let Some(path) = normal("", path) {
            return Self(Some(vec![path]));
        }
        Self(self.0.as_ref().map(|all| all.iter().filter_map(|one| normal(one, path)).collect()))
    }

    /// The places that a path stands for.
    pub(crate) fn places(&self, path: &str, place: fn(String) -> Place) -> Vec<Place> {
        match self.join(path).0 {
            Some(all) => all.into_iter().map(place).collect(),
            None => vec![Place::Unknown],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check =
            |directory, path, expect: Option<&str>| assert_eq!(normal(directory, path).as_deref(), expect);
        check("/a/b", "c", Some("/a/b/c"));
        check("/a/b", "../c/./d//e/", Some("/a/c/d/e"));
        check("/a", "../../..", Some("/"));
        check("/a", "/b/../c", Some("/c"));
        check("", "c", None);
        check("a", "c", None);
        check("", "/c", Some("/c"));
    }

    #[test]
    fn directories() {
        let (a, b) = (Directories::of(Some("/a")), Directories::of(Some("/b/")));
        assert_eq!(a.only(), Some("/a"));
        let both = a.or(&b).or(&a);
        assert_eq!(both.places("x", Place::At), [Place::At("/a/x".into()), Place::At("/b/x".into())]);
        assert_eq!(both.places("/x", Place::Below), [Place::Below("/x".into())]);
        assert_eq!(both.or(&Directories::ANYWHERE), Directories::ANYWHERE);
        assert_eq!(Directories::of(Some("a")).places("x", Place::At), [Place::Unknown]);
        assert_eq!(Directories::ANYWHERE.places("/x", Place::At), [Place::At("/x".into())]);
        let many = (0..9).fold(a, |all, n| all.or(&Directories::of(Some(&format!("/{n}")))));
        assert_eq!(many, Directories::ANYWHERE);
    }
}
