//! Approving of a denial: everything that has to be so, one after the other.

use std::os::fd::OwnedFd;

use treeline_abi::paths::Operation;
use treeline_event::{
    Action, Approval, Asker, Entry, EntryBody, Notice, Process, RuleHit, SessionId, Verdict,
};
use treeline_policy::{
    Approver, Home, Host, Period, Policy,
    approvable::{Approvable, NotApprovable, approvable},
    policy::Rule,
};

use super::{
    approvals::{self, Held, NotApproved},
    homes::Homes,
    sensor::SensorError,
};
use crate::backend::{Approved, ApprovedObject, FileNumber};

/// Who wants to approve of what.
#[derive(Debug)]
pub struct Ask {
    /// Index of the entry.
    pub denial: u64,
    /// The entry, if it is there and signed.
    pub entry: Option<Entry>,
    /// Whether who asks may read the entry.
    pub is_readable: bool,
    /// For how long.
    pub period: Period,
    /// The process that asks.
    pub process: OwnedFd,
    /// The same for the log.
    pub asker: Asker,
    /// The groups that it is in, with their names.
    pub groups: Vec<(u32, Option<String>)>,
}

/// Why a denial is not approved of.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// A session asks.
    #[error("session {0} asks: only somebody outside of every session can approve")]
    FromSession(SessionId),
    /// It is none, or none that this user is to know of.
    #[error("entry {0} is no denial that this user may approve of")]
    NoDenial(u64),
    /// What was refused is nothing that can be approved of.
    #[error("this cannot be approved of: {0}")]
    NotApprovable(#[from] NotApprovable),
    /// Its session has ended.
    #[error("session {0} has ended")]
    Ended(SessionId),
    /// There is no policy.
    #[error("no policy is in force")]
    NoPolicy,
    /// It may not be approved.
    #[error(transparent)]
    NotApproved(#[from] NotApproved),
    /// The sensor did not do it.
    #[error(transparent)]
    Sensor(#[from] SensorError),
}

impl ApproveError {
    /// Whether who asks may not, as opposed to nobody being able to.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::FromSession(_) | Self::NoDenial(_) => true,
            Self::NotApproved(error) => error.is_about_the_asker(),
            _ => false,
        }
    }

    /// As the log has it; nothing for what nobody has tried to get round, such as another index of one's own entries.
    pub(super) fn notice(&self, ask: &Ask) -> Option<Notice> {
        if matches!(self, Self::NoDenial(_)) && ask.is_readable {
            return None;
        }
        let session = if let Self::FromSession(session) = self { Some(*session) } else { None };
        self.is_forbidden().then(|| Notice::ApprovalRefused {
            denial: ask.denial,
            session,
            by: ask.asker.clone(),
            reason: self.to_string(),
        })
    }
}

/// A denial, as its entry has it.
pub(super) struct Denial<'e> {
    pub(super) session: SessionId,
    process: &'e Process,
    action: &'e Action,
    hit: &'e RuleHit,
}

impl Ask {
    /// The denial that the entry is of.
    pub(super) fn denial(&self) -> Result<Denial<'_>, ApproveError> {
        let none = ApproveError::NoDenial(self.denial);
        let Some(Entry { session: Some(session), body, cut: None, .. }) = &self.entry else {
            return Err(none);
        };
        match body {
            EntryBody::Act { process, action, verdict: Verdict::Deny, rule: Some(hit), .. } => {
                Ok(Denial { session: *session, process, action, hit })
            }
            _ => Err(none),
        }
    }

    fn who(&self) -> Approver {
        Approver { user: (self.asker.uid, self.asker.user.clone()), groups: self.groups.clone() }
    }

    /// Whether the policy lets this user approve of anything that the rule of the denial refuses: who may neither that nor read
    /// the entry is not told what is in it.
    fn may_know(&self, policy: &Policy, denial: &Denial<'_>) -> bool {
        let is_let = |rule: &Rule| policy.approvable_by(rule, &self.who()).is_some();
        self.is_readable || policy.rule(&denial.hit.rule).is_some_and(is_let)
    }
}

/// The approval, if everything is so.
pub(super) fn held(
    ask: &Ask,
    denial: &Denial<'_>,
    policy: &Policy,
    homes: &Homes,
    (now_ns, generation): (u64, u64),
) -> Result<Held, ApproveError> {
    if !ask.may_know(policy, denial) {
        return Err(ApproveError::NoDenial(ask.denial));
    }
    let Approvable { objects, operations, thing } = approvable(denial.process, denial.action)?;
    let (who, image) = (ask.who(), &denial.process.program.image);
    let executable = image.path.as_bytes();
    let weigh =
        |named| approvals::weigh(policy, &host(homes), executable, (&objects, named), &who, ask.period);
    // What the policy in force has refused it does refuse, by whatever name.
    let is_in_force = denial.hit.generation == generation;
    let (rules, named) = match weigh(None) {
        Ok(rules) if rules.iter().any(|rule| rule.id == denial.hit.rule) => (rules, None),
        Ok(_) | Err(NotApproved::NotRefused) if is_in_force => {
            (weigh(Some(&denial.hit.rule))?, Some(denial.hit.rule.clone()))
        }
        Ok(_) => return Err(NotApproved::NotRefused.into()),
        Err(error) => return Err(error.into()),
    };
    // By what else it was refused is not approved.
    if !rules.iter().any(|rule| rule.id == denial.hit.rule) {
        return Err(NotApproved::NotRefused.into());
    }
    let object = approvals::find(&thing)?;
    let approved = Approved {
        denial: ask.denial,
        session: denial.session,
        image: FileNumber { device: image.file.major << 20 | image.file.minor, inode: image.file.inode },
        rules: rules.iter().map(|rule| rule.id.clone()).collect(),
        operations,
        object,
        until_ns: now_ns.saturating_add(u64::from(ask.period.seconds()) * 1_000_000_000),
    };
    Ok(Held {
        approved,
        period_s: ask.period.seconds(),
        executable: image.path.clone(),
        named,
        objects: objects.iter().map(ToString::to_string).collect(),
        said: rules.into_iter().map(approvals::digest).collect(),
        user: who.user,
        groups: who.groups,
    })
}

/// What `~` stands for.
pub(super) fn host(homes: &Homes) -> Host {
    use std::os::unix::ffi::OsStringExt as _;
    let home = |(uid, path): (u32, std::path::PathBuf)| Home { uid, path: path.into_os_string().into_vec() };
    Host { homes: homes.list().into_iter().map(home).collect() }
}

/// An approval as the log and whoever has asked are told.
pub(super) fn told(held: &Held) -> Approval {
    const WORDS: [(u32, &str); 6] = [
        (Operation::READ, "read"),
        (Operation::WRITE, "write"),
        (Operation::CREATE, "create"),
        (Operation::DELETE, "delete"),
        (Operation::EXEC, "exec"),
        (Operation::CONNECT, "connect"),
    ];
    let Approved { denial, session, rules, operations, object, until_ns, .. } = &held.approved;
    let words = WORDS.into_iter().filter(|(bit, _)| operations & 1 << bit != 0);
    Approval {
        denial: *denial,
        session: *session,
        executable: held.executable.clone(),
        rules: rules.clone(),
        operations: words.map(|(_, word)| word.to_owned()).collect(),
        object: match object {
            ApprovedObject::File { path, .. } => path.to_string(),
            ApprovedObject::Address(address) => address.to_string(),
            ApprovedObject::Abstract(name) => format!("unix:@{name}"),
        },
        for_s: held.period_s,
        until_ns: *until_ns,
    }
}
