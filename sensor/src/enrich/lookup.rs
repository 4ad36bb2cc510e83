//! What is not in a record is looked up: processes older than the sensor, and files for their hashes.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;
use treeline_event::{Digest, FileId, Image, PathBytes, Process, ProcessKey, Program};

use super::{
    hash::{Hasher, Places, identity},
    names::{Users, tty},
    procfs::{ProcFs, hold, parse_exe},
};
use crate::backend::{ExecSeen, FileSeen};

/// The means of looking up.
pub(super) struct Lookup {
    pub(super) proc: ProcFs,
    pub(super) users: Users,
    pub(super) hasher: Hasher,
}

impl Lookup {
    /// A process as /proc shows it now; none when it is gone, or another one has its pid.
    ///
    /// Its parent is the one of the moment, and a script that its interpreter runs is not known: /proc does not tell.
    pub(super) fn process(&mut self, key: ProcessKey) -> Option<Process> {
        let stat = self.proc.stat(key.pid).ok().filter(|stat| stat.key == key)?;
        let ids = self.proc.ids(key.pid).ok()?;
        let program = self.program(key.pid);
        let parent = self.proc.stat(stat.ppid).ok().map(|parent| parent.key);
        // What was read in between is of this process only if the pid was not given away meanwhile.
        self.proc.stat(key.pid).ok().filter(|stat| stat.key == key)?;
        Some(Process {
            key,
            // A parent is never younger: such a one has taken over a pid.
            parent: parent.filter(|parent| parent.start_ticks <= key.start_ticks),
            uid: ids.uid,
            euid: ids.euid,
            gid: ids.gid,
            user: self.users.name(ids.uid),
            tty: tty(stat.tty),
            program: Arc::new(program),
            started_ns: key.start_ticks.saturating_mul(treeline_event::process::NANOS_PER_TICK),
        })
    }

    fn program(&mut self, pid: u32) -> Program {
        let (argv, argv_cut) = self.proc.argv(pid).unwrap_or_default();
        let cwd = self.proc.link(pid, "cwd").unwrap_or_default();
        let mut image = Image { digest: Digest::Gone, seen_by_kernel: true, ..Image::default() };
        match self.proc.link(pid, "exe") {
            Ok(target) => {
                (image.path, image.unlinked) = parse_exe(&target);
                match self.proc.hold(pid, "exe").and_then(|held| Ok((identity(&held)?, held))) {
                    Ok((file, held)) => {
                        image.file = file;
                        self.hasher.resolve(&mut image, || Places { held: Some(held), paths: Vec::new() });
                    }
                    Err(_) => image.digest = Digest::Unreadable,
                }
            }
            // Of pid 1 in a container that shields it, say.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                image.digest = Digest::Unreadable;
            }
            // A kernel thread, or a process that is gone.
            Err(_) => {}
        }
        let name_given = argv.first().cloned().unwrap_or_default();
        Program { image, name_given, argv, argv_cut, cwd, ..Program::default() }
    }

    /// What an exec put in place.
    pub(super) fn exec(&mut self, pid: u32, seen: ExecSeen, exec_ns: u64) -> Program {
        let script = match &seen.script {
            Some(script) => Some(self.seen(script, None, pid)),
            None if seen.interpreter_name != seen.name_given && !seen.interpreter_name.is_empty() => {
                Some(self.script(pid, &seen))
            }
            None => None,
        };
        let image = self.seen(&seen.image, Some("exe"), pid);
        Program {
            image,
            script,
            name_given: seen.name_given,
            argv: seen.argv,
            argv_cut: seen.argv_cut,
            cwd: seen.cwd,
            env: seen.env.into_iter().collect(),
            loader_env: seen.loader_env,
            exec_ns,
        }
    }

    fn seen(&mut self, seen: &FileSeen, link: Option<&str>, pid: u32) -> Image {
        let FileSeen { path, id, unlinked } = seen.clone();
        let mut image = Image { path, file: id, unlinked, seen_by_kernel: true, ..Image::default() };
        let path = image.path.clone();
        if id == FileId::default() {
            // The record did not hold an identity, so nothing could be called the same file.
            image.digest = Digest::Unreadable;
            return image;
        }
        let proc = &self.proc;
        self.hasher.resolve(&mut image, || Places {
            held: link.and_then(|link| proc.hold(pid, link).ok()).or_else(|| {
                // Without waiting for a disk or a server; otherwise the lane looks.
                let cached = rustix::fs::ResolveFlags::CACHED;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat2(
                    rustix::fs::CWD,
                    os(&path).as_os_str(),
                    flags,
                    rustix::fs::Mode::empty(),
                    cached,
                )
                .ok()
            }),
            paths: if path.as_bytes().starts_with(b"/") {
                vec![os(&path), proc.path(pid, "root").join(relative(&path))]
            } else {
                Vec::new()
            },
        });
        image
    }

    /// The script of an exec whose record only names it. The name may by now mean another file, so it is marked.
    fn script(&mut self, pid: u32, seen: &ExecSeen) -> Image {
        let name = &seen.name_given;
        let mut image = Image {
            path: absolute(&seen.cwd, name),
            digest: Digest::Gone,
            seen_by_kernel: false,
            ..Image::default()
        };
        for path in self.script_places(pid, name, &image.path) {
            let Ok(held) = hold(&path, OFlags::empty()) else { continue };
            let Ok(file) = identity(&held) else { continue };
            image.file = file;
            self.hasher.resolve(&mut image, || Places { held: Some(held), paths: vec![path] });
            break;
        }
        image
    }

    fn script_places(&self, pid: u32, name: &PathBytes, absolute: &PathBytes) -> Vec<PathBuf> {
        if let Some(number) = name.as_bytes().strip_prefix(b"/dev/fd/") {
            // `/dev/fd/N` and, for an execveat relative to a directory, `/dev/fd/N/path`.
            let own = self.proc.path(pid, "fd").join(std::ffi::OsStr::from_bytes(number));
            return if number.starts_with(b"/") { Vec::new() } else { vec![own] };
        }
        let inside = if name.as_bytes().starts_with(b"/") {
            self.proc.path(pid, "root").join(relative(name))
        } else {
            self.proc.path(pid, "cwd").join(os(name))
        };
        vec![inside, os(absolute)]
    }
}

fn os(path: &PathBytes) -> PathBuf {
    Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())).to_owned()
}

/// Without its leading slashes, so that joining it does not leave the place that it is joined to.
fn relative(path: &PathBytes) -> PathBuf {
    let bytes = path.as_bytes();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    Path::new(std::ffi::OsStr::from_bytes(&bytes[start..])).to_owned()
}

/// Without `.` and doubled slashes; `..` stays, because what it means depends on links.
fn absolute(cwd: &PathBytes, name: &PathBytes) -> PathBytes {
    let path: PathBuf = os(cwd).join(os(name)).components().collect();
    PathBytes::from(path.as_os_str().as_bytes())
}
