//! Counters of the NATS queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::queue::count;

/// Counts since start, over all workers that share it.
#[derive(Debug, Default)]
pub struct NatsStats {
    /// Records handed to the connection, each sending counted.
    pub published: AtomicU64,
    /// Positive acknowledgements.
    pub stored: AtomicU64,
    /// Negative acknowledgements, and records that the server would not take for their size.
    pub failed: AtomicU64,
    /// Records not taken because the queue was away or the local buffer full.
    pub refused: AtomicU64,
    /// Times that the uplink went away after it had been reached.
    pub outages: AtomicU64,
    /// Times that nothing was acknowledged for five seconds with records outstanding.
    pub stalls: AtomicU64,
    /// Answers to records from somebody else than the stream of the configuration.
    pub foreign_acknowledgements: AtomicU64,
    /// Times that later records were acknowledged and earlier ones not.
    pub acknowledgements_skipped: AtomicU64,
    /// Commands handed to a worker.
    pub commands: AtomicU64,
    /// Commands lost because more came than may wait for the workers.
    pub commands_dropped: AtomicU64,
    /// Bytes of the commands that wait for the workers.
    pub(super) waiting_bytes: AtomicUsize,
    /// Commands refused for their reply subject.
    pub reply_subjects_refused: AtomicU64,
    /// Outcomes sent to their caller.
    pub answers: AtomicU64,
    /// Outcomes lost because too many waited while the server was away.
    pub answers_dropped: AtomicU64,
    /// Interests of sessions that were let in without proof that the server has them, because it was away or slow or
    /// refused them.
    pub unconfirmed_interests: AtomicU64,
    /// Interests that the server refuses at the moment, as far as the client tells: of many at once it names 128.
    pub refused_interests: AtomicU64,
    foreign_streams: Mutex<ForeignStreams>,
    foreign_answerers: Mutex<Vec<String>>,
}

/// Streams of others over the bridge's subjects, as last seen.
#[derive(Debug, Default)]
struct ForeignStreams {
    /// By the domain that was asked; the empty one is that of the server.
    by_domain: BTreeMap<String, BTreeSet<String>>,
    /// When the last look began.
    looked_at: Option<Instant>,
}

/// Names of those who answer records and should not, that are remembered; further ones are counted alone.
const ANSWERERS_MAX: usize = 16;

impl NatsStats {
    /// Streams of others that store what goes over these subjects, as last seen: commands, of which an acknowledgement
    /// answers in the device's place, or copies of what devices say.
    pub fn foreign_streams(&self) -> Vec<String> {
        self.streams().by_domain.values().flatten().cloned().collect()
    }

    /// Whether it is time to look at streams: the last look began at least `pause` ago. Then another one begins now.
    pub(super) fn begin_look(&self, pause: Duration) -> bool {
        let (now, mut streams) = (Instant::now(), self.streams());
        let is_due = streams.looked_at.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if is_due {
            streams.looked_at = Some(now);
        }
        is_due
    }

    /// Notes what a look in that domain has found; those that were not there before, and those that are gone.
    pub(super) fn note_foreign_streams(&self, domain: &str, found: BTreeSet<String>) -> (Vec<String>, Vec<String>) {
        let mut streams = self.streams();
        let known = streams.by_domain.entry(domain.to_owned()).or_default();
        let appeared = found.difference(known).cloned().collect();
        let gone = known.difference(&found).cloned().collect();
        *known = found;
        (appeared, gone)
    }

    fn streams(&self) -> MutexGuard<'_, ForeignStreams> {
        self.foreign_streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer of somebody else; whether this one is heard of for the first time.
    pub(super) fn note_foreign(&self, answerer: &str) -> bool {
        count(&self.foreign_acknowledgements);
        let mut known = self.foreign_answerers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.len() < ANSWERERS_MAX && !known.iter().any(|name| name == answerer);
        if is_new {
            known.push(answerer.to_owned());
        }
        is_new
    }
}
