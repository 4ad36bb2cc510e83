//! What this machine offers, each with what to do when it is missing.

use std::{fs, path::Path};

use treeline_abi::{Offsets, label::LABELS_MAX};

use super::{hooks, load, mounts, object, offsets, release};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Note,
    /// The sensor cannot run, or not as it should.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do, when it is not [`CheckState::Ok`].
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: CheckState::Ok, found: found.into(), advice: None }
    }

    fn other(
        name: &'static str,
        state: CheckState,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { name, state, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything that the Linux backend needs. Loads nothing.
#[must_use]
pub fn checks() -> Vec<Check> {
    let kernel = offsets::Kernel::read(offsets::BTF_PATH);
    let mut checks = vec![Check::ok("kernel", release::text()), privileges(), programs()];
    // Without the kernel's types nothing can be said of what they show.
    checks.extend(kernel.as_ref().ok().map(|kernel| labels(hooks::settings(kernel).older != 0)));
    checks.push(types(kernel.and_then(|kernel| kernel.offsets())));
    checks.extend([security_modules(), trampolines(), cgroup(), pid_namespace()]);
    checks
}

fn privileges() -> Check {
    if rustix::process::geteuid().is_root() {
        Check::ok("privileges", "root")
    } else {
        Check::other(
            "privileges",
            CheckState::Note,
            format!("user {}", rustix::process::geteuid().as_raw()),
            "the daemon runs as root; run `sudo treeline doctor` to see what it would find",
        )
    }
}

fn programs() -> Check {
    match object::embedded() {
        Some(object) => Check::ok("kernel programs", format!("built in, {} bytes", object.len())),
        None => Check::other(
            "kernel programs",
            CheckState::Bad,
            "not in this build",
            "build with `cargo xtask build`, or install a released binary",
        ),
    }
}

/// What marks the processes of sessions.
fn labels(is_older: bool) -> Check {
    if !is_older {
        return Check::ok("labels", "on tasks");
    }
    Check::other(
        "labels",
        CheckState::Note,
        format!("in a table of {LABELS_MAX} processes: this kernel is older than 5.17"),
        "in modes lsm and fmod_ret a process beyond that is not made, if the policy refuses anything; else it is neither seen nor judged, and counted as lost",
    )
}

fn types(resolved: Result<Offsets, offsets::OffsetsError>) -> Check {
    match resolved {
        Ok(_) => Check::ok("kernel types (BTF)", offsets::BTF_PATH),
        Err(error) => Check::other(
            "kernel types (BTF)",
            CheckState::Bad,
            load::chain(&error),
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ),
    }
}

fn security_modules() -> Check {
    match hooks::lsm_enabled() {
        Ok(()) => Check::ok("security modules", "`bpf` is enabled, or the list cannot be read"),
        Err(words) => Check::other(
            "security modules",
            CheckState::Note,
            words,
            "without it the mode is `fmod_ret`, else `fallback`",
        ),
    }
}

/// Trampolines need the function tracer; a kernel that refuses them for other reasons says so only at load.
fn trampolines() -> Check {
    if let Err(words) = hooks::calls_enabled() {
        return Check::other("function tracer", CheckState::Bad, words, "until then the mode is `fallback`");
    }
    if Path::new("/sys/kernel/tracing/available_filter_functions").exists()
        || Path::new("/sys/kernel/debug/tracing/available_filter_functions").exists()
    {
        return Check::ok("function tracer", "available");
    }
    Check::other(
        "function tracer",
        CheckState::Note,
        "not seen (tracefs is not mounted, or CONFIG_FUNCTION_TRACER is off)",
        "if neither LSM nor fmod_ret programs can be attached, the mode is `fallback`; `treeline status` shows the kernel's words",
    )
}

fn cgroup() -> Check {
    match mounts::cgroup2_root() {
        Ok(root) => Check::ok("cgroup2", root.display().to_string()),
        Err(error) => Check::other(
            "cgroup2",
            CheckState::Note,
            error.to_string(),
            "without it connects cannot be refused in mode `fallback`",
        ),
    }
}

/// Pids in records are those of the initial namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
fn pid_namespace() -> Check {
    match fs::read_link("/proc/self/ns/pid") {
        Ok(link) if link.as_os_str() == "pid:[4026531836]" => Check::ok("pid namespace", "initial"),
        other => Check::other(
            "pid namespace",
            CheckState::Bad,
            format!("{other:?}"),
            "run the sensor in the machine's initial pid namespace, not in a container's",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_labels_are() {
        for (is_older, state, words) in
            [(false, CheckState::Ok, "on tasks"), (true, CheckState::Note, "table of 65536 processes")]
        {
            let check = labels(is_older);
            assert_eq!((check.state, check.advice.is_some()), (state, is_older));
            assert!(check.found.contains(words), "{}", check.found);
        }
    }
}
