//! Items by path that are likely for more programs than is meant.

use crate::glob::{Anchor, Component, Glob};

/// Programs that run whatever they are told: an exception for one of them is an exception for everything. What follows a name as
/// its version, or as the variant of an alternative, is not written here.
const RUNS_ANYTHING: [&str; 89] = [
    // Shells.
    "sh",
    "bash",
    "rbash",
    "dash",
    "ash",
    "zsh",
    "fish",
    "ksh",
    "mksh",
    "csh",
    "tcsh",
    "elvish",
    "nu",
    "pwsh",
    "busybox",
    "toybox", // Interpreters.
    "python",
    "pypy",
    "perl",
    "ruby",
    "irb",
    "node",
    "nodejs",
    "bun",
    "deno",
    "tsx",
    "ts-node",
    "php",
    "lua",
    "luajit",
    "tclsh",
    "expect",
    "guile",
    "Rscript",
    "R",
    "julia",
    "java",
    "jshell",
    "groovy",
    "awk",
    "gawk",
    "mawk",
    "nawk",
    "original-awk",
    "sed",
    "m4",
    "bc", // What runs the packages and scripts of others.
    "npm",
    "npx",
    "pnpm",
    "yarn",
    "uv",
    "uvx",
    "pipx",
    "make",
    "gmake",
    "ninja",
    "just",
    // What starts another program.
    "env",
    "xargs",
    "find",
    "parallel",
    "sudo",
    "doas",
    "su",
    "runuser",
    "setpriv",
    "nohup",
    "timeout",
    "setsid",
    "nice",
    "ionice",
    "taskset",
    "chroot",
    "unshare",
    "nsenter",
    "flock",
    "watch",
    "script",
    "stdbuf",
    // Debuggers and editors, which have a command for it.
    "gdb",
    "lldb",
    "strace",
    "ltrace",
    "vi",
    "vim",
    "nvim",
    "emacs",
    "ed",
];

/// The dynamic loader runs whatever it is told, too; its names go on with the architecture's.
const LOADERS: [&str; 3] = ["ld-linux", "ld-musl", "ld.so"];

/// Directories in which a session can put a program.
const OPEN_DIRECTORIES: [&[&str]; 3] = [&["tmp"], &["var", "tmp"], &["dev", "shm"]];

/// Directories with the programs of the whole machine. Others are mostly one package's, whose programs belong together.
const PROGRAM_DIRECTORIES: [&str; 6] =
    ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Why an item by path likely `does` what it does for more than is meant.
pub(super) fn too_wide(glob: &Glob, does: &str) -> Option<String> {
    let last = glob.components.last()?;
    if matches!(last, Component::Globstar | Component::Any) && has_programs(glob) {
        return Some(format!("this {does} for every program there"));
    }
    if let Some(name) = one_that_runs_anything(last) {
        return Some(format!("`{name}` runs whatever it is told: this {does} for everything"));
    }
    is_open(glob).then(|| format!("a session can put a program there: this {does} for whatever it wants"))
}

/// A name that a pattern matches, of those programs.
fn one_that_runs_anything(last: &Component) -> Option<String> {
    match last {
        Component::Literal(name) => runs_anything(name),
        Component::Wild(wild) => {
            let named = RUNS_ANYTHING.into_iter().find(|name| wild.matches(name.as_bytes()));
            named.map(str::to_owned).or_else(|| runs_anything(&wild.example_with(b"1")))
        }
        Component::Any | Component::Globstar => None,
    }
}

fn runs_anything(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let is_one = [name, family(name)].iter().any(|name| RUNS_ANYTHING.contains(name));
    (is_one || LOADERS.iter().any(|loader| name.starts_with(loader))).then(|| name.to_owned())
}

/// A name without its version (`python3.11`), and without what an alternative is called beside (`vim.basic`).
fn family(name: &str) -> &str {
    let end = name.find(|one: char| one.is_ascii_digit() || one == '.').unwrap_or(name.len());
    let stem = &name[..end];
    stem.strip_suffix('-').unwrap_or(stem)
}

/// Whether it matches the programs of the whole machine.
fn has_programs(glob: &Glob) -> bool {
    glob.is_everywhere()
        || PROGRAM_DIRECTORIES.iter().any(|one| glob.matches([], format!("{one}/sh").as_bytes()))
}

/// Whether a session can make a file that it matches: below a directory of all, below any directory, or anything in a home.
fn is_open(glob: &Glob) -> bool {
    let begins = |names: &&[&str]| {
        glob.anchor == Anchor::Root
            && glob.components.len() > names.len()
            && names.iter().zip(&glob.components).all(|(name, one)| one.matches(name.as_bytes()))
    };
    let all_in_a_home = glob.anchor == Anchor::Home
        && matches!(glob.components.last(), Some(Component::Globstar | Component::Any));
    let anywhere = glob.components.first() == Some(&Component::Globstar);
    all_in_a_home || anywhere || OPEN_DIRECTORIES.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_more_than_is_meant() {
        let check = |pattern: &str, expect: Option<&str>| {
            let glob = Glob::parse(pattern).expect("a pattern");
            let found = too_wide(&glob, "holds");
            assert_eq!(found.is_some(), expect.is_some(), "{pattern}: {found:?}");
            assert!(found.unwrap_or_default().contains(expect.unwrap_or_default()), "{pattern}");
        };
        check("/usr/bin/git", None);
        check("/usr/bin/ssh", None);
        check("/usr/bin/ssh-*", None);
        check("/usr/bin/gpg2", None);
        check("/usr/lib/git-core/git-remote-http*", None);
        check("~/.local/bin/mine", None);
        check("/opt/*/bin/tool", None);
        check("/usr/bin/sh", Some("`sh` runs whatever it is told"));
        for name in
            ["python3", "python3.11", "python3.13t", "perl5.36.0", "ruby3.1", "lua5.4", "php8.2", "nodejs"]
        {
            check(&format!("/usr/bin/{name}"), Some(name));
        }
        for name in ["mawk", "find", "make", "vim.basic", "gdb", "timeout", "setsid", "bash5", "gawk-5.2.1"] {
            check(&format!("/usr/bin/{name}"), Some(name));
        }
        check("/lib64/ld-linux-x86-64.so.2", Some("ld-linux-x86-64.so.2"));
        check("/usr/bin/python3.*", Some("runs whatever it is told"));
        check("/usr/bin/*sh", Some("runs whatever it is told"));
        check("/usr/bin/???", Some("runs whatever it is told"));
        check("/usr/**", Some("every program there"));
        check("/usr/bin/*", Some("every program there"));
        check("/**", Some("every program there"));
        check("/usr/lib/gnupg/*", None);
        check("/opt/acme/**", None);
        check("**", Some("every program there"));
        check("~/.local/bin/*", Some("a session can put a program there"));
        check("/tmp/**", Some("a session can put a program there"));
        check("/tmp/mine", Some("a session can put a program there"));
        check("/var/tmp/x/mine", Some("a session can put a program there"));
        check("/*/tmp/mine", Some("a session can put a program there"));
        check("**/ssh", Some("a session can put a program there"));
    }
}
