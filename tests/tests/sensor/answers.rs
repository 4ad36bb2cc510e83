//! What `treeline` answers about what it saw, from the log and from the daemon.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;
use treeline_event::{Action, Entry, EntryBody, decode};
use treeline_tests::sensor::{Scene, binary, is_permitted};

const KEYS: &str =
    "  - id: keys\n    kind: file\n    paths: [\"@/.ssh/**\"]\n    reason: Keys are not for agents.\n";

/// How long a hash or an entry may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn text(output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert!(!text.contains('\u{1b}'), "no escapes where nobody sees colours: {text}");
    text
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).expect("JSON")
}

fn executed(entry: &Entry, argument: &str) -> Option<u32> {
    match &entry.body {
        EntryBody::Act { process, action: Action::Exec, .. } => {
            let said = process.program.argv.iter().any(|word| word.to_string() == argument);
            said.then_some(process.key.pid)
        }
        _ => None,
    }
}

/// A script that is refused a key, and what its log says.
fn ran() -> Scene {
    let scene = Scene::new();
    let script = scene.path("home/reader");
    fs::write(&script, "#!/bin/sh\ncat .ssh/id\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    let policy = scene.policy(KEYS);
    let ran = scene.standalone(&policy, "./reader; /bin/true MARK; sleep 2");
    assert_eq!(ran.denials().len(), 1, "{}", ran.stderr());
    scene
}

#[test]
fn events_are_filtered() {
    if !is_permitted("events_are_filtered") {
        return;
    }
    let scene = ran();
    let entries = scene.entries();
    let marked = entries.iter().find_map(|entry| executed(entry, "MARK")).expect("it ran").to_string();
    let home = scene.path("home").display().to_string();
    let lines = |arguments: &[&str]| -> Vec<String> {
        let all = [&["events"], arguments].concat();
        let shown: Vec<String> = text(&scene.ask(&all)).lines().map(str::to_owned).collect();
        let stored = text(&scene.ask(&[&all[..], &["--json"]].concat()));
        assert_eq!(stored.lines().count(), shown.len(), "{arguments:?}");
        assert!(stored.lines().all(|line| decode(line.as_bytes()).is_ok()), "the stored entries themselves");
        shown
    };
    assert_eq!(lines(&[]).len(), entries.len());
    let glob = format!("{home}/.ssh/*");
    for one in
        [&["--verdict", "deny"][..], &["--denied"], &["--rule", "keys"], &["--path", &glob, "--kind", "open"]]
    {
        let shown = lines(one);
        let [line] = shown.as_slice() else { panic!("{one:?}: {shown:?}") };
        for part in ["  deny ", "  open ", "cat  ", "/.ssh/id O_RDONLY", "[keys: Keys are not for agents.]"] {
            assert!(line.contains(part), "`{part}` is not in `{line}`");
        }
    }
    let of_pid = lines(&["--pid", &marked]);
    assert!(of_pid.len() >= 3 && of_pid.iter().all(|line| line.contains(&marked)), "{of_pid:?}");
    assert!(lines(&["--rule", "nothing"]).is_empty() && lines(&["--until", "1h"]).is_empty());
    assert_eq!(lines(&["--since", "1h"]).len(), entries.len());
    let session = entries.iter().find_map(|entry| entry.session).expect("a session").to_string();
    let of_session = entries.iter().filter(|entry| entry.session.is_some()).count();
    assert_eq!(lines(&["--session", &session[..6]]).len(), of_session);
    let reader = format!("{home}/reader");
    let hashed = lines(&["--path", &reader, "--kind", "image_hashed"]);
    let expect = sha256sum(Path::new(&reader));
    assert!(hashed.iter().all(|line| line.contains(&reader) && line.contains(&expect)), "{hashed:?}");
}

#[test]
fn a_session_and_its_tree_are_shown() {
    if !is_permitted("a_session_and_its_tree_are_shown") {
        return;
    }
    let scene = ran();
    let list = json(&scene.ask(&["session", "ls", "--json"]));
    let one = list.as_array().filter(|list| list.len() == 1).expect("one session")[0].clone();
    let id = one["session"].as_str().expect("an id").to_owned();
    assert_eq!((&one["state"], &one["denials"], &one["uid"]), (&"ended".into(), &1.into(), &0.into()));
    assert_eq!(one["user"], "root");
    let row = text(&scene.ask(&["session", "ls"]));
    assert!(row.contains(&id) && row.contains("ended") && row.contains("run: /bin/bash -c"), "{row}");
    let shown = text(&scene.ask(&["session", "show", &id[..5]]));
    let home = scene.path("home").display().to_string();
    for part in [
        format!("session     {id}"),
        "user        0 (root)".to_owned(),
        format!("cwd         {home}"),
        "argv        /bin/bash -c './reader; /bin/true MARK; sleep 2'".to_owned(),
        "policy      e2e, generation 1, sha256 ".to_owned(),
        "mode        fallback".to_owned(),
        "refused     1\n".to_owned(),
        "[keys: Keys are not for agents.]".to_owned(),
        "lost        nothing".to_owned(),
    ] {
        assert!(shown.contains(&part), "`{part}` is not in:\n{shown}");
    }
    let detail = json(&scene.ask(&["session", "show", &id, "--json"]));
    assert_eq!(detail["refusals"][0]["rule"]["rule"], "keys");
    assert_eq!(detail["kinds"]["exec"].as_u64(), Some(5), "bash, sh, cat, true and sleep: {detail}");
    let tree = text(&scene.ask(&["tree", &id[..5]]));
    assert!(tree.lines().count() >= 5 && tree.contains("  ! ") && !tree.contains("pending"), "{tree}");
    for wrong in [["session", "show", "0000000000000000"], ["tree", "0000000000000000", "--json"]] {
        let output = scene.ask(&wrong);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("session ls"), "what to do next");
    }
}

#[test]
fn an_ancestry_goes_back_to_pid_1_with_hashes() {
    if !is_permitted("an_ancestry_goes_back_to_pid_1_with_hashes") {
        return;
    }
    let scene = ran();
    let entries = scene.entries();
    let cat = entries.iter().find_map(|entry| executed(entry, ".ssh/id")).expect("cat ran");
    // The latest entry of `cat` is its exit, which has links only.
    let view = json(&scene.ask(&["ancestry", &cat.to_string(), "--json"]));
    let index = usize::try_from(view["index"].as_u64().expect("an index")).expect("it fits");
    assert_eq!(entries[index].body.kind(), "exit");
    let steps = view["steps"].as_array().expect("steps");
    let name = |at: usize| {
        let path = steps[at]["process"]["program"]["image"]["path"].as_str().expect("a path");
        path.rsplit('/').next().expect("a name").to_owned()
    };
    assert_eq!(name(0), "cat");
    let script = &steps[1]["process"]["program"]["script"];
    assert_eq!(script["digest"]["sha256"], sha256sum(&scene.path("home/reader")));
    assert_eq!(name(2), "bash");
    let last = &steps[steps.len() - 1]["process"]["key"];
    assert!(last.as_str().is_some_and(|key| key.starts_with("1:")), "{last}");
    for step in steps {
        assert_ne!(step["process"]["program"]["image"]["digest"], "pending", "{step}");
        assert_eq!(step["gap"], false, "{step}");
    }
    let shown = text(&scene.ask(&["ancestry", "--event", &index.to_string()]));
    for part in [
        "sha256    ",
        "build-id  ",
        "script    ",
        "argv      cat .ssh/id",
        "user      0 (root)",
        "exec      ",
    ] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    assert!(!shown.contains("the chain ends here"), "{shown}");
}

#[test]
fn the_log_says_what_the_sensor_was_able_to() {
    if !is_permitted("the_log_says_what_the_sensor_was_able_to") {
        return;
    }
    let scene = ran();
    let shown = text(&scene.ask(&["status"]));
    let entries = scene.entries().len();
    for part in [
        "mode fallback".to_owned(),
        format!("{entries} entries, {entries} of them signed"),
        "policy e2e, generation 1".to_owned(),
        "  keys ".to_owned(),
        "partly enforced: read, write; observed: truncate by name, owner and mode, create".to_owned(),
        "fanotify/open_perm".to_owned(),
        "attached".to_owned(),
        "refused: 1".to_owned(),
        "lost: nothing".to_owned(),
    ] {
        assert!(shown.contains(&part), "`{part}` is not in:\n{shown}");
    }
    let status = json(&scene.ask(&["status", "--json"]));
    assert_eq!((&status["denied"], &status["mode"]), (&1.into(), &"fallback".into()));
}

#[test]
fn a_terminal_gets_colour_unless_it_does_not_want_it() {
    if !is_permitted("a_terminal_gets_colour_unless_it_does_not_want_it") {
        return;
    }
    if Command::new("script").arg("--version").output().is_err() {
        let test = "a_terminal_gets_colour_unless_it_does_not_want_it";
        eprintln!("skipped: {test}: `script` of bsdutils is not installed");
        return;
    }
    let scene = ran();
    let command = format!("{} events --denied --log {}", binary().display(), scene.path("log").display());
    let on_terminal = |no_color: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("NO_COLOR", no_color).stdin(Stdio::null());
        String::from_utf8_lossy(&script.output().expect("script runs").stdout).into_owned()
    };
    let (coloured, plain) = (on_terminal(""), on_terminal("1"));
    assert!(coloured.contains("\u{1b}[1;31mdeny \u{1b}[0m"), "{coloured:?}");
    assert!(plain.contains("  deny ") && !plain.contains('\u{1b}'), "{plain:?}");
}

#[test]
fn followers_see_events_as_they_come() {
    if !is_permitted("followers_see_events_as_they_come") {
        return;
    }
    let scene = Scene::new();
    scene.policy(KEYS);
    let daemon = scene.daemon("");
    let log = scene.path("log").display().to_string();
    let directory = ["events", "--follow", "--kind", "exec", "--log", &log];
    for (mark, arguments) in [("SOCKET", &directory[..4]), ("DIRECTORY", &directory[..])] {
        let mut follower = daemon.command(arguments).stdout(Stdio::piped()).spawn().expect("it runs");
        let (lines, line) = mpsc::sync_channel(1024);
        let mut out = BufReader::new(follower.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            while out.read_line(&mut text).is_ok_and(|len| len > 0) && lines.send(text.clone()).is_ok() {
                text.clear();
            }
        });
        assert!(daemon.ask(&["run", "--", "/bin/true", mark]).status.success());
        let seen = std::iter::from_fn(|| line.recv_timeout(PATIENCE).ok()).any(|line| line.contains(mark));
        assert!(seen, "{mark}: an event is shown while the follower goes on");
        assert!(follower.try_wait().expect("a child").is_none(), "it goes on");
        follower.kill().expect("a child of this process");
        follower.wait().expect("it ends");
        drop(line);
        reader.join().expect("it ends with the pipe");
    }
}

/// A copy of `true` that nobody has hashed yet.
fn copy_of_true(scene: &Scene, name: &str) -> String {
    let path = scene.path(name);
    let mut bytes = fs::read("/bin/true").expect("a program");
    bytes.extend_from_slice(scene.path(name).display().to_string().as_bytes());
    fs::write(&path, bytes).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path.display().to_string()
}

#[test]
fn a_user_gets_the_hashes_of_the_own_ancestry_and_of_nothing_else() {
    if !is_permitted("a_user_gets_the_hashes_of_the_own_ancestry_and_of_nothing_else") {
        return;
    }
    let scene = Scene::new();
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o755)).expect("readable");
    scene.policy(KEYS);
    let daemon = scene.daemon("socket_group = \"nogroup\"");
    let socket = scene.path("socket");
    let as_nobody = |arguments: &[&str]| {
        let mut command = daemon.command(arguments);
        command.env("TREELINE_SOCKET", &socket).current_dir("/").uid(65534).gid(65534);
        command.output().expect("the binary runs")
    };
    let (theirs, ours) = (copy_of_true(&scene, "theirs"), copy_of_true(&scene, "ours"));
    assert!(as_nobody(&["run", "--", &theirs, "MARK"]).status.success());
    assert!(daemon.ask(&["run", "--", &ours]).status.success());
    let started = Instant::now();
    let hashed = ["events", "--kind", "image_hashed", "--path", &ours];
    while text(&daemon.ask(&hashed)).is_empty() {
        assert!(started.elapsed() < PATIENCE, "root sees that it was hashed");
        std::thread::sleep(Duration::from_millis(100));
    }
    let pid = || {
        let execs = text(&as_nobody(&["events", "--kind", "exec", "--json"]));
        let entries = execs.lines().map(|line| decode(line.as_bytes()).expect("an entry"));
        entries.filter_map(|entry| executed(&entry, "MARK")).next()
    };
    let pid = pid().expect("their own exec is seen").to_string();
    let ancestry = || text(&as_nobody(&["ancestry", &pid]));
    while ancestry().contains("pending") {
        assert!(started.elapsed() < PATIENCE, "every hash is completed: {}", ancestry());
        std::thread::sleep(Duration::from_millis(200));
    }
    let shown = ancestry();
    assert!(shown.contains(&theirs) && shown.contains(&sha256sum(Path::new(&theirs))), "{shown}");
    let seen = text(&as_nobody(&["events", "--json"]));
    assert!(seen.contains("image_hashed"), "the notices are seen");
    assert!(!seen.contains(&ours), "and none about what others run");
    let sessions = json(&as_nobody(&["session", "ls", "--json"]));
    let users: Vec<_> = sessions.as_array().expect("sessions").iter().map(|one| &one["uid"]).collect();
    assert_eq!(users, [65534]);
}

fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("sha256sum runs");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}
