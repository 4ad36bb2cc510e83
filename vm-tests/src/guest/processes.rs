//! Processes that a group left behind.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Kills every process but PID 1, this one, and the kernel's own threads, so that no group meets what an
/// earlier one left: its subjects leave process groups, sessions and cgroups on purpose. Returns how many.
pub(crate) fn kill_all_others() -> usize {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let mut killed_count = 0;
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let is_user = fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty());
        if pid == 1 || pid == own || !is_user {
            continue;
        }
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
            && kill_process(pid, Signal::KILL).is_ok()
        {
            killed_count += 1;
        }
    }
    killed_count
}
