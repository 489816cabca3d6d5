//! The order in which accepted connections go on to their CONNECT: `limits.connect_rate`.
//!
//! Connections are accepted faster than they go on, for in the system's line nobody can be told from anybody else. Here the
//! networks take turns. Those that failed more often than not of late get what the others leave, and every eighth turn. A
//! connection whose peer has left meanwhile takes no turn.

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
const TURNS: usize = 8;

/// The connections of a worker that wait for their turn.
pub struct Connects {
    state: RefCell<State>,
    came: Notify,
    clock: Clock,
}

/// The outcome of waiting for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The connection may go on.
    Begins,
    /// Its peer has left.
    Gone,
    /// Too many wait, most of them from its network.
    Crowded,
}

struct State {
    bucket: Bucket,
    /// Those of networks that did not fail of late, and the others.
    waiting: [Waiting<oneshot::Sender<()>>; 2],
    /// As many may wait, of both.
    room: usize,
    failures: Failures,
    turns: usize,
}

impl Connects {
    /// So many a second. As many may wait as go on within half of the time that a connection has for its CONNECT: of
    /// whoever comes later, many would wait in vain.
    pub fn new(per_second: u64, connect_timeout: Duration, clock: Clock) -> Self {
        let served = u128::from(per_second) * connect_timeout.as_millis() / 2_000;
        let state = State {
            bucket: Bucket::new(per_second, clock.now().us),
            waiting: Default::default(),
            room: usize::try_from(served).unwrap_or(usize::MAX).clamp(1, WAITING_MAX),
            failures: Failures::default(),
            turns: 0,
        };
        Self { state: RefCell::new(state), came: Notify::new(), clock }
    }

    /// Waits until a connection of that network may go on. `has_left` says whether its peer waits no longer.
    pub async fn enter(&self, network: Network, has_left: impl Fn() -> bool) -> Turn {
        if has_left() {
            return Turn::Gone;
        }
        let entered = {
            let state = &mut *self.state.borrow_mut();
            let now_us = self.clock.now().us;
            if state.waiting() == 0 && state.bucket.take(now_us).is_ok() {
                return Turn::Begins;
            }
            let (enter, entered) = oneshot::channel();
            state.push(network, enter, now_us);
            entered
        };
        self.came.notify_one();
        match entered.await {
            Ok(()) if has_left() => {
                self.state.borrow_mut().bucket.give_back();
                self.came.notify_one();
                Turn::Gone
            }
            Ok(()) => Turn::Begins,
            // Whoever is refused learns it by the end of its sender.
            Err(_) => Turn::Crowded,
        }
    }

    /// Number of connections that wait.
    pub fn waiting(&self) -> usize {
        self.state.borrow().waiting()
    }

    /// Lets those who wait go on, until the future is dropped.
    pub async fn serve(&self) {
        loop {
            match self.next() {
                Next::Served => {}
                Next::Nobody => self.came.notified().await,
                Next::Later(wait_us) => tokio::select! {
                    () = tokio::time::sleep(Duration::from_micros(wait_us)) => {}
                    // A turn may have been given back.
                    () = self.came.notified() => {}
                },
            }
        }
    }

    fn next(&self) -> Next {
        let state = &mut *self.state.borrow_mut();
        if state.waiting() == 0 {
            return Next::Nobody;
        }
        if let Err(wait_us) = state.bucket.take(self.clock.now().us) {
            return Next::Later(wait_us);
        }
        // Whoever gave up takes no turn.
        while let Some(enter) = state.pop() {
            if enter.send(()).is_ok() {
                return Next::Served;
            }
        }
        state.bucket.give_back();
        Next::Nobody
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
    fn waiting(&self) -> usize {
        self.waiting.iter().map(Waiting::len).sum()
    }

    /// Lets a connection wait, unless there is no room. For one of a network that did not fail, one of those that did makes
    /// room. While others wait, those of networks that failed go on eight times as slowly: so an eighth as many may wait.
    fn push(&mut self, network: Network, enter: oneshot::Sender<()>, now_us: u64) {
        let [good, failing] = &mut self.waiting;
        if self.failures.is_served_last(network, now_us) {
            let share = if good.is_empty() { self.room } else { (self.room / TURNS).max(1) };
            let left = self.room.saturating_sub(good.len());
            drop(failing.push(network, enter, share.min(left)));
        } else {
            if good.len() + failing.len() >= self.room {
                drop(failing.pop_newest());
            }
            let left = self.room.saturating_sub(failing.len());
            drop(good.push(network, enter, left));
        }
    }

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
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn network(number: u8) -> Network {
        Network::of([10, 0, 0, number].into())
    }

    type Entering<'a> = Pin<Box<dyn Future<Output = Turn> + 'a>>;

    fn look(entering: &mut Entering<'_>) -> Poll<Turn> {
        entering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// One that has to wait: where nobody waits yet, those before it take the turns that there are.
    fn begin<'a>(
        connects: &'a Connects,
        number: u8,
        has_left: impl Fn() -> bool + Copy + 'a,
    ) -> (Entering<'a>, Poll<Turn>) {
        loop {
            let is_first = connects.waiting() == 0;
            let mut entering: Entering<'a> = Box::pin(connects.enter(network(number), has_left));
            let turn = look(&mut entering);
            if !is_first || turn.is_pending() {
                return (entering, turn);
            }
        }
    }

    /// Connections of these networks in their order, which wait, or are refused.
    fn waiting<'a>(connects: &'a Connects, networks: &[u8]) -> Vec<(Entering<'a>, Poll<Turn>)> {
        networks.iter().map(|number| begin(connects, *number, || false)).collect()
    }

    fn lengths(connects: &Connects) -> (usize, usize) {
        let state = connects.state.borrow();
        (state.waiting[0].len(), state.waiting[1].len())
    }

    /// One turn a second, and room for so many that wait; network 1 has failed.
    fn one_a_second(room: u64) -> Connects {
        let connects = Connects::new(1, Duration::from_secs(2 * room), Clock::new());
        (0..60).for_each(|_| connects.note(network(1), false));
        connects
    }

    #[test]
    fn where_nobody_waits_a_turn_begins_at_once() {
        let connects = Connects::new(1, TIMEOUT, Clock::new());
        let mut entering: Entering<'_> = Box::pin(connects.enter(network(1), || false));
        assert_eq!(look(&mut entering), Poll::Ready(Turn::Begins));
    }

    #[test]
    fn whoever_failed_comes_behind_the_others_and_still_has_turns() {
        let connects = one_a_second(100);
        let _waiting = waiting(&connects, &[1, 1, 1, 2, 2, 3]);
        assert_eq!(lengths(&connects), (3, 3));
        let mut order = Vec::new();
        while connects.state.borrow_mut().pop().is_some() {
            order.push(lengths(&connects));
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

    #[test]
    fn no_more_wait_than_go_on_in_time_whether_their_networks_failed_or_not() {
        let connects = one_a_second(16);
        let _failing = waiting(&connects, &[1; 20]);
        assert_eq!((lengths(&connects), connects.waiting()), ((0, 16), 16), "nobody else waits");
        let mut good = waiting(&connects, &[2; 10]);
        assert_eq!(lengths(&connects), (10, 6), "whoever failed makes room");
        assert_eq!(waiting(&connects, &[1])[0].1, Poll::Ready(Turn::Crowded), "as many go on beside others: two");
        good.extend(waiting(&connects, &[2; 10]));
        assert_eq!(lengths(&connects), (16, 0));
        assert!(good[..16].iter_mut().all(|(entering, _)| look(entering).is_pending()));
        assert!(good[16..].iter().all(|(_, turn)| *turn == Poll::Ready(Turn::Crowded)));
        let _another = waiting(&connects, &[3]);
        assert_eq!(lengths(&connects), (16, 0));
        assert_eq!(look(&mut good[15].0), Poll::Ready(Turn::Crowded), "the newest of the network with the most");
    }

    #[test]
    fn two_of_networks_that_failed_may_wait_beside_others_where_sixteen_have_room() {
        let connects = one_a_second(16);
        let _good = waiting(&connects, &[2; 4]);
        let failing = waiting(&connects, &[1; 4]);
        assert_eq!(lengths(&connects), (4, 2));
        assert_eq!(failing.iter().filter(|(_, turn)| turn.is_pending()).count(), 2);
    }

    #[test]
    fn a_connection_whose_peer_has_left_takes_no_turn_from_those_behind_it() {
        let connects = one_a_second(100);
        let left = std::cell::Cell::new(false);
        let mut gone: Vec<_> = (0..5).map(|_| begin(&connects, 2, || left.get()).0).collect();
        let (mut last, _) = begin(&connects, 3, || false);
        assert_eq!(connects.waiting(), 6);
        left.set(true);
        connects.state.borrow_mut().bucket.give_back();
        // The networks take turns; each that is gone gives its turn to the next one.
        for _ in 0..6 {
            assert!(matches!(connects.next(), Next::Served));
            gone.retain_mut(|entering| match look(entering) {
                Poll::Ready(turn) => {
                    assert_eq!(turn, Turn::Gone);
                    false
                }
                Poll::Pending => true,
            });
            if look(&mut last).is_ready() {
                break;
            }
        }
        assert_eq!(gone.len(), 4, "one was before the last connection, which has its turn in the same second");
        let at_once = connects.enter(network(4), || true);
        assert_eq!(look(&mut (Box::pin(at_once) as Entering<'_>)), Poll::Ready(Turn::Gone));
        assert_eq!(connects.waiting(), 4, "who has left does not wait");
    }
}
