//! The thread that keeps a producer going.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;

use super::Shared;
use super::client::{Context, Producer, ProducerStatus};
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
const POLL_TIME: Duration = Duration::from_millis(50);

/// One turn while records wait for room in librdkafka.
const SHORT_POLL_TIME: Duration = Duration::from_millis(2);

/// How often the limits of the topics are asked for again while records are too large for them.
const LIMITS_PAUSE: Duration = Duration::from_secs(10);

/// How often the worker is told that only some partitions do not get on; it counts the queue as away after five seconds.
const PARTIAL_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Makes producers, listens to them and gives them up.
pub(super) struct Poller {
    shared: Arc<Shared>,
    settings: KafkaSettings,
    config: ProducerConfig,
    limits_query: Option<JoinHandle<Vec<Option<usize>>>>,
    limits_asked_at: Instant,
    producer: Option<(Arc<Producer>, Arc<ProducerStatus>)>,
    backoff: Backoff,
    topics: TopicCheck,
    /// Whether a record was stored since the queue was away.
    is_confirmed: bool,
    /// Records that the producer had stored when the queue went away.
    stored_before_outage: u64,
}

/// Why a producer was listened to no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenEnd {
    /// The uplink was dropped.
    Stopped,
    /// Nothing gets through it.
    Away,
    /// A batch was too large for its topic, or the limits of the topics have changed.
    Limits,
    /// Its batches should have another size.
    BatchSize,
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
            limits_query: None,
            limits_asked_at: Instant::now(),
            producer: None,
            backoff: backoff(),
            topics,
            is_confirmed: false,
            stored_before_outage: 0,
        };
        poller.producer = Some(poller.make()?);
        Ok(poller)
    }

    /// Until the uplink is dropped.
    pub(super) fn run(mut self) {
        while !self.is_stopped() {
            let Some((mut producer, mut status)) = self.producer.take().or_else(|| self.make_or_pause()) else {
                continue;
            };
            if !self.wait_for_topics(&producer) {
                continue;
            }
            if self.ask_for_limits() {
                // Nothing was sent through the one that does not know them.
                let Some(other) = self.make_or_pause() else { continue };
                (producer, status) = other;
            }
            self.shared.open(Arc::clone(&producer), Arc::clone(&status), &self.config.limits);
            self.begin_epoch();
            let mut end = self.listen(&producer, &status);
            while end == ListenEnd::BatchSize {
                // Records wait for the next one in the order in which they came.
                self.shared.hold();
                self.drain(&producer, &status);
                let is_drained = status.outstanding.load(Ordering::Relaxed) <= 0;
                if !is_drained || status.has_large_batch.load(Ordering::Relaxed) {
                    end = ListenEnd::Limits;
                    break;
                }
                let Some(next) = self.make_or_pause() else {
                    end = ListenEnd::Away;
                    break;
                };
                (producer, status) = next;
                self.shared.open(Arc::clone(&producer), Arc::clone(&status), &self.config.limits);
                end = self.listen(&producer, &status);
            }
            self.shared.close();
            match end {
                ListenEnd::Stopped => return,
                ListenEnd::Limits | ListenEnd::BatchSize => {
                    self.drain(&producer, &status);
                    self.follow_limits(&status);
                }
                ListenEnd::Away => self.report_outage(&status),
            }
            // Purges what it still holds, and calls back for each.
            drop(producer);
            if status.stored.load(Ordering::Relaxed) > 0 || end == ListenEnd::Limits {
                self.backoff.reset();
            } else {
                self.pause(None);
            }
        }
    }

    fn make(&self) -> Result<(Arc<Producer>, Arc<ProducerStatus>), KafkaError> {
        let status = Arc::new(ProducerStatus::new(self.config.limits.batch_bytes));
        let (inbox, stats) = (Arc::clone(&self.shared.inbox), Arc::clone(&self.shared.stats));
        let context = Context::new(inbox, stats, Arc::clone(&status), Arc::clone(&self.config.watch));
        Ok((Arc::new(self.config.create(context)?), status))
    }

    fn make_or_pause(&mut self) -> Option<(Arc<Producer>, Arc<ProducerStatus>)> {
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
            let poll = || producer.poll(SHORT_POLL_TIME);
            if self.topics.is_ready(producer.client(), self.config.base(), &self.shared.stats.causes, poll) {
                return true;
            }
            self.pause(Some(producer));
        }
        false
    }

    /// Asks for the limits of the topics; whether the producer has to be another one for them.
    fn ask_for_limits(&mut self) -> bool {
        let has_changed = self.config.ask_for_limits();
        self.limits_asked_at = Instant::now();
        has_changed
    }

    /// Sessions send what they hold. Whether the queue is there shows with the first record that is stored, unless it was
    /// never away.
    fn begin_epoch(&self) {
        if self.is_confirmed {
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
    fn listen(&mut self, producer: &Producer, status: &ProducerStatus) -> ListenEnd {
        let mut progress = Progress::new(self.settings.message_timeout);
        let mut speed = Speed::new(Instant::now(), 0);
        self.stored_before_outage = 0;
        let mut last_report: Option<Instant> = None;
        loop {
            let is_waiting = self.shared.advance();
            producer.poll(if is_waiting { SHORT_POLL_TIME } else { POLL_TIME });
            self.confirm_if_stored(status);
            if self.is_stopped() {
                return ListenEnd::Stopped;
            }
            if status.is_fatal.load(Ordering::Relaxed) {
                return ListenEnd::Away;
            }
            // librdkafka says so as well when the only connection was idle and closed.
            if status.all_down.swap(false, Ordering::Relaxed) && !topics::is_reachable(producer.client()) {
                return ListenEnd::Away;
            }
            let is_partial = self.is_confirmed && self.config.watch.is_partial();
            if is_partial && last_report.is_none_or(|last| last.elapsed() >= PARTIAL_REPORT_INTERVAL) {
                // The worker hears that this is no silence of the queue.
                last_report = Some(Instant::now());
                self.shared.inbox.post_one(Receipt::Failed(DeliveryId::NOBODY));
            }
            match progress.update(status, Instant::now()) {
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
                    self.log_stall();
                    self.report_outage(status);
                }
                State::Lost => return ListenEnd::Away,
            }
            let stored_bytes = status.stored_bytes.load(Ordering::Relaxed);
            if speed.measure(stored_bytes, FAST as u64, Instant::now()) == Some(true) {
                self.config.limits.note_speed(true);
            }
            if self.wants_other_limits(status) {
                return ListenEnd::Limits;
            }
            if self.is_confirmed && self.config.limits.batch_bytes != status.batch_bytes() {
                return ListenEnd::BatchSize;
            }
            if self.shared.has_room_again() {
                self.begin_epoch();
            }
        }
    }

    /// Notes the first record that is stored.
    fn confirm_if_stored(&mut self, status: &ProducerStatus) {
        if !self.is_confirmed && status.stored.load(Ordering::Relaxed) > self.stored_before_outage {
            self.is_confirmed = true;
            self.shared.inbox.confirm();
            self.shared.stats.causes.forget();
            tracing::info!("Kafka is ready");
        }
    }

    fn log_stall(&self) {
        count(&self.shared.stats.stalls);
        if self.is_confirmed {
            tracing::warn!("Kafka stored nothing for five seconds");
        } else {
            tracing::debug!("Kafka still stores nothing");
        }
    }

    fn report_outage(&mut self, status: &ProducerStatus) {
        self.confirm_if_stored(status);
        self.stored_before_outage = status.stored.load(Ordering::Relaxed);
        // It may be the link that has become slow.
        self.config.limits.note_speed(false);
        if std::mem::take(&mut self.is_confirmed) {
            count(&self.shared.stats.outages);
            self.shared.inbox.report(Availability::Away);
            tracing::warn!("Kafka is away");
        }
    }

    /// Whether the producer has to be another one for the sake of its batches or of the limits of the topics.
    fn wants_other_limits(&mut self, status: &ProducerStatus) -> bool {
        if status.has_large_batch.load(Ordering::Relaxed) {
            return true;
        }
        if let Some(query) = self.limits_query.take_if(|query| query.is_finished()) {
            let before = self.config.limits.clone();
            self.config.limits.hear(&query.join().unwrap_or_default());
            return before != self.config.limits;
        }
        // Where a record was refused the limit may have been raised for it since. Deliveries are heard meanwhile.
        if self.limits_query.is_none()
            && self.limits_asked_at.elapsed() > LIMITS_PAUSE
            && status.has_large_record.swap(false, Ordering::Relaxed)
        {
            self.limits_asked_at = Instant::now();
            let (config, topics) = (self.config.base().clone(), self.config.limits.topics());
            let asking = thread::Builder::new().name("kafka-question".to_owned());
            self.limits_query = asking.spawn(move || limits::ask(&config, &topics)).ok();
        }
        false
    }

    /// Lets everything out that the producer has, so that no record of it comes behind one of the next.
    fn drain(&self, producer: &Producer, status: &ProducerStatus) {
        let deadline = Instant::now() + self.settings.message_timeout;
        while status.outstanding.load(Ordering::Relaxed) > 0 && Instant::now() < deadline && !self.is_stopped() {
            producer.poll(SHORT_POLL_TIME);
        }
    }

    /// Makes batches smaller if one was too large.
    fn follow_limits(&mut self, status: &ProducerStatus) {
        if status.has_large_batch.load(Ordering::Relaxed) {
            self.ask_for_limits();
            self.config.limits.shrink(status.batch_bytes());
            tracing::warn!(
                batch_bytes = self.config.limits.batch_bytes,
                "a batch was larger than its topic takes; batches are smaller from now on"
            );
        }
    }
}
