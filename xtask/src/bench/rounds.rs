//! The A/B/C rounds.

use anyhow::Result;
use serde::Serialize;

use super::{
    load::Timing,
    plan::Plan,
    scene::Scene,
    sensor::{Recorded, Sensor},
    spread::Spread,
    workload::{self, Workload},
};

/// What a workload cost in all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Comparison {
    pub(super) workload: &'static str,
    /// Whether policy refuses it inside a session.
    pub(super) is_refused_inside: bool,
    /// By the clock.
    pub(super) wall: Three,
    /// CPU time of the workload's own processes: what a busy machine disturbs least.
    pub(super) cpu: Three,
}

/// One measure (a) without, (b) outside, (c) inside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Three {
    pub(super) without_ns: Spread,
    pub(super) outside_ns: Spread,
    pub(super) inside_ns: Spread,
    /// (b) to (a), each within one round.
    pub(super) outside_ratio: Spread,
    /// (c) to (a), each within one round.
    pub(super) inside_ratio: Spread,
}

/// What the sensors of all rounds did besides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rounds {
    pub(super) comparisons: Vec<Comparison>,
    /// From the start of the process until its socket answered.
    pub(super) sensor_start_ms: Spread,
    /// What each round's sensor recorded.
    pub(super) recorded: Vec<Recorded>,
}

/// (a), (b), (c) of one round.
type Triple = [Timing; 3];

/// Runs all rounds.
pub(super) fn measure(plan: &Plan, scene: &Scene) -> Result<Rounds> {
    let workloads = workload::all(scene);
    let mut triples: Vec<Vec<Triple>> = vec![Vec::new(); workloads.len()];
    let (mut starts, mut recorded) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        let without = each(&workloads, |w| w.time(scene, plan.scale, None))?;
        let sensor = Sensor::start(&plan.treeline, scene)?;
        starts.push(sensor.start_ms);
        let both = each(&workloads, |w| {
            let outside = || w.time(scene, plan.scale, None);
            let inside = || w.time(scene, plan.scale, Some(&sensor));
            // Neither is always the later one.
            if round % 2 == 0 {
                let outside = outside()?;
                Ok((outside, inside()?))
            } else {
                let inside = inside()?;
                // What the session left to do is not outside's cost.
                sensor.settle()?;
                Ok((outside()?, inside))
            }
        })?;
        recorded.push(sensor.stop()?);
        for ((triples, without), (outside, inside)) in triples.iter_mut().zip(without).zip(both) {
            triples.push([without, outside, inside]);
        }
    }
    let comparisons = workloads.iter().zip(&triples).filter_map(|(w, triples)| compare(w, triples)).collect();
    let sensor_start_ms = Spread::of(starts).unwrap_or_else(|| unreachable!("there is one round at least"));
    Ok(Rounds { comparisons, sensor_start_ms, recorded })
}

fn each<T>(workloads: &[Workload], mut time: impl FnMut(&Workload) -> Result<T>) -> Result<Vec<T>> {
    workloads.iter().map(&mut time).collect()
}

fn compare(workload: &Workload, triples: &[Triple]) -> Option<Comparison> {
    Some(Comparison {
        workload: workload.name,
        is_refused_inside: workload.is_refused,
        wall: three(triples, |timing| timing.wall_ns)?,
        cpu: three(triples, |timing| timing.cpu_ns)?,
    })
}

fn three(triples: &[Triple], measure: impl Fn(&Timing) -> f64) -> Option<Three> {
    let of = |index: usize| Spread::of(triples.iter().map(|triple| measure(&triple[index])));
    let ratio =
        |index: usize| Spread::of(triples.iter().map(|triple| measure(&triple[index]) / measure(&triple[0])));
    Some(Three {
        without_ns: of(0)?,
        outside_ns: of(1)?,
        inside_ns: of(2)?,
        outside_ratio: ratio(1)?,
        inside_ratio: ratio(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let timing = |wall_ns| Timing { count: 1, refused: 0, wall_ns, cpu_ns: 1.0 };
        // The machine was three times as slow in the second round, for all of them.
        let triples = [[100.0, 110.0, 200.0], [300.0, 330.0, 600.0]].map(|t| t.map(timing));
        let three = three(&triples, |t| t.wall_ns).unwrap();
        assert!((three.outside_ratio.median - 1.1).abs() < 1e-9);
        assert!((three.inside_ratio.min - 2.0).abs() < 1e-9 && (three.inside_ratio.max - 2.0).abs() < 1e-9);
        assert!((three.without_ns.median - 200.0).abs() < 1e-9);
    }
}
