//! `treeline policy explain --event`: what was decided then, and what the policy decides.

use std::{io::Write, process::ExitCode};

use anyhow::{Context as _, bail};
use serde::Serialize;
use treeline_event::{Entry, EntryBody, Mode, PathBytes, RuleHit, SessionId, Verdict, is_own_rule};
use treeline_policy::{
    Explanation, Host,
    replay::{Doubt, History, Past, Step},
};

use super::{super::homes, Args, InForce};
use crate::{
    cli::policy::replay::doubt_words,
    view::{EntrySource, read, text::safe, time::utc, verdict_name},
};

/// An event with what a policy says of it.
#[derive(Debug, Serialize)]
struct Answer {
    event: u64,
    kind: &'static str,
    time_ms: u64,
    session: Option<SessionId>,
    then: Then,
    /// One for each object: a rename has two, an exec of a script its interpreter, too.
    asked: Vec<Question>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expired: Vec<String>,
}

/// What was decided when it happened.
#[derive(Debug, Serialize)]
struct Then {
    verdict: Verdict,
    /// Generation of the policy that was in force, 0 when there was none.
    generation: u64,
    rule: Option<RuleHit>,
}

#[derive(Debug, Serialize)]
struct Question {
    object: String,
    executable: Option<PathBytes>,
    lineage: Vec<PathBytes>,
    /// Whether the log has all of the lineage.
    lineage_complete: bool,
    uid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<Doubt>,
    #[serde(flatten)]
    explanation: Explanation,
}

/// Explains the event of this index; exit code 1 when the policy denies it.
///
/// # Errors
/// There is no such event that may be seen, no policy is asked about it, or the entries cannot be read.
pub(super) fn run(
    args: &Args,
    index: u64,
    in_force: &InForce,
    source: &mut dyn EntrySource,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let mut history = History::default();
    let mut found: Option<(Entry, Step)> = None;
    read(source, |entry, _| {
        let step = history.take(entry);
        match (&mut found, step) {
            (None, step) if entry.index == index => found = Some((entry.clone(), step)),
            // The content of what was executed is known a moment after.
            (Some((_, Step::Acted(past))), Step::Content(image)) => past.learn(&image),
            _ => {}
        }
        match &found {
            None => true,
            Some((_, Step::Acted(past))) => past.pending().is_some(),
            Some(_) => false,
        }
    })?;
    let Some((entry, step)) = found else {
        bail!("there is no event {index} that you may see; `treeline events` lists them");
    };
    let past = asked(&entry, step)?;
    let host = Host { homes: homes() };
    let requests = history.requests(&past);
    let asked = requests.iter().zip(&past.asked).map(|(request, asked)| {
        let executable = Some(request.subject.executable.as_slice()).filter(|path| !path.is_empty());
        Question {
            object: request.object.to_string(),
            executable: executable.map(PathBytes::from),
            lineage: before(&past, &request.subject.executable),
            lineage_complete: past.who.has_whole_lineage(),
            uid: request.subject.uid,
            doubts: asked.doubts.clone(),
            explanation: in_force.explain(&host, request),
        }
    });
    let answer = Answer {
        event: index,
        kind: entry.body.kind(),
        time_ms: past.time_ms,
        session: past.session,
        then: then(&entry),
        asked: asked.collect(),
        expired: in_force.expired(),
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &answer).context("cannot write to standard output")?;
        writeln!(out)?;
    } else {
        answer.write(out)?;
    }
    let is_denied = answer.asked.iter().any(|question| question.explanation.verdict == Verdict::Deny);
    Ok(if is_denied { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What else was executed in its lineage.
fn before(past: &Past, executable: &[u8]) -> Vec<PathBytes> {
    past.who.paths().filter(|path| path.as_bytes() != executable).cloned().collect()
}

/// The event as questions, or why there are none.
fn asked(entry: &Entry, step: Step) -> anyhow::Result<Past> {
    let (index, kind) = (entry.index, entry.body.kind());
    match step {
        Step::Acted(past) if past.failed => {
            bail!(
                "event {index} ({kind}) failed of itself: there was nothing to refuse, and no policy is asked"
            )
        }
        Step::Acted(past) => Ok(*past),
        Step::Own => bail!("in event {index} the sensor protected itself, whatever the policy"),
        Step::Content(_) | Step::Other => {
            bail!("no policy is asked about event {index} ({kind}); `treeline events` lists others")
        }
    }
}

fn then(entry: &Entry) -> Then {
    let (verdict, rule) = match &entry.body {
        EntryBody::Act { verdict, rule, .. } => (*verdict, rule.as_deref().cloned()),
        EntryBody::Notice(_) => (Verdict::Allow, None),
    };
    Then { verdict, generation: entry.generation, rule: rule.filter(|hit| !is_own_rule(&hit.rule)) }
}

impl Answer {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Then { verdict, generation, rule } = &self.then;
        let word = verdict_name(*verdict);
        write!(out, "event {}, {}, {}: {word} then", self.event, self.kind, utc(self.time_ms))?;
        match rule {
            Some(RuleHit { rule, mode, policy, generation, .. }) => {
                let mode = if *mode == Mode::Enforce { "enforce" } else { "monitor" };
                let (rule, policy) = (safe(rule), safe(policy));
                writeln!(out, " by `{rule}` ({mode}) of policy `{policy}`, generation {generation}")?;
            }
            None if *generation == 0 => writeln!(out, ", with no policy in force")?,
            None => writeln!(out, ", by no rule of the policy of generation {generation}")?,
        }
        for question in &self.asked {
            question.write(out)?;
        }
        Ok(())
    }
}

impl Question {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        match &self.executable {
            Some(executable) => writeln!(out, "\n{} by {executable}", self.object)?,
            None => writeln!(out, "\n{} by an executable that the log does not have", self.object)?,
        }
        let names: Vec<String> = self.lineage.iter().map(PathBytes::to_string).collect();
        match (names.is_empty(), self.lineage_complete) {
            (true, true) => writeln!(out, "with nothing else in its lineage")?,
            (false, true) => writeln!(out, "below {}", names.join(", "))?,
            (true, false) => writeln!(out, "of its lineage nothing else is in the log")?,
            (false, false) => {
                writeln!(out, "below {}, and below others that are not in the log", names.join(", "))?;
            }
        }
        for doubt in &self.doubts {
            writeln!(out, "not certain: {}", doubt_words(*doubt))?;
        }
        write!(out, "{}", self.explanation)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::policy::{
        explain::run_event,
        replay::tests::{Expected, compare, log},
    };

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[track_caller]
    fn check(arguments: &[&str], expect: Expected<'_>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("p.yaml");
        let text = "version: 1\nname: t\nrules: [{id: ssh, kind: file, paths: [/h/.ssh/**], reason: keys}]\n";
        std::fs::write(&file, text).expect("a file");
        let all = ["explain".as_ref(), file.as_os_str()].into_iter();
        let all = all.chain(arguments.iter().map(AsRef::as_ref));
        let mut out = Vec::new();
        let result = Cli::try_parse_from(all)
            .map_err(anyhow::Error::from)
            .and_then(|cli| run_event(&cli.args, &mut log(), &mut out));
        compare(result, out, expect);
    }

    #[test]
    fn events_are_explained() {
        let allowed_then = [
            "event 2, open, 1970-01-01T00:00:02.000Z: allow then, by no rule of the policy of generation 1",
            "read /h/.ssh/id by /usr/bin/cat\nwith nothing else in its lineage\ndeny by `ssh` of policy `t`\nreason: keys",
        ];
        check(&["--event", "2"], Ok((ExitCode::FAILURE, &allowed_then)));
        let denied_then = [
            "deny then by `aws` (enforce) of policy `p`, generation 1",
            "allow: no rule of policy `t` holds\n  ssh  enforce  - no path matches",
        ];
        check(&["--event", "3"], Ok((ExitCode::SUCCESS, &denied_then)));
        let json = ["\"rule\": \"aws\"", "\"lineage_complete\": true", "\"considered\": ["];
        check(&["--event", "3", "--json"], Ok((ExitCode::SUCCESS, &json)));
    }

    #[test]
    fn events_that_nothing_is_asked_about() {
        check(&["--event", "1"], Err("no policy is asked about event 1 (session_started)"));
        check(&["--event", "99"], Err("there is no event 99"));
        check(&["--event", "2", "--read", "/x"], Err("cannot be used with"));
        check(&["--event", "2", "--root"], Err("cannot be used with"));
    }
}
