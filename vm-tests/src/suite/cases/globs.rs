//! What patterns are about: names in the middle, name prefixes and suffixes, any directory, and near misses.

use std::fs;
use std::io;

use rustix::fs::{CWD, RenameFlags};

use super::InFallback::{Recorded, Unseen};
use super::{Case, denied, works};

pub(super) const CASES: &[Case] = &[
    denied("glob-directory-in-the-middle", "patterns", || read("project/secrets/deep/token")),
    denied("glob-name-everywhere", "patterns", || read("project/.env")).in_fallback(Recorded),
    denied("glob-name-prefix-everywhere", "patterns", || read("project/deep/er/.env.local"))
        .in_fallback(Recorded),
    denied("glob-name-suffix", "patterns", || read("server.pem")),
    denied("glob-prefix-and-suffix", "patterns", || read("backup-2026.tar")),
    denied("glob-any-byte", "patterns", || read("report-07.txt")),
    denied("glob-one-of-hundreds", "one-of-hundreds", || read("project/.filler-299")),
    denied("glob-directory-made-later", "patterns", made_later).in_fallback(Recorded),
    // Several rules have this way; the first one decides.
    denied("glob-directory-renamed-away", "one-of-hundreds", || rename("moved-away", ELSEWHERE))
        .in_fallback(Unseen),
    denied("glob-directory-exchanged", "one-of-hundreds", exchange).in_fallback(Unseen),
    denied("glob-directory-renamed-to-there", "one-of-hundreds", rename_to_there).in_fallback(Unseen),
    works("glob-directory-renamed-within", || rename("moved-within", "/home/dev/work/within")),
    works("glob-directory-renamed-far-below", || rename("project/deep", "/home/dev/deep-of-project")),
    works("glob-other-directory-in-the-middle", || read("project/secret/token")),
    works("glob-one-level-less", || read("secrets/token")),
    works("glob-other-name", || read("project/.environment")),
    works("glob-any-byte-is-one", || read("report-007.txt")),
    works("glob-prefix-without-suffix", || read("backup-2026")),
];

/// What [`crate::suite::stage`] has to make below the project.
pub(crate) const FILES: &[&str] = &[
    "project/secrets/deep/token",
    "project/.env",
    "project/deep/er/.env.local",
    "server.pem",
    "backup-2026.tar",
    "report-07.txt",
    "project/.filler-299",
    "project/secret/token",
    "secrets/token",
    "project/.environment",
    "report-007.txt",
    "backup-2026",
    "moved-away/secrets/token",
    "exchanged/secrets/token",
    "moved-within/secrets/token",
];

/// A directory that is on no pattern's way.
const ELSEWHERE: &str = "/home/dev/elsewhere";

fn read(name: &str) -> io::Result<()> {
    fs::read(format!("{}/{name}", crate::suite::stage::WORK)).map(drop)
}

fn rename(name: &str, to: &str) -> io::Result<()> {
    fs::rename(format!("{}/{name}", crate::suite::stage::WORK), to)
}

fn exchange() -> io::Result<()> {
    let other = "/home/dev/exchanged";
    fs::create_dir(other)?;
    let name = format!("{}/exchanged", crate::suite::stage::WORK);
    Ok(rustix::fs::renameat_with(CWD, name, CWD, other, RenameFlags::EXCHANGE)?)
}

/// It could have files in it that nobody may write there.
fn rename_to_there() -> io::Result<()> {
    let other = "/home/dev/prepared";
    fs::create_dir(other)?;
    fs::rename(other, format!("{}/prepared", crate::suite::stage::WORK))
}

/// A directory that did not exist when the policy was put in force.
fn made_later() -> io::Result<()> {
    let directory = format!("{}/later", crate::suite::stage::WORK);
    fs::create_dir_all(&directory)?;
    fs::write(format!("{directory}/.env.production"), "TOKEN=secret\n")
}
