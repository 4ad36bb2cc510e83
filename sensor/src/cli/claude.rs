//! `treeline claude`: the same for Claude Code, which is found in `PATH`.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use rustix::fs::{Access, access};

use super::{
    Globals,
    output::Hinted,
    run::{LaunchArgs, launch},
};
use crate::config::Config;

/// Arguments of `treeline claude`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    launch: LaunchArgs,
    /// The Claude Code executable [default: as configured, else the first `claude` in PATH]
    #[arg(long = "claude-path", value_name = "FILE", env = "TREELINE_CLAUDE")]
    claude_path: Option<PathBuf>,
    /// Arguments for Claude Code
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// Runs Claude Code. Its exit status is ours.
///
/// # Errors
/// It was not found or not run.
pub fn run(args: Args, globals: &Globals) -> Result<ExitCode> {
    let configured = Config::load_as_user(globals.config.as_deref())?.claude_path;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let this = std::env::current_exe().ok();
    let claude = args.claude_path.or(configured).or_else(|| find(&path, this.as_deref())).ok_or_else(|| {
        Hinted::new(
            "there is no `claude` in PATH",
            "install Claude Code, or name its executable with --claude-path or `claude_path` in the configuration",
        )
    })?;
    let command: Vec<OsString> = std::iter::once(claude.into_os_string()).chain(args.arguments).collect();
    launch(args.launch, &command, "claude", globals)
}

/// The first executable `claude` that is not this program under another name.
fn find(path: &OsStr, this: Option<&Path>) -> Option<PathBuf> {
    let this = this.and_then(|this| this.canonicalize().ok());
    std::env::split_paths(path).map(|dir| dir.join("claude")).find(|candidate| {
        candidate.is_file()
            && access(candidate, Access::EXEC_OK).is_ok()
            && candidate.canonicalize().ok().is_some_and(|target| Some(target) != this)
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_real_one_is_found_behind_an_alias_of_ours() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = |name: &str| {
            let dir = dir.path().join(name);
            fs::create_dir(&dir).expect("a directory");
            dir
        };
        let (ours, plain, directory, real) =
            (place("ours"), place("plain"), place("directory"), place("real"));
        let this = std::env::current_exe().expect("the test has an executable");
        std::os::unix::fs::symlink(&this, ours.join("claude")).expect("a symbolic link");
        fs::write(plain.join("claude"), "").expect("a file");
        fs::set_permissions(plain.join("claude"), fs::Permissions::from_mode(0o644)).expect("its mode");
        fs::create_dir(directory.join("claude")).expect("a directory");
        fs::write(real.join("claude"), "#!/bin/sh\n").expect("a file");
        fs::set_permissions(real.join("claude"), fs::Permissions::from_mode(0o755)).expect("its mode");
        let path = std::env::join_paths([&ours, &plain, &directory, &real]).expect("no colon in them");
        assert_eq!(find(&path, Some(&this)), Some(real.join("claude")));
        assert_eq!(find(ours.as_os_str(), Some(&this)), None);
    }
}
