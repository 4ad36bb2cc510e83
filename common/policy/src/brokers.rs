//! What a rule of kind `broker` stands for: the ways to programs that run other programs, outside of a session's
//! process tree, for whoever asks.
//!
//! A broker is reached by a socket, by a file that it reads later, or by the memory of a process that already runs. A
//! rule about it is taken apart into one rule for each such way, with an id of its own: `ID/docker`, `ID/cron-files`.

use ipnet::IpNet;

use crate::{
    abstract_name::AbstractGlob,
    glob::Glob,
    policy::{Adoption, FileOperation, Kind, PortRange},
    source::{Span, Spanned},
};

/// A program that runs others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broker {
    /// The word for it in a policy.
    pub name: &'static str,
    ways: &'static [Way],
}

/// How a broker is told what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Unix sockets: paths, and abstract names with `@`.
    Sockets(&'static [&'static str]),
    /// Files that it reads, where they are.
    Files(&'static [&'static str]),
    /// A port on this machine.
    Port(u16),
    /// Unix sockets where the same is served as on the port. A way of its own: there are no addresses to follow.
    SocketsBeside(&'static [&'static str]),
    /// The processes that run: `ptrace` and what asks for the same access.
    Processes,
}

/// Every address by which a machine reaches a service of its own that listens on loopback.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// The sockets of D-Bus: the system's, the users', that of assistive technology.
const BUSES: [&str; 6] = [
    "/run/dbus/system_bus_socket",
    "/run/user/*/bus",
    "/run/user/*/dbus-1/**",
    "/run/user/*/at-spi/**",
    "/tmp/dbus-*",
    "@/tmp/dbus-*",
];

/// The words for them.
pub(crate) static WORDS: [&str; BROKERS.len()] = {
    let mut words = [""; BROKERS.len()];
    let mut at = 0;
    while at < BROKERS.len() {
        words[at] = BROKERS[at].name;
        at += 1;
    }
    words
};

/// Every broker that a policy can name, by name.
pub const BROKERS: [Broker; 11] = [
    Broker {
        name: "at",
        ways: &[Way::Files(&[
            "/var/spool/cron/atjobs/**",
            "/var/spool/cron/atspool/**",
            "/var/spool/at/**",
            "/var/spool/atjobs/**",
        ])],
    },
    Broker {
        name: "containerd",
        ways: &[Way::Sockets(&[
            "/run/containerd/**",
            "/run/k3s/**",
            "/run/crio/**",
            "/run/buildkit/**",
            "/run/user/*/containerd-rootless/**",
            "/run/user/*/buildkit/**",
        ])],
    },
    Broker {
        name: "cron",
        ways: &[Way::Files(&[
            "/etc/crontab",
            "/etc/anacrontab",
            "/etc/cron.d/**",
            "/etc/cron.hourly/**",
            "/etc/cron.daily/**",
            "/etc/cron.weekly/**",
            "/etc/cron.monthly/**",
            "/etc/cron.yearly/**",
            "/var/spool/cron/**",
        ])],
    },
    Broker {
        name: "dbus",
        ways: &[
            Way::Sockets(&BUSES),
            // What a bus starts for whoever asks for a name.
            Way::Files(&[
                "/usr/share/dbus-1/**",
                "/usr/local/share/dbus-1/**",
                "/etc/dbus-1/**",
                "/run/dbus-1/**",
                "/run/user/*/dbus-1/services/**",
                "~/.local/share/dbus-1/**",
            ]),
        ],
    },
    Broker {
        name: "docker",
        ways: &[Way::Sockets(&[
            "/run/docker.sock",
            "/run/docker/**",
            "/run/user/*/docker.sock",
            "/run/snap.docker/**",
            "~/.docker/run/**",
            "~/.docker/desktop/**",
            "~/.colima/**",
            "~/.rd/**",
        ])],
    },
    Broker { name: "podman", ways: &[Way::Sockets(&["/run/podman/**", "/run/user/*/podman/**"])] },
    Broker { name: "ptrace", ways: &[Way::Processes] },
    Broker {
        name: "screen",
        ways: &[Way::Sockets(&[
            "/run/screen/**",
            "/run/screens/**",
            "/tmp/screens/**",
            "/tmp/uscreens/**",
            "~/.screen/**",
        ])],
    },
    Broker {
        name: "ssh",
        ways: &[
            Way::Port(22),
            // With systemd 256 and later a machine's sshd listens there, too, for `ssh .host`.
            Way::SocketsBeside(&["/run/ssh-unix-local/**"]),
            Way::Files(&[
                "~/.ssh/authorized_keys",
                "~/.ssh/authorized_keys2",
                "~/.ssh/rc",
                "~/.ssh/environment",
                "/etc/ssh/sshd_config",
                "/etc/ssh/sshd_config.d/**",
                "/etc/ssh/sshrc",
            ]),
        ],
    },
    Broker {
        name: "systemd",
        ways: &[
            // Who may not use the private socket asks by D-Bus, and no hook sees whom a message there is for.
            Way::Sockets(&[
                "/run/systemd/private",
                "/run/systemd/io.systemd.Manager",
                "/run/user/*/systemd/private",
                "/run/user/*/systemd/io.systemd.Manager",
                BUSES[0],
                BUSES[1],
                BUSES[2],
            ]),
            Way::Files(&[
                "/etc/systemd/**",
                "/run/systemd/system/**",
                "/run/systemd/user/**",
                "/run/systemd/transient/**",
                "/run/systemd/generator*/**",
                "/usr/lib/systemd/**",
                "/usr/local/lib/systemd/**",
                "/run/user/*/systemd/**",
                "~/.config/systemd/**",
                "~/.local/share/systemd/**",
                // What generators make units of: podman's quadlets, System V's scripts, what desktops start.
                "/etc/containers/systemd/**",
                "/run/containers/systemd/**",
                "/usr/share/containers/systemd/**",
                "~/.config/containers/systemd/**",
                "/run/user/*/containers/systemd/**",
                "/etc/init.d/**",
                "/etc/rc.local",
                "/etc/xdg/systemd/**",
                "/etc/xdg/autostart/**",
                "~/.config/autostart/**",
            ]),
        ],
    },
    Broker { name: "tmux", ways: &[Way::Sockets(&["**/tmux-*/*"])] },
];

/// One way to a broker, as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What follows the rule's id and a slash.
    pub name: String,
    /// What it matches.
    pub kind: Kind,
    /// How it is known whose work is done that comes this way, where it can be.
    pub adoption: Option<Adoption>,
}

impl Broker {
    /// What a rule about it is taken apart into.
    #[must_use]
    pub fn parts(&self, span: Span) -> Vec<Part> {
        let part = |way: &Way| Part {
            name: way.part(self.name),
            kind: way.kind(span),
            adoption: way.adoption(self.name),
        };
        self.ways.iter().map(part).collect()
    }

    /// Why it cannot be told which of its work is whose, if it cannot.
    #[must_use]
    pub fn unprovable(&self) -> Option<&'static str> {
        if self.ways.iter().any(|way| way.adoption(self.name).is_some()) {
            return None;
        }
        Some(match self.name {
            "cron" => "one process of cron reads all tables, at another time than the jobs run",
            "systemd" | "dbus" => {
                "a service is started by a manager, later, on a message that the kernel does not read"
            }
            "tmux" | "screen" => {
                "its server starts programs for every client, on messages that the kernel does not read"
            }
            _ => "its daemon starts containers for whoever asks, on messages that the kernel does not read",
        })
    }
}

impl Way {
    fn part(self, broker: &str) -> String {
        match self {
            Self::Files(_) => format!("{broker}-files"),
            Self::SocketsBeside(_) => format!("{broker}-sockets"),
            _ => broker.to_owned(),
        }
    }

    fn adoption(self, broker: &str) -> Option<Adoption> {
        match self {
            Self::Port(_) => Some(Adoption::Connection),
            Self::Processes => Some(Adoption::Trace),
            Self::Files(_) if broker == "at" => Some(Adoption::Job),
            Self::Files(_) | Self::Sockets(_) | Self::SocketsBeside(_) => None,
        }
    }

    /// Every text here is a valid one, which the test below sees.
    fn kind(self, span: Span) -> Kind {
        let globs = |texts: &[&str]| {
            texts.iter().filter_map(|text| Some(Spanned { value: Glob::parse(text).ok()?, span })).collect()
        };
        let connect =
            |to, ports, unix, abstracts| Kind::Connect { to, ports, except_to: Vec::new(), unix, abstracts };
        match self {
            Self::Sockets(texts) | Self::SocketsBeside(texts) => {
                let names = texts
                    .iter()
                    .filter_map(|text| Some(Spanned { value: AbstractGlob::parse(text).ok()?, span }));
                connect(Vec::new(), vec![PortRange::ALL], globs(texts), names.collect())
            }
            Self::Files(texts) => {
                let changes = FileOperation::WORDS.map(|(_, operation)| operation);
                let changes = changes.into_iter().filter(|operation| *operation != FileOperation::Read);
                Kind::File { paths: globs(texts), operations: changes.collect() }
            }
            Self::Port(port) => {
                let to = LOOPBACK
                    .iter()
                    .filter_map(|text| Some(Spanned { value: text.parse::<IpNet>().ok()?, span }));
                connect(to.collect(), vec![PortRange { first: port, last: port }], Vec::new(), Vec::new())
            }
            Self::Processes => Kind::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_sorted_and_nothing_of_them_is_left_out() {
        assert!(BROKERS.is_sorted_by_key(|broker| broker.name));
        for broker in BROKERS {
            for (way, Part { name, kind, .. }) in broker.ways.iter().zip(broker.parts(Span::default())) {
                let wanted = match way {
                    Way::Sockets(texts) | Way::SocketsBeside(texts) | Way::Files(texts) => texts.len(),
                    Way::Port(_) => LOOPBACK.len(),
                    Way::Processes => 0,
                };
                let read = match &kind {
                    Kind::Connect { to, unix, abstracts, .. } => to.len() + unix.len() + abstracts.len(),
                    kind => kind.globs().len(),
                };
                assert_eq!(read, wanted, "{name}");
                assert!(name.starts_with(broker.name), "{name}");
            }
        }
    }

    /// Which part of a rule about this broker a path falls under.
    fn part_of(broker: &str, path: &str) -> Option<String> {
        let broker = BROKERS.iter().find(|one| one.name == broker)?;
        let is_it = |kind: &Kind| {
            let homes = || [b"/home/dev".as_slice()];
            kind.globs().iter().any(|glob| glob.value.matches(homes(), path.as_bytes()))
        };
        broker.parts(Span::default()).into_iter().find(|part| is_it(&part.kind)).map(|part| part.name)
    }

    #[test]
    fn what_a_distribution_really_has_is_matched() {
        for (broker, path, part) in [
            ("at", "/var/spool/cron/atjobs/a00001", "at-files"),
            ("cron", "/var/spool/cron/crontabs/tmp.Y3k2", "cron-files"),
            ("dbus", "/run/user/1000/bus", "dbus"),
            ("dbus", "/home/dev/.local/share/dbus-1/services/org.example.service", "dbus-files"),
            ("dbus", "/usr/share/dbus-1/system-services/org.example.service", "dbus-files"),
            ("podman", "/run/podman/podman.sock", "podman"),
            ("screen", "/run/screen/S-dev/315.outside", "screen"),
            ("ssh", "/run/ssh-unix-local/socket", "ssh-sockets"),
            ("ssh", "/home/dev/.ssh/authorized_keys", "ssh-files"),
            ("systemd", "/run/systemd/private", "systemd"),
            ("systemd", "/run/user/1000/systemd/private", "systemd"),
            ("systemd", "/etc/containers/systemd/web.container", "systemd-files"),
            ("systemd", "/home/dev/.config/containers/systemd/web.container", "systemd-files"),
            ("systemd", "/home/dev/.config/autostart/x.desktop", "systemd-files"),
            ("systemd", "/etc/init.d/x", "systemd-files"),
            ("tmux", "/tmp/tmux-1000/default", "tmux"),
        ] {
            assert_eq!(part_of(broker, path).as_deref(), Some(part), "{broker} {path}");
        }
        assert_eq!(part_of("systemd", "/run/systemd/journal/socket"), None);
    }
}
