//! The followers as one worker sees them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::envelope::{self, Envelope};
use super::{Follower, Followers, line};
use crate::replica::request::Filter;
use crate::session::step::{Action, Peer, Step};

/// The followers, for one worker.
#[derive(Debug)]
pub struct WorkerFollowers {
    followers: Arc<Followers>,
    /// The list as it was at that version.
    list: Vec<Arc<Follower>>,
    version: u64,
}

impl WorkerFollowers {
    pub(super) fn new(followers: Arc<Followers>) -> Self {
        Self { followers, list: Vec::new(), version: 0 }
    }

    /// Whether somebody follows. One relaxed load: it is asked for each message.
    #[inline]
    pub fn is_followed(&self) -> bool {
        self.followers.count.load(Ordering::Relaxed) > 0
    }

    /// Gives a step to those who follow it. `now_ms` reads the clock, ms since 1970. Never waits, but for a moment when the
    /// list of followers has changed.
    pub fn step(&mut self, peer: Peer<'_>, step: &Step<'_>, now_ms: impl FnOnce() -> u64) {
        let version = self.followers.version.load(Ordering::Relaxed);
        if version != self.version {
            self.list.clone_from(&self.followers.lock());
            self.version = version;
        }
        let mut envelope: Option<Envelope> = None;
        let (mut traced, mut whole): (Option<Bytes>, Option<Bytes>) = (None, None);
        let mut now_ms = Some(now_ms);
        let replica_id = &self.followers.replica_id;
        for Follower { filter, sender } in self.list.iter().map(|follower| &**follower) {
            if !filter.takes(step, peer, &mut envelope) {
                continue;
            }
            let text = match (filter, step.action) {
                (Filter::Envelopes { .. }, Action::Envelope(record)) => {
                    whole.get_or_insert_with(|| envelope::line(replica_id, record))
                }
                _ => traced.get_or_insert_with(|| {
                    let now_ms = now_ms.take().map_or(0, |now_ms| now_ms());
                    line::trace(replica_id, now_ms, peer, step, &mut envelope)
                }),
            };
            sender.offer(text);
        }
    }
}
