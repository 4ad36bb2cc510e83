//! dev harness
use std::io::Write;
use std::sync::Arc;
use treeline::backend::{linux, *};
fn main() {
    tracing_subscriber::fmt().init();
    let t = std::time::Instant::now();
    let mut b = linux::start(&linux::Options { mode: None }).unwrap();
    eprintln!("started {:?} {:?}", t.elapsed(), b.capabilities().mode);
    let home = std::env::args().nth(1).unwrap();
    let text = format!(
        "version: 1\nname: demo\nmode: enforce\nrules:\n  - id: ssh-keys\n    kind: file\n    paths: [\"{home}/.ssh/**\"]\n    reason: Private keys.\n    except:\n      - executable: /usr/bin/head\n  - id: wo\n    kind: file\n    paths: [\"{home}/rc\"]\n    operations: [write]\n    reason: rc\n  - id: noexec\n    kind: exec\n    paths: [\"{home}/bin/*\"]\n    reason: noexec\n  - id: meta\n    kind: connect\n    to: [127.0.0.9/32]\n    reason: meta\n"
    );
    let policy = treeline_policy::parse("p", &text).unwrap();
    let st = b
        .install(&Installable {
            policy,
            generation: 1,
            homes: vec![(0, home.clone().into())],
            allow_unenforceable: false,
        })
        .unwrap();
    eprintln!("installed {:?}\n{:#?}", t.elapsed(), st);
    let mut c = std::process::Command::new("/bin/bash")
        .arg("-c")
        .arg("read x; exec \"$@\"")
        .arg("g")
        .args(std::env::args().skip(2))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&c);
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    b.track(&TrackRequest {
        session: treeline_event::SessionId(7),
        pidfd: Arc::new(fd),
        pid: c.id(),
        adopt: false,
    })
    .unwrap();
    writeln!(c.stdin.take().unwrap(), "go").unwrap();
    let mut done = None;
    loop {
        b.poll(std::time::Duration::from_millis(50), &mut |d| match d {
            Delivery::Observation(o) => println!("{} {:?} {:?} {:?}", o.subject, o.verdict, o.rule, o.seen),
            o => println!("{o:?}"),
        })
        .unwrap();
        if done.is_none() && c.try_wait().unwrap().is_some() {
            done = Some(std::time::Instant::now());
        }
        if done.is_some_and(|d| d.elapsed().as_millis() > 300) {
            break;
        }
    }
}
