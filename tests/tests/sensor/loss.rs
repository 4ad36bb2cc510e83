//! What does not fit is counted, by kind and exactly; ends and refusals always fit.

use std::time::Duration;

use rustix::process::Signal;
use treeline_event::{Action, Entry, EntryBody, Notice, Verdict};
use treeline_tests::sensor::{Scene, actions, is_permitted, notices, with_verdict};

const KEYS: &str = "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys.\n  - id: meta\n    kind: connect\n    \
                    to: [127.0.0.9/32]\n    reason: Metadata.\n";

/// Opens of the flood's own files that the log stands for.
fn opens(entries: &[Entry]) -> u64 {
    let count = |action: &Action| match action {
        Action::Open { file, count, .. } if file.path.to_string().contains("/flood-") => *count,
        _ => 0,
    };
    actions(entries).map(|(_, action)| count(action)).sum()
}

#[test]
fn created_is_delivered_plus_lost() {
    if !is_permitted("created_is_delivered_plus_lost") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let mut daemon = scene.daemon("");
    // The daemon is stopped while the flood runs, so that nobody empties the rings: 120 000 opens of paths that take
    // some 300 bytes each need more than twice the ring. The refused connects need no answer from it.
    let script = format!(
        "python3 -c '
import os, socket
while not os.path.exists(\"{0}/go\"): pass
for i in range(120000): os.close(os.open(\"{0}/flood-\" + str(i % 7), os.O_RDONLY))
for i in range(50):
    s = socket.socket(); s.connect_ex((\"127.0.0.9\", 9)); s.close()
for i in range(100):
    if os.fork() == 0: os._exit(i)
    os.wait()
open(\"{0}/done\", \"w\")
while os.path.exists(\"{0}/go\"): pass
'",
        scene.path("home").display()
    );
    for number in 0..7 {
        std::fs::write(scene.path(&format!("home/flood-{number}")), "").expect("a file");
    }
    let mut run =
        daemon.command(&["run", "--", "/bin/bash", "-c", &script]).spawn().expect("the binary runs");
    std::thread::sleep(Duration::from_secs(1));
    daemon.signal(Signal::STOP);
    std::fs::write(scene.path("home/go"), "").expect("a file");
    while !scene.path("home/done").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.signal(Signal::CONT);
    std::fs::remove_file(scene.path("home/go")).expect("a file");
    assert!(run.wait().expect("it ends").success());
    std::thread::sleep(Duration::from_millis(500));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().expect("it ends").success());
    let entries = scene.entries();
    let lost: u64 = notices(&entries)
        .map(|notice| match notice {
            Notice::Lost { kind, count, first_ns, last_ns, .. } => {
                assert_eq!(kind, "open", "only opens are lost: {notice:?}");
                assert!(first_ns <= last_ns && *first_ns > 0, "{notice:?}");
                *count
            }
            _ => 0,
        })
        .sum();
    assert!(lost > 0, "the ring was full");
    let others = opens_of_others_lost_at_most(&entries);
    let delivered = opens(&entries);
    assert!(
        delivered + lost >= 120_000 && delivered + lost <= 120_000 + others,
        "delivered {delivered} + lost {lost} = created 120000 (at most {others} other opens in the same time)"
    );
    assert_eq!(with_verdict(&entries, Verdict::Deny).len(), 50, "every refusal is there");
    let ended = actions(&entries)
        .filter(
            |(_, action)| matches!(action, Action::Exit { code: Some(code), .. } if (0..100).contains(code)),
        )
        .count();
    assert!(ended >= 100, "every end is there: {ended}");
}

/// The only other open while nobody read is that of the file `done`.
fn opens_of_others_lost_at_most(entries: &[Entry]) -> u64 {
    let seen = entries.iter().any(|entry| match &entry.body {
        EntryBody::Act { action: Action::Open { file, .. }, .. } => {
            file.path.to_string().ends_with("/home/done")
        }
        _ => false,
    });
    u64::from(!seen)
}
