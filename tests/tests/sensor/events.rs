//! What is recorded, compared with what was done.

use std::{collections::BTreeSet, process::Command};

use treeline_event::{Action, Destination, Outcome, Process};
use treeline_tests::sensor::{Scene, actions, is_permitted};

const NONE: &str = "  - id: none\n    kind: file\n    paths: [\"@/nothing\"]\n    reason: Nothing.\n";

#[test]
fn opens_are_those_that_strace_sees() {
    if !is_permitted("opens_are_those_that_strace_sees") {
        return;
    }
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: opens_are_those_that_strace_sees: strace is not installed");
        return;
    }
    let scene = Scene::new();
    std::fs::write(scene.path("home/notes"), "x").expect("a file");
    let script = "/bin/cat notes /etc/hostname missing 2>/dev/null";
    let trace = scene.path("trace");
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=open,openat", "-o"])
        .arg(&trace)
        .args(["/bin/bash", "-c", script])
        .current_dir(scene.path("home"))
        // As the scene does for the sensor: the loader looks for other files with it.
        .env_remove("LD_LIBRARY_PATH")
        .output();
    strace.expect("strace runs");
    let trace = std::fs::read_to_string(trace).expect("a trace");
    let home = scene.path("home");
    let parse = |line: &str| {
        let path = line.split('"').nth(1)?;
        let result: i32 = line.rsplit("= ").next()?.split(' ').next()?.parse().ok()?;
        let path = if path.starts_with('/') { path.into() } else { home.join(path) };
        // The log has a file's own path; what strace shows is the name that was used.
        let path = if result >= 0 { path.canonicalize().unwrap_or(path) } else { path };
        Some((path.display().to_string(), result >= 0))
    };
    let expect: BTreeSet<(String, bool)> = trace.lines().filter_map(parse).collect();
    let ran = scene.standalone(&scene.policy(NONE), script);
    let got: BTreeSet<(String, bool)> = actions(&ran.entries)
        .filter_map(|(_, action)| match action {
            Action::Open { file, outcome, .. } => Some((file.path.to_string(), *outcome == Outcome::Ok)),
            _ => None,
        })
        .collect();
    assert!(expect.len() > 5, "{trace}");
    let missing: Vec<_> = expect.difference(&got).collect();
    assert!(missing.is_empty(), "not recorded: {missing:#?}");
}

/// The exec of a program by the last component of its path.
fn execs<'e>(entries: &'e [treeline_event::Entry], name: &str) -> Vec<&'e Process> {
    let of = |(process, action): (&'e Process, &'e Action)| {
        (*action == Action::Exec && process.program.argv.first()?.file_name().to_string() == name)
            .then_some(process)
    };
    actions(entries).filter_map(of).collect()
}

#[test]
fn an_exec_has_its_arguments_directory_markers_and_user() {
    if !is_permitted("an_exec_has_its_arguments_directory_markers_and_user") {
        return;
    }
    let scene = Scene::new();
    std::fs::create_dir(scene.path("home/sub")).expect("a directory");
    let script = "cd sub; export CLAUDECODE=1 CLAUDE_CODE_MESSAGING_TOKEN=secret AI_AGENT=claude-code ANTHROPIC_API_KEY=k
        /bin/echo 'two words' \"\" $'\\xff' >/dev/null
        setpriv --reuid 65534 --regid 65534 --clear-groups /bin/true
        python3 -c 'import os; f = os.memfd_create(\"prog\"); os.write(f, open(\"/bin/true\", \"rb\").read()); os.execve(f, [\"from-memory\"], {})'";
    let ran = scene.standalone(&scene.policy(NONE), script);
    let echo = execs(&ran.entries, "echo");
    let [echo] = echo.as_slice() else { panic!("one echo: {echo:?}\n{}", ran.stderr()) };
    let argv: Vec<String> = echo.program.argv.iter().map(ToString::to_string).collect();
    assert_eq!(argv, ["/bin/echo", "two words", "", "\\xff"]);
    assert_eq!(echo.program.cwd.to_string(), scene.path("home/sub").display().to_string());
    let markers: Vec<(&str, &str)> =
        echo.program.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(markers, [("AI_AGENT", "claude-code"), ("CLAUDECODE", "1")], "tokens and keys stay out");
    assert_eq!((echo.uid, echo.euid), (0, 0));
    let other = execs(&ran.entries, "true");
    assert_eq!(
        other.first().map(|process| (process.uid, process.euid, process.gid)),
        Some((65534, 65534, 65534))
    );
    let memory = execs(&ran.entries, "from-memory");
    let [memory] = memory.as_slice() else { panic!("one exec from memory: {}", ran.stderr()) };
    assert_eq!(memory.program.image.path.to_string(), "memfd:prog");
    assert!(memory.program.image.unlinked);
}

#[test]
fn a_script_is_recorded_with_its_interpreter() {
    if !is_permitted("a_script_is_recorded_with_its_interpreter") {
        return;
    }
    let scene = Scene::new();
    let path = scene.path("home/tool.sh");
    std::fs::write(&path, "#!/bin/sh\nexit 5\n").expect("a script");
    Command::new("chmod").arg("755").arg(&path).status().expect("chmod runs");
    let ran = scene.standalone(&scene.policy(NONE), "./tool.sh; echo $?");
    assert_eq!(ran.stdout(), "5\n");
    let tool = actions(&ran.entries)
        .find(|(process, action)| **action == Action::Exec && process.program.script.is_some())
        .map(|(process, _)| process);
    let program = &tool.expect("the script's exec").program;
    assert_eq!(
        program.script.as_ref().map(|script| script.path.to_string()),
        Some(path.display().to_string())
    );
    let shell = std::fs::canonicalize("/bin/sh").expect("a shell");
    assert_eq!(program.image.path.to_string(), shell.display().to_string());
}

#[test]
fn processes_end_with_their_status() {
    if !is_permitted("processes_end_with_their_status") {
        return;
    }
    let scene = Scene::new();
    let ran = scene.standalone(&scene.policy(NONE), "bash -c 'exit 7'; bash -c 'kill -9 $$'; exit 3");
    assert_eq!(ran.output.status.code(), Some(3), "the command's status is passed on");
    let ends: Vec<(Option<i32>, Option<i32>)> = actions(&ran.entries)
        .filter_map(|(_, action)| match action {
            Action::Exit { code, signal } => Some((*code, *signal)),
            _ => None,
        })
        .collect();
    for end in [(Some(7), None), (None, Some(9)), (Some(3), None)] {
        assert!(ends.contains(&end), "{end:?} in {ends:?}");
    }
    let forks = actions(&ran.entries).filter(|(_, action)| action.kind() == "fork").count();
    assert_eq!(ends.len(), forks + 1, "every process that was created, and the root, has its end");
}

#[test]
fn names_are_recorded() {
    if !is_permitted("names_are_recorded") {
        return;
    }
    let scene = Scene::new();
    let script = "mkdir d; touch d/f; ln d/f d/g; ln -s target d/s; mv d/g h; chmod 600 h; truncate -s 3 h; rm h; rm -r d";
    let ran = scene.standalone(&scene.policy(NONE), script);
    let home = scene.path("home").display().to_string();
    let below = |path: &treeline_event::PathBytes| path.to_string().trim_start_matches(&home).to_owned();
    let mut seen = BTreeSet::new();
    for (_, action) in actions(&ran.entries) {
        let said = match action {
            Action::Create { file, target, .. } => {
                let target = target.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("create {}{target}", below(&file.path))
            }
            Action::Delete { file, .. } => format!("delete {}", below(&file.path)),
            Action::Modify { file, .. } => format!("modify {}", below(&file.path)),
            Action::Rename { from, to, .. } => format!("rename {} {}", below(&from.path), below(&to.path)),
            Action::Link { from, to, .. } => format!("link {} {}", below(&from.path), below(&to.path)),
            _ => continue,
        };
        seen.insert(said);
    }
    for expect in [
        "create /d",
        "create /d/starget",
        "link /d/f /d/g",
        "rename /d/g /h",
        "modify /h",
        "delete /h",
        "delete /d/f",
        "delete /d",
    ] {
        assert!(seen.contains(expect), "{expect} in {seen:#?}\n{}", ran.stderr());
    }
}

#[test]
fn connects_have_their_results() {
    if !is_permitted("connects_have_their_results") {
        return;
    }
    let scene = Scene::new();
    let script = r#"
import socket, os
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(); port = server.getsockname()[1]
socket.create_connection(("127.0.0.1", port))
s = socket.socket(); s.setblocking(False); s.connect_ex(("127.0.0.1", port))
socket.socket().connect_ex(("127.0.0.1", 1))
u = socket.socket(socket.AF_UNIX); u.bind("sock"); u.listen()
socket.socket(socket.AF_UNIX).connect("sock")
a = socket.socket(socket.AF_UNIX); a.bind("\0treeline-e2e-%d" % os.getpid()); a.listen()
socket.socket(socket.AF_UNIX).connect("\0treeline-e2e-%d" % os.getpid())
socket.socket(socket.AF_UNIX).connect_ex("missing")
print(port)
"#;
    let ran = scene.standalone(&scene.policy(NONE), &format!("python3 - <<'X'\n{script}\nX"));
    let port: u16 = ran.stdout().trim().parse().unwrap_or_else(|_| panic!("{}", ran.stderr()));
    let connects: Vec<(&Destination, &Outcome)> = actions(&ran.entries)
        .filter_map(|(_, action)| match action {
            Action::Connect { to, outcome } => Some((to, outcome)),
            _ => None,
        })
        .collect();
    let local = std::net::Ipv4Addr::LOCALHOST;
    let has = |to: &Destination, outcome: Outcome| connects.contains(&(to, &outcome));
    assert!(has(&Destination::V4(local, port), Outcome::Ok), "{connects:#?}");
    assert!(has(&Destination::V4(local, port), Outcome::Errno(115)), "{connects:#?}");
    assert!(has(&Destination::V4(local, 1), Outcome::Errno(111)), "{connects:#?}");
    let path =
        |name: &str| Destination::Unix(scene.path("home").join(name).display().to_string().as_str().into());
    assert!(has(&path("sock"), Outcome::Ok), "{connects:#?}");
    assert!(has(&path("missing"), Outcome::Errno(2)), "{connects:#?}");
    assert!(connects.iter().any(
        |(to, _)| matches!(to, Destination::Abstract(name) if name.to_string().starts_with("treeline-e2e-"))
    ));
}

#[test]
fn a_connect_by_fast_open_is_recorded_as_itself() {
    if !is_permitted("a_connect_by_fast_open_is_recorded_as_itself") {
        return;
    }
    let scene = Scene::new();
    let script = r#"
import socket
unix = socket.socket(socket.AF_UNIX); unix.bind("sock"); unix.listen()
tcp = socket.socket(); tcp.bind(("127.0.0.1", 0)); tcp.listen()
print(tcp.getsockname()[1])
s = socket.socket(); s.sendto(b"x", socket.MSG_FASTOPEN, tcp.getsockname())
socket.socket(socket.AF_UNIX).connect("sock")
try: socket.socket().sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", 1))
except ConnectionRefusedError: pass
socket.socket(socket.AF_UNIX).connect_ex("missing")
"#;
    let ran = scene.standalone(&scene.policy(NONE), &format!("python3 - <<'X'\n{script}\nX"));
    let port: u16 = ran.stdout().trim().parse().unwrap_or_else(|_| panic!("{}", ran.stderr()));
    let home = scene.path("home").display().to_string();
    // What the C library asks of a name service on the way is the machine's own affair.
    let ours = |to: &Destination| match to {
        Destination::Unix(path) => path.as_bytes().starts_with(home.as_bytes()),
        _ => true,
    };
    let connects: Vec<(&Destination, &Outcome)> = actions(&ran.entries)
        .filter_map(|(_, action)| match action {
            Action::Connect { to, outcome } if ours(to) => Some((to, outcome)),
            _ => None,
        })
        .collect();
    let local = std::net::Ipv4Addr::LOCALHOST;
    let path =
        |name: &str| Destination::Unix(scene.path("home").join(name).display().to_string().as_str().into());
    let expect = [
        // The call returns when the first packet was sent: whether the peer takes it shows later.
        (&Destination::V4(local, port), &Outcome::Unknown),
        (&path("sock"), &Outcome::Ok),
        (&Destination::V4(local, 1), &Outcome::Errno(111)),
        (&path("missing"), &Outcome::Errno(2)),
    ];
    assert_eq!(connects, expect, "{connects:#?}");
}
