//! Who may name what: the dependency rules that cargo cannot see, since they run between modules of one crate.

use super::{
    finding::Finding,
    source::{Source, words},
};

/// A thing and the folders that may name it.
#[derive(Debug)]
struct Boundary {
    /// Where the rule holds.
    within: &'static str,
    /// Names that it is about.
    names: &'static [&'static str],
    /// Where they may stand all the same.
    homes: &'static [&'static str],
    why: &'static str,
    remedy: &'static str,
}

const BOUNDARIES: &[Boundary] = &[
    Boundary {
        within: "sensor/src/",
        names: &["aya", "aya_obj", "btf_rs"],
        homes: &["sensor/src/backend/linux/"],
        why: "only backend/linux knows the kernel's interface",
        remedy: "go through the `Backend` trait",
    },
    Boundary {
        within: "sensor/src/",
        names: &["sensor_macos", "treeline_macos", "endpoint_sec"],
        homes: &["sensor/src/backend/macos/", "sensor/src/backend/macos.rs"],
        why: "only backend/macos knows EndpointSecurity",
        remedy: "go through the `Backend` trait",
    },
    Boundary {
        within: "sensor/src/",
        names: &["LockedLog", "StoredFile"],
        // Whoever has the lock makes the key, and hands both to the writer.
        homes: &["sensor/src/log/", "sensor/src/daemon/adapters.rs"],
        why: "only `log` writes the log",
        remedy: "hand the entry to the log's writer",
    },
    Boundary {
        within: "sensor/src/",
        names: &["TcpListener", "TcpStream", "UdpSocket", "UnixDatagram", "UnixListener", "UnixStream"],
        homes: &["sensor/src/control/", "sensor/src/ship/"],
        why: "only `control` and `ship` open sockets",
        remedy: "use the client or the server of `control`",
    },
    Boundary {
        within: "common/",
        names: &[
            "fs",
            "net",
            "thread",
            "process",
            "env",
            "Instant",
            "SystemTime",
            "tokio",
            "async",
            "target_os",
        ],
        homes: &[],
        why: "crates in common/ are pure: no I/O, clock, threads, async or operating system",
        remedy: "take what is needed as an argument",
    },
];

/// Names of the pure crates' own modules and fields that look like the standard library's: counted only as paths into `std`.
const STANDARD_MODULES: &[&str] = &["fs", "net", "thread", "process", "env"];
/// `std::net` has address types, too, which are values like others.
const PURE_PATHS: &[&str] = &["net::IpAddr", "net::Ipv4Addr", "net::Ipv6Addr", "net::SocketAddr", "net::{Ip"];

/// Every name outside its homes, in code that is no test.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let rules: Vec<&Boundary> = BOUNDARIES
        .iter()
        .filter(|rule| source.path().starts_with(rule.within))
        .filter(|rule| !rule.homes.iter().any(|home| source.path().starts_with(home)))
        .collect();
    let mut findings = Vec::new();
    for (number, line) in source.product_lines() {
        for rule in &rules {
            for name in rule.names.iter().filter(|name| is_named(&line.code, name)) {
                findings.push(Finding::new(
                    source.path(),
                    number,
                    format!("`{name}` is named here"),
                    rule.why,
                    rule.remedy,
                ));
            }
        }
    }
    findings
}

fn is_named(code: &str, name: &str) -> bool {
    words(code, name).any(|at| {
        let is_pure = PURE_PATHS.iter().any(|path| code[at..].starts_with(path));
        !is_pure && (!STANDARD_MODULES.contains(&name) || code[..at].ends_with("std::"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_at_home() {
        let cases = [
            ("sensor/src/backend/linux/load.rs", "use aya::Ebpf;", 0),
            ("sensor/src/cli/status.rs", "use aya::Ebpf;", 1),
            ("sensor/src/cli/status.rs", "// aya does this\nlet a = \"aya\";", 0),
            ("sensor/src/cli/status.rs", "#[cfg(test)]\nmod tests {\nuse aya::Ebpf;", 0),
            ("sensor/src/log/writer.rs", "LockedLog::lock(dir)", 0),
            ("sensor/src/cli/daemon.rs", "LockedLog::lock(dir)", 1),
            ("sensor/src/control/client.rs", "UnixStream::connect(path)", 0),
            ("sensor/src/cli/run.rs", "UnixStream::connect(path)", 1),
            ("common/event/src/process.rs", "mod process; let env = process::x();", 0),
            ("common/event/src/process.rs", "use std::process::Command;", 1),
            ("common/policy/src/rule.rs", "use std::net::IpAddr;", 0),
            ("common/policy/src/rule.rs", "use std::net::{IpAddr, Ipv4Addr};", 0),
            ("common/policy/src/rule.rs", "std::net::TcpStream::connect(a)", 1),
            ("common/policy/src/rule.rs", "#[cfg(target_os = \"linux\")]", 1),
            ("sensor/src/enrich/hash.rs", "std::fs::read(path)", 0),
        ];
        for (path, text, expect) in cases {
            assert_eq!(check(&Source::parse(path, text)).len(), expect, "{path}: {text}");
        }
    }
}
