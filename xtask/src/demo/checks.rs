//! Whether what was promised came true.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};
use treeline_tests::{
    child::Ended,
    model_api::{ModelApi, ToolResult},
};

use super::{
    entries::{self, Entry},
    report::{Report, brief, heading},
    scenario::{self, Act, Expect},
    scene::{self, Scene},
    verbs::{self, Answer, Treeline},
};

/// What a refused program says, whichever way it words the error.
const REFUSALS: [&str; 4] = ["operation not permitted", "permission denied", "eperm", "eacces"];
/// Largest file that is searched for the key.
const SEARCHED_BYTES_MAX: u64 = 256 << 20;

/// The run as a whole.
pub(super) fn run(report: &mut Report, run: &Answer, api: &ModelApi) {
    report.check("Claude Code ran to its end", run.succeeded(), run.end());
    let received = api.received();
    let sessions: BTreeSet<_> = received.iter().filter_map(|request| request.session.as_deref()).collect();
    let strange = received.iter().filter(|request| request.status != 200);
    let strange =
        strange.map(|request| format!("{} {} got {}", request.method, request.target, request.status));
    let faults: Vec<_> = api.faults().into_iter().chain(strange).collect();
    let evidence = match faults.first() {
        Some(fault) => format!("{} faults, the first: {fault}", faults.len()),
        None => format!("{} requests from {} Claude Code session", received.len(), sessions.len()),
    };
    report.check("it spoke to the scripted model only", faults.is_empty() && sessions.len() == 1, evidence);
}

/// What each tool gave back.
pub(super) fn acts(report: &mut Report, scene: &Scene, acts: &[Act], api: &ModelApi) {
    let results = api.results();
    for act in acts {
        let result = results.iter().find(|(label, _)| label == act.label).map(|(_, result)| result);
        let holds = result.is_some_and(|result| came_true(&act.expect, result));
        let promise = match act.expect {
            Expect::Shows(_) => act.label.to_owned(),
            Expect::Refused(_) => format!("{} is refused", act.label),
        };
        report.check(&promise, holds, result.map_or("no result".into(), |result| brief(&result.text)));
    }
    let background =
        fs::read_to_string(scene.dirs.project.join(scenario::BACKGROUND_FILE)).unwrap_or_default();
    report.check(
        "the background command did its work",
        background.trim() == scenario::BACKGROUND_TEXT,
        brief(&background),
    );
}

fn came_true(expect: &Expect, result: &ToolResult) -> bool {
    match expect {
        Expect::Shows(text) => !result.is_error && result.text.contains(text.as_str()),
        Expect::Refused(_) => {
            let text = result.text.to_lowercase();
            result.is_error && REFUSALS.iter().any(|refusal| text.contains(refusal))
        }
    }
}

/// Where the key went.
pub(super) fn key(report: &mut Report, scene: &Scene, api: &ModelApi) {
    let received = api.received();
    let leaks = received.iter().filter(|request| scene.leaks(&request.body)).count();
    let bytes: usize = received.iter().map(|request| request.body.len()).sum();
    let evidence = format!("{leaks} of {} requests ({bytes} bytes) hold a line of it", received.len());
    report.check("the key never reached the model", leaks == 0 && !received.is_empty(), evidence);

    let (mut copies, mut searched) = (Vec::new(), 0);
    search(&scene.root, scene, &mut copies, &mut searched);
    let evidence = format!("{} of {searched} files hold a line of it {copies:?}", copies.len());
    report.check("the key is nowhere else", copies.is_empty() && searched > 0, evidence);
}

/// Looks into every regular file below `dir` but the key itself; links are not followed.
fn search(dir: &Path, scene: &Scene, copies: &mut Vec<String>, searched: &mut usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
        if meta.is_dir() {
            search(&path, scene, copies, searched);
        } else if meta.is_file() && path != scene.key && meta.len() <= SEARCHED_BYTES_MAX {
            *searched += 1;
            if fs::read(&path).is_ok_and(|bytes| scene.leaks(&bytes)) {
                copies.push(path.display().to_string());
            }
        }
    }
}

/// The log: whole, with a denial for each attempt. Returns its entries.
///
/// # Errors
/// When `treeline` cannot be asked.
pub(super) fn log(report: &mut Report, treeline: &Treeline<'_>, acts: &[Act]) -> Result<Vec<Entry>> {
    let verified = treeline.ask(verbs::VERIFY)?;
    report.check("the log is whole", verified.succeeded(), brief(&said(&verified)));
    let stored = treeline.ask(verbs::ENTRIES)?;
    let (entries, readable) = match entries::parse(&stored.out) {
        Ok(entries) => (entries, stored.succeeded()),
        Err(error) => {
            report.check("every entry is JSON", false, format!("{error:#}"));
            (Vec::new(), false)
        }
    };
    report.check(
        "the entries can be read",
        readable && !entries.is_empty(),
        format!("{} entries", entries.len()),
    );
    for act in acts {
        if let Expect::Refused(executable) = &act.expect {
            denial(report, &entries, treeline.scene, act.label, executable);
        }
    }
    Ok(entries)
}

fn denial(report: &mut Report, entries: &[Entry], scene: &Scene, label: &str, executable: &Path) {
    let key = scene.key.to_string_lossy();
    let mut found = entries.iter().filter(|entry| {
        entry.is_denial() && entry.executable() == Some(executable) && entry.object() == Some(key.as_ref())
    });
    let first = found.next();
    let holds =
        first.is_some_and(|entry| entry.rule() == Some(scene::RULE) && entry.reason() == Some(scene::REASON));
    let evidence = match first {
        Some(entry) => format!(
            "{} of {} by {} ({}): rule {}, \"{}\"",
            entry.kind(),
            scene.key.display(),
            executable.display(),
            entry.process().unwrap_or("no process key"),
            entry.rule().unwrap_or("none"),
            entry.reason().unwrap_or_default()
        ),
        None => format!("no denial of {}", executable.display()),
    };
    report.check(&format!("{label} is recorded"), holds, evidence);
}

/// The process tree, and its hashes against a program that is not ours.
///
/// # Errors
/// When `treeline` or `sha256sum` cannot be asked.
pub(super) fn hashes(
    report: &mut Report,
    treeline: &Treeline<'_>,
    entries: &[Entry],
    claude: &Path,
) -> Result<()> {
    let sessions: BTreeSet<_> = entries.iter().filter_map(Entry::session).collect();
    report.check("the entries belong to one session", sessions.len() == 1, format!("{sessions:?}"));
    let tree = match sessions.first() {
        Some(session) => {
            let tree = treeline.ask(&["tree", session])?;
            heading(&format!("treeline tree {session}"));
            println!("{}", said(&tree));
            report.check("the process tree can be shown", tree.succeeded(), tree.end());
            tree.out
        }
        None => String::new(),
    };
    for file in [claude.to_owned(), scenario::program("python3")?] {
        let expect = verbs::sha256sum(&file)?;
        let found: BTreeSet<_> = entries.iter().flat_map(|entry| entry.sha256_of(&file)).collect();
        let only = found.iter().eq([&expect.as_str()]);
        let promise = format!("the log's SHA-256 of {} is sha256sum's", file.display());
        report.check(&promise, only, format!("{found:?}, sha256sum: {expect}"));
        let shown = shows_hash(&tree, &expect);
        report.check(&format!("the tree shows that of {}", file.display()), shown, &expect);
    }
    Ok(())
}

/// Whether a text holds a digest, in full or shortened to no less than 8 digits.
fn shows_hash(text: &str, digest: &str) -> bool {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    words.into_iter().any(|word| word.len() >= 8 && digest.starts_with(word))
}

/// The policy in force, and the one that the project ships.
///
/// # Errors
/// When one cannot be read, or `treeline` cannot be asked.
pub(super) fn policies(report: &mut Report, treeline: &Treeline<'_>, shipped: &Path) -> Result<()> {
    let reading = |file: &Path| format!("reading {}", file.display());
    let policy = &treeline.scene.policy;
    println!("{}", fs::read_to_string(policy).with_context(|| reading(policy))?.trim_end());
    let check = treeline.check_policy(policy)?;
    report.check("`treeline policy check` accepts it", check.succeeded(), brief(&said(&check)));
    heading("policies/baseline.yaml, shipped and not in force here");
    let check = treeline.check_policy(shipped)?;
    println!("{}", said(&check));
    report.check("`treeline policy check` accepts that, too", check.succeeded(), check.end());
    Ok(())
}

/// Denials, attach mode and coverage, as `treeline` tells them.
///
/// # Errors
/// When `treeline` cannot be asked.
pub(super) fn coverage(report: &mut Report, treeline: &Treeline<'_>, entries: &[Entry]) -> Result<()> {
    for words in [verbs::DENIALS, verbs::STATUS, verbs::VERIFY] {
        let answer = treeline.ask(words)?;
        heading(&format!("treeline {}", words.join(" ")));
        println!("{}", said(&answer));
        let end = if answer.ended == Ended::TimedOut { "no answer in time".into() } else { answer.end() };
        report.check(&format!("`treeline {}` answers", words.join(" ")), answer.succeeded(), end);
    }
    let mode = entries.iter().find(|entry| entry.kind() == "started").and_then(Entry::attach_mode);
    let known = matches!(mode, Some("lsm" | "fmod_ret" | "fallback"));
    report.check("the log says how the sensor was attached", known, mode.unwrap_or("it does not"));
    Ok(())
}

/// Both outputs of a command.
fn said(answer: &Answer) -> String {
    [answer.out.trim_end(), answer.err.trim_end()]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use treeline_tests::model_api::CallId;

    #[test]
    fn results() {
        let check = |expect: &Expect, is_error: bool, text: &str, holds: bool| {
            let result = ToolResult { id: CallId { step: 0, call: 0 }, is_error, text: text.into() };
            assert_eq!(came_true(expect, &result), holds, "{text}");
        };
        let shows = Expect::Shows("a".into());
        check(&shows, false, "cab", true);
        check(&shows, true, "cab", false);
        check(&shows, false, "", false);
        let refused = Expect::Refused("/x".into());
        check(&refused, true, "cat: k: Operation not permitted", true);
        check(&refused, true, "EPERM: operation not permitted, open 'k'", true);
        check(&refused, true, "cat: k: No such file or directory", false);
        check(&refused, false, "Operation not permitted", false);
    }

    #[test]
    fn shortened_digests() {
        assert!(shows_hash("x sha256:f390eaa0814e y", "f390eaa0814e6a1b"));
        assert!(!shows_hash("f390", "f390eaa0814e6a1b"));
        assert!(!shows_hash("f390eaa1", "f390eaa0814e6a1b"));
    }
}
