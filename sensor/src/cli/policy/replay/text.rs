//! A replay in words.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use treeline_event::{Mode, SessionId, Verdict};
use treeline_policy::replay::{Ancestry, Certainty, Doubt, Report, RuleReport, Sum, Vanished};

use super::Answer;
use crate::view::{text::safe, time::utc};

/// Sessions of a rule that are named; JSON has up to 16.
const SESSIONS_SHOWN_MAX: usize = 6;

/// Writes all of it.
pub(super) fn write(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let report = &answer.report;
    head(report, out)?;
    let (matching, idle): (Vec<_>, Vec<_>) = report.rules.iter().partition(|rule| !rule.sum.is_none());
    rules(&matching, out)?;
    let is_unseen = |rule: &RuleReport| rule.certainty.calls_unseen;
    let of = |is_it: &dyn Fn(&RuleReport) -> bool| {
        let ids = idle.iter().filter(|rule| is_it(rule)).map(|rule| rule.rule.as_str());
        ids.collect::<Vec<_>>().join(", ")
    };
    let lines = [
        ("no action fell under", of(&|rule| !is_unseen(rule) && !rule.allows)),
        ("nothing would be let through by", of(&|rule| !is_unseen(rule) && rule.allows)),
        ("about calls or the machine, of which no log has anything", of(&is_unseen)),
    ];
    for (what, ids) in lines.iter().filter(|(_, ids)| !ids.is_empty()) {
        writeln!(out, "\n{what}: {ids}")?;
    }
    vanished(&report.vanished, out)?;
    untold(report, out)?;
    notes(answer, out)
}

fn head(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let period = match (report.first_ms, report.last_ms) {
        (Some(first), Some(last)) => format!(", {} to {}", utc(first), utc(last)),
        _ => String::new(),
    };
    writeln!(
        out,
        "policy `{}` over {} entries, {} sessions{period}",
        report.policy, report.entries, report.sessions
    )?;
    let enforced =
        || report.rules.iter().filter(|rule| rule.mode == Some(Mode::Enforce)).map(|rule| rule.then);
    let denied = sum(enforced().map(|then| then.denied));
    let not_refused = sum(enforced().map(|then| then.not_refused));
    let approved = sum(enforced().map(|then| then.approved));
    let parts = [
        (report.new_denials.times, "that no rule matched then"),
        (report.records_to_denials.times, "that were recorded then"),
        (not_refused, "that could not be refused then"),
        (approved, "that somebody had approved of then"),
        (denied, "that were refused then"),
    ];
    let parts = parts.into_iter().filter(|(times, _)| *times > 0);
    let parts: Vec<String> = parts.map(|(times, words)| format!("{times} {words}")).collect();
    match report.would_deny.times {
        0 => writeln!(out, "would deny nothing")?,
        times => writeln!(out, "would deny {times} actions: {}", parts.join(", "))?,
    }
    writeln!(
        out,
        "would record {} with a rule; {} that were refused then would go on; of {} more refusals it cannot be told",
        report.would_record.times, report.vanished_denials.times, report.untold_denials.times
    )
}

/// The actions of several sums.
fn sum(sums: impl IntoIterator<Item = Sum>) -> u64 {
    sums.into_iter().fold(0, |all, sum| all.saturating_add(sum.times))
}

fn rules(rules: &[&RuleReport], out: &mut dyn Write) -> io::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let width = rules.iter().map(|rule| rule.rule.len()).chain([4]).max().unwrap_or(4);
    writeln!(
        out,
        "\n{:<width$}  {:<7}  {:>7}  {:>7}  {:>8}  {:>7}  {:>8}  WHEN",
        "RULE", "MODE", "ACTIONS", "NEW", "RECORDED", "REFUSED", "SESSIONS"
    )?;
    for rule in rules {
        let mode = match rule.mode {
            Some(Mode::Enforce) => "enforce",
            Some(Mode::Monitor) => "monitor",
            None => "allow",
        };
        let then = &rule.then;
        writeln!(
            out,
            "{:<width$}  {mode:<7}  {:>7}  {:>7}  {:>8}  {:>7}  {:>8}  {} to {}",
            rule.rule,
            rule.sum.times,
            then.allowed.times,
            sum([then.recorded, then.not_refused]),
            then.denied.times,
            rule.sessions.len() + rule.sessions_more,
            utc(rule.first_ms.unwrap_or(0)),
            utc(rule.last_ms.unwrap_or(0)),
        )?;
        for place in &rule.objects {
            writeln!(out, "  {:>7}  {}  {}", place.times, place.operation, safe(&place.object))?;
        }
        for ancestry in &rule.ancestries {
            writeln!(out, "  {:>7}  by {}", ancestry.times, chain(ancestry))?;
        }
        if !then.approved.is_none() {
            writeln!(out, "  {:>7}  of them somebody had approved of then", then.approved.times)?;
        }
        in_sessions(&rule.sessions, rule.sessions_more, "  ", out)?;
        doubted(&rule.certainty, out)?;
    }
    Ok(())
}

/// In which sessions, as far as a line can say.
fn in_sessions(sessions: &[SessionId], more: usize, indent: &str, out: &mut dyn Write) -> io::Result<()> {
    let shown: Vec<String> = sessions.iter().take(SESSIONS_SHOWN_MAX).map(ToString::to_string).collect();
    let (word, more) = (
        if sessions.len() + more == 1 { "session" } else { "sessions" },
        sessions.len() - shown.len() + more,
    );
    match (shown.is_empty(), more) {
        (true, _) => Ok(()),
        (false, 0) => writeln!(out, "{indent}{:>7}  in {word} {}", "", shown.join(", ")),
        (false, more) => writeln!(out, "{indent}{:>7}  in {word} {} and {more} more", "", shown.join(", ")),
    }
}

fn chain(ancestry: &Ancestry) -> String {
    let executables = ancestry.executables.iter().map(|path| safe(&path.to_string()));
    let before = ancestry.begins_before.then(|| "...".to_owned());
    before.into_iter().chain(executables).collect::<Vec<_>>().join(" > ")
}

fn doubted(certainty: &Certainty, out: &mut dyn Write) -> io::Result<()> {
    for (doubt, times) in &certainty.doubted {
        writeln!(out, "  {times:>7}  of them not certain: {}", words(*doubt))?;
    }
    match certainty.by_unknown {
        0 => Ok(()),
        times => writeln!(
            out,
            "  {times:>7}  of them not certain: what the rule asks of the process or its lineage is not in the log, and counts"
        ),
    }
}

/// What is not certain.
pub(in crate::cli::policy) fn words(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::AsNamed => "the path is the one that the caller gave, and a link may lead elsewhere",
        Doubt::Unresolved => "the path could not be resolved; modes `lsm` and `fmod_ret` refuse that",
        Doubt::Above => {
            "a directory or link was renamed or made, or something mounted: what lies below counts, too"
        }
        Doubt::Content => "what the file holds is not in the log",
    }
}

fn vanished(vanished: &[Vanished], out: &mut dyn Write) -> io::Result<()> {
    for (verdict, what) in [(Verdict::Deny, "refused"), (Verdict::Audit, "recorded")] {
        let of_kind = vanished.iter().filter(|gone| gone.verdict == verdict);
        let gone: Vec<_> =
            of_kind.filter(|gone| !gone.allowed.is_none() || !gone.recorded.is_none()).collect();
        if gone.is_empty() {
            continue;
        }
        writeln!(out, "\n{what} then, and allowed by this policy:")?;
        for gone in gone {
            let Vanished { rule, allowed, recorded, is_there, .. } = gone;
            let there =
                if *is_there { "its rule matches no longer" } else { "the policy has no rule of this id" };
            let recorded = match recorded.times {
                0 => String::new(),
                times => format!(", {times} of them recorded"),
            };
            writeln!(out, "  {}: {}{recorded}, and {there}", safe(rule), sum([*allowed, gone.recorded]))?;
            for place in &gone.objects {
                writeln!(out, "    {:>7}  {}  {}", place.times, place.operation, safe(&place.object))?;
            }
            in_sessions(&gone.sessions, gone.sessions_more, "    ", out)?;
        }
    }
    Ok(())
}

/// What is not counted, by rule: rules of which the same is to be said share a line.
fn untold(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut shared: BTreeMap<(Doubt, u64), Vec<&str>> = BTreeMap::new();
    for rule in &report.rules {
        for (doubt, times) in &rule.certainty.untold {
            shared.entry((*doubt, *times)).or_default().push(&rule.rule);
        }
    }
    let mappings = report.rules.iter().filter(|rule| rule.certainty.mappings_unseen);
    let mappings: Vec<&str> = mappings.map(|rule| rule.rule.as_str()).collect();
    if shared.is_empty() && mappings.is_empty() && report.lost.is_empty() && report.lineage_unseen.is_none() {
        return Ok(());
    }
    writeln!(out, "\nnot counted, because the log does not tell:")?;
    for ((doubt, times), rules) in shared {
        writeln!(out, "  {times:>7}  {}\n           for {}", words(doubt), rules.join(", "))?;
    }
    if !mappings.is_empty() {
        writeln!(
            out,
            "        ?  executable mappings, in the log only where a rule matched\n           for {}",
            mappings.join(", ")
        )?;
    }
    if !report.lineage_unseen.is_none() {
        let times = report.lineage_unseen.times;
        writeln!(
            out,
            "  {times:>7}  actions below something that began before the log, or was lost: their lineage is not known"
        )?;
    }
    for lost in &report.lost {
        writeln!(
            out,
            "  {:>7}  records of kind {} lost by the sensor ({})",
            lost.count,
            safe(&lost.kind),
            safe(&lost.site)
        )?;
    }
    Ok(())
}

fn notes(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    let Report { failed, own, vanished_denials, untold_denials, .. } = &answer.report;
    if !answer.expired.is_empty() {
        writeln!(out, "these rules have expired and were not asked: {}", answer.expired.join(", "))?;
    }
    if !failed.is_none() {
        writeln!(
            out,
            "{} actions failed of themselves, and the policy was not asked about them",
            failed.times
        )?;
    }
    if *own > 0 {
        writeln!(out, "{own} entries are of the sensor's own protection, which no policy changes")?;
    }
    let refused = answer.report.rules.iter().map(|rule| rule.then.denied);
    if sum(refused.chain([*vanished_denials, *untold_denials])) > 0 {
        writeln!(
            out,
            "after what was refused then, the program went another way: what it would have done is not in the log"
        )?;
    }
    let homes: Vec<String> = answer.homes.iter().map(|home| safe(&home.to_string())).collect();
    let whose =
        if answer.homes_of_this_machine { ", the homes of this machine (`--home` names others)" } else { "" };
    match homes.as_slice() {
        [] => writeln!(out, "`~/` stood for nothing: this machine has no homes (`--home` names some)")?,
        homes => writeln!(out, "`~/` stood for {}{whose}", homes.join(", "))?,
    }
    writeln!(
        out,
        "links at the beginning of a pattern and other names of a file (hard links) are not in the log"
    )
}
