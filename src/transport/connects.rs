//! The order in which accepted connections go on to their CONNECT: `limits.connect_rate`.
//!
//! Connections are accepted faster than they go on, for in the system's line nobody can be told from anybody else. Here the
//! networks take turns. Those that failed more often than not of late get what the others leave, and every eighth turn.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::bucket::Bucket;
use super::clock::Clock;
use crate::protocol::network::Network;
use crate::protocol::shares::{Failures, Waiting};

/// Connections that may wait, whatever the rate is; some 2 KiB each, and a file descriptor.
const WAITING_MAX: usize = 10_000;

/// Of so many turns the last belongs to networks that failed.
const TURNS: u32 = 8;

/// The connections of a worker that wait for their turn.
pub struct Connects {
    state: RefCell<State>,
    came: Notify,
    clock: Clock,
    room: usize,
}

struct State {
    bucket: Bucket,
    /// Those of networks that did not fail of late, and the others.
    waiting: [Waiting<oneshot::Sender<()>>; 2],
    failures: Failures,
    turns: u32,
}

impl Connects {
    /// So many a second. As many may wait as go on within half of the time that a connection has for its CONNECT: of
    /// whoever comes later, many would wait in vain.
    pub fn new(per_second: u64, connect_timeout: Duration, clock: Clock) -> Self {
        let state = State {
            bucket: Bucket::new(per_second, clock.now().us),
            waiting: Default::default(),
            failures: Failures::default(),
            turns: 0,
        };
        let served = u128::from(per_second) * connect_timeout.as_millis() / 2_000;
        let room = usize::try_from(served).unwrap_or(usize::MAX).clamp(1, WAITING_MAX);
        Self { state: RefCell::new(state), came: Notify::new(), clock, room }
    }

    /// Waits until a connection of that network may go on; false: too many wait, most of them from there.
    pub async fn enter(&self, network: Network) -> bool {
        let entered = {
            let state = &mut *self.state.borrow_mut();
            let now_us = self.clock.now().us;
            if state.waiting.iter().all(Waiting::is_empty) && state.bucket.take(now_us).is_ok() {
                return true;
            }
            let (enter, entered) = oneshot::channel();
            let line = usize::from(state.failures.is_served_last(network, now_us));
            // Whoever is refused learns it when its sender is dropped.
            drop(state.waiting[line].push(network, enter, self.room));
            entered
        };
        self.came.notify_one();
        entered.await.is_ok()
    }

    /// Lets those who wait go on, until the future is dropped.
    pub async fn serve(&self) {
        loop {
            match self.next() {
                Next::Served => {}
                Next::Nobody => self.came.notified().await,
                Next::Later(wait_us) => tokio::time::sleep(Duration::from_micros(wait_us)).await,
            }
        }
    }

    fn next(&self) -> Next {
        let state = &mut *self.state.borrow_mut();
        if state.waiting.iter().all(Waiting::is_empty) {
            return Next::Nobody;
        }
        if let Err(wait_us) = state.bucket.take(self.clock.now().us) {
            return Next::Later(wait_us);
        }
        // Whoever gave up takes no turn.
        while let Some(enter) = state.pop() {
            if enter.send(()).is_ok() {
                break;
            }
        }
        Next::Served
    }

    /// Notes how a connection ended: with a session, or by a fault of its own.
    pub fn note(&self, network: Network, is_good: bool) {
        let now_us = self.clock.now().us;
        let failures = &mut self.state.borrow_mut().failures;
        if is_good {
            failures.note_success(network, now_us);
        } else {
            failures.note_failure(network, now_us);
        }
    }
}

enum Next {
    Served,
    Nobody,
    /// After so many us.
    Later(u64),
}

impl State {
    fn pop(&mut self) -> Option<oneshot::Sender<()>> {
        self.turns = (self.turns + 1) % TURNS;
        let [good, failing] = &mut self.waiting;
        match self.turns {
            0 => failing.pop().or_else(|| good.pop()),
            _ => good.pop().or_else(|| failing.pop()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn network(number: u8) -> Network {
        Network::of([10, 0, 0, number].into())
    }

    /// Connections that wait, of these networks in their order.
    fn waiting<'a>(connects: &'a Connects, networks: &[u8]) -> Vec<std::pin::Pin<Box<dyn Future<Output = bool> + 'a>>> {
        let begin = |number: &u8| {
            let mut entering: std::pin::Pin<Box<dyn Future<Output = bool> + 'a>> =
                Box::pin(connects.enter(network(*number)));
            assert!(entering.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            entering
        };
        networks.iter().map(begin).collect()
    }

    #[test]
    fn whoever_failed_comes_behind_the_others_and_still_has_turns() {
        let connects = Connects::new(1, TIMEOUT, Clock::new());
        let first = pin!(connects.enter(network(1))).poll(&mut Context::from_waker(Waker::noop()));
        assert!(first.is_ready(), "nobody waits");
        (0..20).for_each(|_| connects.note(network(1), false));
        let _waiting = waiting(&connects, &[1, 1, 1, 2, 2, 3]);
        let state = &mut *connects.state.borrow_mut();
        let lengths = |state: &State| (state.waiting[0].len(), state.waiting[1].len());
        assert_eq!(lengths(state), (3, 3));
        let mut order = Vec::new();
        while let Some(_enter) = state.pop() {
            order.push(lengths(state));
        }
        assert_eq!(order, [(2, 3), (1, 3), (0, 3), (0, 2), (0, 1), (0, 0)]);
    }

    #[test]
    fn every_eighth_turn_belongs_to_networks_that_failed() {
        let connects = Connects::new(1_000, TIMEOUT, Clock::new());
        let (good, failing): (Vec<_>, Vec<_>) = (0..20).map(|_| (oneshot::channel(), oneshot::channel())).unzip();
        let state = &mut *connects.state.borrow_mut();
        for ((good, _), (failing, _)) in good.into_iter().zip(failing) {
            state.waiting[0].push(network(2), good, 100);
            state.waiting[1].push(network(1), failing, 100);
        }
        (0..16).for_each(|_| drop(state.pop()));
        assert_eq!((state.waiting[0].len(), state.waiting[1].len()), (6, 18));
    }
}
