//! The remotes of the git repository that a directory is in, by its own files: no other program runs for it.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use treeline_event::attributes::{CLAIM_LEN_MAX, REPOSITORIES_MAX};

/// Directories above one that are looked at.
const DEPTH_MAX: usize = 64;
/// Bytes of a file of git's that are read.
const FILE_LEN_MAX: u64 = 256 << 10;

/// The remotes, such as `github.com/acme/app`, in order and each once. None of them outside of every repository; nothing
/// where they cannot be told.
pub(super) fn remotes(dir: &Path) -> Option<Vec<String>> {
    let Some(git) = git_of(dir)? else { return Some(Vec::new()) };
    let config = read(&config_of(&git).ok()?).ok()?;
    let mut remotes: Vec<String> = urls(&config)?.into_iter().map(normal).collect::<Option<_>>()?;
    remotes.sort();
    remotes.dedup();
    (remotes.len() <= REPOSITORIES_MAX).then_some(remotes)
}

/// `.git` of the repository that a directory is in, if it is in one; the outer none if that cannot be told.
fn git_of(dir: &Path) -> Option<Option<PathBuf>> {
    if dir.ancestors().count() > DEPTH_MAX {
        return None;
    }
    for dir in dir.ancestors() {
        let git = dir.join(".git");
        match fs::symlink_metadata(&git) {
            Ok(_) => return Some(Some(git)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(None)
}

/// The configuration of a repository: a linked working tree and a submodule have a file that says where it is.
fn config_of(git: &Path) -> io::Result<PathBuf> {
    let dir = if git.is_dir() {
        git.to_owned()
    } else {
        let text = read(git)?;
        let dir = text.strip_prefix("gitdir:").ok_or_else(|| io::Error::other("no `gitdir:`"))?.trim();
        git.parent().unwrap_or(git).join(dir)
    };
    match read(&dir.join("commondir")) {
        Ok(common) => Ok(dir.join(common.trim()).join("config")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(dir.join("config")),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = String::new();
    let len = File::open(path)?.take(FILE_LEN_MAX + 1).read_to_string(&mut text)?;
    if len as u64 > FILE_LEN_MAX { Err(io::Error::other("too long")) } else { Ok(text) }
}

/// The `url` of each `[remote "NAME"]`, see git-config(1). None where other files or prefixes say what they are.
fn urls(config: &str) -> Option<Vec<&str>> {
    let mut urls = Vec::new();
    let mut is_remote = false;
    for line in config.lines().map(str::trim) {
        let mut entry = line;
        if let Some(head) = line.strip_prefix('[') {
            let head = head.to_ascii_lowercase();
            if ["include", "url "].iter().any(|section| head.starts_with(section)) {
                return None;
            }
            is_remote = head.starts_with("remote ");
            // An entry can stand behind the section's head.
            entry = line.rsplit_once(']').map_or("", |(_, entry)| entry);
        }
        if let Some((key, value)) = entry.split_once('=').filter(|_| is_remote)
            && key.trim().eq_ignore_ascii_case("url")
        {
            urls.push(value.trim().trim_matches('"'));
        }
    }
    Some(urls)
}

/// Host and path of an address, in lower case, without user, port and `.git`; none for what has no host.
fn normal(url: &str) -> Option<String> {
    let (authority, path) = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?,
        // As ssh has it: `git@host:path`. With a slash before the colon it is a path.
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?,
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.split_once(']') {
        Some((host, _)) => host.trim_start_matches('['),
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    let found = format!("{host}/{path}").to_ascii_lowercase();
    let is_graphic = found.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
    let is_fit = !host.is_empty() && found.len() <= CLAIM_LEN_MAX && is_graphic;
    (is_fit && !path.is_empty() && !path.contains("//")).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |url: &str, expect: Option<&str>| assert_eq!(normal(url).as_deref(), expect, "{url}");
        check("https://github.com/Acme/App.git", Some("github.com/acme/app"));
        check("https://ada:token@github.com:443/acme/app/", Some("github.com/acme/app"));
        check("git@github.com:acme/app.git", Some("github.com/acme/app"));
        check("ssh://git@[fd00::1]:2222/acme/app", Some("fd00::1/acme/app"));
        check("host:app", Some("host/app"));
        for none in [
            "/srv/app.git",
            "../app",
            "file:///srv/app",
            "https://github.com",
            "./a:b",
            "",
            "https:///x",
            "h:a b",
        ] {
            check(none, None);
        }
    }

    #[test]
    fn repositories() {
        let top = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("its directory");
            fs::write(path, text).expect("a file");
        };
        let check = |dir: &str, expect: Option<&[&str]>| {
            let found = remotes(&top.path().join(dir));
            let expect = expect.map(|all| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expect, "{dir}");
        };
        let config = "[core]\n\turl = https://no/remote\n[remote \"b\"]\n\turl = git@h.example:b/c.git\n\
                      [Remote \"a\"]\n  URL=\"https://h.example/a\"\n[branch \"url\"]\n";
        write("app/.git/config", config);
        write("app/src/lib.rs", "");
        check("app/src", Some(&["h.example/a", "h.example/b/c"]));
        write("tree/.git", &format!("gitdir: {}\n", top.path().join("app/.git/worktrees/tree").display()));
        write("app/.git/worktrees/tree/commondir", "../..\n");
        check("tree", Some(&["h.example/a", "h.example/b/c"]));
        write("sub/.git", "gitdir: ../app/.git/modules/sub\n");
        write("app/.git/modules/sub/config", "[remote \"o\"]\nurl = /srv/elsewhere\n");
        check("sub", None);
        write("none/.git/config", "[core]\n");
        check("none", Some(&[]));
        write("bad/.git", "something else");
        check("bad", None);
        write(
            "aliased/.git/config",
            "[url \"https://github.com/\"]\n\tinsteadOf = gh:\n[remote \"o\"]\nurl = gh:a/b\n",
        );
        check("aliased", None);
        write("including/.git/config", "[includeIf \"gitdir:/x\"]\n\tpath = y\n");
        check("including", None);
        write("short/.git/config", "[remote \"o\"] url = https://h.example/x\n");
        check("short", Some(&["h.example/x"]));
        let deep = "d/".repeat(DEPTH_MAX);
        check(&deep, None);
        let many: String =
            (0..17).map(|number| format!("[remote \"r{number}\"]\nurl = h:{number}\n")).collect();
        write("many/.git/config", &many);
        check("many", None);
    }
}
