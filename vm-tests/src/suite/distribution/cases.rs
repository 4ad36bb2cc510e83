//! What sessions have brokers do, and how each shows: the real programs, as people call them.

use crate::suite::attach::Attach;

/// What the policy says about brokers while the cases are tried. Each case is tried in each, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Nothing.
    Free,
    /// A rule that records.
    Record,
    /// A rule that takes into the session what it has a broker do.
    Adopt,
    /// A rule that refuses.
    Deny,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Free, Self::Record, Self::Adopt, Self::Deny];

    /// Those that a mode has: nobody is adopted where only some acts are judged.
    pub(super) fn of(attach: Attach) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |phase| *phase != Self::Adopt || attach.judges_all())
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Record => "record",
            Self::Adopt => "adopt",
            Self::Deny => "deny",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.word() == word)
    }

    /// The rules of this phase, behind those that the guest boots with.
    pub(super) fn rules(self) -> String {
        const ALL: &str = "at, containerd, cron, dbus, docker, podman, ptrace, screen, ssh, systemd, tmux";
        let (action, brokers) = match self {
            Self::Free => return String::new(),
            Self::Record => ("record", ALL),
            Self::Adopt => ("adopt", "at, ptrace, ssh"),
            Self::Deny => ("deny", ALL),
        };
        format!(
            "  - id: brokers\n    kind: broker\n    action: {action}\n    brokers: [{brokers}]\n    reason: Ask the developer \
             to start it\n"
        )
    }
}

/// Who tries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum User {
    Root,
    Dev,
}

impl User {
    pub(super) const ALL: [Self; 2] = [Self::Root, Self::Dev];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Dev => "dev",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|user| user.word() == word)
    }
}

/// By what the broker is reached, which says what mode `fallback` can do about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// A unix socket: recorded there.
    Socket,
    /// A file that is opened for writing: refused there, too.
    File,
    /// An address: as connects are in that mode on this kernel.
    Address,
    /// None: it is a child, and stays in the session.
    Child,
}

/// Where it shows that it was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// A mark is left, at once or with cron's next minute.
    Mark,
    /// This file holds the case's name and phase.
    File(&'static str),
}

/// One thing that a session has done for it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) user: User,
    /// `$PHASE` is the phase's word.
    pub(super) script: &'static str,
    /// The part of the rule that is about it.
    pub(super) part: &'static str,
    pub(super) way: Way,
    pub(super) effect: Effect,
    /// What an entry of the case names, with a rule or without one.
    pub(super) trace: &'static str,
}

/// What has to come of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Expect {
    /// Whether it is done, and by whom: `outside` of the session, or `inside`.
    pub(super) done: Option<&'static str>,
    /// The verdict of the entry that names the part of the rule.
    pub(super) verdict: Option<&'static str>,
    /// Whether an entry names the way to the broker.
    pub(super) is_traced: bool,
}

impl Case {
    /// Its name in one phase: of its mark, and in the arguments of its process.
    pub(super) fn id(&self, phase: Phase) -> String {
        format!("{}-{}", self.name, phase.word())
    }

    /// Whether it is tried in that phase: to be adopted is what few brokers' work can be.
    pub(super) fn is_of(&self, phase: Phase) -> bool {
        phase != Phase::Adopt || matches!(self.part, "ssh" | "at-files")
    }

    pub(super) fn expect(&self, phase: Phase, attach: Attach) -> Expect {
        let done = if self.way == Way::Child { "inside" } else { "outside" };
        let works = |verdict, is_traced| Expect { done: Some(done), verdict, is_traced };
        let is_unseen = self.way == Way::Address && !attach.judges_connects();
        let is_refused = match self.way {
            Way::Socket => attach.judges_all(),
            Way::Address => attach.judges_connects(),
            Way::File => true,
            Way::Child => false,
        };
        match phase {
            _ if is_unseen => works(None, false),
            _ if self.way == Way::Child => works(None, true),
            Phase::Free => works(None, true),
            Phase::Record => works(Some("audit"), true),
            Phase::Adopt => Expect { done: Some("inside"), verdict: Some("audit"), is_traced: true },
            Phase::Deny if is_refused => Expect { done: None, verdict: Some("deny"), is_traced: true },
            Phase::Deny => works(Some("audit"), true),
        }
    }
}

const fn by(
    user: User,
    name: &'static str,
    way: Way,
    part: &'static str,
    trace: &'static str,
    script: &'static str,
) -> Case {
    Case { name, user, script, part, way, effect: Effect::Mark, trace }
}

const fn file(
    user: User,
    name: &'static str,
    part: &'static str,
    path: &'static str,
    script: &'static str,
) -> Case {
    Case { name, user, script, part, way: Way::File, effect: Effect::File(path), trace: path }
}

const BUS: &str = "/run/dbus/system_bus_socket";
const USER_BUS: &str = "/run/user/1000/bus";

/// In the order in which they are tried.
pub(super) const ALL: &[Case] = &[
    by(
        User::Root,
        "systemd-run",
        Way::Socket,
        // To wait for a unit it takes the bus, and the managers' own socket otherwise.
        "dbus",
        BUS,
        "systemd-run --wait --collect --quiet /usr/lib/treeline-guest/mark systemd-run-$PHASE",
    ),
    by(
        User::Root,
        "start-a-unit",
        Way::Socket,
        "systemd",
        "/run/systemd/private",
        "systemctl start treeline-mark@start-a-unit-$PHASE.service",
    ),
    by(
        User::Root,
        "start-a-unit-of-one-s-own",
        Way::File,
        "systemd-files",
        "/etc/systemd/system/own-",
        "printf '[Service]\\nType=oneshot\\nExecStart=/usr/lib/treeline-guest/mark start-a-unit-of-one-s-own-%s\\n' $PHASE \
         >/etc/systemd/system/own-$PHASE.service && systemctl start own-$PHASE.service",
    ),
    by(
        User::Root,
        "bus-call",
        Way::Socket,
        "dbus",
        BUS,
        "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager \
         StartTransientUnit 'ssa(sv)a(sa(sv))' bus-call-$PHASE.service fail 1 ExecStart 'a(sasb)' 1 \
         /usr/lib/treeline-guest/mark 2 /usr/lib/treeline-guest/mark bus-call-$PHASE false 0",
    ),
    file(
        User::Root,
        "quadlet-file",
        "systemd-files",
        "/etc/containers/systemd/own.container",
        "echo \"# quadlet-file-$PHASE\" >>/etc/containers/systemd/own.container",
    ),
    by(
        User::Root,
        "cron-d",
        Way::File,
        "cron-files",
        "/etc/cron.d/own-",
        "echo \"* * * * * root /usr/lib/treeline-guest/mark cron-d-$PHASE\" >/etc/cron.d/own-$PHASE",
    ),
    by(
        User::Root,
        "podman-child",
        Way::Child,
        "podman",
        "/srv/secret/key",
        "podman --cgroup-manager=cgroupfs --events-backend=none run --rm --network none --log-driver none \
         --cgroups=disabled -v /marks:/marks -v /srv:/srv -v /usr/lib/treeline-guest:/usr/lib/treeline-guest --rootfs \
         /var/lib/treeline-guest/rootfs /bin/sh /usr/lib/treeline-guest/mark podman-child-$PHASE",
    ),
    by(
        User::Root,
        "podman-service",
        Way::Socket,
        "podman",
        "/run/podman/podman.sock",
        "podman --remote --url unix:///run/podman/podman.sock run --rm --network none --log-driver none \
         --cgroups=disabled -v /marks:/marks -v /srv:/srv -v /usr/lib/treeline-guest:/usr/lib/treeline-guest \
         localhost/guest /bin/sh /usr/lib/treeline-guest/mark podman-service-$PHASE",
    ),
    by(
        User::Root,
        "su",
        Way::Child,
        "dbus",
        "/srv/secret/key",
        "su dev -c \"/usr/lib/treeline-guest/mark su-$PHASE\"",
    ),
    by(
        User::Dev,
        "systemd-run-user",
        Way::Socket,
        "dbus",
        "/run/user/1000/bus",
        "systemd-run --user --wait --quiet /usr/lib/treeline-guest/mark systemd-run-user-$PHASE",
    ),
    by(
        User::Dev,
        "start-a-user-unit-of-one-s-own",
        Way::File,
        "systemd-files",
        "/home/dev/.config/systemd/user/own-",
        "printf '[Service]\\nType=oneshot\\nExecStart=/usr/lib/treeline-guest/mark start-a-user-unit-of-one-s-own-%s\\n' \
         $PHASE >~/.config/systemd/user/own-$PHASE.service && systemctl --user start own-$PHASE.service",
    ),
    by(
        User::Dev,
        "bus-activation",
        Way::Socket,
        "dbus",
        USER_BUS,
        "busctl --user call org.treeline.Guest.$PHASE / org.freedesktop.DBus.Peer Ping",
    ),
    file(
        User::Dev,
        "bus-service-file",
        "dbus-files",
        "/home/dev/.local/share/dbus-1/services/own.service",
        "echo \"# bus-service-file-$PHASE\" >>~/.local/share/dbus-1/services/own.service",
    ),
    by(
        User::Dev,
        "crontab",
        Way::File,
        "cron-files",
        "/var/spool/cron/crontabs/",
        "(crontab -l; echo \"* * * * * /usr/lib/treeline-guest/mark crontab-$PHASE\") | crontab -",
    ),
    by(
        User::Dev,
        "at",
        Way::File,
        "at-files",
        "/var/spool/cron/at",
        "echo \"/usr/lib/treeline-guest/mark at-$PHASE\" | at now",
    ),
    by(
        User::Dev,
        "tmux-new-window",
        Way::Socket,
        "tmux",
        "/tmp/tmux-1000/default",
        "tmux new-window \"/usr/lib/treeline-guest/mark tmux-new-window-$PHASE\"",
    ),
    by(
        User::Dev,
        "tmux-send-keys",
        Way::Socket,
        "tmux",
        "/tmp/tmux-1000/default",
        "tmux send-keys -t outside:0 \"/usr/lib/treeline-guest/mark tmux-send-keys-$PHASE\" Enter",
    ),
    by(
        User::Dev,
        "screen-stuff",
        Way::Socket,
        "screen",
        "/run/screen/S-dev/",
        "screen -S outside -X stuff \"$(printf '/usr/lib/treeline-guest/mark screen-stuff-%s\\r' $PHASE)\"",
    ),
    by(
        User::Dev,
        "ssh-localhost",
        Way::Address,
        "ssh",
        "\"port\":22",
        "ssh -o BatchMode=yes -i ~/identity localhost /usr/lib/treeline-guest/mark ssh-localhost-$PHASE",
    ),
    by(
        User::Dev,
        "ssh-host-by-unix-socket",
        Way::Socket,
        "ssh-sockets",
        "/run/ssh-unix-local/socket",
        "ssh -o BatchMode=yes -i ~/identity .host /usr/lib/treeline-guest/mark ssh-host-by-unix-socket-$PHASE",
    ),
    file(
        User::Dev,
        "authorized-keys",
        "ssh-files",
        "/home/dev/.ssh/authorized_keys",
        "echo \"# authorized-keys-$PHASE\" >>~/.ssh/authorized_keys",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_scripts_leave_the_mark_that_is_looked_for() {
        let mut names = BTreeSet::new();
        for case in ALL {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            let is_marked =
                ["-$PHASE", "-%s"].iter().any(|end| case.script.contains(&format!("{}{end}", case.name)));
            // What the bus activates leaves the mark.
            assert!(is_marked || case.name == "bus-activation", "{}", case.name);
        }
    }

    #[test]
    fn a_broker_that_is_refused_does_nothing() {
        let check = |way, phase, attach, done, verdict| {
            let case = by(User::Dev, "x", way, "x", "", "");
            let expect = case.expect(phase, attach);
            assert_eq!((expect.done, expect.verdict), (done, verdict), "{way:?} {phase:?} {attach:?}");
        };
        let (outside, inside) = (Some("outside"), Some("inside"));
        for attach in [Attach::Lsm, Attach::FmodRet] {
            check(Way::Socket, Phase::Free, attach, outside, None);
            check(Way::Socket, Phase::Record, attach, outside, Some("audit"));
            check(Way::Socket, Phase::Deny, attach, None, Some("deny"));
            check(Way::Address, Phase::Deny, attach, None, Some("deny"));
            check(Way::Address, Phase::Adopt, attach, inside, Some("audit"));
        }
        check(Way::Socket, Phase::Deny, Attach::Fallback, outside, Some("audit"));
        check(Way::File, Phase::Deny, Attach::Fallback, None, Some("deny"));
        check(Way::Child, Phase::Deny, Attach::Fallback, inside, None);
    }
}
