//! What somebody has approved of: who may, whether the policy still lets them, and what holds until when.
//!
//! The kernel ends an approval by itself. What is kept here is for the next policy, which it has to be made ready for, and for
//! the next daemon; the file is one of those that sessions cannot change.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use treeline_event::{PathBytes, SessionId};
use treeline_policy::{
    Approver, Host, Object, Period, Policy, Request, Subject, approvable::Thing, approval::refusing,
    diff::rules::statement, policy::Rule,
};

use super::policy::keep;
use crate::backend::{APPROVALS_MAX, Approved, ApprovedObject, RULES_PER_APPROVAL_MAX};

/// The file in the state directory.
const FILE: &str = "approvals.json";
/// Bytes of it that are read.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Why something is not approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    /// It would not be refused now.
    #[error("the policy in force does not refuse that, or not by the rule of the denial: try again")]
    NotRefused,
    /// No approval names the rule.
    #[error("the policy lets nobody approve of what its rule `{0}` refuses")]
    Nobody(String),
    /// None that does is for this user.
    #[error("the policy lets others than this user approve of what its rule `{0}` refuses")]
    NotBy(String),
    /// It is for less time.
    #[error("the policy lets this be approved for {0} at the most")]
    TooLong(Period),
    /// More rules refuse it than one can oversee.
    #[error("{0} rules refuse that, or might; at most {RULES_PER_APPROVAL_MAX} can be approved of at a time")]
    TooManyRules(usize),
    /// There is no room.
    #[error(
        "too many approvals hold already ({APPROVALS_MAX} at the most, 16 of one user): wait until one has ended"
    )]
    TooMany,
    /// The object is another one by now.
    #[error("{0}")]
    Object(String),
}

impl NotApproved {
    /// Whether who asked may not, as opposed to nobody being able to.
    #[must_use]
    pub fn is_about_the_asker(&self) -> bool {
        matches!(self, Self::Nobody(_) | Self::NotBy(_) | Self::TooLong(_))
    }
}

/// An approval with what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) approved: Approved,
    /// For how long it was given.
    pub(super) period_s: u32,
    /// Path of the executable.
    pub(super) executable: PathBytes,
    /// The rule that refused, where it is written with another name of the object.
    pub(super) named: Option<String>,
    /// What the policy is asked, as it is written.
    pub(super) objects: Vec<String>,
    /// SHA-256 of what each of the rules says.
    pub(super) said: Vec<String>,
    /// Who has approved.
    pub(super) user: (u32, Option<String>),
    /// The groups that they were in.
    pub(super) groups: Vec<(u32, Option<String>)>,
}

impl Held {
    /// Whether a policy has the same rules against it and lets them be approved of by whoever has.
    fn holds_under(&self, policy: &Policy, host: &Host) -> bool {
        let objects: Result<Vec<Object>, _> = self.objects.iter().map(|object| object.parse()).collect();
        let Ok(objects) = objects else { return false };
        let who = Approver { user: self.user.clone(), groups: self.groups.clone() };
        let Some(period) = Period::of_seconds(self.period_s) else { return false };
        let asked = (&objects[..], self.named.as_deref());
        let found = weigh(policy, host, self.executable.as_bytes(), asked, &who, period);
        found.is_ok_and(|rules| {
            rules.len() == self.approved.rules.len()
                && rules.iter().zip(&self.approved.rules).all(|(rule, id)| rule.id == *id)
                && rules.iter().zip(&self.said).all(|(rule, said)| digest(rule) == *said)
        })
    }
}

/// The rules that refuse, if all of them may be approved of by somebody for so long.
///
/// What is unknown of the subject counts as refusing: another process of the same program may have another lineage. `named` is
/// the rule that refused, whatever it is written with: the object may have other names, such as those of links to it. One that
/// is overlooked here goes on to refuse: the kernel asks each rule that is left.
pub(super) fn weigh<'p>(
    policy: &'p Policy,
    host: &Host,
    executable: &[u8],
    (objects, named): (&[Object], Option<&str>),
    who: &Approver,
    period: Period,
) -> Result<Vec<&'p Rule>, NotApproved> {
    let subject = Subject { executable: executable.to_vec(), ..Subject::default() };
    let of = |object: &Object| {
        refusing(policy, host, &Request { subject: subject.clone(), object: object.clone() })
    };
    let named = named.and_then(|id| policy.rules.iter().position(|rule| rule.id == id));
    let mut indices: Vec<usize> = objects.iter().flat_map(of).chain(named).collect();
    indices.sort_unstable();
    indices.dedup();
    if indices.is_empty() {
        return Err(NotApproved::NotRefused);
    }
    if indices.len() > RULES_PER_APPROVAL_MAX {
        return Err(NotApproved::TooManyRules(indices.len()));
    }
    let rules: Vec<&Rule> = indices.into_iter().filter_map(|index| policy.rules.get(index)).collect();
    if let Some(rule) = rules.iter().find(|rule| policy.approvable(rule).is_none()) {
        return Err(NotApproved::Nobody(rule.id.clone()));
    }
    for rule in &rules {
        let longest = policy.approvable_by(rule, who).ok_or_else(|| NotApproved::NotBy(rule.id.clone()))?;
        if period > longest {
            return Err(NotApproved::TooLong(longest));
        }
    }
    Ok(rules)
}

/// What a rule says, so that another rule of the same id is told from it.
pub(super) fn digest(rule: &Rule) -> String {
    hex::encode(Sha256::digest(statement(rule)))
}

/// Finds an object as it is now: an approval is for the very object that was refused.
pub(super) fn find(thing: &Thing) -> Result<ApprovedObject, NotApproved> {
    let wrong = |words: &str| Err(NotApproved::Object(words.to_owned()));
    match thing {
        Thing::Address(address) => Ok(ApprovedObject::Address(*address)),
        Thing::Abstract(name) => Ok(ApprovedObject::Abstract(name.clone())),
        Thing::File(path, id) => {
            let Some(found) = look(path)? else { return wrong("the file is no longer there") };
            if found.ino() != id.inode {
                return wrong("another file is in its place by now: try again, and approve of that denial");
            }
            if !found.is_dir() && found.nlink() > 1 {
                return wrong("the file has several names, and approving of one would approve of all");
            }
            let device = Some(id.major << 20 | id.minor);
            Ok(ApprovedObject::File { path: path.clone(), inode: id.inode, device })
        }
        Thing::Socket(path) => {
            let Some(found) = look(path)? else { return wrong("the socket is no longer there") };
            if !found.file_type().is_socket() || found.nlink() > 1 {
                return wrong("there is no socket with this name alone");
            }
            Ok(ApprovedObject::File { path: path.clone(), inode: found.ino(), device: None })
        }
        Thing::Name(path) => match look(path)? {
            Some(_) => wrong("it is there by now: try again, and approve of that denial"),
            None => Ok(ApprovedObject::File { path: path.clone(), inode: 0, device: None }),
        },
    }
}

fn look(path: &PathBytes) -> Result<Option<fs::Metadata>, NotApproved> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(NotApproved::Object(format!("the object cannot be looked at: {error}"))),
    }
}

/// The approvals that hold.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    dir: PathBuf,
    boot_id: String,
    held: Vec<Held>,
}

/// What has ended, each with the reason, and what has not.
pub(super) struct Ended {
    pub(super) left: Vec<Held>,
    pub(super) ended: Vec<(Held, &'static str)>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    held: Vec<Held>,
}

impl Approvals {
    /// None yet; they are kept in this directory.
    pub(super) fn new(dir: PathBuf) -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { dir, boot_id: boot_id.trim().to_owned(), held: Vec::new() }
    }

    /// Goes on with what another daemon had, as far as its sessions live: the kernel has them, too, until the next policy.
    pub(super) fn resume(&mut self, now_ns: u64, lives: impl Fn(SessionId) -> bool) {
        match read(&self.dir.join(FILE)) {
            Ok(kept) if kept.boot_id == self.boot_id => {
                let holds = |held: &Held| {
                    let longest_ns = u64::from(held.period_s).saturating_mul(1_000_000_000);
                    let until_ns = held.approved.until_ns;
                    // What is not from this clock would hold for too long.
                    now_ns < until_ns
                        && until_ns <= now_ns.saturating_add(longest_ns)
                        && lives(held.approved.session)
                };
                self.held = kept.held.into_iter().filter(holds).take(APPROVALS_MAX).collect();
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("what was approved of before has ended: {error}"),
        }
    }

    /// As a backend is told them.
    pub(super) fn list(&self) -> Vec<Approved> {
        self.held.iter().map(|held| held.approved.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= APPROVALS_MAX
    }

    /// The same with one more, in the place of one that is for the same.
    pub(super) fn with(&self, held: Held) -> Vec<Held> {
        let is_other = |other: &&Held| !is_same(&other.approved, &held.approved);
        let mut all: Vec<Held> = self.held.iter().filter(is_other).cloned().collect();
        all.push(held);
        all
    }

    /// How many somebody has approved of that hold.
    pub(super) fn of_user(&self, uid: u32) -> usize {
        self.held.iter().filter(|held| held.user.0 == uid).count()
    }

    /// What would hold under a policy, and what would not.
    pub(super) fn under(&self, policy: &Policy, host: &Host) -> (Vec<Held>, Vec<Held>) {
        self.held.iter().cloned().partition(|held| held.holds_under(policy, host))
    }

    /// What has ended by now; nothing if all hold.
    pub(super) fn ended(&self, now_ns: u64, lives: impl Fn(SessionId) -> bool) -> Option<Ended> {
        let why = |held: &Held| match held.approved {
            Approved { until_ns, .. } if until_ns <= now_ns => Some("its time has come"),
            Approved { session, .. } if !lives(session) => Some("the session has ended"),
            _ => None,
        };
        let ended: Vec<_> = self.held.iter().filter_map(|held| Some((held.clone(), why(held)?))).collect();
        let holds = || self.held.iter().filter(|held| why(held).is_none()).cloned().collect();
        (!ended.is_empty()).then(|| Ended { left: holds(), ended })
    }

    /// These hold from now on. What cannot be kept ends with this daemon.
    pub(super) fn set(&mut self, held: Vec<Held>) {
        if self.held == held {
            return;
        }
        self.held = held;
        let kept = Kept { boot_id: self.boot_id.clone(), held: self.held.clone() };
        if let Err(error) = keep(&self.dir.join(FILE), &kept) {
            tracing::warn!("approvals will not outlast this daemon: {error}");
        }
    }
}

/// Whether two approvals are for the same, for whatever time.
fn is_same(one: &Approved, other: &Approved) -> bool {
    let of = |approved: &Approved| {
        let Approved { session, image, object, operations, .. } = approved.clone();
        (session, image, object, operations)
    };
    of(one) == of(other)
}

fn read(path: &Path) -> io::Result<Kept> {
    if fs::metadata(path)?.len() > FILE_LEN_MAX {
        return Err(Errno::FBIG.into());
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use treeline_policy::{Home, parse};

    use super::*;
    use crate::backend::FileNumber;

    const POLICY: &str = "version: 1
name: p
approvals:
  - {rules: [keys], by: {users: [ada], groups: [leads]}, for_at_most: 30m}
  - {rules: [keys, wide], by: {users: ['7']}, for_at_most: 1h}
rules:
  - {id: keys, kind: file, paths: [~/.ssh/**], reason: r, except: [{executable: /usr/bin/ssh}]}
  - {id: wide, kind: file, paths: [~/.ssh/wide/**], reason: r, only: [{descendant_of: {executable: /usr/bin/npm}}]}
  - {id: other, kind: file, paths: [/other/**], reason: r}
  - {id: seen, kind: file, mode: monitor, paths: [~/.ssh/**], reason: r}
";

    fn host() -> Host {
        Host { homes: vec![Home { uid: 7, path: b"/h".to_vec() }] }
    }

    fn who(uid: u32, user: &str, group: &str) -> Approver {
        Approver { user: (uid, Some(user.to_owned())), groups: vec![(uid, Some(group.to_owned()))] }
    }

    fn period(text: &str) -> Period {
        text.parse().expect("a period")
    }

    #[test]
    fn who_may_approve_of_what() {
        let policy = parse("p", POLICY).expect("a policy");
        let check = |object: &str, who: &Approver, for_: &str, expect: Result<&[&str], &str>| {
            let objects = [object.parse().expect("an object")];
            let found = weigh(&policy, &host(), b"/usr/bin/cat", (&objects, None), who, period(for_));
            let found = found.map(|rules| rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>());
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, expect) => panic!("{found:?} is not {expect:?}"),
            }
        };
        let (ada, lead, eve) = (who(1, "ada", "x"), who(2, "l", "leads"), who(3, "eve", "x"));
        check("read /h/.ssh/a", &ada, "30m", Ok(&["keys"]));
        check("read /h/.ssh/a", &lead, "1s", Ok(&["keys"]));
        check("read /h/.ssh/a", &ada, "31m", Err("30m at the most"));
        check("read /h/.ssh/a", &who(7, "x", "x"), "1h", Ok(&["keys"]));
        check("read /h/.ssh/a", &eve, "1s", Err("others than this user"));
        // The user of this number, and not one of this name.
        check("read /h/.ssh/a", &who(8, "7", "7"), "1s", Err("others than this user"));
        // Root is nobody special.
        check("read /h/.ssh/a", &who(0, "root", "root"), "1s", Err("others than this user"));
        // Who acts there might be below npm: both rules have to be approved of.
        check("read /h/.ssh/wide/a", &ada, "1m", Err("`wide`"));
        check("read /h/.ssh/wide/a", &who(7, "x", "x"), "1h", Ok(&["keys", "wide"]));
        check("read /other/a", &ada, "1s", Err("lets nobody approve"));
        check("read /elsewhere", &ada, "1s", Err("does not refuse"));
    }

    fn held(policy: &Policy, object: &str, rules: &[&str]) -> Held {
        let approved = Approved {
            denial: 3,
            session: SessionId(1),
            image: FileNumber { device: 1, inode: 2 },
            rules: rules.iter().map(|&id| id.to_owned()).collect(),
            operations: 1,
            object: ApprovedObject::Address(([10, 0, 0, 1], 1).into()),
            until_ns: 100,
        };
        let said = rules.iter().map(|id| digest(policy.rule(id).expect("a rule"))).collect();
        Held {
            approved,
            period_s: 60,
            executable: "/usr/bin/cat".into(),
            named: None,
            objects: vec![object.to_owned()],
            said,
            user: (1, Some("ada".to_owned())),
            groups: Vec::new(),
        }
    }

    #[test]
    fn what_holds_under_another_policy() {
        let policy = parse("p", POLICY).expect("a policy");
        let one = held(&policy, "read /h/.ssh/a", &["keys"]);
        let check = |from: &str, to: &str, expect: bool| {
            assert!(POLICY.contains(from), "{from}");
            let other = parse("p", &POLICY.replace(from, to)).unwrap_or_else(|found| panic!("{found}"));
            assert_eq!(one.holds_under(&other, &host()), expect, "{to}");
        };
        check("reason: r", "reason: r", true);
        check("id: other", "id: another", true);
        check("users: [ada]", "users: [bob]", false);
        check("for_at_most: 30m", "for_at_most: 30s", false);
        check("rules: [keys]", "rules: [wide]", false);
        // The rule says something else.
        check("paths: [~/.ssh/**], reason: r, except", "paths: [~/.ssh/*], reason: r, except", false);
        // One more refuses.
        check("/other/**", "/h/.ssh/a", false);
        // It would be allowed.
        check("mode: monitor", "action: allow, priority: 5", false);
    }

    #[test]
    fn what_ends_and_what_another_daemon_goes_on_with() {
        let policy = parse("p", POLICY).expect("a policy");
        let dir = tempfile::tempdir().expect("a directory");
        let one = held(&policy, "read /h/.ssh/a", &["keys"]);
        let mut approvals = Approvals::new(dir.path().to_owned());
        approvals.set(vec![one.clone()]);
        let why = |now_ns, lives: bool| {
            let ended = approvals.ended(now_ns, |_| lives);
            ended.map(|Ended { left, ended }| (left.len(), ended[0].1))
        };
        assert_eq!(why(99, true), None);
        assert_eq!(why(100, true), Some((0, "its time has come")));
        assert_eq!(why(99, false), Some((0, "the session has ended")));
        let resumed = |now_ns, lives: bool| {
            let mut next = Approvals::new(dir.path().to_owned());
            next.resume(now_ns, |_| lives);
            next.held.len()
        };
        assert_eq!((resumed(99, true), resumed(100, true), resumed(99, false)), (1, 0, 0));
        // Longer than anybody has approved.
        let longer =
            Held { approved: Approved { until_ns: u64::MAX, ..one.approved.clone() }, ..one.clone() };
        approvals.set(vec![longer]);
        assert_eq!(resumed(99, true), 0);
        // Of another boot.
        approvals.boot_id = "another".to_owned();
        approvals.set(vec![one]);
        assert_eq!(resumed(99, true), 0);
        fs::write(dir.path().join(FILE), "{").expect("a file");
        assert_eq!(resumed(99, true), 0);
    }

    #[test]
    fn only_the_object_that_was_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| PathBytes::from(dir.path().join(name).to_str().expect("text"));
        let path = dir.path().join("a");
        fs::write(&path, "x").expect("a file");
        let inode = fs::metadata(&path).expect("there").ino();
        let id = |inode| treeline_event::FileId { major: 8, minor: 1, inode, ..Default::default() };
        let found = find(&Thing::File(at("a"), id(inode)));
        let device = Some(8 << 20 | 1);
        assert_eq!(found, Ok(ApprovedObject::File { path: at("a"), inode, device }));
        let check = |thing: &Thing, words: &str| {
            let error = find(thing).expect_err("not that one").to_string();
            assert!(error.contains(words), "{error}");
        };
        check(&Thing::File(at("a"), id(inode + 1)), "another file");
        check(&Thing::File(at("b"), id(inode)), "no longer there");
        check(&Thing::Name(at("a")), "there by now");
        check(&Thing::Socket(at("a")), "no socket");
        fs::hard_link(&path, dir.path().join("c")).expect("a link");
        check(&Thing::File(at("a"), id(inode)), "several names");
        assert!(find(&Thing::Name(at("d"))).is_ok());
    }
}
