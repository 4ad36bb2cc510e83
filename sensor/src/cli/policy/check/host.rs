//! What of a policy is likely not meant on this machine.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use treeline_policy::{
    Code, Host, Lints,
    diagnostic::Diagnostic,
    glob::{Anchor, Component, Glob},
    policy::{Executable, Kind, Rule, SubjectItem},
    source::Span,
};

/// Bytes of an executable that are read to compare its content: larger ones are not looked at.
const CONTENT_LEN_MAX: u64 = 1 << 30;
/// Patterns that are looked at: some seconds on a slow filesystem.
const PATTERNS_MAX: usize = 1 << 14;

/// Looks at the files that a policy names.
pub(super) fn look(lints: &mut Lints<'_>, host: &Host) {
    let mut left = PATTERNS_MAX;
    let rules = lints.policy().rules.iter();
    // The parts of a rule about brokers are not the author's, and have one list of exceptions.
    for rule in rules.filter(|rule| !rule.id.contains('/')) {
        let patterns = of_rule(rule);
        let Some(rest) = left.checked_sub(patterns.len()) else { return };
        left = rest;
        for pattern in &patterns {
            if let Some(finding) = through_link(pattern, host) {
                lints.report(rule, finding);
            }
        }
        if let Some(finding) = no_home(rule, &patterns, host) {
            lints.report(rule, finding);
        }
        // By an exception of a rule that allows nobody gets anything.
        let giving = if rule.allows { &rule.only } else { &rule.exceptions };
        for finding in giving.iter().filter_map(|item| writable(rule, item)) {
            lints.report(rule, finding);
        }
        for finding in rule.items().filter_map(other_content) {
            lints.report(rule, finding);
        }
    }
}

/// A pattern of a rule, and where it is written.
struct Pattern<'p> {
    glob: &'p Glob,
    span: Span,
    /// Whether it is about what a path leads to, and not about the name.
    is_followed: bool,
}

fn of_rule(rule: &Rule) -> Vec<Pattern<'_>> {
    let is_followed = !matches!(rule.kind, Kind::File { .. });
    // Where a link leads nothing is allowed.
    let own = rule.kind.globs().iter().map(|glob| (glob, is_followed || rule.allows));
    let own = own.chain(rule.spares.paths.iter().map(|glob| (glob, true)));
    let own = own.map(|(glob, is_followed)| Pattern { glob: &glob.value, span: glob.span, is_followed });
    let items = rule.items();
    let subjects = items.flat_map(|item| {
        let globs = executables(item).filter_map(|executable| executable.path.as_ref());
        globs.map(|glob| Pattern { glob, span: item.span, is_followed: true })
    });
    own.chain(subjects).collect()
}

fn executables(item: &SubjectItem) -> impl Iterator<Item = &Executable> {
    [Some(&item.own), item.descendant_of.as_ref()].into_iter().flatten()
}

/// The names that a pattern begins with, and whether they are all of it.
fn beginning(glob: &Glob) -> (Vec<&OsStr>, bool) {
    let names = glob.components.iter().map_while(|component| match component {
        Component::Literal(name) => Some(OsStr::from_bytes(name)),
        _ => None,
    });
    let names: Vec<&OsStr> = names.collect();
    let is_whole = names.len() == glob.components.len();
    (names, is_whole)
}

/// A pattern that begins with a symbolic link: files have the paths behind it.
fn through_link(pattern: &Pattern<'_>, host: &Host) -> Option<Diagnostic> {
    let (mut names, is_whole) = beginning(pattern.glob);
    if is_whole && !pattern.is_followed {
        // The name itself is what is removed and renamed.
        names.pop();
    }
    let starts: Vec<PathBuf> = match pattern.glob.anchor {
        Anchor::Root => vec![PathBuf::from("/")],
        Anchor::Home => host.home_paths().map(|home| PathBuf::from(OsStr::from_bytes(home))).collect(),
    };
    let rest: PathBuf = names.iter().collect();
    let link = starts.iter().find_map(|start| {
        let mut path = start.clone();
        names.iter().find_map(|name| {
            path.push(name);
            path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()).then(|| path.clone())
        })
    })?;
    let target = link.canonicalize().ok()?;
    let (at, to) = (link.display(), target.display());
    let is_link_itself =
        names.len() == pattern.glob.components.len() && starts.iter().any(|start| link == start.join(&rest));
    let message = match is_link_itself {
        true => format!("`{}` is a symbolic link: the file's own path is `{to}`", pattern.glob),
        false => format!(
            "`{}` begins with a symbolic link: what is in `{at}` has its own path in `{to}`",
            pattern.glob
        ),
    };
    let help = match pattern.glob.anchor {
        Anchor::Root => {
            let depth = link.components().count() - 1;
            let rest = Glob { anchor: Anchor::Root, components: pattern.glob.components[depth..].to_vec() };
            let rest = if rest.components.is_empty() { String::new() } else { rest.to_string() };
            format!("write `{to}{rest}`; the link may lead elsewhere on another machine")
        }
        Anchor::Home => format!("name `{to}` as well: the link may be changed"),
    };
    Some(Diagnostic::warning(Code::ThroughLink, pattern.span, message).help(help))
}

/// A pattern for homes, where there are none.
fn no_home(rule: &Rule, patterns: &[Pattern<'_>], host: &Host) -> Option<Diagnostic> {
    let of_homes = patterns.iter().find(|pattern| pattern.glob.anchor == Anchor::Home)?;
    let message = format!("`{}` of `{}` is nowhere: this machine has no homes", of_homes.glob, rule.id);
    let help =
        "write the path from `/` on; homes are those in /etc/passwd, of root and of users from 1000 on";
    host.homes.is_empty().then(|| Diagnostic::warning(Code::NoHome, of_homes.span, message).help(help))
}

/// An item that gives something away to a file that others than root can replace. With its content it is that file all the same.
fn writable(rule: &Rule, item: &SubjectItem) -> Option<Diagnostic> {
    let (glob, why) = executables(item).find_map(|executable| {
        let glob = executable.path.as_ref().filter(|_| executable.sha256.is_none())?;
        Some((glob, replaceable(glob)?))
    })?;
    let message = match rule.allows {
        true => format!("who can write there is allowed what `{glob}` is: {why}"),
        false => format!("who can write there has the exception for `{glob}`: {why}"),
    };
    let help = "name a file that only root can write, or add its `sha256`";
    Some(Diagnostic::warning(Code::WritableExecutable, item.span, message).help(help))
}

/// Who else than root can put a file where a pattern matches it.
pub(in crate::cli::policy) fn replaceable(glob: &Glob) -> Option<String> {
    if glob.anchor == Anchor::Home {
        return Some("it is in the home of each user".to_owned());
    }
    if glob.is_everywhere() {
        return Some("it can be in every directory".to_owned());
    }
    let (names, _) = beginning(glob);
    let path: PathBuf = [OsStr::new("/")].into_iter().chain(names).collect();
    // What is not there is made by who can write above it.
    let there = path.ancestors().find_map(|above| above.canonicalize().ok())?;
    there.ancestors().find_map(|file| {
        let metadata = file.metadata().ok()?;
        let what = file.display();
        let mode = metadata.mode();
        // In such a directory nobody takes away what is root's.
        let is_kept = metadata.is_dir() && mode & 0o1000 != 0 && file != there;
        if metadata.uid() != 0 {
            Some(format!("`{what}` belongs to user {}", metadata.uid()))
        } else if mode & 0o020 != 0 && metadata.gid() != 0 && !is_kept {
            Some(format!("group {} can write `{what}`", metadata.gid()))
        } else if mode & 0o002 != 0 && !is_kept {
            Some(format!("everybody can write `{what}`"))
        } else {
            None
        }
    })
}

/// An item whose file has another content than the item says.
fn other_content(item: &SubjectItem) -> Option<Diagnostic> {
    executables(item).find_map(|executable| {
        let (glob, digest) = (executable.path.as_ref()?, executable.sha256?);
        let (names, is_whole) = beginning(glob);
        let path: PathBuf = [OsStr::new("/")].into_iter().chain(names).collect();
        let found = (is_whole && glob.anchor == Anchor::Root).then(|| content(&path).ok()).flatten()?;
        let message = format!("`{}` has another content than this item asks for", path.display());
        let help = format!(
            "its SHA-256 is {}; without a file that has both, the item is for nobody",
            hex::encode(found)
        );
        (found != digest).then(|| Diagnostic::warning(Code::OtherContent, item.span, message).help(help))
    })
}

/// The SHA-256 of a regular file that is not larger than any executable.
fn content(path: &Path) -> io::Result<[u8; 32]> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata: fs::Metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > CONTENT_LEN_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut digest = Sha256::new();
    io::copy(&mut file.take(CONTENT_LEN_MAX), &mut digest)?;
    Ok(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use treeline_policy::{Home, lint, parse};

    use super::*;

    /// Checks the codes of what is found of one rule, and a part of all messages and help.
    #[track_caller]
    fn check(rule: &str, homes: &[&Path], expect: &[(Code, &str)]) {
        let text = format!("version: 1\nname: t\nrules: [{{id: a, reason: r, {rule}}}]\n");
        let policy = parse("t", &text).unwrap_or_else(|found| panic!("{found}"));
        let home = |path: &&Path| Home { uid: 1, path: path.as_os_str().as_bytes().to_vec() };
        let host = Host { homes: homes.iter().map(home).collect() };
        let mut lints = lint(&policy, None);
        look(&mut lints, &host);
        let found = lints.finish().found;
        let reports: Vec<_> = found.reports().collect();
        assert_eq!(reports.len(), expect.len(), "{found}");
        for (report, (code, words)) in reports.iter().zip(expect) {
            let said = format!("{} | {}", report.message, report.help.as_deref().unwrap_or_default());
            assert_eq!(report.code, *code, "{found}");
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn links() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().canonicalize().expect("its own path");
        fs::create_dir_all(base.join("real/.config")).expect("a directory");
        symlink("real", base.join("link")).expect("a link");
        symlink(".config", base.join("real/.aws")).expect("a link");
        let at = |path: &str| base.join(path).display().to_string();
        let link = Code::ThroughLink;
        let paths = |path: &str| format!("kind: file, paths: [\"{path}\"]");
        check(&paths(&at("real/**")), &[], &[]);
        check(&paths(&at("link/**")), &[], &[(link, "begins with a symbolic link")]);
        check(&paths(&at("link/x")), &[], &[(link, "begins with a symbolic link")]);
        check(&paths(&at("link/**")), &[], &[(link, &format!("write `{}/**`", at("real")))]);
        check(&paths(&at("link/x/*.pem")), &[], &[(link, &format!("write `{}/x/*.pem`", at("real")))]);
        // The name of the link itself is what is protected.
        check(&paths(&at("link")), &[], &[]);
        check(
            &format!("kind: exec, paths: [\"{}\"]", at("link")),
            &[],
            &[(link, &format!("write `{}`", at("real")))],
        );
        check(&paths("~/.aws/**"), &[&base.join("real")], &[(link, "as well")]);
        check(&paths("~/.config/**"), &[&base.join("real")], &[]);
        let subject = |path: &str| format!("{}, only: [{{executable: \"{path}\"}}]", paths("/x"));
        check(&subject(&at("link/ssh")), &[], &[(link, &format!("write `{}/ssh`", at("real")))]);
    }

    #[test]
    fn homes() {
        let rule = "kind: file, paths: [/x, ~/.ssh/**]";
        check(rule, &[], &[(Code::NoHome, "`~/.ssh/**` of `a` is nowhere")]);
        check(rule, &[Path::new("/home/u")], &[]);
    }

    #[test]
    fn executables_that_can_be_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().canonicalize().expect("its own path");
        let except = |path: &str, more: &str| {
            format!("kind: file, paths: [/x], except: [{{executable: \"{path}\"{more}, reason: r}}]")
        };
        let writable = Code::WritableExecutable;
        check(&except("/usr/bin/env", ""), &[], &[]);
        check(&except("/usr/bin/no-such-program", ""), &[], &[]);
        check(&except("/usr/bin/*", ""), &[], &[]);
        check(&except("~/bin/x", ""), &[Path::new("/home/u")], &[(writable, "the home of each user")]);
        check(&except("/**/bin/node", ""), &[], &[(writable, "every directory")]);
        check(&except("/tmp/x", ""), &[], &[(writable, "everybody can write `/tmp`")]);
        let allow = |list: &str| {
            let item = "[{executable: /tmp/x, reason: r}]";
            let lifted = "{id: b, reason: r, kind: tool, tools: [Read], priority: -1";
            format!("kind: tool, tools: [Read], action: allow, {list}: {item}}}, {lifted}")
        };
        check(&allow("only"), &[], &[(writable, "is allowed what `/tmp/x` is: everybody can write `/tmp`")]);
        check(&allow("except"), &[], &[]);
        let program = base.join("program");
        fs::write(&program, "x").expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let words =
            if rustix::process::geteuid().is_root() { "everybody can write" } else { "belongs to user" };
        let program = program.display().to_string();
        check(&except(&program, ""), &[], &[(writable, words)]);
        let digest = hex::encode(Sha256::digest("x"));
        check(&except(&program, &format!(", sha256: \"{digest}\"")), &[], &[]);
        let below = format!(
            "kind: file, paths: [/x], except: [{{descendant_of: {{executable: \"{program}\"}}, reason: r}}]"
        );
        check(&below, &[], &[(writable, words)]);
    }

    fn make_fifo(path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a fifo");
    }

    #[test]
    fn contents() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().canonicalize().expect("its own path").join("program");
        fs::write(&program, "x").expect("a file");
        let digest = hex::encode(Sha256::digest("x"));
        let only = |path: &str, digest: &str| {
            format!("kind: file, paths: [/x], only: [{{executable: \"{path}\", sha256: \"{digest}\"}}]")
        };
        let path = program.display().to_string();
        check(&only(&path, &digest), &[], &[]);
        check(
            &only(&path, &"1".repeat(64)),
            &[],
            &[(Code::OtherContent, &format!("its SHA-256 is {digest}"))],
        );
        // Nothing there, or nothing that can be executed.
        check(&only(&format!("{path}-2"), &digest), &[], &[]);
        check(&only("/dev/null", &digest), &[], &[]);
        let fifo = dir.path().canonicalize().expect("its own path").join("fifo");
        make_fifo(&fifo);
        check(&only(&fifo.display().to_string(), &digest), &[], &[]);
    }
}
