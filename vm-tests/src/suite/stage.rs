//! The files that the cases are about, and the policy over them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

pub(crate) const ACT: &str = "/usr/bin/act";
/// A copy of [`ACT`] that the rule about keys excepts.
pub(crate) const TRUSTED: &str = "/usr/local/bin/trusted";
/// A program that must not run.
pub(crate) const FORBIDDEN: &str = "/usr/local/bin/forbidden";

pub(crate) const KEYS: &str = "/home/dev/.ssh";
pub(crate) const KEY: &str = "/home/dev/.ssh/id_ed25519";
/// May be read, not changed.
pub(crate) const STARTUP: &str = "/home/dev/.bashrc";
/// Where everything is allowed.
pub(crate) const WORK: &str = "/home/dev/work";

pub(crate) const FORBIDDEN_SOCKET: &str = "/run/forbidden.sock";
pub(crate) const ALLOWED_SOCKET: &str = "/run/allowed.sock";
/// Both are loopback; the policy denies the first.
pub(crate) const FORBIDDEN_ADDRESS: &str = "127.0.0.2";
pub(crate) const ALLOWED_ADDRESS: &str = "127.0.0.1";
pub(crate) const PORT: u16 = 4242;

/// The policy of the sessions in `mode`.
pub(crate) fn policy(mode: &str) -> String {
    format!("version: 1\nname: guest\nmode: {mode}\n{RULES}")
}

pub(crate) const RULES: &str = "\
rules:
  - id: keys
    kind: file
    paths: [\"/home/dev/.ssh/**\"]
    reason: Keys are for people
    except:
      - executable: /usr/local/bin/trusted
  - id: startup
    kind: file
    paths: [\"/home/dev/.bashrc\"]
    operations: [write, create, delete, rename, link]
    reason: Start-up files run later and elsewhere
  - id: program
    kind: exec
    paths: [\"/usr/local/bin/forbidden\"]
    reason: This program is not for agents
  - id: network
    kind: connect
    to: [127.0.0.2/32]
    reason: This address is not for agents
  - id: socket
    kind: connect
    unix: [\"/run/forbidden.sock\"]
    reason: This socket is not for agents
";

/// Makes the files, incl. the aliases that existed before any policy, as if nothing had happened before.
pub(crate) fn prepare() -> Result<()> {
    match fs::remove_dir_all("/home/dev") {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("removing what an earlier group left in /home/dev");
        }
        _ => {}
    }
    for directory in [KEYS, WORK, "/usr/local/bin", "/mnt"] {
        fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
    }
    fs::write(KEY, "secret\n").context("writing the key")?;
    // Each case that takes a file away has one of its own: none depends on whether another was refused.
    for name in ["config", "moved", "moved-by-mv", "removed", "removed-by-rm", "replaced"] {
        fs::write(format!("{KEYS}/{name}"), "also secret\n").context("writing a file beside the key")?;
    }
    fs::write(STARTUP, "# empty\n").context("writing the start-up file")?;
    for name in ["into", "movable", "notes", "old", "over", "unwanted"] {
        fs::write(format!("{WORK}/{name}"), "mine\n").context("writing a file of the project")?;
    }
    symlink(KEY, format!("{WORK}/soft")).context("linking to the key")?;
    symlink(KEYS, format!("{WORK}/soft-directory")).context("linking to the keys' directory")?;
    fs::hard_link(KEY, format!("{WORK}/hard")).context("making a second name of the key")?;
    for (from, to) in [(ACT, TRUSTED), ("/usr/bin/true", FORBIDDEN)] {
        if Path::new(to).is_file() {
            continue;
        }
        fs::copy(from, to).with_context(|| format!("copying {from} to {to}"))?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("chmod of {to}"))?;
    }
    symlink(FORBIDDEN, format!("{WORK}/innocent")).context("linking to the forbidden program")?;
    symlink(FORBIDDEN_SOCKET, format!("{WORK}/socket")).context("linking to the forbidden socket")?;
    Ok(())
}

/// Listens on everything that the cases connect to, as long as this process lives.
pub(crate) fn listen() -> Result<()> {
    for path in [FORBIDDEN_SOCKET, ALLOWED_SOCKET] {
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).with_context(|| format!("listening on {path}"))?;
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    let listener =
        TcpListener::bind(("0.0.0.0", PORT)).with_context(|| format!("listening on port {PORT}"))?;
    thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}
