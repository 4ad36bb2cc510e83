//! What a run says about each kernel.

use std::fmt::Write;
use std::ops::AddAssign;

use treeline_vm_tests::{Hook, Line, Outcome, Started};

use super::accelerator::Accelerator;
use super::guest::{End, Run};

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    pub(super) passed_count: usize,
    pub(super) failed_count: usize,
    pub(super) skipped_count: usize,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { passed_count, failed_count, skipped_count } = self;
        write!(formatter, "{passed_count} passed, {failed_count} failed, {skipped_count} skipped")
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed_count += other.passed_count;
        self.failed_count += other.failed_count;
        self.skipped_count += other.skipped_count;
    }
}

/// The report on one guest, one line a test, and its totals. A guest that crashed or hung is a failure of its
/// own, and so is each test that it had announced and did not report. Tests are named after the guest, e.g.
/// `6.12-lsm/enforce/unlink`: most guests have a test of the same name.
pub(super) fn describe(title: &str, guest: &str, accelerator: Accelerator, run: &Run) -> (String, Totals) {
    let mut text = String::new();
    let mut totals = Totals::default();
    let mut announced_count = 0;
    let boot_s = run.boot.unwrap_or_default().as_secs_f64();
    for line in &run.lines {
        match line {
            Line::Hello { kernel, lsm, tests } => {
                announced_count = *tests;
                let _ = writeln!(
                    text,
                    "vm: {title}: booted {kernel} in {boot_s:.1} s ({accelerator}), lsm={lsm}"
                );
            }
            Line::Note { name, text: note } => {
                let _ = writeln!(text, "  note     {name}: {}", indented(note));
            }
            Line::Started(started @ Started { types_ms, object_ms, programs, .. }) => {
                let (count, load_ms) =
                    (programs.len(), programs.iter().map(|program| program.load_ms).sum::<u64>());
                let _ = writeln!(
                    text,
                    "  note     start: types {types_ms} ms, maps and relocation {object_ms} ms, {count} programs {load_ms} ms"
                );
                let _ = writeln!(text, "  note     hooks: {}", states(started));
            }
            Line::Test { name, outcome, elapsed_ms } => {
                let seconds = *elapsed_ms as f64 / 1e3;
                match outcome {
                    Outcome::Passed => {
                        totals.passed_count += 1;
                        let _ = writeln!(text, "  passed   {guest}/{name} ({seconds:.1} s)");
                    }
                    Outcome::Failed(why) => {
                        totals.failed_count += 1;
                        let _ =
                            writeln!(text, "  FAILED   {guest}/{name} ({seconds:.1} s): {}", indented(why));
                    }
                    Outcome::Skipped(why) => {
                        totals.skipped_count += 1;
                        let _ = writeln!(text, "  skipped  {guest}/{name}: {}", indented(why));
                    }
                }
            }
            Line::Exit { .. } => {}
        }
    }
    let reported_count = totals.passed_count + totals.failed_count + totals.skipped_count;
    let missing_count = announced_count.saturating_sub(reported_count);
    let ending = match run.end {
        End::Exit(_) if missing_count == 0 => None,
        End::Exit(_) => Some("ended"),
        End::Crashed => Some("CRASHED"),
        End::Hung => Some("HUNG"),
    };
    if let Some(ending) = ending {
        totals.failed_count += missing_count.max(1);
        let _ =
            writeln!(text, "  FAILED   {guest}: the guest {ending} with {missing_count} tests not reported");
    }
    let _ = writeln!(text, "vm: {title}: {totals}");
    (text, totals)
}

/// How many hooks are attached, and which are not and why.
fn states(started: &Started) -> String {
    let mut text = format!("{} of {} attached", started.attached_count(), started.hooks.len());
    for Hook { hook, state } in started.hooks.iter().filter(|hook| !hook.is_attached()) {
        let _ = write!(text, "; {hook}: {state}");
    }
    text
}

/// Later lines of a text under its first.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n             ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn test(outcome: Outcome) -> Line {
        Line::Test { name: "a/b".into(), outcome, elapsed_ms: 1500 }
    }

    fn check(end: End, lines: Vec<Line>, totals: (usize, usize, usize), expect: &str) {
        let hello = Line::Hello { kernel: "6.12.1".into(), lsm: "yama,bpf".into(), tests: lines.len() };
        check_lines(end, [vec![hello], lines].concat(), totals, expect);
    }

    fn check_lines(end: End, lines: Vec<Line>, totals: (usize, usize, usize), expect: &str) {
        let run = Run { end, boot: Some(Duration::from_millis(4230)), lines };
        let (text, found) = describe("6.12.1", "6.12-lsm", Accelerator::Tcg, &run);
        assert_eq!((found.passed_count, found.failed_count, found.skipped_count), totals, "{text}");
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn outcomes_are_counted_and_named() {
        let all = vec![
            test(Outcome::Passed),
            test(Outcome::Failed("no\nnever".into())),
            test(Outcome::Skipped("no python3".into())),
        ];
        check(End::Exit(1), all.clone(), (1, 1, 1), "booted 6.12.1 in 4.2 s (TCG), lsm=yama,bpf");
        check(End::Exit(1), all.clone(), (1, 1, 1), "FAILED   6.12-lsm/a/b (1.5 s): no\n             never");
        check(End::Exit(1), all, (1, 1, 1), "vm: 6.12.1: 1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn hooks_that_are_not_attached_are_named() {
        let hook = |hook: &str, state: &str| Hook { hook: hook.into(), state: state.into() };
        let hooks = vec![hook("lsm/file_open", "attached"), hook("fexit/x", "no such function")];
        let started = Started { types_ms: 1, object_ms: 2, programs: vec![], hooks };
        let run = Run { end: End::Exit(0), boot: None, lines: vec![Line::Started(started)] };
        let (text, _) = describe("6.12.1", "6.12-lsm", Accelerator::Tcg, &run);
        assert!(text.contains("note     hooks: 1 of 2 attached; fexit/x: no such function\n"), "{text}");
    }

    #[test]
    fn a_guest_that_does_not_finish_has_failed() {
        let passed = test(Outcome::Passed);
        check(End::Crashed, vec![passed.clone()], (1, 1, 0), "the guest CRASHED with 0 tests");
        check(End::Hung, vec![passed.clone()], (1, 1, 0), "the guest HUNG");
        check_lines(End::Hung, vec![], (0, 1, 0), "the guest HUNG with 0 tests not reported");
        let hello = Line::Hello { kernel: "6.12.1".into(), lsm: String::new(), tests: 5 };
        check_lines(End::Exit(0), vec![hello, passed], (1, 4, 0), "ended with 4 tests not reported");
    }
}
