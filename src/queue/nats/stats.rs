//! Counters of the NATS queue.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

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
    /// Acknowledgements lost because their subscription was full; a lower bound, as the client tells of
    /// a flood only by its first losses.
    pub acknowledgements_dropped: AtomicU64,
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
    /// Sessions let in without proof that the server has their interest, because the server was away or slow.
    pub unconfirmed_interests: AtomicU64,
    covering_stream: Mutex<Option<String>>,
    foreign_answerers: Mutex<Vec<String>>,
}

/// Names of those who answer records and should not, that are remembered; further ones are counted alone.
const ANSWERERS_MAX: usize = 16;

impl NatsStats {
    /// The stream that stores commands by mistake, as last seen: its acknowledgement would answer in the device's
    /// place.
    pub fn covering_stream(&self) -> Option<String> {
        self.covering_stream.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    pub(super) fn note_covering_stream(&self, name: Option<String>) {
        *self.covering_stream.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
