//! The thread that keeps a producer going.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;

use super::Shared;
use super::client::{Context, Notes, Producer};
use super::progress::{Progress, Speed, State};
use crate::protocol::backoff::Backoff;
use crate::protocol::uplink::{Availability, DeliveryId, Receipt};
use crate::queue::backoff;
use crate::queue::kafka::connection::Subject;
use crate::queue::kafka::connection::topics::{self, TopicCheck};
use crate::queue::kafka::producer::ProducerConfig;
use crate::queue::kafka::producer::limits::{self, FAST};
use crate::queue::kafka::stats::count;
use crate::queue::kafka::{KafkaError, KafkaSettings};

/// One turn of listening. librdkafka calls back at once inside it; its end is only for looking around.
const TURN: Duration = Duration::from_millis(50);

/// One turn while records wait for room in librdkafka.
const SHORT_TURN: Duration = Duration::from_millis(2);

/// How often the limits of the topics are asked for again while records are too large for them.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How often the worker is told that only some partitions do not get on; it counts the queue as away after five seconds.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Makes producers, listens to them and gives them up.
pub(super) struct Poller {
    shared: Arc<Shared>,
    settings: KafkaSettings,
    config: ProducerConfig,
    question: Option<JoinHandle<Vec<Option<usize>>>>,
    asked: Instant,
    producer: Option<(Arc<Producer>, Arc<Notes>)>,
    backoff: Backoff,
    topics: TopicCheck,
    /// Whether a record was stored since the queue was away.
    is_proved: bool,
    /// Records that the producer had stored when the queue went away.
    stored_before: u64,
}

/// Why a producer was listened to no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The uplink was dropped.
    Stopped,
    /// Nothing gets through it.
    Away,
    /// A batch was too large for its topic, or the limits of the topics have changed.
    Limits,
    /// Its batches should have another size.
    Size,
}

impl Poller {
    /// With its first producer.
    pub(super) fn new(shared: Arc<Shared>, settings: KafkaSettings) -> Result<Self, KafkaError> {
        let names = [settings.uplink_topic.as_str(), settings.rejected_topic.as_str()];
        let topics = TopicCheck::new(Subject::Records, &names, settings.create_topics);
        let causes = Arc::clone(&shared.stats.causes);
        let config = ProducerConfig::new(&settings, Subject::Records, &names, causes)?;
        let mut poller = Self {
            shared,
            settings,
            config,
            question: None,
            asked: Instant::now(),
            producer: None,
            backoff: backoff(),
            topics,
            is_proved: false,
            stored_before: 0,
        };
        poller.producer = Some(poller.make()?);
        Ok(poller)
    }

    /// Until the uplink is dropped.
    pub(super) fn run(mut self) {
        while !self.is_stopped() {
            let Some((mut producer, mut notes)) = self.producer.take().or_else(|| self.make_or_pause()) else {
                continue;
            };
            if !self.wait_for_topics(&producer) {
                continue;
            }
            if self.ask_for_limits() {
                // Nothing was sent through the one that does not know them.
                let Some(other) = self.make_or_pause() else { continue };
                (producer, notes) = other;
            }
            self.shared.open(Arc::clone(&producer), Arc::clone(&notes), &self.config.limits);
            self.begin_epoch();
            let mut end = self.listen(&producer, &notes);
            while end == End::Size {
                // Records wait for the next one in the order in which they came.
                self.shared.hold();
                self.drain(&producer, &notes);
                let is_drained = notes.outstanding.load(Ordering::Relaxed) <= 0;
                if !is_drained || notes.has_large_batch.load(Ordering::Relaxed) {
                    end = End::Limits;
                    break;
                }
                let Some(next) = self.make_or_pause() else {
                    end = End::Away;
                    break;
                };
                (producer, notes) = next;
                self.shared.open(Arc::clone(&producer), Arc::clone(&notes), &self.config.limits);
                end = self.listen(&producer, &notes);
            }
            self.shared.close();
            match end {
                End::Stopped => return,
                End::Limits | End::Size => {
                    self.drain(&producer, &notes);
                    self.follow_limits(&notes);
                }
                End::Away => self.leave(&notes),
            }
            // Purges what it still holds, and calls back for each.
            drop(producer);
            if notes.stored.load(Ordering::Relaxed) > 0 || end == End::Limits {
                self.backoff.reset();
            } else {
                self.pause(None);
            }
        }
    }

    fn make(&self) -> Result<(Arc<Producer>, Arc<Notes>), KafkaError> {
        let notes = Arc::new(Notes::new(self.config.limits.batch_bytes));
        let (inbox, stats) = (Arc::clone(&self.shared.inbox), Arc::clone(&self.shared.stats));
        let context = Context::new(inbox, stats, Arc::clone(&notes), Arc::clone(&self.config.watch));
        Ok((Arc::new(self.config.create(context)?), notes))
    }

    fn make_or_pause(&mut self) -> Option<(Arc<Producer>, Arc<Notes>)> {
        let made = self.make();
        made.map_err(|error| {
            tracing::error!(%error, "no Kafka producer can be made");
            self.pause(None);
        })
        .ok()
    }

    fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Relaxed)
    }

    /// Asks for the topics until they are there; false when the uplink was dropped meanwhile.
    fn wait_for_topics(&mut self, producer: &Producer) -> bool {
        while !self.is_stopped() {
            let hear = || producer.poll(SHORT_TURN);
            if self.topics.is_ready(producer.client(), self.config.base(), &self.shared.stats.causes, hear) {
                return true;
            }
            self.pause(Some(producer));
        }
        false
    }

    /// Asks for the limits of the topics; whether the producer has to be another one for them.
    fn ask_for_limits(&mut self) -> bool {
        let has_changed = self.config.ask_for_limits();
        self.asked = Instant::now();
        has_changed
    }

    /// Sessions send what they hold. Whether the queue is there shows with the first record that is stored, unless it was
    /// never away.
    fn begin_epoch(&self) {
        if self.is_proved {
            self.shared.inbox.report(Availability::Ok);
        } else {
            self.shared.inbox.begin_epoch();
        }
    }

    /// Waits a little, listening to the producer if there is one.
    fn pause(&mut self, producer: Option<&Producer>) {
        let pause = self.backoff.pause();
        match producer {
            Some(producer) => producer.poll(pause),
            None => thread::sleep(pause),
        }
    }

    /// Listens until there is trouble.
    fn listen(&mut self, producer: &Producer, notes: &Notes) -> End {
        let mut progress = Progress::new(self.settings.message_timeout);
        let mut speed = Speed::new(Instant::now(), 0);
        self.stored_before = 0;
        let mut told: Option<Instant> = None;
        loop {
            let is_waiting = self.shared.advance();
            producer.poll(if is_waiting { SHORT_TURN } else { TURN });
            self.prove(notes);
            if self.is_stopped() {
                return End::Stopped;
            }
            if notes.is_fatal.load(Ordering::Relaxed) {
                return End::Away;
            }
            // librdkafka says so as well when the only connection was idle and closed.
            if notes.all_down.swap(false, Ordering::Relaxed) && !topics::is_reachable(producer.client()) {
                return End::Away;
            }
            let is_partial = self.is_proved && self.config.watch.is_partial();
            if is_partial && told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                // The worker hears that this is no silence of the queue.
                told = Some(Instant::now());
                self.shared.inbox.post_one(Receipt::Failed(DeliveryId::NOBODY));
            }
            match progress.look(notes, Instant::now()) {
                State::Well => {}
                // Perhaps it is the partition of one record that does not get on. A record of the bridge itself tells,
                // unless it is in such a partition, too, while the others can be written to.
                State::Doubtful => {
                    self.shared.inbox.ask_for_heartbeat();
                }
                State::Stalled if is_partial => {
                    progress = Progress::new(self.settings.message_timeout);
                }
                // The producer stays: what it has sent may be on its way, and under the numbers of another one it would be
                // stored behind what that one sends.
                State::Stalled => {
                    self.stalled();
                    self.leave(notes);
                }
                State::Lost => return End::Away,
            }
            let stored_bytes = notes.stored_bytes.load(Ordering::Relaxed);
            if speed.look(stored_bytes, FAST as u64, Instant::now()) == Some(true) {
                self.config.limits.note_speed(true);
            }
            if self.wants_other_limits(notes) {
                return End::Limits;
            }
            if self.is_proved && self.config.limits.batch_bytes != notes.batch_bytes() {
                return End::Size;
            }
            if self.shared.has_room_again() {
                self.begin_epoch();
            }
        }
    }

    /// Notes the first record that is stored.
    fn prove(&mut self, notes: &Notes) {
        if !self.is_proved && notes.stored.load(Ordering::Relaxed) > self.stored_before {
            self.is_proved = true;
            self.shared.inbox.confirm();
            self.shared.stats.causes.forget();
            tracing::info!("Kafka is ready");
        }
    }

    fn stalled(&self) {
        count(&self.shared.stats.stalls);
        if self.is_proved {
            tracing::warn!("Kafka stored nothing for five seconds");
        } else {
            tracing::debug!("Kafka still stores nothing");
        }
    }

    fn leave(&mut self, notes: &Notes) {
        self.prove(notes);
        self.stored_before = notes.stored.load(Ordering::Relaxed);
        // It may be the link that has become slow.
        self.config.limits.note_speed(false);
        if std::mem::take(&mut self.is_proved) {
            count(&self.shared.stats.outages);
            self.shared.inbox.report(Availability::Away);
            tracing::warn!("Kafka is away");
        }
    }

    /// Whether the producer has to be another one for the sake of its batches or of the limits of the topics.
    fn wants_other_limits(&mut self, notes: &Notes) -> bool {
        if notes.has_large_batch.load(Ordering::Relaxed) {
            return true;
        }
        if let Some(question) = self.question.take_if(|question| question.is_finished()) {
            let before = self.config.limits.clone();
            self.config.limits.hear(&question.join().unwrap_or_default());
            return before != self.config.limits;
        }
        // Where a record was refused the limit may have been raised for it since. Deliveries are heard meanwhile.
        if self.question.is_none()
            && self.asked.elapsed() > ASK_AGAIN
            && notes.has_large_record.swap(false, Ordering::Relaxed)
        {
            self.asked = Instant::now();
            let (config, topics) = (self.config.base().clone(), self.config.limits.topics());
            let asking = thread::Builder::new().name("kafka-question".to_owned());
            self.question = asking.spawn(move || limits::ask(&config, &topics)).ok();
        }
        false
    }

    /// Lets everything out that the producer has, so that no record of it comes behind one of the next.
    fn drain(&self, producer: &Producer, notes: &Notes) {
        let deadline = Instant::now() + self.settings.message_timeout;
        while notes.outstanding.load(Ordering::Relaxed) > 0 && Instant::now() < deadline && !self.is_stopped() {
            producer.poll(SHORT_TURN);
        }
    }

    /// Makes batches smaller if one was too large.
    fn follow_limits(&mut self, notes: &Notes) {
        if notes.has_large_batch.load(Ordering::Relaxed) {
            self.ask_for_limits();
            self.config.limits.shrink(notes.batch_bytes());
            tracing::warn!(
                batch_bytes = self.config.limits.batch_bytes,
                "a batch was larger than its topic takes; batches are smaller from now on"
            );
        }
    }
}
