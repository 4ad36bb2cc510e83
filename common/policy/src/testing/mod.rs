//! Tests of a policy: what somebody does on a machine that is made up, and what the policy is to say of it.
//!
//! Each test is decided twice, by [`eval`] and by the compiled tables as the kernel programs walk them. That the two differ is
//! an error of Treeline and fails the test, whatever was expected.

mod answer;
mod coverage;
mod failure;

pub use self::{
    answer::Answer,
    coverage::{Untested, UntestedException},
};
use self::{coverage::untested, failure::Failing};
use crate::{
    compile::{Target, compile},
    diagnostic::{Diagnostic, Diagnostics},
    eval::eval,
    host::{Host, Located, MountTable, Resolver as _},
    matcher::Matcher,
    moment::Moment,
    policy::Policy,
    request::{Decision, Request},
    source::{Sources, Span, Spanned},
    tool::Workplace,
};

/// The seed of the tables' names: any is as good.
const SEED: u64 = 0x5eed;

/// A file of tests that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFile {
    /// The policy that is tested: a path below the directory of this file.
    pub policy: Spanned<String>,
    /// Where it is tested.
    pub machine: Machine,
    /// The tests, in the order of the file; at least one.
    pub tests: Vec<Test>,
    /// What it was read from.
    pub sources: Sources,
}

/// The machine of a test file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Who has a home where.
    pub host: Host,
    /// What is mounted: `/`, and what else is named.
    pub mounts: MountTable,
    /// What time it is there, if the file says so.
    pub now: Option<Moment>,
    /// Where tools are called.
    pub place: Workplace,
}

impl Machine {
    fn locate(&self, path: &[u8]) -> Located {
        let found = self.mounts.locate(path).into_iter().next();
        found.unwrap_or_else(|| Located { device: 0, inner: path.to_vec() })
    }
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Who does what.
    pub request: Request,
    /// What the policy is to say.
    pub expect: Spanned<Answer>,
    /// Where it is written what is done.
    pub span: Span,
}

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the policy says.
    pub answer: Answer,
    /// Why the test is not passed, with places in the texts of [`Results`].
    pub failure: Option<Diagnostic>,
}

/// What came of a test file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// In the order of the tests.
    pub outcomes: Vec<Outcome>,
    /// What of the policy no test shows.
    pub untested: Untested,
    sources: Sources,
}

impl Results {
    /// Tests that are not passed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count()
    }

    /// Why they are not passed, in the order of the file; see [`DIAGNOSTICS_MAX`](crate::diagnostic::DIAGNOSTICS_MAX).
    #[must_use]
    pub fn failures(&self) -> Diagnostics {
        let mut failures = Diagnostics::new(self.sources.clone());
        for failure in self.outcomes.iter().filter_map(|outcome| outcome.failure.as_ref()) {
            failures.push(failure.clone());
        }
        failures
    }
}

/// Runs every test on the policy that the file names. `clock` is the time where the file does not say it; rules that have
/// expired by then are not asked.
///
/// # Errors
/// The policy does not fit into the kernel's tables on that machine.
pub fn run(file: &TestFile, policy: &Policy, clock: Option<Moment>) -> Result<Results, Diagnostics> {
    let in_force = match file.machine.now.or(clock) {
        Some(now) => policy.clone().at(now),
        None => policy.clone(),
    };
    let host = &file.machine.host;
    let target = Target { seed: SEED, generation: 1, slot: 0 };
    let tables = compile(&in_force, host, &file.machine.mounts, target)?;
    let matcher = Matcher::new(&tables);
    let decide = |test: &Test| -> (Decision, Decision) {
        let meant = eval(&in_force, host, &test.request);
        // There are no tables for what the kernel does not see.
        let by_tables = match test.request.object.is_for_the_sensor() {
            true => meant,
            false => matcher.decide(&test.request, &|path| file.machine.locate(path)),
        };
        (meant, by_tables)
    };
    let failing = Failing::of(file, policy, &in_force);
    let outcomes = file.tests.iter().map(|test| {
        let (meant, by_tables) = decide(test);
        Outcome { answer: Answer::of(meant, &in_force), failure: failing.check(test, meant, by_tables) }
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let untested = untested(file, &in_force, &outcomes);
    Ok(Results { outcomes, untested, sources: failing.into_sources() })
}
