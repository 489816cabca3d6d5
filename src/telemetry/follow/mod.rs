//! Operators who follow envelopes, or the steps of one device, product or address, while they happen.
//!
//! 1. An operator's request becomes a follower: [`Followers::follow`] with a [`Filter`]. Its lines wait in a bounded queue
//!    ([`Lines`]) until they are read; more are dropped and counted. Dropping [`Lines`] ends the following.
//! 2. Sessions and endpoints tell their [`Step`](crate::session::step::Step)s only while there is a follower: without one a
//!    message costs one look at a number ([`WorkerFollowers::is_followed`]).
//! 3. [`WorkerFollowers::step`] compares a step with the filters, and writes it as one line of JSON if one fits: once, however
//!    many follow. It never waits: each worker has a copy of the list of followers, and asks for it again when that changes.

mod envelope;
mod filter;
mod line;
mod queue;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::line::following;
use self::queue::LineReceiver;
pub use self::queue::{Bounds, Line, LineSender};
pub use self::worker::WorkerFollowers;
use crate::replica::request::Filter;

/// Followers at once, of operators and of other replicas.
pub const FOLLOWERS_MAX: usize = 48;

/// All followers of this replica.
#[derive(Debug)]
pub struct Followers {
    replica_id: String,
    list: Mutex<Vec<Arc<Follower>>>,
    /// Length of the list.
    count: AtomicUsize,
    /// Number of changes of the list.
    version: AtomicU64,
}

#[derive(Debug)]
struct Follower {
    filter: Filter,
    sender: LineSender,
}

impl Followers {
    /// Nobody follows yet. The replica's id stands in each line.
    pub fn new(replica_id: &str) -> Self {
        Self {
            replica_id: replica_id.to_owned(),
            list: Mutex::default(),
            count: AtomicUsize::new(0),
            version: AtomicU64::new(0),
        }
    }

    /// Follows what the filter lets pass, until the lines are dropped. `None`: as many follow as may.
    pub fn follow(self: &Arc<Self>, filter: Filter, bounds: Bounds) -> Option<Lines> {
        let (sender, receiver) = queue::lines(bounds);
        let follower = Arc::new(Follower { filter, sender });
        let mut list = self.lock();
        if list.len() >= FOLLOWERS_MAX {
            return None;
        }
        list.push(Arc::clone(&follower));
        self.note_change(&list);
        Some(Lines { followers: Arc::clone(self), follower, receiver })
    }

    /// The view of one worker.
    pub fn worker(self: &Arc<Self>) -> WorkerFollowers {
        WorkerFollowers::new(Arc::clone(self))
    }

    fn note_change(&self, list: &[Arc<Follower>]) {
        self.count.store(list.len(), Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Follower>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines of one follower.
#[derive(Debug)]
pub struct Lines {
    followers: Arc<Followers>,
    follower: Arc<Follower>,
    receiver: LineReceiver,
}

impl Lines {
    /// Waits for the next line, or for the number of those that were dropped in its place. Safe to drop.
    pub async fn next(&mut self) -> Line {
        self.receiver.next().await
    }

    /// The next line, or the number of those that were dropped in its place, if there is any.
    pub fn take(&mut self) -> Option<Line> {
        self.receiver.take()
    }

    /// The way to add lines from elsewhere; without effect once these are gone.
    pub fn sender(&self) -> LineSender {
        self.follower.sender.clone()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut list = self.followers.lock();
        list.retain(|follower| !Arc::ptr_eq(follower, &self.follower));
        self.followers.note_change(&list);
    }
}
