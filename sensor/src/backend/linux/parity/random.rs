//! Policies and cases by chance. Names are few, so that what is asked for often is what a rule is about.

use std::sync::Arc;

use treeline_abi::parity::ANCESTORS;
use treeline_policy::{
    Executed, Home, Host, Known, Lineage, Located, Mount, MountTable, Object, Request, Session, Subject,
    policy::FileOperation,
};

const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c",
    b"h",
    b"r",
    b"ab",
    b"b.pem",
    b".env",
    b".env.local",
    b"id_a",
    b"id_\xff\xfe",
    b"aa-bb-cc-dd-ee",
];
/// The first of [`GLOBS`] are names.
const LITERALS: usize = 8;
const GLOBS: [&str; 20] = [
    "a",
    "b",
    "c",
    "h",
    "ab",
    "b.pem",
    ".env",
    "aa-bb-cc-dd-ee",
    "*",
    "*",
    "**",
    "**",
    "*.pem",
    ".env*",
    "id_?",
    "id_*",
    "a?",
    "?",
    "a*e",
    "??*",
];
const ANCHORS: [&str; 7] = ["/", "/", "~/", "~/", "**/", "/h/", "/a/b/"];
const ROOTS: [&[u8]; 7] = [b"", b"", b"/h/a", b"/h/b", b"/r", b"/a/b", b"/a/b/c"];
const OPERATIONS: [&str; 6] = ["read", "write", "create", "delete", "rename", "link"];

/// A machine with homes in three places and several filesystems.
///
/// What a mount shows ends as the filesystem's own path does: else `**/NAME` in the kernel would be about a name that
/// [`treeline_policy::eval`] is not told (docs/policy.md).
pub(super) fn machine() -> (Host, MountTable) {
    let home = |uid, path: &str| Home { uid, path: path.into() };
    let mount = |point: &str, device, inner: &str| Mount {
        point: point.into(),
        root: Located { device, inner: inner.into() },
    };
    let host = Host { homes: vec![home(0, "/r"), home(1, "/h/a"), home(2, "/h/b"), home(3, "/h/c")] };
    let mounts =
        vec![mount("/", 1, "/"), mount("/h", 2, "/"), mount("/h/b", 3, "/b"), mount("/a/b/c", 4, "/")];
    (host, MountTable { mounts })
}

/// What rules ask of sessions.
const SESSION_ITEMS: [&str; 5] = [
    "users: [ada]",
    "users: [bob, 7]",
    "groups: [ops]",
    "groups: [50, dev]",
    "users: [ada, bob], groups: [ops]",
];
const SESSIONS: usize = 5;

/// Sessions that differ in what is known of them.
pub(super) fn sessions() -> [Arc<Session>; SESSIONS] {
    let known = |(id, name): (u32, &str)| Known { id: Some(id), name: Some(name.to_owned()) };
    let of = |user, groups: Option<&[(u32, &str)]>| Session {
        user: Some(known(user)),
        groups: groups.map(|groups| groups.iter().copied().map(known).collect()),
        ..Session::default()
    };
    let nameless = Session { user: Some(Known { id: Some(7), name: None }), ..Session::default() };
    let all = [
        of((1, "ada"), Some(&[(50, "dev"), (51, "ops")])),
        of((1, "ada"), None),
        of((2, "bob"), Some(&[])),
        of((3, "eve"), Some(&[(51, "ops")])),
        nameless,
    ];
    all.map(Arc::new)
}

/// As many rules as a large policy has.
const RULES_MANY: usize = 250;

/// splitmix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn glob(&mut self) -> String {
        let mut glob = self.one(&ANCHORS).to_owned();
        let rest: Vec<&str> = (0..=self.below(4)).map(|_| self.one(&GLOBS)).collect();
        glob.push_str(&rest.join("/"));
        // They mean the same, and the same pattern twice in a list is an error.
        while glob.contains("**/**") {
            glob = glob.replace("**/**", "**");
        }
        if glob.starts_with("/**") { glob[1..].to_owned() } else { glob }
    }

    fn plain_glob(&mut self) -> String {
        if self.below(8) == 0 {
            return self.glob();
        }
        let anchor = self.one(&["/", "~/", "/h/", "/a/b/"]);
        let names: Vec<&str> = (0..=self.below(4)).map(|_| self.one(&GLOBS[..LITERALS])).collect();
        format!("{anchor}{}{}", names.join("/"), self.one(&["", "", "/**"]))
    }

    fn globs(&mut self) -> String {
        let mut globs: Vec<String> = (0..=self.below(3)).map(|_| format!("\"{}\"", self.glob())).collect();
        globs.sort();
        globs.dedup();
        globs.join(", ")
    }

    /// Mostly few rules, so that each decides something; sometimes forty, or hundreds for everybody.
    pub(super) fn policy(&mut self) -> String {
        let rules: String = match self.below(16) {
            0 => (0..RULES_MANY).map(|number| self.plain_rule(number)).collect(),
            1 | 2 => (0..40).map(|number| self.rule(number, true)).collect(),
            _ => (0..=self.below(6)).map(|number| self.rule(number, false)).collect(),
        };
        let defaults = self.one(&["", "", "", "defaults: {write: {action: deny, reason: because}}\n"]);
        format!("version: 1\nname: random\n{defaults}rules:\n{rules}")
    }

    /// Without subjects, and with one pattern that is seldom more than a path or a tree: so many of anything else would
    /// be too much for the tables.
    fn plain_rule(&mut self, number: usize) -> String {
        let (glob, mode) = (self.plain_glob(), self.one(&["monitor", "enforce"]));
        let kind = self.one(&["exec, paths", "connect, unix", "file, paths", "file, paths"]);
        format!("  - {{id: r-{number}, kind: {kind}: [\"{glob}\"], mode: {mode}, reason: because}}\n")
    }

    fn rule(&mut self, number: usize, many: bool) -> String {
        let globs = self.globs();
        let (kind, spared) = match self.below(8) {
            0 => (format!("kind: exec, paths: [{globs}]"), "except_paths"),
            1 => (format!("kind: connect, unix: [{globs}]"), "except_unix"),
            2 => {
                let operation = self.one(&OPERATIONS);
                (format!("kind: file, paths: [{globs}], operations: [{operation}]"), "except_paths")
            }
            _ => (format!("kind: file, paths: [{globs}]"), "except_paths"),
        };
        let action = self.one(&["mode: monitor", "mode: enforce", "mode: enforce", "action: allow"]);
        let priority = self.one(&["", "", ", priority: 1", ", priority: -1"]);
        let spared = match action {
            "action: allow" => String::new(),
            _ if self.below(3) == 0 => format!(", {spared}: [{}]", self.globs()),
            _ => String::new(),
        };
        let (except, only) = (self.subjects("except", many), self.subjects("only", many));
        format!("  - {{id: r-{number}, {kind}{spared}, {action}{priority}, reason: because{except}{only}}}\n")
    }

    /// Sometimes a list of subjects; seldom where there are many rules, of which each has subject sets of its own.
    fn subjects(&mut self, key: &str, many: bool) -> String {
        let count = if many { [0, 0, 0, 1][self.below(4)] } else { [0, 0, 1, 2][self.below(4)] };
        let mut items: Vec<String> = (0..count).map(|_| self.subject()).collect();
        items.sort();
        items.dedup();
        if items.is_empty() { String::new() } else { format!(", {key}: [{}]", items.join(", ")) }
    }

    fn subject(&mut self) -> String {
        match self.below(6) {
            0 => format!("{{session: {{{}}}}}", self.one(&SESSION_ITEMS)),
            1 => format!("{{{}, session: {{{}}}}}", self.executable(), self.one(&SESSION_ITEMS)),
            2 => format!("{{{}}}", self.executable()),
            3 | 4 => format!("{{descendant_of: {{{}}}}}", self.executable()),
            _ => format!("{{{}, descendant_of: {{{}}}}}", self.executable(), self.executable()),
        }
    }

    fn executable(&mut self) -> String {
        let digest = format!("{:02x}", self.below(3)).repeat(32);
        match self.below(4) {
            0 => format!("sha256: \"{digest}\""),
            1 => format!("executable: \"{}\", sha256: \"{digest}\"", self.glob()),
            _ => format!("executable: \"{}\"", self.glob()),
        }
    }

    fn path(&mut self) -> Vec<u8> {
        let mut path = self.one(&ROOTS).to_vec();
        for _ in 0..self.below(6) {
            path.extend(b"/");
            match self.below(10) {
                // Names that no rule spells, of any bytes and of many lengths.
                0 => {
                    for _ in 0..=self.below(68) {
                        let byte = (self.next() as u8).max(1);
                        path.push(if byte == b'/' { b'x' } else { byte });
                    }
                }
                _ => path.extend(self.one(&NAMES)),
            }
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    fn image(&mut self) -> Executed {
        let sha256 = (self.below(2) == 0).then(|| [self.below(4) as u8; 32]);
        Executed { path: self.path(), sha256, loads_code: self.below(8) == 0 }
    }

    /// Sometimes another operation on a file, asked for at once.
    pub(super) fn also(&mut self, object: &Object) -> Option<FileOperation> {
        let is_file = matches!(object, Object::File { .. });
        let operation = self.one(&FileOperation::WORDS).1;
        (is_file && self.below(3) == 0).then_some(operation)
    }

    /// One of [`sessions`], or one of which nothing is known.
    fn session(&mut self) -> Arc<Session> {
        let number = self.below(SESSIONS + 1);
        sessions().into_iter().nth(number).unwrap_or_default()
    }

    pub(super) fn request(&mut self) -> Request {
        let mut images: Vec<Executed> = (0..self.below(ANCESTORS + 1)).map(|_| self.image()).collect();
        let own = self.image();
        images.push(own.clone());
        let subject = Subject {
            executable: own.path,
            sha256: own.sha256,
            uid: 1000,
            loads_code: own.loads_code,
            lineage: Lineage::Images { images, complete: self.below(8) != 0 },
            session: self.session(),
        };
        let path = self.path();
        let object = match self.below(6) {
            0 => Object::Exec { path, sha256: None },
            1 => Object::ConnectUnix { path },
            _ => {
                let operations = FileOperation::WORDS.map(|(_, operation)| operation);
                Object::File { path, operation: self.one(&operations) }
            }
        };
        Request { subject, object }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use treeline_policy::{Target, compile, parse};

    #[test]
    fn every_policy_fits_into_the_tables_large_ones_too() {
        let (host, mounts) = machine();
        let mut large = 0;
        for seed in 0..64 {
            let text = Random::new(seed).policy();
            let policy = parse("random", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            large += usize::from(policy.rules.len() == RULES_MANY);
            let target = Target { seed, generation: 1, slot: 0 };
            compile(&policy, &host, &mounts, target)
                .unwrap_or_else(|diagnostics| panic!("seed {seed}: {}", diagnostics.render(false)));
        }
        assert!(large > 0);
    }
}
