//! Private mount and network namespaces.
//!
//! Entering them takes a new process: `unshare(2)` for mounts needs a single thread, and what runs inside has to be gone when it ends.
//! So the caller starts itself again through [`command`], and the new process calls [`settle`] first.

use std::{env, ffi::OsStr, fs, io, path::Path, process::Command};

use rustix::{
    mount::{MountFlags, mount},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with},
    process::{geteuid, getppid},
};

/// The managed settings of the machine. What runs inside must not depend on them.
const MANAGED_DIR: &str = "/etc/claude-code";

/// A command that runs `program` in new mount and network namespaces. Needs root and `unshare` of util-linux.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--propagation", "private", "--"]).arg(program);
    command
}

/// Whether this process may make namespaces: whether it is root.
#[must_use]
pub fn is_permitted() -> bool {
    geteuid().is_root()
}

/// Set for the process that [`inside`] starts.
const INSIDE: &str = "TREELINE_TEST_INSIDE";

/// Runs the rest of the test `name` in private namespaces: starts this test program again for that test alone.
/// Without root it says so on stderr and returns.
///
/// # Panics
/// When the test fails in there, or the namespaces cannot be made.
pub fn inside(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == name) {
        settle().expect("namespaces that `unshare` made can be prepared");
        return test();
    }
    if !is_permitted() {
        eprintln!("skipped: {name}: needs root");
        return;
    }
    let program = env::current_exe().expect("a test program knows its path");
    let run = command(program).args(["--exact", name, "--nocapture"]).env(INSIDE, name).output();
    let run = run.expect("`unshare` of util-linux is installed");
    let text = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(
        run.status.success() && text.contains("1 passed"),
        "in private namespaces: {}\n{text}",
        run.status
    );
}

/// Prepares the namespaces for what follows: loopback up, the machine's managed settings out of sight.
///
/// # Errors
/// When this process shares a namespace with its parent (nothing is changed then), or the kernel refuses.
pub fn settle() -> io::Result<()> {
    let parent = getppid().ok_or_else(|| io::Error::other("the parent has ended"))?.as_raw_nonzero();
    for kind in ["mnt", "net"] {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}"))?;
        if ours == fs::read_link(format!("/proc/{parent}/ns/{kind}"))? {
            return Err(io::Error::other(format!(
                "the {kind} namespace is the parent's; start through `unshare`"
            )));
        }
    }
    if Path::new(MANAGED_DIR).is_dir() {
        mount("none", MANAGED_DIR, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    }
    loopback_up()
}

/// Index of `lo`: the first device of every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// Sets `IFF_UP` on `lo` over rtnetlink(7), so that no network tool has to be installed.
fn loopback_up() -> io::Result<()> {
    // The protocol NETLINK_ROUTE is 0, the default.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(&socket, &link_up_request(LOOPBACK_INDEX), SendFlags::empty(), &kernel)?;
    let mut answer = [0; 1024];
    let (bytes, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    acknowledged(&answer[..bytes.min(1024)])
}

/// `nlmsghdr` and `ifinfomsg` (linux/netlink.h, linux/rtnetlink.h), in the machine's byte order.
fn link_up_request(index: i32) -> Vec<u8> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut body = vec![0; 4]; // family, padding, device type
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes()); // flags
    body.extend(IFF_UP.to_ne_bytes()); // which of them to change
    let mut message = Vec::new();
    message.extend((16 + u32::try_from(body.len()).unwrap_or(u32::MAX)).to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence number, port
    message.extend(body);
    message
}

/// `NLMSG_ERROR` with the error 0 is the acknowledgement.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    const NLMSG_ERROR: u16 = 2;
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "rtnetlink gave no acknowledgement")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_others_are_left_alone() {
        // Tests run in the namespaces of the test runner that started them.
        settle().expect_err("nothing to settle here");
    }

    #[test]
    fn acknowledgements() {
        let check = |kind: u16, error: i32, expect: Result<(), Option<i32>>| {
            let mut answer = [0; 36];
            answer[4..6].copy_from_slice(&kind.to_ne_bytes());
            answer[16..20].copy_from_slice(&error.to_ne_bytes());
            assert_eq!(acknowledged(&answer).map_err(|error| error.raw_os_error()), expect);
        };
        check(2, 0, Ok(()));
        check(2, -1, Err(Some(1)));
        check(16, 0, Err(None));
        assert!(acknowledged(&[]).is_err());
        assert_eq!(link_up_request(1).len(), 32);
    }
}
