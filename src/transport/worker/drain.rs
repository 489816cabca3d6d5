//! The end of a worker, as a state machine ([`Phase`]): sessions drain in batches, then the worker waits until the queue has
//! the last records, devices have the last answers, and callers have the last outcomes.

use std::collections::VecDeque;

use super::suspension::Barriers;
use crate::protocol::uplink::SlotId;

/// How long the last commands and outcomes may take, us. The time is reserved at the end of the drain's timeout, a quarter of
/// it at most.
const SETTLE_US: u64 = 2_000_000;

/// How long a drain waits for devices to acknowledge CoAP answers, us. Their records are stored either way.
const FAREWELL_US: u64 = 3_000_000;

/// How often a phase checks whether it is over, us.
const POLL_US: u64 = 10_000;

/// Batches of a drain in one second at most.
const BATCHES_PER_SECOND: u64 = 20;

/// Rounds of [`Phase::Settling`]. After the first, every command that came before the last unsubscription has arrived; after
/// the second, their outcomes have reached the server, as its barrier comes behind them.
const SETTLE_ROUNDS: u32 = 2;

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Records that the queue had not acknowledged when the time was over; 0: all went well.
    pub unacknowledged: usize,
}

/// The work that a draining worker still has to finish.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remaining<'a> {
    /// Whether there is a session, including those that have ended and wait for receipts.
    pub(super) has_sessions: bool,
    /// CoAP requests that wait for the queue or the registry.
    pub(super) unanswered: usize,
    /// Whether devices have still to acknowledge CoAP answers.
    pub(super) has_unacknowledged: bool,
    /// Whether no command can come for sessions that have ended, and every outcome is on its way.
    pub(super) is_settled: bool,
    /// The barriers in the stream of commands.
    pub(super) barriers: &'a Barriers,
}

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Drain these sessions.
    Sessions(Vec<SlotId>),
    /// Send a barrier; [`Drain::note_barrier`] must follow.
    Barrier,
    /// Look again at that time, us of the worker's clock.
    Wait(u64),
    /// The drain has ended.
    Over,
}

#[derive(Debug)]
enum Phase {
    /// Sessions are told to drain, a batch at a time.
    Batches,
    /// The queue has to take the last records.
    Emptying,
    /// Devices have to acknowledge their last answers, until that time.
    Farewell(u64),
    /// Commands under way and their outcomes have to arrive until that time. Each round waits until the queue of commands is
    /// settled, sends a barrier, whose number is `barrier` then, and waits for its return.
    Settling { until_us: u64, rounds: u32, barrier: Option<u64> },
    /// Nothing is left to wait for.
    Over,
}

/// The drain of one worker.
#[derive(Debug)]
pub(super) struct Drain {
    phase: Phase,
    sessions: VecDeque<SlotId>,
    batch: usize,
    /// Pause from one batch to the next, ns.
    pause_ns: u64,
    /// Batches so far.
    batches: u64,
    began_us: u64,
    /// When the last batch was sent and [`Phase::Emptying`] began, us; `began_us` before that.
    emptying_since_us: u64,
    /// How long the drain may go on after its last batch, us.
    timeout_us: u64,
}

impl Drain {
    /// A drain of these sessions, so many a second.
    pub(super) fn new(sessions: VecDeque<SlotId>, per_second: u64, timeout_us: u64, now_us: u64) -> Self {
        let (batch, pause_ns) = pace(per_second);
        Self {
            phase: Phase::Batches,
            sessions,
            batch,
            pause_ns,
            batches: 0,
            began_us: now_us,
            emptying_since_us: now_us,
            timeout_us,
        }
    }

    /// The next thing to do at that time.
    pub(super) fn step(&mut self, now_us: u64, remaining: &Remaining<'_>) -> Step {
        loop {
            match self.phase {
                Phase::Batches => {
                    // Sessions that ended by themselves need no batch.
                    if self.sessions.is_empty() || !remaining.has_sessions {
                        (self.phase, self.emptying_since_us) = (Phase::Emptying, now_us);
                        continue;
                    }
                    let next_us = self.began_us.saturating_add(self.batches.saturating_mul(self.pause_ns) / 1_000);
                    if now_us < next_us {
                        return Step::Wait(next_us);
                    }
                    self.batches += 1;
                    let batch = self.batch.min(self.sessions.len());
                    return Step::Sessions(self.sessions.drain(..batch).collect());
                }
                Phase::Emptying => {
                    let until_us = self.emptied_until_us();
                    if !remaining.has_sessions && remaining.unanswered == 0 {
                        self.phase = Phase::Farewell(until_us.min(now_us.saturating_add(FAREWELL_US)));
                    } else if now_us < until_us {
                        return Step::Wait(until_us.min(now_us + POLL_US));
                    } else {
                        self.settle(now_us);
                    }
                }
                Phase::Farewell(until_us) => {
                    if remaining.has_unacknowledged && now_us < until_us {
                        return Step::Wait(until_us.min(now_us + POLL_US));
                    }
                    self.settle(now_us);
                }
                Phase::Settling { until_us, rounds, barrier } => {
                    let is_reached = match barrier {
                        None => remaining.is_settled,
                        Some(number) => remaining.barriers.has_returned(number),
                    };
                    match (is_reached, barrier) {
                        (true, None) => return Step::Barrier,
                        (true, Some(_)) if rounds > 1 => {
                            self.phase = Phase::Settling { until_us, rounds: rounds - 1, barrier: None };
                        }
                        (true, Some(_)) => self.phase = Phase::Over,
                        (false, _) if now_us < until_us => return Step::Wait(until_us.min(now_us + POLL_US)),
                        (false, _) => self.phase = Phase::Over,
                    }
                }
                Phase::Over => return Step::Over,
            }
        }
    }

    /// Notes the number of the barrier that was sent; `None` ends the drain: the queue of commands supports no barriers.
    pub(super) fn note_barrier(&mut self, number: Option<u64>) {
        self.phase = match self.phase {
            Phase::Settling { until_us, rounds, .. } if number.is_some() => {
                Phase::Settling { until_us, rounds, barrier: number }
            }
            _ => Phase::Over,
        };
    }

    /// The end of [`Phase::Emptying`] and [`Phase::Farewell`], us: the rest of the timeout is for commands and outcomes.
    fn emptied_until_us(&self) -> u64 {
        self.emptying_since_us.saturating_add(self.timeout_us - SETTLE_US.min(self.timeout_us / 4))
    }

    fn settle(&mut self, now_us: u64) {
        let left_us = self.emptying_since_us.saturating_add(self.timeout_us).saturating_sub(now_us);
        let until_us = now_us.saturating_add(left_us.min(SETTLE_US));
        self.phase = Phase::Settling { until_us, rounds: SETTLE_ROUNDS, barrier: None };
    }
}

/// Sessions of one batch of a drain, and the pause from one batch to the next, ns.
fn pace(per_second: u64) -> (usize, u64) {
    let per_second = per_second.max(1);
    let batch = per_second.div_ceil(BATCHES_PER_SECOND);
    (usize::try_from(batch).unwrap_or(usize::MAX), 1_000_000_000 * batch / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(slot: u32) -> SlotId {
        SlotId { index: slot, generation: 0 }
    }

    /// The state in which nothing is left.
    fn nothing(barriers: &Barriers) -> Remaining<'_> {
        Remaining { has_sessions: false, unanswered: 0, has_unacknowledged: false, is_settled: true, barriers }
    }

    #[test]
    fn a_drain_keeps_the_rate_that_was_asked_for_and_makes_at_most_20_batches_a_second() {
        for per_second in [1, 2, 19, 20, 21, 30, 39, 40, 41, 333, 1_000, 1_019, 10_000_000] {
            let (batch, pause_ns) = pace(per_second);
            let rate = batch as f64 * 1e9 / pause_ns as f64;
            assert!((rate / per_second as f64 - 1.0).abs() < 0.001, "{rate} a second instead of {per_second}");
            assert!(pause_ns >= 47_000_000, "{per_second}: a batch each {pause_ns} ns");
        }
        assert_eq!(pace(0), pace(1));
    }

    #[test]
    fn batches_come_at_their_times_and_all_that_are_due_at_once() {
        let mut drain = Drain::new((0..9).map(session).collect(), 40, 1_000_000, 500_000);
        let barriers = Barriers::default();
        let remaining = Remaining { has_sessions: true, ..nothing(&barriers) };
        assert_eq!(drain.step(500_000, &remaining), Step::Sessions(vec![session(0), session(1)]));
        assert_eq!(drain.step(500_000, &remaining), Step::Wait(550_000));
        assert_eq!(drain.step(605_000, &remaining), Step::Sessions(vec![session(2), session(3)]));
        assert_eq!(drain.step(605_000, &remaining), Step::Sessions(vec![session(4), session(5)]));
        assert_eq!(drain.step(605_000, &remaining), Step::Wait(650_000));
        assert_eq!(drain.step(700_000, &remaining), Step::Sessions(vec![session(6), session(7)]));
        assert_eq!(drain.step(700_000, &remaining), Step::Sessions(vec![session(8)]));
        assert_eq!(drain.step(700_000, &remaining), Step::Wait(700_000 + POLL_US), "now it waits for records");
    }

    #[test]
    fn a_drain_whose_sessions_have_ended_by_themselves_waits_for_no_more_batches() {
        let barriers = Barriers::default();
        let mut drain = Drain::new((0..9).map(session).collect(), 1, 10_000_000, 0);
        let some = Remaining { has_sessions: true, ..nothing(&barriers) };
        assert_eq!(drain.step(0, &some), Step::Sessions(vec![session(0)]));
        assert_eq!(drain.step(0, &some), Step::Wait(1_000_000));
        assert_eq!(drain.step(1_000_000, &nothing(&barriers)), Step::Barrier);
    }

    #[test]
    fn a_drain_without_anything_left_ends_behind_two_barriers_or_at_once_without_any() {
        let mut barriers = Barriers::default();
        let mut drain = Drain::new(VecDeque::new(), 1, 10_000_000, 0);
        for _ in 0..SETTLE_ROUNDS {
            assert_eq!(drain.step(0, &nothing(&barriers)), Step::Barrier);
            let number = barriers.send();
            drain.note_barrier(Some(number));
            assert_eq!(drain.step(0, &nothing(&barriers)), Step::Wait(POLL_US));
            barriers.note_returned(number);
            let remaining = Remaining { is_settled: false, ..nothing(&barriers) };
            if number == 1 {
                assert_eq!(drain.step(0, &remaining), Step::Wait(POLL_US), "outcomes are on their way");
            } else {
                assert_eq!(drain.step(0, &remaining), Step::Over);
            }
        }
        let mut without = Drain::new(VecDeque::new(), 1, 10_000_000, 0);
        assert_eq!(without.step(0, &nothing(&barriers)), Step::Barrier);
        without.note_barrier(None);
        assert_eq!(without.step(0, &nothing(&barriers)), Step::Over);
    }

    #[test]
    fn each_part_of_a_drain_has_its_time() {
        let barriers = Barriers::default();
        let stuck = Remaining { has_sessions: true, is_settled: false, ..nothing(&barriers) };
        let mut drain = Drain::new(VecDeque::new(), 1, 10_000_000, 0);
        assert_eq!(drain.step(0, &stuck), Step::Wait(POLL_US));
        assert_eq!(drain.step(7_999_999, &stuck), Step::Wait(8_000_000));
        assert_eq!(drain.step(8_000_000, &stuck), Step::Wait(8_000_000 + POLL_US), "the last part of it");
        assert_eq!(drain.step(10_000_000, &stuck), Step::Over);

        let unheard = Remaining { has_unacknowledged: true, is_settled: false, ..nothing(&barriers) };
        let mut drain = Drain::new(VecDeque::new(), 1, 10_000_000, 0);
        assert_eq!(drain.step(1_000, &Remaining { unanswered: 1, ..unheard }), Step::Wait(1_000 + POLL_US));
        assert_eq!(drain.step(2_000, &unheard), Step::Wait(2_000 + POLL_US));
        assert_eq!(drain.step(2_000 + FAREWELL_US, &unheard), Step::Wait(2_000 + FAREWELL_US + POLL_US));
        assert_eq!(drain.step(2_000 + FAREWELL_US + SETTLE_US, &unheard), Step::Over);

        let mut drain = Drain::new(VecDeque::new(), 1, 4_000_000, 0);
        assert_eq!(drain.step(0, &stuck), Step::Wait(POLL_US));
        assert_eq!(drain.step(2_999_999, &stuck), Step::Wait(3_000_000), "a quarter is for the commands");
        assert_eq!(Drain::new(VecDeque::new(), 1, 0, 5).step(5, &stuck), Step::Over);
    }
}
