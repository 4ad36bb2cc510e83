//! What is left behind is ended. One test, one process: it ends every descendant of this one.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use treeline_tests::child::{Ended, end_descendants, run};

#[test]
fn orphans_in_sessions_of_their_own_are_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    // A double fork into a new session, as a background command does, and a process that ignores SIGTERM. Each writes a line when it
    // is there; the parent ends when both are.
    let script = "
        (setsid sh -c 'echo >> there; exec sleep 600' &)
        setsid sh -c 'trap \"\" TERM; echo >> there; while :; do sleep 600; done' &
        until [ -e there ] && [ $(wc -l < there) -eq 2 ]; do sleep 0.01; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(dir.path()).stdin(Stdio::null());
    let ended = run(&mut command, Duration::from_secs(30)).expect("started");
    assert!(matches!(ended, Ended::Itself(status) if status.success()), "{ended:?}");
    let count = end_descendants().expect("all end");
    assert!(count >= 2, "{count}");
    assert_eq!(end_descendants().expect("nothing to end"), 0);
}
