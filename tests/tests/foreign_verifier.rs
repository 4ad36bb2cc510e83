//! Our logs are verified by programs that share no code with us: one on Go's packages behind sum.golang.org, one on
//! Python's standard library and `openssl`. Both accept a log of ours and reject every damaged copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use treeline::log::{LogReader, LogWriter, SoftwareKey, SystemClock};

/// Two full bundles and a partial one.
const ENTRIES: u64 = 700;

/// The entry that the proof is for.
const PROVEN: u64 = 431;

/// Where Debian's `golang-golang-x-mod-dev` has its packages.
const GOPATH: &str = "/usr/share/gocode";

const SETUP: &str =
    "`cargo xtask setup` installs it (Debian packages golang-go, golang-golang-x-mod-dev, python3, openssl)";

/// A log with its public key and a proof beside it.
struct Log(TempDir);

impl Log {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = temporary.path().join("log");
        let key = SoftwareKey::load_or_generate(&dir).expect("a new key");
        let (mut writer, _) =
            LogWriter::open(&dir, Box::new(key), Box::new(SystemClock::new())).expect("a new log");
        for index in 0..ENTRIES {
            let entry = format!(r#"{{"class_uid":1007,"metadata":{{"sequence":{index}}}}}"#);
            writer.append(entry.as_bytes()).expect("there is room");
            if index % 100 == 99 {
                writer.checkpoint_now().expect("there is room");
            }
        }
        drop(writer);
        let proof = LogReader::open(&dir).prove(PROVEN).expect("the entry is signed");
        fs::write(temporary.path().join("proof"), proof.to_string()).expect("there is room");
        fs::copy(dir.join("vkey"), temporary.path().join("vkey")).expect("the log has a public key");
        Self(temporary)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn edit(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path(path);
        let mut bytes = fs::read(&path).expect("the file is there");
        let before = bytes.clone();
        change(&mut bytes);
        assert_ne!(bytes, before, "the damage changes nothing");
        fs::write(path, bytes).expect("there is room");
    }
}

/// What is done to a copy, in words and in deed.
type Damage = (&'static str, fn(&Log));

/// Each kind of damage that a verifier without a known checkpoint can see.
fn damages() -> Vec<Damage> {
    fn replace(log: &Log, path: &str, from: &str, to: &str) {
        log.edit(path, |bytes| *bytes = String::from_utf8_lossy(bytes).replacen(from, to, 1).into_bytes());
    }
    vec![
        ("an entry changed in a full bundle", |log| log.edit("log/tile/entries/001", |b| b[10] ^= 1)),
        ("an entry changed in the partial bundle", |log| {
            log.edit("log/tile/entries/002.p/188", |b| b[10] ^= 1);
        }),
        ("the last entry removed", |log| {
            log.edit("log/tile/entries/002.p/188", |b| b.truncate(b.len() - 10));
        }),
        ("a bundle removed", |log| fs::remove_file(log.path("log/tile/entries/001")).expect("it is there")),
        ("the signed size changed", |log| replace(log, "log/checkpoint", "\n700\n", "\n512\n")),
        ("an extension line changed", |log| replace(log, "log/checkpoint", "\nepoch ", "\nepoch 1")),
        ("another key", |log| {
            let other = tempfile::tempdir().expect("a temporary directory");
            SoftwareKey::load_or_generate(other.path()).expect("a new key");
            fs::copy(other.path().join("vkey"), log.path("vkey")).expect("there is room");
        }),
        ("a proof for another entry", |log| replace(log, "proof", "index 431\n", "index 430\n")),
    ]
}

fn run(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(e) => panic!("cannot run {}: {e}; {SETUP}", command.get_program().display()),
    }
}

fn check(verifier: impl Fn() -> Command) {
    let judge = |log: &Log| {
        let output = run(verifier().arg(log.path("log")).arg(log.path("vkey")).arg(log.path("proof")));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let whole = judge(&Log::new());
    assert_eq!(whole, (Some(0), "accepted: 700 entries\n".to_owned(), String::new()));
    for (what, damage) in damages() {
        let log = Log::new();
        damage(&log);
        let (status, said, errors) = judge(&log);
        assert!(status == Some(1) && said.starts_with("rejected: "), "{what}: {status:?} {said}{errors}");
    }
}

fn foreign(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(name)
}

#[test]
fn gos_transparency_log_packages_agree() {
    let build = tempfile::tempdir().expect("a temporary directory");
    let binary = build.path().join("verify");
    let output = run(Command::new("go")
        .args(["build", "-o"])
        .arg(&binary)
        .arg(foreign("verify.go"))
        .env("GO111MODULE", "off")
        .env("GOPATH", GOPATH)
        .env("GOFLAGS", "")
        .env("GOCACHE", build.path().join("cache")));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot build the verifier: {errors}{SETUP}");
    check(|| Command::new(&binary));
}

#[test]
fn a_script_on_the_public_specifications_agrees() {
    check(|| {
        let mut command = Command::new("python3");
        command.arg(foreign("verify.py"));
        command
    });
}
