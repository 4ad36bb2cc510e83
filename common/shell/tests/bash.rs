//! Against bash itself, and dash, which is the `sh` of Debian: commands are run with programs that only note how they are called.
//! What was run has to be among what was found, as it was called, or something of the command could not be followed.

use std::{
    cell::Cell,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command as Process, Stdio},
};

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use tempfile::TempDir;
use treeline_policy::tool::{Command, Features};
use treeline_shell::{Context, features};

/// Programs that do nothing; of some of them it depends on that how a command goes on.
const PLAIN: [(&str, u8); 9] =
    [("a", 0), ("b", 1), ("c", 0), ("rm", 0), ("cat", 0), ("git", 0), ("ls", 0), ("python3", 0), ("ssh", 1)];
/// Programs that run others: by their own path, when they have noted how they were called.
const WRAPPERS: [&str; 11] =
    ["bash", "env", "find", "flock", "nice", "nohup", "sed", "setsid", "sh", "timeout", "xargs"];

/// A shell that reads a command.
#[derive(Clone, Copy, Debug)]
enum Shell {
    Bash,
    Dash,
}

impl Shell {
    const ALL: [Self; 2] = [Self::Bash, Self::Dash];

    fn path(self) -> &'static str {
        match self {
            Self::Bash => "/bin/bash",
            Self::Dash => "/bin/dash",
        }
    }

    /// The command that has this shell read another one.
    fn command(self, command: &str) -> String {
        match self {
            Self::Bash => command.to_owned(),
            Self::Dash => format!("sh -c '{}'", command.replace('\'', "'\\''")),
        }
    }
}

/// A machine on which only such programs can be found.
struct Machine {
    dir: TempDir,
    /// Runs so far: what a command leaves behind must not count for the next one.
    runs: Cell<u32>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("a directory");
        for (name, status) in PLAIN {
            stub(&bin, name, &format!("exit {status}"));
        }
        for name in WRAPPERS {
            let own =
                ["/usr/bin", "/bin"].iter().map(|bin| Path::new(bin).join(name)).find(|path| path.exists());
            if let Some(own) = own {
                stub(&bin, name, &format!("exec {} \"$@\"", own.display()));
            }
        }
        Self { dir, runs: Cell::new(0) }
    }

    fn runs(&self, shell: Shell, command: &str) -> Vec<Vec<String>> {
        let run = self.runs.replace(self.runs.get() + 1);
        let (work, log) = (self.dir.path().join("work"), self.dir.path().join(format!("log-{run}")));
        let _ = fs::remove_dir_all(&work);
        fs::create_dir(&work).expect("a directory");
        fs::write(work.join("file.txt"), "a b\nc").expect("a file");
        // Of its own path: where the programs that note are looked for is changed below.
        Process::new("/usr/bin/timeout")
            .args(["-k", "1", "2", shell.path(), "-c", command])
            .current_dir(&work)
            .env_clear()
            .env("PATH", self.dir.path().join("bin"))
            .env("HOME", &work)
            .env("LOG", &log)
            .env("FUNCNEST", "20")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("bash, dash and timeout are installed");
        let noted = fs::read(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let log = String::from_utf8_lossy(&noted);
        let of_call = |call: &str| call.split('\x1f').map(str::to_owned).collect::<Vec<_>>();
        log.split_terminator('\x1e').map(|call| of_call(call.strip_suffix('\x1f').unwrap_or(call))).collect()
    }

    fn features(&self, command: &str) -> Features {
        let work = self.dir.path().join("work").display().to_string();
        features(command, &Context { cwd: Some(work.clone()), home: Some(work), repository: None })
    }

    /// What was run and was not found.
    fn missed(&self, shell: Shell, command: &str) -> Option<Vec<String>> {
        let found = self.features(&shell.command(command));
        if !found.opaque.is_empty() {
            return None;
        }
        self.runs(shell, command)
            .into_iter()
            .find(|call| !found.commands.iter().any(|command| is_call(command, call)))
    }
}

/// One write for each call, so that calls at the same time do not mix.
fn stub(bin: &Path, name: &str, then: &str) {
    let script = format!(
        "#!/bin/sh\nr=\"{name}\x1f\"\nfor x in \"$@\"; do r=\"$r$x\x1f\"; done\nprintf '%s\x1e' \"$r\" >> \"$LOG\"\n{then}\n"
    );
    let path = bin.join(name);
    fs::write(&path, script).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an own file");
}

/// Whether a command was called so.
fn is_call(command: &Command, call: &[String]) -> bool {
    let Some((program, arguments)) = call.split_first() else { return false };
    let (mut words, mut flags, mut are_words) = (Vec::new(), Vec::new(), false);
    for argument in arguments {
        match argument.as_str() {
            "--" if !are_words => are_words = true,
            flag if !are_words && flag.len() > 1 && flag.starts_with('-') => {
                flags.push(flag.split('=').next().unwrap_or(flag));
            }
            word => words.push(word),
        }
    }
    let has_flag = |flag: &&str| command.flags.iter().any(|known| known == flag);
    command.program == *program
        && (command.is_vague || (words == command.words && flags.iter().all(has_flag)))
}

#[test]
fn what_was_run_was_found() {
    let machine = Machine::new();
    // Also that the corpus is about something: each of these runs `a`, and is followed to its end.
    for command in include_str!("corpus.txt").split("\n---\n") {
        let found = machine.features(command);
        assert!(found.opaque.is_empty(), "{command}\n{found:?}");
        let runs = machine.runs(Shell::Bash, command);
        assert!(runs.iter().any(|call| call[0] == "a"), "{command} runs {runs:?}");
        for shell in Shell::ALL {
            assert_eq!(machine.missed(shell, command), None, "{shell:?}: {command}");
        }
    }
}

#[test]
fn what_hides_a_command_does_not_hide_it() {
    let machine = Machine::new();
    let missed = |command: &str| {
        Shell::ALL
            .map(|shell| machine.missed(shell, command).map(|call| format!("{shell:?}: {command}: {call:?}")))
    };
    let missed: Vec<_> = include_str!("hidden.txt").split("\n---\n").flat_map(missed).flatten().collect();
    assert_eq!(missed, [""; 0]);
}

/// Parts of commands: most of what is put together from them is no command, and what is left of it shows where two readers differ.
const PARTS: [&str; 86] = [
    "a",
    "b",
    "c",
    "rm x",
    "a x",
    " ",
    " ",
    " ",
    "\n",
    ";",
    "; ",
    "&&",
    "||",
    "|",
    "&",
    "$(",
    ")",
    "(",
    "`",
    "'",
    "\"",
    "\\",
    "\\\n",
    "{ ",
    "; }",
    "}",
    "if a; then ",
    "; fi",
    "else ",
    "<<E\n",
    "<<'E'\n",
    "<<-E\n",
    "\nE\n",
    "\nE)",
    "case x in x) ",
    ";; esac",
    "esac",
    "#",
    " # ",
    "((",
    "))",
    "$((",
    "[[ ",
    " ]]",
    "! ",
    "x=",
    "x=1 ",
    "x+=(",
    "$x",
    "\"$x\"",
    "${x",
    ":-",
    "~",
    "*",
    "<(",
    ">(",
    "> y",
    "2>&1",
    "<<<",
    "f() ",
    "function f ",
    "f",
    "time ",
    "coproc ",
    "for i in a b; do ",
    "; done",
    "$i",
    "{a,b}",
    "$'\\x61'",
    "$\"a\"",
    "=~ ",
    "xargs ",
    "env ",
    "sh -c ",
    "&>x ",
    "|&",
    "rm+=1 ",
    "{v}>y ",
    "a=1 ",
    "[ $x ",
    "declare ",
    "'a[$(rm y)]' ",
    "((rm)) ",
    "time rm ",
    "function rm ",
    "cd / ",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(192),
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_was_run_of_anything_was_found(parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 1..14)) {
        thread_local! {
            static MACHINE: Machine = Machine::new();
        }
        let command = parts.concat();
        for shell in Shell::ALL {
            let missed = MACHINE.with(|machine| machine.missed(shell, &command));
            prop_assert_eq!(missed, None, "{:?}: {}", shell, command);
        }
    }
}
