//! Who may come in: the limits of connections, and whether newcomers are served at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Connections above the limit that are still accepted, to be told 0x03 in good order; further ones are closed at once.
const COURTESY: usize = 1_000;

/// Shared by all workers.
#[derive(Debug)]
pub struct Gate {
    connections_max: usize,
    connections: AtomicUsize,
    draining: AtomicBool,
}

/// What becomes of a connection at the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may ask for a session.
    Welcome,
    /// It may ask, and gets 0x03.
    Full,
    /// It is closed without a word.
    Overrun,
}

impl Gate {
    /// A gate for at most that many connections.
    pub fn new(connections_max: usize) -> Self {
        Self { connections_max, connections: AtomicUsize::new(0), draining: AtomicBool::new(false) }
    }

    /// Counts a connection in; [`Gate::leave`] must follow, whatever the answer.
    pub fn enter(&self) -> Admission {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        if before < self.connections_max {
            Admission::Welcome
        } else if before < self.connections_max.saturating_add(COURTESY) {
            Admission::Full
        } else {
            Admission::Overrun
        }
    }

    /// Counts a connection out.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Closes the gate for good: the replica shuts down.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the replica shuts down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// A connection's place, given back when dropped, whatever became of the connection.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    /// What becomes of the connection.
    pub admission: Admission,
}

impl Place {
    /// Counts a connection in.
    pub fn take(gate: &Arc<Gate>) -> Self {
        Self { admission: gate.enter(), gate: gate.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

/// A bucket of CONNECTs: so many a second, with a burst of a tenth of a second's worth.
#[derive(Debug)]
pub struct Bucket {
    per_second: u64,
    tokens_us: u64,
    filled_us: u64,
}

impl Bucket {
    /// A full bucket; a rate of 0 counts as 1.
    pub fn new(per_second: u64, now_us: u64) -> Self {
        let per_second = per_second.max(1);
        Self { per_second, tokens_us: Self::burst_us(per_second), filled_us: now_us }
    }

    /// Takes one, or says after how many us one will be there.
    pub fn take(&mut self, now_us: u64) -> Result<(), u64> {
        let cost_us = 1_000_000 / self.per_second;
        let gained_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = now_us;
        self.tokens_us = (self.tokens_us + gained_us).min(Self::burst_us(self.per_second));
        match self.tokens_us.checked_sub(cost_us) {
            Some(rest) => {
                self.tokens_us = rest;
                Ok(())
            }
            None => Err(cost_us - self.tokens_us),
        }
    }

    fn burst_us(per_second: u64) -> u64 {
        (1_000_000 / per_second).max(100_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_the_limit_a_connection_is_told_and_far_above_it_is_closed() {
        let gate = Gate::new(1);
        assert_eq!(gate.enter(), Admission::Welcome);
        assert_eq!(gate.enter(), Admission::Full);
        for _ in 2..=COURTESY {
            gate.enter();
        }
        assert_eq!(gate.enter(), Admission::Overrun);
        for _ in 0..COURTESY + 2 {
            gate.leave();
        }
        assert_eq!(gate.enter(), Admission::Welcome);
    }

    #[test]
    fn a_bucket_lets_its_rate_through_and_no_more() {
        let mut bucket = Bucket::new(1000, 0);
        let taken = (0..1_000_000).filter(|&now_us| bucket.take(now_us).is_ok()).count();
        assert!((1_000..=1_101).contains(&taken), "{taken} in a second at 1,000 a second");
        let refused = (0..2).filter_map(|_| bucket.take(1_000_000).err()).next_back();
        assert!(refused.is_some_and(|wait_us| (1..=1_000).contains(&wait_us)), "{refused:?}");
    }
}
