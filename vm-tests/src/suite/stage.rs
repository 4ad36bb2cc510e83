//! The files that the cases are about, and the policy over them.

use std::collections::VecDeque;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

pub(crate) const ACT: &str = "/usr/bin/act";
/// A copy of [`ACT`] that the rule about keys excepts.
pub(crate) const TRUSTED: &str = "/usr/local/bin/trusted";
/// A copy of [`ACT`] below which files, a program and an address are denied.
pub(crate) const INSTALLER: &str = "/usr/local/bin/installer";
/// A copy of [`ACT`] below which a rule is lifted, as below [`TRUSTED_SHELL`].
pub(crate) const BUILDER: &str = "/usr/local/bin/builder";
/// A shell.
pub(crate) const TRUSTED_SHELL: &str = "/usr/local/bin/trusted-shell";
/// Denied below [`INSTALLER`].
pub(crate) const CLOUD: &str = "/home/dev/.aws/credentials";
/// A program that is denied below [`INSTALLER`]: a copy of sleep(1).
pub(crate) const BELOW_TOOL: &str = "/usr/local/bin/tool";
/// Denied below [`INSTALLER`].
pub(crate) const BELOW_ADDRESS: &str = "127.0.0.5";
/// Denied to all but what is below [`BUILDER`] and [`TRUSTED_SHELL`].
pub(crate) const STATE: &str = "/home/dev/.state/file";
/// Programs that only [`TRUSTED`] runs, and that it does not run: copies of true(1).
pub(crate) const ONLY_BY_TRUSTED: &str = "/usr/local/bin/only-by-trusted";
pub(crate) const NOT_BY_TRUSTED: &str = "/usr/local/bin/not-by-trusted";
/// A program that must not run.
pub(crate) const FORBIDDEN: &str = "/usr/local/bin/forbidden";

pub(crate) const KEYS: &str = "/home/dev/.ssh";
pub(crate) const KEY: &str = "/home/dev/.ssh/id_ed25519";
/// May be read, not changed.
pub(crate) const STARTUP: &str = "/home/dev/.bashrc";
/// Where everything is allowed.
pub(crate) const WORK: &str = "/home/dev/work";

/// What may not be changed, but for some of it.
pub(crate) const SITE: &str = "/home/dev/site";
/// Of which directories a rule protects something that is deep below them, but for some of it.
pub(crate) const LAB: &str = "/home/dev/lab";
/// A file that may be read and not written, by a rule that allows that.
pub(crate) const READABLE: &str = "/home/dev/closed/readable";
/// Where a rule about names everywhere protects some, and spares some.
pub(crate) const VAULT: &str = "/home/dev/vaults";
/// In a block that is denied; that which is allowed to all, and that which is allowed to [`TRUSTED`].
pub(crate) const SHUT_ADDRESS: &str = "127.0.3.1";
pub(crate) const LIFTED_ADDRESS: &str = "127.0.3.2";
pub(crate) const LIFTED_FOR_TRUSTED: &str = "127.0.3.3";
/// Abstract names that are denied, but for the first.
pub(crate) const LIFTED_ABSTRACT: [&[u8]; 2] = [b"shut/open", b"shut/other"];

pub(crate) const FORBIDDEN_SOCKET: &str = "/run/forbidden.sock";
pub(crate) const ALLOWED_SOCKET: &str = "/run/allowed.sock";
/// Both are loopback; the policy denies the first, alone.
pub(crate) const FORBIDDEN_ADDRESS: &str = "127.0.0.2";
/// In a block that the policy denies.
pub(crate) const FORBIDDEN_ADDRESS6: &str = "fd00:2::1";
pub(crate) const ALLOWED_ADDRESS: &str = "127.0.0.1";
pub(crate) const PORT: u16 = 4242;
/// Loopback on this port is denied, too.
pub(crate) const LOOPBACK_PORT: u16 = 4343;

pub(crate) const FORBIDDEN_DATAGRAMS: &str = "/run/forbidden-datagrams.sock";
/// Holds the id of a process outside of every session.
pub(crate) const BYSTANDER: &str = "/run/bystander";
/// Abstract names of sockets; the policy denies all but the last.
pub(crate) const ABSTRACT: [&[u8]; 4] = [b"forbidden/name", b"forbidden/\xff\0/x", b"exactly", b"exactly\0"];

/// Below the developer's home.
const SITE_FILES: [&str; 17] = [
    "closed/readable",
    "vaults/vault/key",
    "vaults/open/vault/plain",
    "vaults/open/vault/removed",
    "site/key",
    "site/out/key",
    "site/moved",
    "site/directory/file",
    "site/other/file",
    "site/open/mine",
    "site/open/old",
    "site/open/out",
    "site/open/unwanted",
    "site/open/directory/file",
    "site/open/key",
    "site/x/out/mine",
    "lab/a/b/key",
];

/// Rules about files that do not exist, before the ones that matter: a policy is as large as that of an organisation.
/// (The first file rule by name is that which refuses what cannot be resolved: `keys`.)
const FILLERS: usize = 299;

/// The policy of the sessions in `mode`.
pub(crate) fn policy(mode: &str) -> String {
    policy_with_keys(mode, &[])
}

/// The same, with `more` paths in the rule about keys.
pub(crate) fn policy_with_keys(mode: &str, more: &[&str]) -> String {
    let keys = format!("\"{KEYS}/**\"");
    let more: String = more.iter().map(|path| format!(", \"{path}\"")).collect();
    let rules = RULES.replacen(&keys, &format!("{keys}{more}"), 1);
    let mut text = format!("version: 1\nname: guest\nmode: {mode}\n{rules}");
    for number in 0..FILLERS {
        text.push_str(&format!(
            "  - {{id: zz-filler-{number}, kind: file, reason: r, paths: \
             [\"~/.filler-{number}/**\", \"~/work/*/.filler-{number}/**\", \"**/filler-{number}.key\"]}}\n"
        ));
    }
    text
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
    to: [127.0.0.2/32, \"fd00:2::/32\"]
    reason: This address is not for agents
  - id: socket
    kind: connect
    unix: [\"/run/forbidden.sock\", \"/run/forbidden-datagrams.sock\"]
    reason: This socket is not for agents
  - id: abstract-names
    kind: connect
    unix: [\"@forbidden/*\", \"@exactly\"]
    reason: This name is not for agents
    except:
      - executable: /usr/local/bin/trusted
  - id: lan
    kind: connect
    to: [127.0.1.0/24]
    except_to:
      - to: [127.0.1.7]
        ports: [4242]
    reason: These addresses are not for agents, but for one of them
    except:
      - executable: /usr/local/bin/trusted
  - id: loopback
    kind: connect
    to: [127.0.0.1, \"::1\"]
    ports: [4343]
    reason: This port is not for agents
  - id: processes
    kind: broker
    brokers: [ptrace]
    reason: Other processes are not for agents
    except:
      - executable: /usr/local/bin/trusted
  - id: patterns
    kind: file
    paths:
      - /home/dev/work/*/secrets/**
      - \"**/.env\"
      - \"**/.env.*\"
      - /home/dev/work/*.pem
      - /home/dev/work/backup-*.tar
      - /home/dev/work/report-??.txt
    reason: What projects keep secret
  - id: one-of-hundreds
    kind: file
    paths: [\"/home/dev/work/*/.filler-299\"]
    reason: As the last of many
  - id: lineage-below
    kind: file
    paths: [\"/home/dev/.aws/**\"]
    reason: What an installer runs reads no credentials
    only:
      - descendant_of: {executable: /usr/local/bin/installer}
  - id: only-by-trusted
    kind: exec
    paths: [/usr/local/bin/only-by-trusted]
    reason: Only one program may start this
    except:
      - executable: /usr/local/bin/trusted
  - id: not-by-trusted
    kind: exec
    paths: [/usr/local/bin/not-by-trusted]
    reason: This program does not start that
    only:
      - executable: /usr/local/bin/trusted
  - id: tool-below
    kind: exec
    paths: [/usr/local/bin/tool]
    reason: What an installer runs does not start this
    only:
      - descendant_of: {executable: /usr/local/bin/installer}
  - id: address-below
    kind: connect
    to: [127.0.0.5/32]
    reason: What an installer runs does not go there
    only:
      - descendant_of: {executable: /usr/local/bin/installer}
  - id: state
    kind: file
    paths: [\"/home/dev/.state/**\"]
    reason: Only what the builder runs needs this
    except:
      - descendant_of: {executable: /usr/local/bin/builder}
      - descendant_of: {executable: /usr/local/bin/trusted-shell}
  - id: site
    kind: file
    paths: [\"/home/dev/site/**\"]
    operations: [write, create, delete, rename, link]
    except_paths: [\"/home/dev/site/open/**\", \"/home/dev/site/*/out/**\"]
    reason: Changes are made where they may be
  - id: lab
    kind: file
    paths: [\"/home/dev/lab/*/*/key\"]
    except_paths: [\"/home/dev/lab/open/**\"]
    reason: These keys are not for agents
  - id: read-only
    kind: file
    paths: [\"/home/dev/closed/**\"]
    reason: This is closed
  - id: read-only-but-to-read
    kind: file
    action: allow
    priority: 1
    paths: [\"/home/dev/closed/readable\"]
    operations: [read]
    reason: It may be read
  - id: vaults
    kind: file
    paths: [\"/**/vault/**\"]
    operations: [read, write, create, rename, link]
    except_paths: [\"/home/dev/vaults/open/**\"]
    reason: Vaults are closed
  - id: site-programs
    kind: exec
    paths: [\"/home/dev/site-bin/**\"]
    except_paths: [\"/home/dev/site-bin/ok/*\"]
    reason: Programs are started where they may be
  - id: shut
    kind: connect
    to: [127.0.3.0/24]
    reason: This network is for some
  - id: shut-for-some
    kind: connect
    action: allow
    priority: 1
    to: [127.0.3.3]
    ports: [4242]
    only:
      - executable: /usr/local/bin/trusted
    reason: One program needs it
  - id: shut-but-for-one
    kind: connect
    action: allow
    priority: 1
    to: [127.0.3.2]
    reason: It is harmless
  - id: shut-names
    kind: connect
    unix: [\"@shut/*\"]
    reason: These names are for nobody
  - id: shut-names-but-for-one
    kind: connect
    action: allow
    priority: 1
    unix: [\"@shut/open\"]
    reason: It is harmless
  - id: watched
    kind: connect
    mode: monitor
    to: [127.0.0.2/32]
    reason: A rule that only records takes nothing from one that refuses, and comes after it
";

/// Makes the files, incl. the aliases that existed before any policy, as if nothing had happened before.
pub(crate) fn prepare() -> Result<()> {
    match fs::remove_dir_all("/home/dev") {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("removing what an earlier group left in /home/dev");
        }
        _ => {}
    }
    let own = [KEYS, WORK, "/home/dev/.aws", "/home/dev/.state", "/home/dev/site-bin/ok"];
    for directory in own.into_iter().chain(["/usr/local/bin", "/mnt"]) {
        fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
    }
    fs::write(KEY, "secret\n").context("writing the key")?;
    // Each case that takes a file away has one of its own: none depends on whether another was refused.
    for name in ["config", "moved", "moved-by-mv", "removed", "removed-by-rm", "replaced"] {
        fs::write(format!("{KEYS}/{name}"), "also secret\n").context("writing a file beside the key")?;
    }
    fs::write(STARTUP, "# empty\n").context("writing the start-up file")?;
    for path in [CLOUD, STATE] {
        fs::write(path, "secret, too\n").with_context(|| format!("writing {path}"))?;
    }
    for name in ["into", "movable", "notes", "old", "over", "unwanted"] {
        fs::write(format!("{WORK}/{name}"), "mine\n").context("writing a file of the project")?;
    }
    for name in super::cases::globs::FILES {
        let path = format!("{WORK}/{name}");
        let directory = Path::new(&path).parent().context("a file without a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        fs::write(&path, "mine\n").with_context(|| format!("writing {path}"))?;
    }
    for name in SITE_FILES {
        let path = format!("/home/dev/{name}");
        let directory = Path::new(&path).parent().context("a file without a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        fs::write(&path, "mine\n").with_context(|| format!("writing {path}"))?;
    }
    fs::create_dir_all(format!("{SITE}/x/out/empty")).context("creating an empty directory")?;
    fs::create_dir_all(format!("{LAB}/open")).context("creating a directory")?;
    fs::hard_link(format!("{VAULT}/vault/key"), format!("{VAULT}/open/vault/alias"))
        .context("making a name in what is spared")?;
    symlink(format!("{SITE}/key"), format!("{SITE}/open/soft")).context("linking out of what is spared")?;
    fs::hard_link(format!("{SITE}/key"), format!("{SITE}/open/alias"))
        .context("making a name in what is spared")?;
    symlink(KEY, format!("{WORK}/soft")).context("linking to the key")?;
    symlink(KEYS, format!("{WORK}/soft-directory")).context("linking to the keys' directory")?;
    fs::hard_link(KEY, format!("{WORK}/hard")).context("making a second name of the key")?;
    let copies = [
        (ACT, TRUSTED),
        (ACT, INSTALLER),
        (ACT, BUILDER),
        ("/usr/bin/bash", TRUSTED_SHELL),
        ("/usr/bin/sleep", BELOW_TOOL),
        ("/usr/bin/true", ONLY_BY_TRUSTED),
        ("/usr/bin/true", NOT_BY_TRUSTED),
        ("/usr/bin/true", FORBIDDEN),
        ("/usr/bin/true", "/home/dev/site-bin/tool"),
        ("/usr/bin/true", "/home/dev/site-bin/ok/tool"),
    ];
    for (from, to) in copies {
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

/// Starts the process that has nothing to do with any session.
fn bystander() -> Result<()> {
    // Without the pipe of this process, whose end would wait for it.
    let mut command = Command::new("/usr/bin/sleep");
    command.arg("86400").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn();
    let pid = child.context("starting a bystander")?.id();
    fs::write(BYSTANDER, pid.to_string()).with_context(|| format!("writing {BYSTANDER}"))
}

/// Keeps each connection until some others have come. In mode `fallback` a connect is seen when it returns, and a socket
/// whose other end has been closed by then leads nowhere (THREATS.md).
fn hold_for_a_while<T>(connections: impl Iterator<Item = T>) {
    const COUNT: usize = 16;
    let mut held = VecDeque::new();
    for connection in connections {
        held.push_back(connection);
        if held.len() > COUNT {
            held.pop_front();
        }
    }
}

/// Listens on everything that the cases connect to, as long as this process lives.
pub(crate) fn listen() -> Result<()> {
    bystander()?;
    for path in [FORBIDDEN_SOCKET, ALLOWED_SOCKET] {
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).with_context(|| format!("listening on {path}"))?;
        thread::spawn(move || hold_for_a_while(listener.incoming()));
    }
    for name in ABSTRACT.into_iter().chain(LIFTED_ABSTRACT) {
        let address = SocketAddr::from_abstract_name(name).context("making an abstract name")?;
        let listener = UnixListener::bind_addr(&address).context("listening on an abstract name")?;
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    for port in [PORT, LOOPBACK_PORT] {
        // Both families: the socket of `::` takes IPv4 as well.
        let listener =
            TcpListener::bind(("::", port)).with_context(|| format!("listening on port {port}"))?;
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    let _ = fs::remove_file(FORBIDDEN_DATAGRAMS);
    let by_path = UnixDatagram::bind(FORBIDDEN_DATAGRAMS).context("binding a datagram socket")?;
    let address =
        SocketAddr::from_abstract_name(b"forbidden/datagrams").context("making an abstract name")?;
    let by_name = UnixDatagram::bind_addr(&address).context("binding a datagram socket to a name")?;
    for socket in [by_path, by_name] {
        thread::spawn(move || while socket.recv(&mut [0; 16]).is_ok() {});
    }
    Ok(())
}
