//! Room that the connections of a worker share, by network.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use tokio::sync::oneshot;

use crate::protocol::network::Network;
use crate::protocol::shares::{Room, Waiting};

/// Connections that may wait for room; the newest of the network that has most of them is refused for one more.
const WAITING_MAX: usize = 256;

/// The room of one worker. Cheap to clone.
#[derive(Clone)]
pub struct SharedRoom(Rc<RefCell<Shared>>);

struct Shared {
    room: Room,
    waiting: Waiting<Ask>,
}

struct Ask {
    bytes: usize,
    answer: oneshot::Sender<RoomPermit>,
}

/// A part of the room, given back when dropped.
pub struct RoomPermit {
    room: SharedRoom,
    network: Network,
    bytes: usize,
}

impl SharedRoom {
    /// Room for so many bytes; at least three times the largest part that is asked for.
    pub fn new(bytes: usize) -> Self {
        Self(Rc::new(RefCell::new(Shared { room: Room::new(bytes), waiting: Waiting::default() })))
    }

    /// Takes a part if there is one.
    pub fn try_take(&self, network: Network, bytes: usize) -> Option<RoomPermit> {
        let is_taken = self.0.borrow_mut().room.take(network, bytes);
        is_taken.then(|| RoomPermit { room: self.clone(), network, bytes })
    }

    /// Takes a part, when there is one; `None`: too many wait.
    pub async fn take(&self, network: Network, bytes: usize) -> Option<RoomPermit> {
        if let Some(permit) = self.try_take(network, bytes) {
            return Some(permit);
        }
        let (answer, answered) = oneshot::channel();
        // Whoever is refused learns it when its sender is dropped.
        drop(self.0.borrow_mut().waiting.push(network, Ask { bytes, answer }, WAITING_MAX));
        answered.await.ok()
    }

    /// Gives those who wait what there is.
    fn serve(&self) {
        loop {
            let next = {
                let Shared { room, waiting } = &mut *self.0.borrow_mut();
                let mut taken = None;
                let ask = waiting.pop_fitting(|network, ask| {
                    // Whoever does not wait any more needs none.
                    let is_over = ask.answer.is_closed();
                    taken = (!is_over && room.take(network, ask.bytes)).then_some(network);
                    is_over || taken.is_some()
                });
                ask.map(|ask| (ask, taken))
            };
            let Some((ask, network)) = next else { break };
            if let Some(network) = network {
                // What comes back is given to the next one.
                drop(ask.answer.send(RoomPermit { room: self.clone(), network, bytes: ask.bytes }));
            }
        }
    }
}

impl Drop for RoomPermit {
    fn drop(&mut self) {
        self.room.0.borrow_mut().room.give(self.network, self.bytes);
        self.room.serve();
    }
}

impl fmt::Debug for RoomPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomPermit").field("network", &self.network).field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn network(number: u8) -> Network {
        Network::of([10, 0, 0, number].into())
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_waits_gets_a_part_as_soon_as_one_is_given_back_and_others_are_not_kept_by_it() {
        let room = SharedRoom::new(900);
        let held: Vec<RoomPermit> = std::iter::from_fn(|| room.try_take(network(1), 300)).collect();
        assert_eq!(held.len(), 2);
        let (mut own, mut later) = (pin!(room.take(network(1), 300)), pin!(room.take(network(1), 300)));
        assert!(poll(own.as_mut()).is_pending() && poll(later.as_mut()).is_pending());
        let other = poll(pin!(room.take(network(2), 300)));
        assert!(matches!(other, Poll::Ready(Some(_))), "another network does not wait behind it");
        drop(other);
        assert!(poll(own.as_mut()).is_pending(), "what is free is not for a network that has more than that");
        drop(held);
        let (first, second) = (poll(own.as_mut()), poll(later.as_mut()));
        assert!(matches!((&first, &second), (Poll::Ready(Some(_)), Poll::Ready(Some(_)))));
        drop((first, second));
        assert!(room.try_take(network(3), 900).is_some(), "all of it was given back");
    }

    #[test]
    fn who_gave_up_waiting_takes_nothing_and_the_newest_of_too_many_is_refused() {
        let room = SharedRoom::new(3);
        let held = (room.try_take(network(1), 1), room.try_take(network(1), 1));
        {
            let mut gone = pin!(room.take(network(1), 1));
            assert!(poll(gone.as_mut()).is_pending());
        }
        drop(held);
        assert!(room.try_take(network(2), 3).is_some());

        let all = room.try_take(network(1), 3);
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(room.take(network(1), 1))).collect();
        assert!(waiting.iter_mut().all(|waiting| poll(waiting.as_mut()).is_pending()));
        assert!(matches!(poll(pin!(room.take(network(1), 1))), Poll::Ready(None)));
        let mut other = pin!(room.take(network(2), 1));
        assert!(poll(other.as_mut()).is_pending());
        let refused = waiting.iter_mut().filter_map(|waiting| match poll(waiting.as_mut()) {
            Poll::Ready(permit) => Some(permit.is_none()),
            Poll::Pending => None,
        });
        assert_eq!(
            refused.collect::<Vec<_>>(),
            [true],
            "the newest of the longest line makes room for another network"
        );
        drop(all);
        assert!(matches!(poll(other.as_mut()), Poll::Ready(Some(_))));
    }
}
