//! Whole replicas in one process, without I/O: devices, a queue, callers, and the claims between replicas, on a simulated
//! clock and with faults that follow from a seed.
//!
//! A run breaks connections at any byte, kills and freezes replicas, cuts them off from the queue and from each other. Then
//! everything heals, and the promises of docs/wire.md are checked. `SIMULATION_SEED=n` plays one run and prints its events;
//! `SIMULATION_SEEDS=n` plays that many (`make simulate`).

mod callers;
mod device;
mod event;
mod faults;
mod links;
mod mark;
mod node;
mod random;

mod registry;
mod replica;
mod run;
mod schedule;
mod store;
mod uplink;
mod violation;
mod wire;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use run::{Summary, play};
use violation::Violation;
use world::Mistake;

/// Runs of `cargo test`.
const SEEDS: u64 = 300;

/// Runs within which a mistake must show.
const SEEDS_OF_A_MISTAKE: u64 = 60;

#[expect(clippy::disallowed_methods, reason = "which runs to play is said by whoever starts the test")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Prints the seed of a run in which a replica panics.
struct Seed(u64);

impl Drop for Seed {
    #[expect(clippy::print_stdout, reason = "names the run to play again")]
    fn drop(&mut self) {
        if thread::panicking() {
            println!("SIMULATION_SEED={}", self.0);
        }
    }
}

fn play_seed(seed: u64, mistake: Mistake, is_traced: bool) -> Result<Summary, Violation> {
    let _seed = Seed(seed);
    play(seed, mistake, is_traced)
}

#[test]
fn whatever_fails_the_promises_hold_once_all_is_well_again() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let result = play_seed(seed, Mistake::None, true);
        assert!(result.is_ok(), "seed {seed}: {}", result.unwrap_err());
        return;
    }
    let seeds = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let (summary, broken) = play_all(seeds);
    assert!(broken.is_empty(), "{} of {seeds} runs break a promise:\n{}", broken.len(), broken.join("\n"));
    // A world in which nothing happens keeps every promise.
    let usual = usize::try_from(seeds).expect("few enough");
    let happens = summary.acknowledged > 50 * usual
        && summary.connections as usize > 5 * usual
        && summary.commands > 10 * seeds
        && summary.unheard < 2 * usual;
    assert!(seeds < SEEDS || happens, "{summary:?} in {seeds} runs");
}

/// Plays so many runs, on every core; what happened in all of them, and those that break a promise.
fn play_all(seeds: u64) -> (Summary, Vec<String>) {
    let next = AtomicU64::new(0);
    let play_some = || {
        let (mut sum, mut broken) = (Summary::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (sum, broken);
            }
            match play_seed(seed, Mistake::None, false) {
                Ok(summary) => sum.add(&summary),
                Err(violation) => broken.push(format!("SIMULATION_SEED={seed}  {violation}")),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(play_some)).collect();
        let (mut sum, mut broken) = (Summary::default(), Vec::new());
        for one in all {
            let (summary, more) = one.join().expect("no replica panics");
            sum.add(&summary);
            broken.extend(more);
        }
        (sum, broken)
    })
}

/// The first run that finds the mistake must say so.
fn assert_found(mistake: Mistake, is_expected: fn(&Violation) -> bool) {
    let found = (0..SEEDS_OF_A_MISTAKE).find_map(|seed| play_seed(seed, mistake, false).err());
    let violation = found.expect("the mistake shows in some run");
    assert!(is_expected(&violation), "{mistake:?}: {violation}");
}

#[test]
fn an_acknowledgement_before_that_of_the_queue_is_found() {
    assert_found(Mistake::EarlyReceipts, |violation| matches!(violation, Violation::Lost(_)));
}

#[test]
fn the_acknowledgement_of_another_stream_that_counts_is_found() {
    assert_found(Mistake::ForeignReceipts, |violation| matches!(violation, Violation::Lost(_)));
}

#[test]
fn claims_that_are_not_passed_on_are_found() {
    assert_found(Mistake::LostClaims, |violation| matches!(violation, Violation::Sessions(_)));
}

#[test]
fn a_second_outcome_is_found() {
    assert_found(Mistake::TwiceGiven, |violation| matches!(violation, Violation::Outcomes(_)));
}

#[test]
fn a_missing_outcome_is_found() {
    assert_found(Mistake::NeverGiven, |violation| matches!(violation, Violation::Outcomes(_)));
}

#[test]
fn an_offline_that_is_acknowledged_and_not_stored_is_found() {
    assert_found(Mistake::LostOffline, |violation| matches!(violation, Violation::Presence(_)));
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..8 {
        assert_eq!(play_seed(seed, Mistake::None, false), play_seed(seed, Mistake::None, false), "seed {seed}");
    }
}
