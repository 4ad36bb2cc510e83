//! The only place that knows where things are in a log entry.
//!
//! An entry is an OCSF object; what OCSF has no place for is in `unmapped.treeline`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One entry of the log.
#[derive(Debug)]
pub(super) struct Entry(Value);

/// All entries of `treeline events --json`, one a line.
///
/// # Errors
/// When a line is not JSON.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| serde_json::from_str(line).map(Entry).with_context(|| format!("entry {index}")))
        .collect()
}

impl Entry {
    fn own(&self, pointer: &str) -> Option<&str> {
        self.0.pointer("/unmapped/treeline")?.pointer(pointer)?.as_str()
    }

    /// What the entry is about, such as `open` or `started`.
    pub(super) fn kind(&self) -> &str {
        self.own("/kind").unwrap_or_default()
    }

    /// It says that something was refused.
    pub(super) fn is_denial(&self) -> bool {
        self.own("/verdict") == Some("deny")
    }

    /// The rule behind the verdict.
    pub(super) fn rule(&self) -> Option<&str> {
        self.own("/rule/rule")
    }

    /// That rule's reason.
    pub(super) fn reason(&self) -> Option<&str> {
        self.own("/rule/reason")
    }

    /// The session.
    pub(super) fn session(&self) -> Option<&str> {
        self.own("/session")
    }

    /// The process that acted.
    pub(super) fn process(&self) -> Option<&str> {
        self.own("/process/key")
    }

    /// The executable of the process that acted.
    pub(super) fn executable(&self) -> Option<&Path> {
        let places = ["/actor/process/file/path", "/process/file/path"];
        places.iter().find_map(|place| self.0.pointer(place)?.as_str()).map(Path::new)
    }

    /// The file that was acted on.
    pub(super) fn object(&self) -> Option<&str> {
        self.0.pointer("/file/path")?.as_str()
    }

    /// The attach mode, where the sensor says that it started.
    pub(super) fn attach_mode(&self) -> Option<&str> {
        ["/mode", "/started/mode", "/notice/started/mode"].iter().find_map(|place| self.own(place))
    }

    /// Every SHA-256 that the entry gives for the file at `path`, wherever in the entry it stands.
    pub(super) fn sha256_of(&self, path: &Path) -> Vec<&str> {
        let mut found = Vec::new();
        files(&self.0, &mut |file| {
            if file.get("path").and_then(Value::as_str).map(Path::new) == Some(path) {
                found.extend(sha256(file));
            }
        });
        found
    }
}

/// OCSF's identifier of SHA-256 among the algorithms of a fingerprint.
const SHA_256_ID: u64 = 3;

/// The SHA-256 of a file: among the hashes of an OCSF file, or the digest of a Treeline image. The hash of an image
/// that was new follows the entries that name it, in a notice.
fn sha256(file: &Value) -> Option<&str> {
    if let Some(digest) = file.get("digest") {
        return digest.get("sha256")?.as_str();
    }
    let hashes = file.get("hashes")?.as_array()?;
    let hash =
        hashes.iter().find(|hash| hash.get("algorithm_id").and_then(Value::as_u64) == Some(SHA_256_ID))?;
    hash.get("value")?.as_str()
}

/// Calls `found` for every object inside `value`. The parser has bounded the depth.
fn files<'a>(value: &'a Value, found: &mut impl FnMut(&'a Value)) {
    match value {
        Value::Object(fields) => {
            found(value);
            fields.values().for_each(|field| files(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| files(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"file":{"path":"/h/.ssh/k"},"actor":{"process":{"file":{"path":"/usr/bin/cat","hashes":[{"algorithm_id":3,"value":"ab"}]},"ancestry":[{"file":{"path":"/usr/bin/bash","hashes":[{"algorithm_id":3,"value":"cd"}]}}]}},"unmapped":{"treeline":{"kind":"open","verdict":"deny","session":"00000000000000ff","rule":{"rule":"r","reason":"because"},"process":{"key":"1:2"}}}}"#;

    #[test]
    fn fields() {
        let entries = parse(&format!("{LINE}\n\n{{}}\n")).expect("JSON");
        let denial = &entries[0];
        assert!(denial.is_denial() && !entries[1].is_denial());
        assert_eq!((denial.kind(), denial.rule(), denial.reason()), ("open", Some("r"), Some("because")));
        assert_eq!((denial.session(), denial.process()), (Some("00000000000000ff"), Some("1:2")));
        assert_eq!(
            (denial.executable(), denial.object()),
            (Some(Path::new("/usr/bin/cat")), Some("/h/.ssh/k"))
        );
        assert_eq!(denial.sha256_of(Path::new("/usr/bin/bash")), ["cd"]);
        assert_eq!(entries[1].sha256_of(Path::new("/usr/bin/bash")), Vec::<&str>::new());
        let notice = r#"{"unmapped":{"treeline":{"notice":{"image_hashed":{"image":{"path":"/bin/x","digest":{"sha256":"ef"}}}}}}}"#;
        assert_eq!(parse(notice).expect("JSON")[0].sha256_of(Path::new("/bin/x")), ["ef"]);
        assert!(parse("{").is_err());
    }
}
