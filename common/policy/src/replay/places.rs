//! What a rule is about in a log: objects, and the directories that stand for many of them.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use serde::Serialize;
use treeline_event::PathBytes;

use crate::request::Object;

/// Places that are told apart while a log is read; with one more, directories stand for what is in them.
const PLACES_MAX: usize = 512;
/// How many are left then.
const PLACES_KEPT: usize = 256;

/// A place, and how often it was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The operation, such as `read`, `exec` or `connect`.
    pub operation: &'static str,
    /// The object; `/dir/**` stands for several in a directory, `ADDRESS:*` for several ports.
    pub object: String,
    /// How often.
    pub times: u64,
}

/// An object, or all of those that have it as their beginning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Spot {
    operation: &'static str,
    form: Form,
    stands_for_many: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Path(Vec<u8>),
    Unix(Vec<u8>),
    Abstract(Vec<u8>),
    Address(Vec<u8>),
    /// There is no more to say than the operation.
    Any,
}

impl Spot {
    fn of(object: &Object) -> Self {
        let one = |operation, form| Self { operation, form, stands_for_many: false };
        match object {
            Object::File { path, operation } => one(operation.name(), Form::Path(path.clone())),
            Object::Exec { path, .. } => one("exec", Form::Path(path.clone())),
            Object::Connect { address, port } => {
                one("connect", Form::Address(SocketAddr::new(*address, *port).to_string().into_bytes()))
            }
            Object::ConnectUnix { path } => one("connect", Form::Unix(path.clone())),
            Object::ConnectAbstract { name } => one("connect", Form::Abstract(name.clone())),
            Object::RawSocket => one("raw socket", Form::Any),
            Object::Trace => one("trace", Form::Any),
            Object::Tool(_) => one("tool", Form::Any),
            Object::Mcp(_) => one("mcp", Form::Any),
            Object::Posture(_) => one("posture", Form::Any),
        }
    }

    /// The next that stands for this one and others; none for what stands for all.
    fn parent(&self) -> Option<Self> {
        let above = |bytes: &[u8], separator: u8| {
            let end = bytes.iter().rposition(|byte| *byte == separator).filter(|end| *end > 0);
            end.map(|end| bytes[..end].to_vec())
        };
        let form = match &self.form {
            Form::Path(path) if path.len() > 1 => Form::Path(above(path, b'/').unwrap_or(b"/".to_vec())),
            Form::Unix(path) if path.len() > 1 => Form::Unix(above(path, b'/').unwrap_or(b"/".to_vec())),
            Form::Address(address) if !self.stands_for_many => {
                Form::Address(above(address, b':').unwrap_or_default())
            }
            Form::Path(_) | Form::Unix(_) if !self.stands_for_many => self.form.clone(),
            Form::Abstract(_) | Form::Address(_) => Form::Any,
            Form::Path(_) | Form::Unix(_) | Form::Any => return None,
        };
        Some(Self { operation: self.operation, form, stands_for_many: true })
    }

    fn depth(&self) -> usize {
        std::iter::successors(self.parent(), Self::parent).count()
    }

    fn text(&self) -> String {
        let text = |path: &[u8]| PathBytes::from(path).to_string();
        let below = |path: &[u8]| match (self.stands_for_many, path) {
            (false, path) => text(path),
            (true, b"/") => "/**".to_owned(),
            (true, path) => format!("{}/**", text(path)),
        };
        match &self.form {
            Form::Path(path) => below(path),
            Form::Unix(path) => format!("unix {}", below(path)),
            Form::Abstract(name) => format!("unix @{}", text(name)),
            Form::Address(address) if self.stands_for_many => format!("{}:*", text(address)),
            Form::Address(address) => text(address),
            Form::Any => "*".to_owned(),
        }
    }
}

/// The places of one rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    spots: BTreeMap<Spot, u64>,
    has_shrunk: bool,
}

impl Places {
    /// Counts an object.
    pub(super) fn add(&mut self, object: &Object, times: u64) {
        let own = Spot::of(object);
        let mut spot = own.clone();
        if self.has_shrunk && !self.spots.contains_key(&own) {
            let above = std::iter::successors(own.parent(), Spot::parent);
            spot = above.into_iter().find(|above| self.spots.contains_key(above)).unwrap_or(own);
        }
        let count = self.spots.entry(spot).or_default();
        *count = count.saturating_add(times);
        if self.spots.len() > PLACES_MAX {
            self.shrink(PLACES_KEPT);
        }
    }

    /// At most `max` places, the most frequent first.
    pub(super) fn finish(mut self, max: usize) -> Vec<Place> {
        self.shrink(max);
        let mut places: Vec<Place> = self
            .spots
            .iter()
            .map(|(spot, times)| Place { operation: spot.operation, object: spot.text(), times: *times })
            .collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.times));
        places.truncate(max);
        places
    }

    /// Has directories stand for what is in them, those first that have most.
    fn shrink(&mut self, max: usize) {
        while self.spots.len() > max {
            self.has_shrunk = true;
            let mut groups: HashMap<Spot, usize> = HashMap::new();
            for parent in self.spots.keys().filter_map(Spot::parent) {
                *groups.entry(parent).or_default() += 1;
            }
            let fullest = groups.into_iter().max_by(|(left, count), (right, other)| {
                (count, left.depth(), left).cmp(&(other, right.depth(), right))
            });
            let Some((parent, count)) = fullest else { return };
            if count > 1 {
                self.merge(|spot| spot.parent().is_some_and(|above| above == parent));
            } else {
                let deepest = self.spots.keys().map(Spot::depth).max().unwrap_or(0);
                self.merge(|spot| spot.depth() == deepest);
            }
        }
    }

    /// Puts each of these, and what is below the same parents, into its parent.
    fn merge(&mut self, wanted: impl Fn(&Spot) -> bool) {
        let all = std::mem::take(&mut self.spots);
        for (spot, times) in all {
            let spot = if wanted(&spot) { spot.parent().unwrap_or(spot) } else { spot };
            let count = self.spots.entry(spot).or_default();
            *count = count.saturating_add(times);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::FileOperation;

    fn read(path: &str) -> Object {
        Object::File { path: path.into(), operation: FileOperation::Read }
    }

    #[track_caller]
    fn check(objects: &[Object], max: usize, expect: &[(&str, u64)]) {
        let mut places = Places::default();
        objects.iter().for_each(|object| places.add(object, 1));
        let found = places.finish(max);
        let found: Vec<_> = found.iter().map(|place| (place.object.as_str(), place.times)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn directories_stand_for_what_is_in_them() {
        let files = ["/h/.ssh/a", "/h/.ssh/b", "/h/.ssh/c", "/etc/shadow"].map(read);
        check(&files, 4, &[("/etc/shadow", 1), ("/h/.ssh/a", 1), ("/h/.ssh/b", 1), ("/h/.ssh/c", 1)]);
        check(&files, 2, &[("/h/.ssh/**", 3), ("/etc/shadow", 1)]);
        check(&files, 1, &[("/**", 4)]);
        check(&[read("/"), read("/a")], 1, &[("/**", 2)]);
        let to = |port| Object::Connect { address: [10, 0, 0, 1].into(), port };
        check(&[to(1), to(2)], 1, &[("10.0.0.1:*", 2)]);
        let v6 = Object::Connect { address: [0u16, 0, 0, 0, 0, 0, 0, 1].into(), port: 1 };
        check(&[to(1), v6], 2, &[("10.0.0.1:1", 1), ("[::1]:1", 1)]);
        let names = [b"a", b"b"].map(|name| Object::ConnectAbstract { name: name.to_vec() });
        check(&names, 1, &[("*", 2)]);
        check(&[Object::Trace, Object::Trace], 1, &[("*", 2)]);
    }

    #[test]
    fn many_objects_take_little_room_and_are_all_counted() {
        let mut places = Places::default();
        for number in 0..20_000 {
            places.add(&read(&format!("/d{}/f{number}", number % 700)), 1);
            assert!(places.spots.len() <= PLACES_MAX);
        }
        let found = places.finish(8);
        assert_eq!(found.iter().map(|place| place.times).sum::<u64>(), 20_000);
        assert!(found.len() <= 8);
    }

    proptest! {
        #[test]
        fn any_objects_end_and_are_counted(paths in prop::collection::vec("[/ab.\\PC]{0,12}", 0..40), max in 1..8_usize) {
            let mut places = Places::default();
            for path in &paths {
                places.add(&read(path), 1);
                places.add(&Object::ConnectUnix { path: path.clone().into_bytes() }, 1);
            }
            let spots = places.clone().finish(usize::MAX);
            prop_assert_eq!(spots.iter().map(|place| place.times).sum::<u64>(), 2 * paths.len() as u64);
            prop_assert!(places.finish(max).len() <= max);
        }
    }
}
