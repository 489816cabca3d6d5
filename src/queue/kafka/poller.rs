//! The thread that keeps a producer going.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::Producer as _;

use super::client::{self, Context, Notes, Producer};
use super::stats::count;
use super::topics::{self, TopicTrouble};
use super::uplink::Shared;
use super::{KafkaError, KafkaSettings};
use crate::protocol::uplink::Availability;
use crate::queue::Backoff;

/// One turn of listening. librdkafka calls back at once inside it; its end is only for looking around.
const TURN: Duration = Duration::from_millis(50);

/// One turn while records wait for room in librdkafka.
const SHORT_TURN: Duration = Duration::from_millis(2);

/// With records outstanding and nothing stored for this long the queue counts as away.
const STALL: Duration = Duration::from_secs(5);

/// Makes producers, listens to them and gives them up.
pub(super) struct Poller {
    shared: Arc<Shared>,
    settings: KafkaSettings,
    config: ClientConfig,
    producer: Option<(Arc<Producer>, Arc<Notes>)>,
    backoff: Backoff,
    last_trouble: Option<TopicTrouble>,
}

impl Poller {
    /// With its first producer.
    pub(super) fn new(shared: Arc<Shared>, settings: KafkaSettings, config: ClientConfig) -> Result<Self, KafkaError> {
        let mut poller = Self { shared, settings, config, producer: None, backoff: Backoff::new(), last_trouble: None };
        poller.producer = Some(poller.make()?);
        Ok(poller)
    }

    /// Until the uplink is dropped.
    pub(super) fn run(mut self) {
        while !self.is_stopped() {
            let (producer, notes) = match self.producer.take() {
                Some(producer) => producer,
                None => match self.make() {
                    Ok(producer) => producer,
                    Err(error) => {
                        tracing::error!(%error, "no Kafka producer can be made");
                        self.pause(None);
                        continue;
                    }
                },
            };
            if !self.prepare(&producer, &notes) {
                continue;
            }
            self.shared.open(Arc::clone(&producer), Arc::clone(&notes));
            self.shared.inbox.report(Availability::Ok);
            tracing::info!("connected to Kafka");
            let has_stored = self.listen(&producer, &notes);
            self.shared.close();
            if self.is_stopped() {
                return;
            }
            count(&self.shared.stats.outages);
            self.shared.inbox.report(Availability::Away);
            tracing::warn!("Kafka is away");
            // Purges what it holds, and calls back for each.
            drop(producer);
            if has_stored {
                self.backoff.reset();
            } else {
                self.pause(None);
            }
        }
    }

    fn make(&self) -> Result<(Arc<Producer>, Arc<Notes>), KafkaError> {
        let notes = Arc::new(Notes::default());
        let context = Context::new(Arc::clone(&self.shared.inbox), Arc::clone(&self.shared.stats), Arc::clone(&notes));
        Ok((Arc::new(client::producer(&self.config, context)?), notes))
    }

    fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Relaxed)
    }

    /// Asks for the topics until they are there; false when the uplink was dropped meanwhile.
    fn prepare(&mut self, producer: &Producer, notes: &Notes) -> bool {
        while !self.is_stopped() {
            let settings = &self.settings;
            let names = [settings.uplink_topic.as_str(), settings.rejected_topic.as_str()];
            let prepared = topics::prepare(producer.client(), &self.config, &names, settings.create_topics);
            let Err(mut trouble) = prepared else {
                self.last_trouble = None;
                return true;
            };
            if let TopicTrouble::Unanswered(cause) = &mut trouble {
                // The question itself fails with no more than that it was not answered.
                producer.poll(Duration::ZERO);
                *cause = notes.cause().unwrap_or_else(|| std::mem::take(cause));
            }
            if self.last_trouble.as_ref() != Some(&trouble) {
                if trouble.needs_a_human() {
                    tracing::error!(cause = %trouble, "Kafka cannot be used");
                } else {
                    tracing::warn!(cause = %trouble, "waiting for Kafka");
                }
                self.last_trouble = Some(trouble);
            }
            self.pause(Some(producer));
        }
        false
    }

    /// Waits a little, listening to the producer if there is one.
    fn pause(&mut self, producer: Option<&Producer>) {
        let pause = self.backoff.pause();
        match producer {
            Some(producer) => producer.poll(pause),
            None => thread::sleep(pause),
        }
    }

    /// Listens until there is trouble; true when something was stored.
    fn listen(&mut self, producer: &Producer, notes: &Notes) -> bool {
        let mut progress = Progress::new();
        loop {
            let is_waiting = self.shared.advance();
            producer.poll(if is_waiting { SHORT_TURN } else { TURN });
            let has_stored = notes.stored.load(Ordering::Relaxed) > 0;
            if self.is_stopped() || notes.is_fatal.load(Ordering::Relaxed) {
                return has_stored;
            }
            // librdkafka says so as well when the only connection was idle and closed.
            if notes.all_down.swap(false, Ordering::Relaxed) && !topics::is_reachable(producer.client()) {
                return has_stored;
            }
            if progress.is_stalled(notes, Instant::now()) {
                count(&self.shared.stats.stalls);
                tracing::warn!("Kafka stored nothing for five seconds");
                return has_stored;
            }
            if self.shared.has_room_again() {
                self.shared.inbox.report(Availability::Ok);
            }
        }
    }
}

/// Whether a producer gets anywhere.
struct Progress {
    stored: u64,
    failed: u64,
    since: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { stored: 0, failed: 0, since: None }
    }

    /// Whether records have been outstanding or coming back for [`STALL`] without one that was stored.
    fn is_stalled(&mut self, notes: &Notes, now: Instant) -> bool {
        let stored = notes.stored.load(Ordering::Relaxed);
        let failed = notes.failed.load(Ordering::Relaxed);
        let is_idle = notes.outstanding.load(Ordering::Relaxed) <= 0 && failed == self.failed;
        if stored != self.stored || is_idle && self.since.is_none() {
            self.stored = stored;
            self.failed = failed;
            self.since = None;
            return false;
        }
        now.saturating_duration_since(*self.since.get_or_insert(now)) >= STALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_stalls_when_records_wait_or_come_back_and_none_is_stored() {
        let (notes, start) = (Notes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new();
        assert!(!progress.is_stalled(&notes, at(0)));
        assert!(!progress.is_stalled(&notes, at(100)), "an idle producer does not stall");
        notes.outstanding.store(1, Ordering::Relaxed);
        assert!(!progress.is_stalled(&notes, at(101)));
        assert!(!progress.is_stalled(&notes, at(105)));
        notes.stored.store(1, Ordering::Relaxed);
        assert!(!progress.is_stalled(&notes, at(107)), "one was stored");
        assert!(!progress.is_stalled(&notes, at(108)));
        assert!(progress.is_stalled(&notes, at(113)));
        let mut progress = Progress::new();
        notes.outstanding.store(0, Ordering::Relaxed);
        notes.stored.store(0, Ordering::Relaxed);
        notes.failed.store(3, Ordering::Relaxed);
        assert!(!progress.is_stalled(&notes, at(200)));
        assert!(progress.is_stalled(&notes, at(205)), "all came back");
    }
}
