//! Shedding: a replica ends some of its sessions at a rate, so that their devices connect again, to whichever replica the
//! balancer leads them to.
//!
//! [`Shed::step`] says how many sessions end now, without I/O and clock. Devices that other replicas shed come here
//! meanwhile, and some of the own ones come back: so a replica that goes down to a number goes on until all have been there
//! for a while.

use serde::{Deserialize, Serialize};

/// Highest rate of a shed, in sessions a second.
pub const RATE_MAX: u32 = 10_000;

/// Pause between two steps, about, us.
pub const STEP_US: u64 = 50_000;

/// Time at its number of sessions, or below, after which a replica has shed enough, us.
const SETTLED_US: u64 = 2_000_000;

/// The same as a number of sessions, for a slow shed, whose devices come back slowly: the time that it takes to end these.
const SETTLED_SESSIONS: u64 = 20;

/// A shed that must wait for longer is given up, us: nobody would expect it to go on.
const WAIT_MAX_US: u64 = 60_000_000;

/// The aim of a shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This many sessions end.
    End(usize),
    /// This many sessions are left.
    DownTo(usize),
}

/// A shed as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShedPlan {
    /// The aim.
    pub goal: Goal,
    /// Sessions that end in a second, from 1 to [`RATE_MAX`].
    pub rate: u32,
    /// Sessions that end at most: where a balancer leads every device back here, none is sent away for ever.
    pub most: usize,
}

/// Where a shed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShedState {
    /// Sessions end, or it is looked whether more must.
    Running,
    /// CONNECTs would be refused at the moment, or the process ends: no session is ended.
    Waiting,
    /// It has reached its aim.
    Done,
    /// It ended as many sessions as it might, or had to wait for too long, and has not reached its aim.
    GaveUp,
    /// It was stopped, or another one took its place.
    Stopped,
}

/// A look at a shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShedStatus {
    /// The plan.
    pub plan: ShedPlan,
    /// Where it stands.
    pub state: ShedState,
    /// Sessions that were ended so far.
    pub ended: usize,
    /// Sessions that are still to end, as far as it is known now.
    pub left: usize,
}

/// One shed of this replica.
#[derive(Debug)]
pub struct Shed {
    status: ShedStatus,
    /// Sessions that may end now, in millionths.
    allowance: u64,
    stepped_us: u64,
    /// Since when nothing is left to do here.
    settled_since_us: Option<u64>,
    is_settled: bool,
    /// Since when it waits.
    waiting_since_us: Option<u64>,
}

impl Shed {
    /// A shed that begins at `now_us`.
    pub fn new(plan: ShedPlan, now_us: u64) -> Self {
        let plan = ShedPlan { rate: plan.rate.clamp(1, RATE_MAX), ..plan };
        Self {
            status: ShedStatus { plan, state: ShedState::Running, ended: 0, left: 0 },
            allowance: 0,
            stepped_us: now_us,
            settled_since_us: None,
            is_settled: false,
            waiting_since_us: None,
        }
    }

    /// Where it stands.
    pub fn status(&self) -> ShedStatus {
        self.status
    }

    /// Whether [`Shed::step`] must be called again.
    pub fn is_under_way(&self) -> bool {
        matches!(self.status.state, ShedState::Running | ShedState::Waiting)
    }

    /// Whether nothing was left to do here for a while.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Stops it.
    pub fn stop(&mut self) {
        if self.is_under_way() {
            self.status.state = ShedState::Stopped;
        }
    }

    /// Number of sessions that must end now, of `sessions` that stay otherwise. `may_end`: their devices would be let in
    /// elsewhere. `others_shed`: devices may come from other replicas.
    pub fn step(&mut self, now_us: u64, sessions: usize, may_end: bool, others_shed: bool) -> usize {
        if !self.is_under_way() {
            return 0;
        }
        let passed_us = now_us.saturating_sub(self.stepped_us);
        self.stepped_us = now_us;
        let status = &mut self.status;
        status.left = match status.plan.goal {
            Goal::End(count) => (count - status.ended).min(sessions),
            Goal::DownTo(target) => sessions.saturating_sub(target),
        };
        if !may_end {
            let since_us = *self.waiting_since_us.get_or_insert(now_us);
            let is_too_long = now_us.saturating_sub(since_us) >= WAIT_MAX_US;
            status.state = if is_too_long { ShedState::GaveUp } else { ShedState::Waiting };
            return 0;
        }
        self.waiting_since_us = None;
        status.state = ShedState::Running;
        // A step that comes late makes up for two steps at most, and a session that is partly due.
        let rate = u64::from(status.plan.rate);
        self.allowance = (self.allowance + passed_us.min(2 * STEP_US) * rate).min(2 * STEP_US * rate + 1_000_000);
        if status.left == 0 {
            let since_us = *self.settled_since_us.get_or_insert(now_us);
            let settled_us = match status.plan.goal {
                Goal::End(_) => 0,
                Goal::DownTo(_) => SETTLED_US.max(SETTLED_SESSIONS * 1_000_000 / rate),
            };
            self.is_settled = now_us.saturating_sub(since_us) >= settled_us;
            if self.is_settled && (settled_us == 0 || !others_shed) {
                status.state = ShedState::Done;
            }
            return 0;
        }
        (self.settled_since_us, self.is_settled) = (None, false);
        if status.ended >= status.plan.most {
            status.state = ShedState::GaveUp;
            return 0;
        }
        let allowed = usize::try_from(self.allowance / 1_000_000).unwrap_or(usize::MAX);
        let count = allowed.min(status.left).min(status.plan.most - status.ended);
        self.allowance -= count as u64 * 1_000_000;
        status.ended += count;
        count
    }
}

/// Divides sessions that must end among the workers in proportion to their own, over many small steps as well as in one.
#[derive(Debug, Default)]
pub struct Shares {
    /// Share of each worker that it has not had, times the number of all sessions.
    owed: Vec<i64>,
}

impl Shares {
    /// Each worker's part of `count` sessions; `sessions` are those that the workers have.
    pub fn divide(&mut self, count: usize, sessions: &[usize]) -> Vec<usize> {
        self.owed.resize(sessions.len(), 0);
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let all = whole(sessions.iter().sum());
        let mut parts = vec![0; sessions.len()];
        if all == 0 {
            return parts;
        }
        for _ in 0..count {
            for (owed, own) in self.owed.iter_mut().zip(sessions) {
                *owed = owed.saturating_add(whole(*own));
            }
            let most = (0..parts.len()).max_by_key(|worker| self.owed[*worker]).unwrap_or(0);
            self.owed[most] -= all;
            parts[most] += 1;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps a shed as long as it is under way: after each the number of sessions becomes what `then` says. The time that
    /// it took, us.
    fn run(shed: &mut Shed, mut sessions: usize, mut then: impl FnMut(u64, usize, usize) -> usize) -> u64 {
        let mut now_us = 0;
        while shed.is_under_way() {
            now_us += STEP_US;
            let count = shed.step(now_us, sessions, true, false);
            sessions = then(now_us, sessions, count);
            assert!(now_us < 1_000_000_000, "it has no end: {:?}", shed.status());
        }
        now_us
    }

    #[test]
    fn a_number_of_sessions_ends_at_the_rate_that_was_asked_for() {
        for (rate, count) in [(1, 3), (7, 20), (20, 100), (333, 1_000), (10_000, 20_000)] {
            let mut shed = Shed::new(ShedPlan { goal: Goal::End(count), rate, most: count }, 0);
            let took_us = run(&mut shed, 1_000_000, |_, sessions, ended| sessions - ended);
            let expected_us = count as u64 * 1_000_000 / u64::from(rate);
            assert!(took_us.abs_diff(expected_us) <= 2 * STEP_US, "{rate}: {took_us} instead of {expected_us}");
            let status = shed.status();
            assert_eq!((status.state, status.ended, status.left), (ShedState::Done, count, 0));
        }
        let mut all = Shed::new(ShedPlan { goal: Goal::End(500), rate: 100, most: 500 }, 0);
        run(&mut all, 30, |_, sessions, ended| sessions - ended);
        assert_eq!((all.status().state, all.status().ended), (ShedState::Done, 30), "there were no more");
    }

    #[test]
    fn going_down_to_a_number_ends_when_it_was_kept_for_a_while() {
        let mut shed = Shed::new(ShedPlan { goal: Goal::DownTo(100), rate: 100, most: 1_000 }, 0);
        // Whenever it is down another device comes, ten times in all.
        let mut coming = 10;
        let mut came_us = 0;
        let took_us = run(&mut shed, 150, |now_us, sessions, ended| {
            let left = sessions - ended;
            if left == 100 && coming > 0 && now_us >= came_us + 1_000_000 {
                (coming, came_us) = (coming - 1, now_us);
                return left + 1;
            }
            left
        });
        assert_eq!((shed.status().state, shed.status().ended), (ShedState::Done, 60));
        assert!(took_us.abs_diff(came_us + SETTLED_US) <= 3 * STEP_US, "{took_us} {came_us}");
    }

    #[test]
    fn a_replica_that_is_down_goes_on_as_long_as_devices_may_come_from_others() {
        let mut shed = Shed::new(ShedPlan { goal: Goal::DownTo(100), rate: 100, most: 1_000 }, 0);
        for now_us in (0..10_000_000).step_by(50_000) {
            assert_eq!(shed.step(now_us, 100, true, true), 0);
        }
        assert!(shed.is_under_way() && shed.is_settled());
        assert_eq!(shed.step(10_000_000, 105, true, true), 5);
        assert!(!shed.is_settled(), "others are to wait for this one");
        for now_us in [10_050_000, 12_050_000] {
            assert_eq!(shed.step(now_us, 100, true, false), 0);
        }
        assert_eq!(shed.status().state, ShedState::Done);
    }

    #[test]
    fn a_shed_whose_devices_all_come_back_gives_up() {
        let mut shed = Shed::new(ShedPlan { goal: Goal::DownTo(100), rate: 100, most: 70 }, 0);
        run(&mut shed, 130, |_, sessions, _| sessions);
        assert_eq!((shed.status().state, shed.status().ended, shed.status().left), (ShedState::GaveUp, 70, 30));
    }

    #[test]
    fn nothing_ends_while_nobody_would_be_let_in_and_not_too_much_afterwards() {
        let mut shed = Shed::new(ShedPlan { goal: Goal::End(100), rate: 100, most: 100 }, 0);
        assert_eq!(shed.step(1_000_000, 500, true, false), 10, "two steps at most");
        assert_eq!(shed.step(2_000_000, 490, false, false), 0);
        assert_eq!(shed.status().state, ShedState::Waiting);
        assert_eq!(shed.step(30_000_000, 490, true, false), 10);
        assert_eq!(shed.step(31_000_000, 480, false, false), 0);
        assert_eq!(shed.step(31_000_000 + WAIT_MAX_US, 480, false, false), 0);
        assert_eq!((shed.status().state, shed.is_under_way()), (ShedState::GaveUp, false));
        let mut stopped = Shed::new(ShedPlan { goal: Goal::End(100), rate: 100, most: 100 }, 0);
        stopped.stop();
        assert_eq!((stopped.step(1_000_000, 500, true, false), stopped.status().state), (0, ShedState::Stopped));
    }

    #[test]
    fn no_worker_is_favoured_however_small_the_steps_are() {
        for steps in [1, 7, 100] {
            let mut shares = Shares::default();
            let mut totals = [0; 3];
            for _ in 0..700 / steps {
                let parts = shares.divide(steps, &[100, 200, 400]);
                totals.iter_mut().zip(parts).for_each(|(total, part)| *total += part);
            }
            assert_eq!(totals, [100, 200, 400], "in steps of {steps}");
        }
        assert_eq!(Shares::default().divide(5, &[0, 0]), [0, 0]);
    }
}
