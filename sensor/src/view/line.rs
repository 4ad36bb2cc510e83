//! An entry as one line for people.

use treeline_event::{Action, Destination, Entry, EntryBody, Verdict};

/// Index, time of day (UTC), verdict, kind, pid and object; paths are escaped, so it is safe for terminals.
#[must_use]
pub fn line(entry: &Entry) -> String {
    let seconds = entry.time.wall_ms / 1000 % 86_400;
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (pid, verdict, what) = match &entry.body {
        EntryBody::Notice(_) => (String::new(), "-", String::new()),
        EntryBody::Act { process, action, verdict, rule, .. } => {
            let verdict = match verdict {
                Verdict::Allow => "allow",
                Verdict::Audit => "audit",
                Verdict::Deny => "deny",
            };
            let rule =
                rule.as_ref().map(|hit| format!("  [{}]", hit.rule.escape_debug())).unwrap_or_default();
            let name = process.program.image.path.file_name();
            (process.key.pid.to_string(), verdict, format!("{name}  {}{rule}", object(action)))
        }
    };
    format!("{:>8}  {clock}  {verdict:<5}  {:<15}  {pid:>7}  {what}", entry.index, entry.body.kind())
}

fn object(action: &Action) -> String {
    match action {
        Action::Fork { creator } => format!("by {creator}"),
        Action::Exec => String::new(),
        Action::Exit { code: Some(code), .. } => format!("status {code}"),
        Action::Exit { signal: Some(signal), .. } => format!("signal {signal}"),
        Action::Exit { .. } => String::new(),
        Action::Open { file, flags, count, .. } => format!("{} {} x{count}", file.path, flags.names()),
        Action::ExecDenied { file }
        | Action::Create { file, .. }
        | Action::Delete { file, .. }
        | Action::Modify { file, .. } => file.path.to_string(),
        Action::Rename { from, to, .. } | Action::Link { from, to, .. } => {
            format!("{} -> {}", from.path, to.path)
        }
        Action::Connect { to, .. } => match to {
            Destination::V4(ip, port) => format!("{ip}:{port}"),
            Destination::V6(ip, port) => format!("[{ip}]:{port}"),
            Destination::Unix(path) => format!("unix:{path}"),
            Destination::Abstract(name) => format!("unix:@{name}"),
        },
    }
}
