//! An entry as it is read back.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    Action, Body, Cut, Digest, Event, Notice, Process, ProcessKey, RuleHit, SessionId, Timestamp, Verdict,
};

/// Where entries come from: the same for all entries of one start of the sensor. Each text should have at most
/// 255 bytes: they count towards the bound of an entry and are never cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The device's id, the origin of its log; without `:`.
    pub device: String,
    /// Which log of the device: a new one begins when the old one cannot go on.
    pub epoch: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Host name.
    pub hostname: String,
    /// Name of the operating system, such as `Debian GNU/Linux`.
    pub os_name: String,
    /// Version of the operating system, such as `13`.
    pub os_version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of the sensor.
    pub version: String,
}

/// What an entry says besides its event.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a> {
    /// Where it comes from.
    pub origin: &'a Origin,
    /// Index in the log, from 0.
    pub index: u64,
    /// Generation of the policy in force, 0 when there is none.
    pub generation: u64,
}

/// One step of an ancestry by identity and content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Which process.
    pub key: ProcessKey,
    /// What it ran: the SHA-256 or why there is none.
    #[serde(serialize_with = "digest_to_text", deserialize_with = "digest_from_text")]
    pub sha256: Digest,
    /// The script that it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptDigest>,
}

/// The digest of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScriptDigest(
    #[serde(serialize_with = "digest_to_text", deserialize_with = "digest_from_text")] pub Digest,
);

impl From<&Process> for Link {
    fn from(process: &Process) -> Self {
        let script = process.program.script.as_ref().map(|script| ScriptDigest(script.digest));
        Self { key: process.key, sha256: process.program.image.digest, script }
    }
}

/// The chain behind a subject, nearest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// Every step with everything that is known of it (exec, and whatever was audited or denied).
    Full(Vec<Arc<Process>>),
    /// Every step by identity and content.
    Links(Arc<[Link]>),
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it comes from.
    pub origin: Arc<Origin>,
    /// Index in the log.
    pub index: u64,
    /// Generation of the policy that was in force.
    pub generation: u64,
    /// When.
    pub time: Timestamp,
    /// In which session.
    pub session: Option<SessionId>,
    /// What.
    pub body: EntryBody,
    /// What was left out because the entry would have been too long.
    pub cut: Option<Cut>,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryBody {
    /// A process did something.
    Act {
        /// Who.
        process: Arc<Process>,
        /// The chain behind it.
        ancestry: Ancestry,
        /// What.
        action: Action,
        /// What was decided.
        verdict: Verdict,
        /// By which rule.
        rule: Option<Arc<RuleHit>>,
    },
    /// The sensor said something.
    Notice(Notice),
}

impl EntryBody {
    /// Its kind, one of [`crate::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Act { action, .. } => action.kind(),
            Self::Notice(notice) => notice.kind(),
        }
    }
}

impl Entry {
    /// What [`crate::decode`] gives back for `event` when nothing has to be cut.
    #[must_use]
    pub fn of(event: &Event, meta: &Meta<'_>) -> Self {
        let body = match &event.body {
            Body::Notice(notice) => EntryBody::Notice(notice.clone()),
            Body::Act { subject, action, verdict, rule } => EntryBody::Act {
                process: Arc::clone(&subject.process),
                ancestry: if is_full(action, *verdict) {
                    Ancestry::Full(subject.ancestry.clone())
                } else {
                    Ancestry::Links(subject.ancestry.iter().map(|step| Link::from(&**step)).collect())
                },
                action: action.clone(),
                verdict: *verdict,
                rule: rule.clone(),
            },
        };
        Self {
            origin: Arc::new(meta.origin.clone()),
            index: meta.index,
            generation: meta.generation,
            time: event.time,
            session: event.session,
            body,
            cut: None,
        }
    }
}

/// Whether an entry carries the ancestry in full: where a program starts, and where somebody will ask how it came to this.
pub(super) fn is_full(action: &Action, verdict: Verdict) -> bool {
    verdict != Verdict::Allow || matches!(action, Action::Exec | Action::ExecDenied { .. })
}

fn digest_to_text<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    let Digest::Sha256(bytes) = digest else { return serializer.collect_str(digest) };
    let mut text = [0; 64];
    hex::encode_to_slice(bytes, &mut text).expect("32 bytes are 64 digits");
    serializer.serialize_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
}

fn digest_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = Digest;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("64 hexadecimal digits, `pending`, `changed`, `gone` or `unreadable`")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
            text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Text)
}

impl FromStr for Digest {
    type Err = String;

    /// The reverse of its `Display`.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "pending" => Self::Pending,
            "changed" => Self::Changed,
            "gone" => Self::Gone,
            "unreadable" => Self::Unreadable,
            text => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| format!("`{text}` is not a SHA-256"))?;
                Self::Sha256(bytes)
            }
        })
    }
}
