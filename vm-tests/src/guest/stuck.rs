//! Where everything stands when a group does not end: without it a hang that comes once in a hundred guests tells nothing.

use std::fs;
use std::path::Path;

use treeline_vm_tests::Line;

use super::kernel_log;

/// The most processes that are told of.
const PROCESS_COUNT_MAX: usize = 64;
/// So much of the kernel's log.
const MESSAGE_COUNT: usize = 80;
/// What fits a note (`TEXT_BYTES_MAX`), at what a message has.
const MESSAGES_PER_NOTE: usize = 20;

/// A note for every process with its state and the kernel functions it is in, and the end of the kernel's log.
pub(super) fn notes() -> Vec<Line> {
    let mut notes: Vec<Line> = processes().into_iter().take(PROCESS_COUNT_MAX).collect();
    let messages = kernel_log::read().unwrap_or_default();
    let last = &messages[messages.len().saturating_sub(MESSAGE_COUNT)..];
    notes.extend(last.chunks(MESSAGES_PER_NOTE).map(|chunk| note("stuck/kernel-log", chunk.join("\n"))));
    notes
}

fn note(name: &str, text: String) -> Line {
    Line::Note { name: name.to_owned(), text }
}

fn processes() -> Vec<Line> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut notes = Vec::new();
    for entry in entries.flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if is_process && let Some(threads) = threads(&entry.path()) {
            notes.push(note(&format!("stuck/{}", entry.file_name().display()), threads));
        }
    }
    notes
}

/// A line for what runs, and for each thread its name, state and stack; none for the kernel's own idle threads.
fn threads(process: &Path) -> Option<String> {
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let mut text = command.trim_end().to_owned();
    let mut is_idle = command.is_empty();
    for thread in fs::read_dir(process.join("task")).ok()?.flatten() {
        let path = thread.path();
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map_or("?", |value| value.trim_start_matches(':').trim()).to_owned()
        };
        let state = field("State");
        is_idle &= !state.starts_with(['R', 'D']);
        let stack = fs::read_to_string(path.join("stack")).unwrap_or_else(|error| error.to_string());
        let frames: Vec<&str> =
            stack.lines().map(|line| line.trim_start_matches("[<0>] ").trim()).take(12).collect();
        text.push_str(&format!("\n{} {state}: {}", field("Name"), frames.join(" < ")));
    }
    (!is_idle).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let text = threads(Path::new("/proc/self")).expect("it is no idle thread of the kernel's");
        assert!(text.lines().count() > 1, "{text}");
        assert!(text.contains("running"), "{text}");
    }

    #[test]
    fn what_is_gone_is_left_out() {
        assert_eq!(threads(Path::new("/proc/4294967295")), None);
    }
}
