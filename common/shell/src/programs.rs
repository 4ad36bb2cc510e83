//! Programs that run what they are told: how they are called, as far as that can be followed.

use crate::dialect::Dialect;

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
    /// Whether it uses files of its own.
    pub(crate) opens: bool,
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
            opens: false,
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

    const fn opens(self) -> Self {
        Self { opens: true, ..self }
    }

    /// Whether a letter is an option, and if so whether it has a value.
    pub(crate) fn letter(&self, letter: char) -> Option<bool> {
        let valued = self.valued.contains(letter);
        (valued || self.letters.contains(letter)).then_some(valued)
    }
}

/// Options that are not here make a call that cannot be followed: `sudo -s`, `env -S`, `setsid -x`.
pub(crate) const WRAPPERS: [Wrapper; 20] = [
    Wrapper::new("command", "p", ""),
    Wrapper::new("builtin", "", ""),
    Wrapper::new("exec", "cl", "a"),
    Wrapper::new("env", "i0v", "u").long(&["ignore-environment", "null", "debug"], &["unset"]).assigns(),
    Wrapper::new("sudo", "nEHSkbAP", "ughpCrtT")
        .long(&["non-interactive", "preserve-env", "set-home", "stdin"], &["user", "group"])
        .assigns(),
    Wrapper::new("doas", "n", "u"),
    // `nohup.out`, if its output is a terminal.
    Wrapper::new("nohup", "", "").opens(),
    Wrapper::new("nice", "", "n").long(&[], &["adjustment"]),
    Wrapper::new("ionice", "t", "cn").long(&["ignore"], &["class", "classdata"]),
    Wrapper::new("chrt", "abfoir", "").operands(1),
    Wrapper::new("taskset", "", "").operands(1),
    Wrapper::new("timeout", "fpv", "ks")
        .long(&["preserve-status", "foreground", "verbose"], &["kill-after", "signal"])
        .operands(1),
    Wrapper::new("stdbuf", "", "ioe").long(&[], &["input", "output", "error"]),
    Wrapper::new("setsid", "cfw", "").long(&["ctty", "fork", "wait"], &[]),
    // Not those that name a file which is written.
    Wrapper::new("time", "pvq", "f").long(&["portability", "verbose", "quiet"], &["format"]),
    // Not `-a`, which names a file that is read.
    Wrapper::new("xargs", "0rtpxo", "nPLdEsI")
        .long(
            // The value of `--max-lines`, if it has one, is behind a `=`.
            &["null", "no-run-if-empty", "verbose", "interactive", "exit", "open-tty", "max-lines"],
            &["max-args", "max-procs", "delimiter", "max-chars"],
        )
        .appends(),
    // Not `-o`, which writes, or runs what is behind a `|`, nor `-E`, which sets a variable.
    Wrapper::new("strace", "fqvtTrcCyxh", "epsPIO"),
    Wrapper::new("flock", "nxseu", "wE")
        .long(&["nonblock", "exclusive", "shared"], &["timeout", "wait", "conflict-exit-code"])
        .operands(1)
        .opens(),
    Wrapper::new("busybox", "", ""),
    Wrapper::new("toybox", "", ""),
];

/// Programs that run others, called in ways that are not followed.
const OTHER_WRAPPERS: [&str; 87] = [
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
    // What is behind it names other files.
    "chroot",
    "npx",
    "bunx",
    "uvx",
    "pipx",
    "sshpass",
    "sg",
    "newgrp",
    "ssh-agent",
    "run-parts",
    "hyperfine",
    "chronic",
    "unbuffer",
    "torsocks",
    "torify",
    "proxychains",
    "proxychains4",
    "eatmydata",
    "socat",
    "setlock",
    "softlimit",
    "catchsegv",
    "ts",
    "ifne",
    "pee",
    "logsave",
    "rlwrap",
    "multitime",
    "msgexec",
    "msgfilter",
    "runc",
    "ctr",
    "service",
    "run-mailcap",
    "cpulimit",
    "uftrace",
    "rr",
    "bpftrace",
    "stap",
    "heaptrack",
    "faketime",
    "nocache",
    "trickle",
    "tsocks",
    "daemonize",
    "cgexec",
    "aa-exec",
];
/// Programs that run others when one of their arguments is, or begins, such a word.
const RUNNERS: [(&str, &[&str]); 21] = [
    ("npm", &["exec", "exe", "x", "explore", "-c", "--call"]),
    ("pnpm", &["exec", "dlx"]),
    ("yarn", &["exec", "dlx", "node"]),
    ("uv", &["run", "x"]),
    ("poetry", &["run"]),
    ("conda", &["run"]),
    ("mamba", &["run"]),
    ("pipenv", &["run"]),
    ("pdm", &["run"]),
    ("hatch", &["run"]),
    ("rye", &["run"]),
    ("bundle", &["exec"]),
    ("mise", &["exec", "x"]),
    ("rtx", &["exec", "x"]),
    ("asdf", &["exec"]),
    ("direnv", &["exec"]),
    ("rbenv", &["exec"]),
    ("pyenv", &["exec"]),
    ("nix", &["run", "develop", "shell", "-c", "--command"]),
    ("nix-shell", &["--run", "--command"]),
    ("ip", &["e", "ex", "exe", "exec", "-b", "-batch"]),
];
/// Programs that run commands elsewhere.
const REMOTE: [&str; 16] = [
    "ssh",
    "mosh",
    "rsh",
    "docker",
    "docker-compose",
    "podman",
    "podman-compose",
    "nerdctl",
    "flatpak",
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
/// Shells whose commands are read as bash's, and those of which only what all have in common is.
const BASH: [&str; 3] = ["bash", "rbash", "bash-static"];
const POSIX: [&str; 4] = ["sh", "dash", "ash", "posh"];
/// Shells with a language of their own. That of `ksh` evaluates more than bash does.
const OTHER_SHELLS: [&str; 17] = [
    "zsh", "fish", "csh", "tcsh", "nu", "xonsh", "elvish", "pwsh", "rc", "yash", "ksh", "ksh93", "rksh",
    "mksh", "lksh", "pdksh", "oksh",
];

/// A program that runs what is written for it.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) name: &'static str,
    /// Letters of options that run a program in an argument, load one, or read one from the input.
    pub(crate) code: &'static str,
    /// Letters of options without a value, before the script.
    pub(crate) plain: &'static str,
    /// Modules that run what is in their arguments or on their input.
    pub(crate) modules: &'static [&'static str],
}

const fn interpreter(name: &'static str, code: &'static str, plain: &'static str) -> Interpreter {
    Interpreter { name, code, plain, modules: &[] }
}

const PYTHON: Interpreter = Interpreter {
    modules: &[
        "timeit", "pdb", "ipdb", "bdb", "code", "asyncio", "IPython", "ptpython", "idlelib", "runpy",
        "cProfile",
    ],
    ..interpreter("python", "ci", "uBEIsSOvqbdP")
};

const INTERPRETERS: [Interpreter; 23] = [
    PYTHON,
    Interpreter { name: "pypy", ..PYTHON },
    interpreter("node", "epr", ""),
    interpreter("nodejs", "epr", ""),
    interpreter("bun", "epr", ""),
    interpreter("deno", "", ""),
    interpreter("ts-node", "epr", ""),
    interpreter("tsx", "epr", ""),
    interpreter("perl", "eEMmd", "wWtTnplasS"),
    interpreter("ruby", "er", "wWnplas"),
    interpreter("php", "rBREFda", "qnf"),
    interpreter("lua", "eli", "vE"),
    interpreter("luajit", "elij", "v"),
    interpreter("Rscript", "e", ""),
    interpreter("julia", "eEL", ""),
    interpreter("tclsh", "", ""),
    interpreter("wish", "", ""),
    interpreter("osascript", "e", ""),
    interpreter("elixir", "er", ""),
    interpreter("groovy", "e", ""),
    interpreter("guile", "cle", ""),
    interpreter("racket", "efilrtu", ""),
    interpreter("escript", "", ""),
];
/// Programs whose own commands can run others, and which read those from their input or their arguments.
const OTHER_INTERPRETERS: [&str; 49] = [
    "ed",
    "red",
    "ex",
    "vi",
    "vim",
    "vim.basic",
    "vim.tiny",
    "vim.nox",
    "view",
    "rview",
    "rvim",
    "vimdiff",
    "nvim",
    "gvim",
    "emacs",
    "emacs-nox",
    "emacsclient",
    "dc",
    "gnuplot",
    "psql",
    "mysql",
    "mariadb",
    "sqlite",
    "sqlite3",
    "duckdb",
    "mongosh",
    "redis-cli",
    "R",
    "octave",
    "erl",
    "ghci",
    "irb",
    "pry",
    "jshell",
    "ipython",
    "ftp",
    "sftp",
    "lftp",
    "telnet",
    "mail",
    "mailx",
    "mutt",
    "sage",
    "maxima",
    "gap",
    "slsh",
    "jjs",
    "jrunscript",
    "smbclient",
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
    /// It reads commands as bash does, or as all shells do.
    Shell(Dialect),
    /// It reads commands in a language of its own.
    OtherShell,
    /// It runs programs that are written for it.
    Interpreter(&'static Interpreter),
    /// It runs commands that are written for it, wherever it has them from.
    OtherInterpreter,
}

/// What a program of this name is. `has_word` is whether a word is, or can be, among its arguments.
pub(crate) fn kind(name: &str, has_word: impl Fn(&str) -> bool) -> Kind {
    if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
        return Kind::Wrapper(wrapper);
    }
    // `python3.12`, `lua5.4`.
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    if let Some(interpreter) = INTERPRETERS.iter().find(|known| known.name == bare) {
        return Kind::Interpreter(interpreter);
    }
    let is_loader = name.starts_with("ld-linux") || name.starts_with("ld-musl") || name.starts_with("ld.so");
    let runs = RUNNERS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, words)| words);
    match name {
        _ if BASH.contains(&name) => Kind::Shell(Dialect::Bash),
        _ if POSIX.contains(&name) => Kind::Shell(Dialect::Posix),
        _ if OTHER_SHELLS.contains(&name) => Kind::OtherShell,
        _ if OTHER_INTERPRETERS.contains(&name) => Kind::OtherInterpreter,
        _ if is_loader || OTHER_WRAPPERS.contains(&name) => Kind::OtherWrapper,
        _ if runs.iter().any(|word| has_word(word)) => Kind::OtherWrapper,
        "ssh" | "mosh" | "rsh" | "pdsh" | "ansible" => Kind::Remote,
        _ if REMOTE.contains(&name) && REMOTE_WORDS.into_iter().any(has_word) => Kind::Remote,
        _ => Kind::Plain,
    }
}
