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

/// What fits a summary, in bytes.
const SUMMARY_BYTES_MAX: usize = 800;

/// On one line, for a summary of many guests: for each program its threads and the kernel function that each is in.
pub(super) fn summary() -> String {
    let mut text = String::new();
    for (_, process) in processes() {
        let mut lines = process.lines();
        let program = lines.next().unwrap_or_default().split(' ').next().unwrap_or_default();
        if program.is_empty() {
            continue;
        }
        let threads: Vec<String> = lines.map(innermost).collect();
        let name = program.rsplit('/').next().unwrap_or(program);
        text.push_str(&format!("{}{name} ({})", if text.is_empty() { "" } else { "; " }, threads.join(", ")));
        if text.len() > SUMMARY_BYTES_MAX {
            break;
        }
    }
    text
}

/// Of a thread's line its name and where it is.
fn innermost(line: &str) -> String {
    let name = line.split(' ').next().unwrap_or_default();
    let frame =
        line.rsplit_once(": ").map_or("", |(_, frames)| frames.split(['+', ' ']).next().unwrap_or(""));
    format!("{name}: {}", if frame.is_empty() { "running" } else { frame })
}

/// A note for every process with its state and the kernel functions it is in, and the end of the kernel's log.
pub(super) fn notes() -> Vec<Line> {
    let told = processes().into_iter().take(PROCESS_COUNT_MAX);
    let mut notes: Vec<Line> = told.map(|(pid, text)| note(&format!("stuck/{pid}"), text)).collect();
    let messages = kernel_log::read().unwrap_or_default();
    let last = &messages[messages.len().saturating_sub(MESSAGE_COUNT)..];
    notes.extend(last.chunks(MESSAGES_PER_NOTE).map(|chunk| note("stuck/kernel-log", chunk.join("\n"))));
    notes
}

fn note(name: &str, text: String) -> Line {
    Line::Note { name: name.to_owned(), text }
}

/// Every process that is not idle in the kernel, and its threads.
fn processes() -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| Some((pid, threads(Path::new(&format!("/proc/{pid}")))?))).collect()
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
    fn a_thread_is_where_it_is_innermost() {
        let check = |line: &str, expect: &str| assert_eq!(innermost(line), expect);
        check(
            "guard-place S (sleeping): fanotify_handle_event+0xbf5/0x1bd0 < fsnotify+0x3af/0xf70",
            "guard-place: fanotify_handle_event",
        );
        check("cat R (running): ", "cat: running");
        check("cat ?: ", "cat: running");
    }

    #[test]
    fn what_is_gone_is_left_out() {
        assert_eq!(threads(Path::new("/proc/4294967295")), None);
    }
}
