//! What the shipped policies decide, by the oracle and by the compiled tables.

use treeline_abi::paths::WORDS;
use treeline_event::Verdict::{self, Allow, Audit, Deny};
use treeline_policy::{
    Home, Host, Located, Matcher, Mount, MountTable, Object, Policy, Request, Resolver, Subject, Tables,
    Target, compile, eval, explain, parse, policy::FileOperation,
};

const BASELINE: &str = include_str!("../../../policies/baseline.yaml");

fn baseline() -> Policy {
    parse("policies/baseline.yaml", BASELINE).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// Five homes in two places, with one home and `/run/user` on filesystems of their own.
fn machine() -> (Host, MountTable) {
    let home = |uid, path: &str| Home { uid, path: path.into() };
    let mount =
        |point: &str, device| Mount { point: point.into(), root: Located { device, inner: b"/".to_vec() } };
    let host = Host {
        homes: vec![
            home(0, "/root"),
            home(1000, "/home/ada"),
            home(1001, "/home/bob"),
            home(1002, "/home/cy"),
            home(1003, "/home/dee"),
        ],
    };
    let points =
        ["/", "/home", "/home/dee", "/run", "/run/user/1000", "/tmp", "/proc", "/sys", "/dev", "/boot"];
    let mounts = points.into_iter().zip(1..).map(|(point, device)| mount(point, device)).collect();
    (host, MountTable { mounts })
}

fn tables(policy: &Policy) -> Tables {
    let (host, resolver) = machine();
    let target = Target { seed: 0x5eed, generation: 1, slot: 0 };
    compile(policy, &host, &resolver, target).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// `OPERATION OBJECT` as in `policy explain`.
fn object(text: &str) -> Object {
    let (word, rest) = text.split_once(' ').expect("an operation and an object");
    let path = rest.as_bytes().to_vec();
    match word {
        "exec" => Object::Exec { path, sha256: None },
        "unix" => Object::ConnectUnix { path },
        "connect" => {
            let address: std::net::SocketAddr = rest.parse().expect("an address and a port");
            Object::Connect { address: address.ip(), port: address.port() }
        }
        word => {
            let found = FileOperation::WORDS.into_iter().find(|(name, _)| *name == word);
            Object::File { path, operation: found.expect("a file operation").1 }
        }
    }
}

fn by_tables(tables: &Tables, request: &Request) -> Verdict {
    let resolver = machine().1;
    Matcher::new(tables).decide(request, &|path| resolver.locate(path).remove(0)).verdict
}

#[test]
fn baseline_verdicts() {
    let policy = baseline();
    let tables = tables(&policy);
    let host = machine().0;
    let check = |executable: &str, object_text: &str, expect: Verdict| {
        let subject = Subject { executable: executable.into(), ..Subject::default() };
        let request = Request { subject, object: object(object_text) };
        let explanation = explain(&policy, &host, &request);
        assert_eq!(
            eval(&policy, &host, &request).verdict,
            expect,
            "{executable} {object_text}\n{explanation}"
        );
        assert_eq!(
            by_tables(&tables, &request),
            expect,
            "{executable} {object_text}, by the tables\n{explanation}"
        );
    };
    for (executable, object, expect) in VERDICTS {
        check(executable, object, *expect);
    }
}

const CAT: &str = "/usr/bin/cat";
const SSH: &str = "/usr/bin/ssh";
const VERDICTS: &[(&str, &str, Verdict)] = &[
    // SSH: the key works, and cannot be read.
    (CAT, "read /home/ada/.ssh/id_ed25519", Deny),
    (CAT, "read /home/dee/.ssh/id_ed25519", Deny),
    (CAT, "read /root/.ssh", Deny),
    (CAT, "link /home/ada/.ssh/id_ed25519", Deny),
    (CAT, "rename /home/ada/.ssh", Deny),
    (CAT, "read /home/ada/.ssh.bak", Allow),
    ("/usr/bin/python3.13", "read /home/ada/.ssh/id_ed25519", Deny),
    ("/home/ada/ssh", "read /home/ada/.ssh/id_ed25519", Deny),
    ("/usr/bin/scp", "read /home/ada/.ssh/id_ed25519", Deny),
    (SSH, "read /home/ada/.ssh/id_ed25519", Allow),
    (SSH, "read /home/ada/.ssh/config", Allow),
    (SSH, "read /home/ada/.ssh/known_hosts", Allow),
    (SSH, "write /home/ada/.ssh/known_hosts", Allow),
    (SSH, "write /home/ada/.ssh/authorized_keys", Deny),
    (SSH, "create /home/ada/.ssh/rc", Deny),
    (CAT, "create /home/ada/.ssh/authorized_keys", Deny),
    ("/usr/bin/ssh-keygen", "create /home/ada/.ssh/id_new", Allow),
    ("/usr/bin/git", "read /home/ada/.ssh/id_ed25519", Deny),
    // GnuPG and password stores.
    (CAT, "read /root/.gnupg/private-keys-v1.d/x.key", Deny),
    ("/usr/bin/gpg", "read /root/.gnupg/pubring.kbx", Allow),
    ("/usr/lib/gnupg/scdaemon", "read /root/.gnupg/scdaemon.conf", Allow),
    (CAT, "read /home/bob/Documents/2024/safe.kdbx", Deny),
    (CAT, "read /home/bob/Passwords.kdbx", Deny),
    (CAT, "read /home/bob/.password-store/x.gpg", Deny),
    (CAT, "read /srv/safe.kdbx", Allow),
    // Clouds and clusters.
    (CAT, "read /home/cy/.aws/credentials", Deny),
    ("/usr/local/aws-cli/v2/2.31.0/dist/aws", "read /home/cy/.aws/credentials", Allow),
    ("/usr/local/bin/kubectl", "read /home/cy/.kube/config", Allow),
    ("/home/cy/bin/kubectl", "read /home/cy/.kube/config", Deny),
    ("/opt/az/bin/python3.13", "read /home/cy/.azure/msal_token_cache.json", Allow),
    ("/usr/bin/python3.13", "read /home/cy/.azure/msal_token_cache.json", Deny),
    (CAT, "read /home/cy/.config/gcloud/credentials.db", Deny),
    (CAT, "read /home/cy/.pgpass", Deny),
    ("/usr/lib/postgresql/17/bin/psql", "read /home/cy/.pgpass", Allow),
    (CAT, "read /home/cy/.vault-token", Deny),
    // Forges and registries.
    (CAT, "read /home/ada/.netrc", Deny),
    ("/usr/bin/curl", "read /home/ada/.netrc", Deny),
    ("/usr/lib/git-core/git-remote-http", "read /home/ada/.netrc", Allow),
    ("/usr/lib/git-core/git", "read /home/ada/.git-credentials", Allow),
    (CAT, "read /home/ada/.git-credentials", Deny),
    (CAT, "read /home/ada/.config/gh/hosts.yml", Deny),
    (CAT, "read /home/ada/.config/gh/config.yml", Allow),
    ("/usr/bin/gh", "read /home/ada/.config/gh/hosts.yml", Allow),
    (CAT, "read /home/ada/.npmrc", Deny),
    ("/usr/bin/node", "read /home/ada/.npmrc", Allow),
    ("/home/ada/.nvm/versions/node/v24.1.0/bin/node", "read /home/ada/.npmrc", Allow),
    (CAT, "read /home/ada/project/.npmrc", Allow),
    (CAT, "read /home/ada/.cargo/credentials.toml", Deny),
    (CAT, "read /home/ada/.cargo/config.toml", Allow),
    (
        "/home/ada/.rustup/toolchains/stable-x86_64-unknown-linux-gnu/bin/cargo",
        "read /home/ada/.cargo/credentials.toml",
        Allow,
    ),
    (CAT, "read /home/ada/.pypirc", Deny),
    (CAT, "read /home/ada/.docker/config.json", Deny),
    // Browsers.
    (CAT, "read /home/ada/.mozilla/firefox/x.default/logins.json", Deny),
    ("/usr/bin/firefox", "read /home/ada/.mozilla/firefox/x.default/logins.json", Deny),
    (CAT, "read /home/ada/.config/google-chrome/Default/Cookies", Deny),
    (CAT, "read /home/ada/.cache/ms-playwright/chromium/chrome", Allow),
    // What runs later, and the guard rails.
    (CAT, "read /etc/claude-code/managed-settings.json", Allow),
    (CAT, "write /etc/claude-code/managed-settings.json", Deny),
    (CAT, "create /etc/claude-code/managed-settings.d/x.json", Deny),
    (CAT, "rename /etc/claude-code", Deny),
    (CAT, "write /etc/treeline/policy.yaml", Deny),
    (CAT, "write /home/ada/.claude/settings.json", Audit),
    (CAT, "write /home/ada/.claude/projects/x.jsonl", Allow),
    ("/usr/bin/bash", "read /home/ada/.bashrc", Allow),
    ("/usr/bin/bash", "write /home/ada/.bashrc", Deny),
    (CAT, "create /etc/profile.d/x.sh", Deny),
    (CAT, "create /home/ada/.config/systemd/user/x.service", Deny),
    ("/usr/bin/git", "rename /home/ada/.gitconfig", Audit),
    ("/usr/bin/git", "read /home/ada/.gitconfig", Allow),
    // Addresses and sockets.
    (CAT, "connect 169.254.169.254:80", Deny),
    (CAT, "connect [::ffff:169.254.169.254]:80", Deny),
    (CAT, "connect 169.254.169.254:53", Allow),
    (CAT, "connect [fd00:ec2::254]:80", Deny),
    (CAT, "connect 168.63.129.16:53", Allow),
    (CAT, "connect 168.63.129.16:80", Deny),
    (CAT, "connect 1.1.1.1:443", Allow),
    (CAT, "connect 127.0.0.1:8080", Allow),
    ("/usr/bin/docker", "unix /run/docker.sock", Deny),
    (CAT, "unix /run/user/1000/podman/podman.sock", Deny),
    (CAT, "unix /run/containerd/containerd.sock", Deny),
    (CAT, "unix /home/ada/.docker/run/docker.sock", Deny),
    (CAT, "unix /run/user/1000/systemd/private", Audit),
    (CAT, "unix /tmp/tmux-1000/default", Audit),
    (CAT, "unix /tmp/cc-socks/12.sock", Allow),
    // The work itself.
    ("/usr/bin/node", "write /home/ada/project/src/main.rs", Allow),
    (CAT, "exec /usr/bin/git", Allow),
];

#[test]
fn baseline_fits_and_has_no_warnings() {
    let policy = baseline();
    assert!(policy.warnings.is_empty(), "{}", policy.warnings);
    let usage = tables(&policy).usage();
    assert!(usage.words <= WORDS * 3 / 4, "room is left for the local rules of five users: {usage:?}");
}

#[test]
fn every_rule_is_tried() {
    let policy = baseline();
    let host = machine().0;
    let hit = |id: &str| {
        VERDICTS.iter().any(|(executable, object_text, _)| {
            let subject = Subject { executable: (*executable).into(), ..Subject::default() };
            let request = Request { subject, object: object(object_text) };
            let rule = policy.rule(id).expect("a rule of the policy");
            eval::rule_matches(rule, &host, &request.object)
        })
    };
    let untried: Vec<&str> = policy.rules.iter().map(|rule| rule.id.as_str()).filter(|id| !hit(id)).collect();
    assert_eq!(untried, ["wallets"], "add a verdict for each new rule");
}
