//! From an event to the bytes of its entry.

use std::io;

use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::{
    Cut, Link, Meta, Origin, VERSION,
    class::Class,
    cut::LADDER,
    entry::is_full,
    object::{Actor, Endpoint, File, ProcessObject, Text},
};
use crate::{Action, Body, Event, Notice, Process, RuleHit, SessionId, Subject, Verdict};

/// Most bytes of an entry: tlog-tiles stores an entry's length in 16 bits.
pub const ENTRY_BYTES_MAX: usize = 60_000;

/// Appends the entry of `event` to `out`: one JSON object without a newline, at most [`ENTRY_BYTES_MAX`] bytes. What
/// does not fit is left out in fixed steps and the entry says so in `unmapped.treeline.cut`.
///
/// # Panics
/// When the texts of [`Origin`] alone are too long for an entry; their bound is in its description.
pub fn encode(event: &Event, meta: &Meta<'_>, out: &mut Vec<u8>) {
    if write(event, None, meta, out) {
        return;
    }
    let fits = LADDER.iter().any(|step| {
        let (short, cut) = step.apply(event);
        write(&short, Some(cut), meta, out)
    });
    assert!(fits, "the last step of the ladder fits every event");
}

/// Whether it fitted; when not, `out` is as it was.
fn write(event: &Event, cut: Option<Cut>, meta: &Meta<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let bounded = Bounded { out: &mut *out, end: start + ENTRY_BYTES_MAX };
    match serde_json::to_writer(bounded, &Wire::new(event, cut, meta)) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_io(), "every key is a string: {error}");
            out.truncate(start);
            false
        }
    }
}

/// Refuses what does not fit, so that a huge event costs no more than an entry.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.end - self.out.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    class_uid: u32,
    category_uid: u32,
    activity_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    activity_name: Option<&'a str>,
    type_uid: u32,
    severity_id: u32,
    time: u64,
    metadata: Metadata<'a>,
    device: Device<'a>,
    status_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<Text<i32>>,
    #[serde(flatten)]
    control: Control<'a>,
    #[serde(flatten)]
    what: What<'a>,
    unmapped: Unmapped<'a>,
}

/// Attributes of the profile `security_control`.
#[derive(Serialize, Default)]
struct Control<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    action_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition_id: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_alert: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizations: Option<[Authorization<'a>; 1]>,
}

#[derive(Serialize, Default)]
struct Policy<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Text<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_applied: Option<bool>,
}

#[derive(Serialize)]
struct Authorization<'a> {
    decision: &'static str,
    policy: Policy<'a>,
}

/// Attributes of the classes.
#[derive(Serialize, Default)]
struct What<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Actor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_result: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<Product<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    version: &'static str,
    profiles: [&'static str; 2],
    product: Product<'a>,
    log_name: &'a str,
    uid: Text<Uid<'a>>,
    sequence: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_truncated: bool,
}

/// `<device>:<epoch>:<index>`.
struct Uid<'a>(&'a Meta<'a>);

impl std::fmt::Display for Uid<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.0.origin.device, self.0.origin.epoch, self.0.index)
    }
}

#[derive(Serialize)]
struct Product<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<Text<SessionId>>,
}

impl<'a> Product<'a> {
    fn treeline(version: &'a str) -> Self {
        Self { name: Some("Treeline"), vendor_name: Some("Treeline"), version: Some(version), uid: None }
    }

    fn session(id: SessionId, name: Option<&'a str>) -> Self {
        Self { name, vendor_name: None, version: None, uid: Some(Text(id)) }
    }
}

#[derive(Serialize)]
struct Device<'a> {
    type_id: u32,
    uid: &'a str,
    hostname: &'a str,
    boot_uid: &'a str,
    os: Os<'a>,
}

#[derive(Serialize)]
struct Os<'a> {
    type_id: u32,
    name: &'a str,
    version: &'a str,
    kernel_release: &'a str,
}

const UNKNOWN_DEVICE: u32 = 0;
const LINUX: u32 = 200;

impl<'a> From<&'a Origin> for Device<'a> {
    fn from(origin: &'a Origin) -> Self {
        let Origin { device, hostname, boot_id, os_name, os_version, kernel, .. } = origin;
        let os = Os { type_id: LINUX, name: os_name, version: os_version, kernel_release: kernel };
        Self { type_id: UNKNOWN_DEVICE, uid: device, hostname, boot_uid: boot_id, os }
    }
}

#[derive(Serialize)]
struct Unmapped<'a> {
    treeline: Extension<'a>,
}

#[derive(Serialize)]
struct Extension<'a> {
    v: u32,
    kind: &'static str,
    epoch: u64,
    boot_ns: u64,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a RuleHit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'a Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ancestry: Option<&'a [std::sync::Arc<Process>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Links<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<&'a Notice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
}

struct Links<'a>(&'a [std::sync::Arc<Process>]);

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for step in self.0 {
            list.serialize_element(&Link::from(&**step))?;
        }
        list.end()
    }
}

impl<'a> Wire<'a> {
    fn new(event: &'a Event, cut: Option<Cut>, meta: &'a Meta<'a>) -> Self {
        let class = Class::of(&event.body);
        let origin = meta.origin;
        let metadata = Metadata {
            version: "1.8.0",
            profiles: ["host", "security_control"],
            product: Product::treeline(&origin.version),
            log_name: &origin.device,
            uid: Text(Uid(meta)),
            sequence: meta.index,
            is_truncated: cut.is_some(),
        };
        let (control, what) = match &event.body {
            Body::Act { subject, action, verdict, rule } => {
                (Control::act(*verdict, rule.as_deref()), What::act(event, subject, action, *verdict))
            }
            Body::Notice(notice) => (Control::notice(notice), What::notice(notice, origin)),
        };
        Self {
            class_uid: class.class_uid,
            category_uid: class.category_uid(),
            activity_id: class.activity_id,
            activity_name: class.activity_name,
            type_uid: class.type_uid(),
            severity_id: class.severity_id,
            time: event.time.wall_ms,
            metadata,
            device: Device::from(origin),
            status_id: class.status.status_id,
            status_code: class.status.errno.map(Text),
            control,
            what,
            unmapped: Unmapped { treeline: Extension::new(event, cut, meta) },
        }
    }
}

impl<'a> Control<'a> {
    fn act(verdict: Verdict, rule: Option<&'a RuleHit>) -> Self {
        let (action_id, disposition_id, decision) = match verdict {
            Verdict::Allow => (1, 1, "allow"),
            Verdict::Audit => (3, 17, "audit"),
            Verdict::Deny => (2, 2, "deny"),
        };
        let policy = |rule: &'a RuleHit| Policy {
            name: Some(&rule.policy),
            version: Some(Text(rule.generation)),
            ..Policy::default()
        };
        Self {
            action_id: Some(action_id),
            disposition_id: Some(disposition_id),
            is_alert: verdict == Verdict::Deny,
            status_detail: rule.map(|rule| &*rule.reason),
            policy: rule.map(policy),
            authorizations: rule.map(|hit| {
                [Authorization { decision, policy: Policy { uid: Some(&hit.rule), ..policy(hit) } }]
            }),
        }
    }

    fn notice(notice: &'a Notice) -> Self {
        let (policy, status_detail) = match notice {
            Notice::PolicyApplied { generation, name, sha256, .. } => {
                let version = Some(Text(*generation));
                (Some(Policy { name: Some(name), uid: Some(sha256), version, is_applied: Some(true) }), None)
            }
            Notice::PolicyRejected { sha256, error } => {
                let policy = Policy { uid: Some(sha256), is_applied: Some(false), ..Policy::default() };
                (Some(policy), Some(error.as_str()))
            }
            Notice::Stopped { reason }
            | Notice::ApprovalEnded { reason, .. }
            | Notice::ApprovalRefused { reason, .. } => (None, Some(reason.as_str())),
            Notice::Malformed { error, .. } => (None, Some(error.as_str())),
            _ => (None, None),
        };
        Self { status_detail, policy, ..Self::default() }
    }
}

impl<'a> What<'a> {
    fn act(event: &'a Event, subject: &'a Subject, action: &'a Action, verdict: Verdict) -> Self {
        let (time, session) = (event.time, event.session);
        let process = &*subject.process;
        let known = || {
            let known = ProcessObject::known(process, time);
            if is_full(action, verdict) {
                known.with_arguments(process).with_ancestry(&subject.ancestry, time)
            } else {
                known
            }
        };
        let by = |actor| Self { actor: Some(Actor::new(actor, session)), ..Self::default() };
        match action {
            Action::Fork { creator } => {
                let by_key = || ProcessObject::key_only(*creator);
                let creator = subject.ancestry.iter().find(|step| step.key == *creator);
                let actor = creator.map_or_else(by_key, |creator| ProcessObject::known(creator, time));
                Self { process: Some(known()), ..by(actor) }
            }
            Action::Exec => {
                let parent = subject.ancestry.first().map_or(process, |parent| parent);
                Self { process: Some(known()), ..by(ProcessObject::known(parent, time)) }
            }
            Action::ExecDenied { file } => {
                Self { process: Some(ProcessObject::refused(process, file)), ..by(known()) }
            }
            Action::Exit { code, .. } => {
                let ended = ProcessObject::known(process, time);
                Self { process: Some(ended), exit_code: *code, ..by(known()) }
            }
            Action::Open { file, count, .. } => {
                Self { file: Some(File::reference(file)), count: Some(*count), ..by(known()) }
            }
            Action::Map { file, .. }
            | Action::Create { file, .. }
            | Action::Delete { file, .. }
            | Action::Modify { file, .. }
            | Action::Mount { at: file, .. }
            | Action::Receive { file, .. } => Self { file: Some(File::reference(file)), ..by(known()) },
            Action::Rename { from, to, .. } | Action::Link { from, to, .. } => {
                let (file, file_result) = (Some(File::reference(from)), Some(File::reference(to)));
                Self { file, file_result, ..by(known()) }
            }
            Action::Tamper { target, .. } => {
                let target = target.unwrap_or_default();
                Self { process: Some(ProcessObject::key_only(target)), ..by(known()) }
            }
            Action::Trace { target, .. } => {
                Self { process: Some(ProcessObject::key_only(*target)), ..by(known()) }
            }
            Action::Adopt { by: handed_on_by, .. } => {
                Self { process: Some(known()), ..by(ProcessObject::key_only(*handed_on_by)) }
            }
            Action::Connect { to, .. } => Self { dst_endpoint: Some(Endpoint::from(to)), ..by(known()) },
        }
    }

    fn notice(notice: &'a Notice, origin: &'a Origin) -> Self {
        let app = |app| Self { app: Some(app), ..Self::default() };
        match notice {
            Notice::Started { version, .. } => app(Product::treeline(version)),
            Notice::Stopped { .. } => app(Product::treeline(&origin.version)),
            Notice::SessionStarted { session, command, .. } => {
                app(Product::session(*session, command.first().map(String::as_str)))
            }
            Notice::SessionEnded { session } => app(Product::session(*session, None)),
            Notice::Lost { count, .. } => Self { count: Some(*count), ..Self::default() },
            Notice::PolicyApplied { .. }
            | Notice::PolicyRejected { .. }
            | Notice::ImageHashed { .. }
            | Notice::Malformed { .. }
            | Notice::Approved { .. }
            | Notice::ApprovalEnded { .. }
            | Notice::ApprovalRefused { .. } => Self::default(),
        }
    }
}

impl<'a> Extension<'a> {
    fn new(event: &'a Event, cut: Option<Cut>, meta: &Meta<'_>) -> Self {
        let bare = Self {
            v: VERSION,
            kind: event.body.kind(),
            epoch: meta.origin.epoch,
            boot_ns: event.time.boot_ns,
            generation: meta.generation,
            session: event.session,
            verdict: None,
            rule: None,
            process: None,
            ancestry: None,
            links: None,
            action: None,
            notice: None,
            cut,
        };
        match &event.body {
            Body::Notice(notice) => Self { notice: Some(notice), ..bare },
            Body::Act { subject, action, verdict, rule } => {
                let full = is_full(action, *verdict);
                Self {
                    verdict: Some(*verdict),
                    rule: rule.as_deref(),
                    process: Some(&subject.process),
                    ancestry: full.then_some(&subject.ancestry),
                    links: (!full).then_some(Links(&subject.ancestry)),
                    action: Some(action),
                    ..bare
                }
            }
        }
    }
}
