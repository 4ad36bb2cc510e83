//! Programs that run what they are told: how they are called, as far as that can be followed.

/// A program that runs another, which its arguments name.
#[derive(Debug)]
pub(crate) struct Wrapper {
    pub(crate) name: &'static str,
    /// Options without a value, short ones as letters.
    letters: &'static str,
    /// Short options with a value, as letters.
    valued: &'static str,
    /// Long options without a value.
    pub(crate) long: &'static [&'static str],
    /// Long options with a value.
    pub(crate) long_valued: &'static [&'static str],
    /// Arguments before the program.
    pub(crate) operands: usize,
    /// Whether variables can be set before the program.
    pub(crate) assigns: bool,
    /// Whether it adds arguments of its own.
    pub(crate) appends: bool,
    /// What it uses files of its own for.
    pub(crate) opens: Opens,
}

/// When a program that runs another uses files of its own, or makes the other one's files others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opens {
    Never,
    Always,
    /// With an option that has this letter.
    With(char),
}

impl Wrapper {
    const fn new(name: &'static str, letters: &'static str, valued: &'static str) -> Self {
        Self {
            name,
            letters,
            valued,
            long: &[],
            long_valued: &[],
            operands: 0,
            assigns: false,
            appends: false,
            opens: Opens::Never,
        }
    }

    const fn long(self, long: &'static [&'static str], long_valued: &'static [&'static str]) -> Self {
        Self { long, long_valued, ..self }
    }

    const fn operands(self, operands: usize) -> Self {
        Self { operands, ..self }
    }

    const fn assigns(self) -> Self {
        Self { assigns: true, ..self }
    }

    const fn appends(self) -> Self {
        Self { appends: true, ..self }
    }

    const fn opens(self, opens: Opens) -> Self {
        Self { opens, ..self }
    }

    /// Whether a letter is an option, and if so whether it has a value.
    pub(crate) fn letter(&self, letter: char) -> Option<bool> {
        let valued = self.valued.contains(letter);
        (valued || self.letters.contains(letter)).then_some(valued)
    }
}

/// Options that are not here make a call that cannot be followed: `sudo -s`, `env -S`, `setsid -x`.
pub(crate) const WRAPPERS: [Wrapper; 21] = [
    Wrapper::new("command", "p", ""),
    Wrapper::new("builtin", "", ""),
    Wrapper::new("exec", "cl", "a"),
    Wrapper::new("env", "i0v", "u").long(&["ignore-environment", "null", "debug"], &["unset"]).assigns(),
    Wrapper::new("sudo", "nEHSkbAP", "ughpCrtT")
        .long(&["non-interactive", "preserve-env", "set-home", "stdin"], &["user", "group"])
        .assigns(),
    Wrapper::new("doas", "n", "u"),
    // `nohup.out`, if its output is a terminal.
    Wrapper::new("nohup", "", "").opens(Opens::Always),
    Wrapper::new("nice", "", "n").long(&[], &["adjustment"]),
    Wrapper::new("ionice", "t", "cn").long(&["ignore"], &["class", "classdata"]),
    Wrapper::new("chrt", "abfoir", "").operands(1),
    Wrapper::new("taskset", "", "").operands(1),
    Wrapper::new("timeout", "fpv", "ks")
        .long(&["preserve-status", "foreground", "verbose"], &["kill-after", "signal"])
        .operands(1),
    Wrapper::new("stdbuf", "", "ioe").long(&[], &["input", "output", "error"]),
    Wrapper::new("setsid", "cfw", "").long(&["ctty", "fork", "wait"], &[]),
    Wrapper::new("time", "pvaq", "fo")
        .long(&["portability", "verbose", "append", "quiet"], &["format", "output"])
        .opens(Opens::With('o')),
    Wrapper::new("xargs", "0rtpxo", "nPLdEsaI")
        .long(
            &["null", "no-run-if-empty", "verbose", "interactive", "exit", "open-tty"],
            &["max-args", "max-procs", "max-lines", "delimiter", "arg-file", "max-chars"],
        )
        .appends()
        .opens(Opens::With('a')),
    Wrapper::new("strace", "fqvtTrcCyxh", "eopsPEIO").opens(Opens::With('o')),
    Wrapper::new("flock", "nxseu", "wE")
        .long(&["nonblock", "exclusive", "shared"], &["timeout", "wait", "conflict-exit-code"])
        .operands(1)
        .opens(Opens::Always),
    Wrapper::new("busybox", "", ""),
    Wrapper::new("toybox", "", ""),
    Wrapper::new("chroot", "", "").long(&[], &["userspec", "groups"]).operands(1).opens(Opens::Always),
];

/// Programs that run others, called in ways that are not followed.
const OTHER_WRAPPERS: [&str; 40] = [
    "su",
    "runuser",
    "pkexec",
    "gosu",
    "su-exec",
    "script",
    "watch",
    "parallel",
    "unshare",
    "nsenter",
    "bwrap",
    "firejail",
    "systemd-run",
    "at",
    "batch",
    "crontab",
    "tmux",
    "screen",
    "expect",
    "gdb",
    "lldb",
    "ltrace",
    "perf",
    "valgrind",
    "setpriv",
    "capsh",
    "runcon",
    "prlimit",
    "numactl",
    "setarch",
    "fakeroot",
    "dbus-run-session",
    "xvfb-run",
    "tini",
    "dumb-init",
    "entr",
    "nodemon",
    "make-kpkg",
    "coreutils",
    "start-stop-daemon",
];
/// Programs that run commands elsewhere.
const REMOTE: [&str; 13] = [
    "ssh",
    "mosh",
    "rsh",
    "docker",
    "podman",
    "nerdctl",
    "kubectl",
    "oc",
    "lxc",
    "machinectl",
    "vagrant",
    "pdsh",
    "ansible",
];
/// Of those, the words that run something, where it is not every call.
const REMOTE_WORDS: [&str; 5] = ["run", "exec", "shell", "debug", "attach"];
/// Shells whose commands are read as bash's. The language of the others is not.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "mksh", "rbash"];
const OTHER_SHELLS: [&str; 10] =
    ["zsh", "fish", "csh", "tcsh", "nu", "xonsh", "elvish", "pwsh", "rc", "yash"];
/// Interpreters, with the letters of options that take a program.
const INTERPRETERS: [(&str, &str); 14] = [
    ("python", "c"),
    ("pypy", "c"),
    ("node", "ep"),
    ("nodejs", "ep"),
    ("bun", "ep"),
    ("deno", ""),
    ("perl", "eE"),
    ("ruby", "e"),
    ("php", "rBRE"),
    ("lua", "e"),
    ("luajit", "e"),
    ("Rscript", "e"),
    ("tclsh", ""),
    ("osascript", "e"),
];

/// What a program is, beside what it does with files.
#[derive(Debug)]
pub(crate) enum Kind {
    /// It does what it does.
    Plain,
    /// It runs another program.
    Wrapper(&'static Wrapper),
    /// It runs another program, and it is not known how that is told.
    OtherWrapper,
    /// It runs commands elsewhere.
    Remote,
    /// It reads commands as bash does.
    Shell,
    /// It reads commands in a language of its own.
    OtherShell,
    /// It runs programs; with options that have one of these letters, those in its arguments.
    Interpreter(&'static str),
}

/// What a program of this name is.
pub(crate) fn kind(name: &str, has_word: impl Fn(&str) -> bool) -> Kind {
    if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
        return Kind::Wrapper(wrapper);
    }
    // `python3.12`, `lua5.4`.
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    if let Some((_, letters)) = INTERPRETERS.iter().find(|(known, _)| *known == bare) {
        return Kind::Interpreter(letters);
    }
    let is_loader = name.starts_with("ld-linux") || name.starts_with("ld-musl") || name.starts_with("ld.so");
    match name {
        _ if SHELLS.contains(&name) => Kind::Shell,
        _ if OTHER_SHELLS.contains(&name) => Kind::OtherShell,
        _ if is_loader || OTHER_WRAPPERS.contains(&name) => Kind::OtherWrapper,
        "ssh" | "mosh" | "rsh" | "pdsh" | "ansible" => Kind::Remote,
        _ if REMOTE.contains(&name) && REMOTE_WORDS.into_iter().any(has_word) => Kind::Remote,
        _ => Kind::Plain,
    }
}
