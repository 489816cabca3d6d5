//! The thread that makes a producer, polls it for deliveries, and replaces it when it has to.

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
use crate::queue::count;
use crate::queue::kafka::connection::Subject;
use crate::queue::kafka::connection::topics::{self, TopicCheck};
use crate::queue::kafka::producer::ProducerConfig;
use crate::queue::kafka::producer::limits::{self, FAST};
use crate::queue::kafka::{KafkaError, KafkaSettings};

/// How long one poll for deliveries lasts. librdkafka calls back during it as soon as it has something; the poller checks
/// everything else between two polls.
const POLL_TIME: Duration = Duration::from_millis(50);

/// The same while records wait for room in librdkafka.
const SHORT_POLL_TIME: Duration = Duration::from_millis(2);

/// How often the limits of the topics are asked for again while records are too large for them.
const LIMITS_PAUSE: Duration = Duration::from_secs(10);

/// Interval of the receipts that keep the worker from counting the queue as away while only some partitions store nothing:
/// after five seconds without any receipt it does.
const PARTIAL_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Makes the producers of one uplink, one after the other, and polls the present one.
pub(super) struct Poller {
    shared: Arc<Shared>,
    settings: KafkaSettings,
    config: ProducerConfig,
    /// A thread that asks the brokers for the limits of the topics, while it runs.
    limits_query: Option<JoinHandle<Vec<Option<usize>>>>,
    /// When they were last asked for them.
    limits_asked_at: Instant,
    producer: Option<(Arc<Producer>, Arc<ProducerStatus>)>,
    backoff: Backoff,
    topics: TopicCheck,
    /// Whether a record was stored since the last outage; until then the inbox does not say that the queue is there.
    is_confirmed: bool,
    /// Records that the producer had stored when the queue went away.
    stored_before_outage: u64,
}

/// Why [`Poller::listen`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenEnd {
    /// The uplink was dropped.
    Stopped,
    /// The producer is broken, or no broker takes its records.
    Away,
    /// A batch was too large for its topic, or the limits of the topics have changed.
    Limits,
    /// Batches should have another size, and nothing was refused: the next producer goes on in the same epoch.
    BatchSize,
}

impl Poller {
    /// A poller with its first producer.
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

    /// Runs until the uplink is dropped.
    pub(super) fn run(mut self) {
        while !self.is_stopped() {
            let Some((mut producer, mut status)) = self.producer.take().or_else(|| self.make_or_pause()) else {
                continue;
            };
            if !self.wait_for_topics(&producer) {
                continue;
            }
            if self.ask_for_limits() {
                // This producer was made without these limits, and has sent nothing: another one takes its place.
                let Some(other) = self.make_or_pause() else { continue };
                (producer, status) = other;
            }
            self.shared.open(Arc::clone(&producer), Arc::clone(&status), &self.config.limits);
            self.begin_epoch();
            let mut end = self.listen(&producer, &status);
            while end == ListenEnd::BatchSize {
                end = match self.replace_for_batch_size(&producer, &status) {
                    Ok(next) => {
                        (producer, status) = next;
                        self.shared.open(Arc::clone(&producer), Arc::clone(&status), &self.config.limits);
                        self.listen(&producer, &status)
                    }
                    Err(end) => end,
                };
            }
            self.shared.close();
            match end {
                ListenEnd::Stopped => return,
                // The loop above has dealt with `BatchSize`.
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

    /// A producer whose batches have another size; records wait meanwhile, in the order in which they came. Else how the
    /// present one ends.
    fn replace_for_batch_size(
        &mut self,
        producer: &Producer,
        status: &ProducerStatus,
    ) -> Result<(Arc<Producer>, Arc<ProducerStatus>), ListenEnd> {
        self.shared.hold();
        self.drain(producer, status);
        let is_drained = status.outstanding.load(Ordering::Relaxed) <= 0;
        if !is_drained || status.has_large_batch.load(Ordering::Relaxed) {
            return Err(ListenEnd::Limits);
        }
        self.make_or_pause().ok_or(ListenEnd::Away)
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

    /// Begins an epoch, in which sessions send again what they hold. After an outage the queue counts as there once the first
    /// record is stored ([`Poller::confirm_if_stored`]); otherwise it still does.
    fn begin_epoch(&self) {
        if self.is_confirmed {
            self.shared.inbox.report(Availability::Ok);
        } else {
            self.shared.inbox.begin_epoch();
        }
    }

    /// Waits for the next pause of the backoff, and polls the producer meanwhile if there is one.
    fn pause(&mut self, producer: Option<&Producer>) {
        let pause = self.backoff.pause();
        match producer {
            Some(producer) => producer.poll(pause),
            None => thread::sleep(pause),
        }
    }

    /// Polls the producer until another one has to take its place, or the uplink is dropped.
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
            // librdkafka also says that all brokers are down when it has closed its only connection for being idle.
            if status.all_down.swap(false, Ordering::Relaxed) && !topics::is_reachable(producer.client()) {
                return ListenEnd::Away;
            }
            let is_partial = self.is_confirmed && self.config.watch.is_partial();
            if is_partial && last_report.is_none_or(|last| last.elapsed() >= PARTIAL_REPORT_INTERVAL) {
                // A receipt of no session: the worker sees that the queue still answers.
                last_report = Some(Instant::now());
                self.shared.inbox.post_one(Receipt::Failed(DeliveryId::NOBODY));
            }
            match progress.update(status, Instant::now()) {
                State::Well => {}
                // It may be only the partition of one record that stores nothing. A heartbeat shows whether others do,
                // unless its own partition is among those that fail.
                State::Doubtful => {
                    self.shared.inbox.ask_for_heartbeat();
                }
                State::Stalled if is_partial => {
                    progress = Progress::new(self.settings.message_timeout);
                }
                // The producer stays: its records may still be on their way to a broker. Brokers recognise duplicates by the
                // producer's sequence numbers, so with another producer a late copy would be stored behind newer records.
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

    /// Tells the inbox of the first record that is stored after an outage.
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

    /// Tells the inbox that the queue is away, once an outage; a record that was stored meanwhile is counted first.
    fn report_outage(&mut self, status: &ProducerStatus) {
        self.confirm_if_stored(status);
        self.stored_before_outage = status.stored.load(Ordering::Relaxed);
        // A link that has become slow may be the cause, so batches are small again.
        self.config.limits.note_speed(false);
        if std::mem::take(&mut self.is_confirmed) {
            count(&self.shared.stats.outages);
            self.shared.inbox.report(Availability::Away);
            tracing::warn!("Kafka is away");
        }
    }

    /// Whether a batch was too large for its topic, or the limits of the topics have changed.
    fn wants_other_limits(&mut self, status: &ProducerStatus) -> bool {
        if status.has_large_batch.load(Ordering::Relaxed) {
            return true;
        }
        if let Some(query) = self.limits_query.take_if(|query| query.is_finished()) {
            let before = self.config.limits.clone();
            self.config.limits.hear(&query.join().unwrap_or_default());
            return before != self.config.limits;
        }
        // After a record was refused somebody may raise the limit of its topic. A thread asks, as the answer can take seconds
        // and deliveries go on meanwhile.
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

    /// Polls until the producer has no record left, so that none of them is stored behind one of the next producer.
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
