//! The thread of the commands: its runtime, its consumer, the events that it waits for.
//!
//! 1. The topics are waited for. With hand-over the group is joined once NATS is there; without, all partitions are
//!    read from their end.
//! 2. Each turn follows the changes of the partitions, stops reading those that are full (all of them while NATS is
//!    away), tells the client from where on to read, and takes the next event of any kind.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as ClientError;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::KafkaCommandSettings;
use super::answers::ServiceMessage;
use super::consumer::{self, CommandConsumer, all_partitions};
use super::dispatcher::{Ages, Dispatcher, IN_FLIGHT_MAX, Route};
use super::producer::{Deliveries, OutcomeProducer};
use super::reading::Reading;
use super::record::CommandRecord;
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::envelope::Encoder;
use crate::protocol::uplink::Availability;
use crate::queue::backoff;
use crate::queue::kafka::KafkaCommandStats;
use crate::queue::kafka::connection::topics::TopicCheck;
use crate::queue::kafka::connection::{Causes, Subject};
use crate::queue::kafka::reader::unreadable::is_about_a_batch;
use crate::replica::{HandOver, HandOverAnswer};

/// How often deadlines are looked at, and whether NATS is there.
const TICK: Duration = Duration::from_millis(50);

/// How often it is asked whether Kafka is there.
const LOOK_FOR_KAFKA: Duration = Duration::from_secs(2);

/// How often it is looked how many commands wait in the topic.
const LOOK_AT_LAG: Duration = Duration::from_secs(5);

/// How often partitions that were added to the topic are looked for, where no group tells of them.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(30);

/// The parts that the thread is started with.
pub(super) struct Service {
    pub(super) settings: KafkaCommandSettings,
    pub(super) config: ClientConfig,
    pub(super) is_stopped: Arc<AtomicBool>,
    pub(super) messages: mpsc::UnboundedReceiver<ServiceMessage>,
    pub(super) deliveries: Deliveries,
    pub(super) causes: Arc<Causes>,
    /// Whether commands can be read.
    pub(super) source: watch::Sender<Availability>,
    pub(super) ages: Ages,
    pub(super) stats: Arc<KafkaCommandStats>,
}

/// A question to Kafka that is asked again and again on a thread for blocking work, one at a time.
struct Question<T> {
    pause: Duration,
    asked: Option<Instant>,
    asking: Option<JoinHandle<T>>,
}

impl<T> Question<T> {
    fn new(pause: Duration, asked: Option<Instant>) -> Self {
        Self { pause, asked, asking: None }
    }

    /// Asks when it is time to.
    fn ask(&mut self, begin: impl FnOnce() -> JoinHandle<T>) {
        if self.asking.is_none() && self.asked.is_none_or(|asked| asked.elapsed() > self.pause) {
            self.asked = Some(Instant::now());
            self.asking = Some(begin());
        }
    }

    /// Waits for the answer; for ever where nothing was asked. `None`: the thread that asks has panicked.
    async fn answer(&mut self) -> Option<T> {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let answer = asking.await.ok();
        self.asking = None;
        answer
    }
}

impl Service {
    /// Until the end of the process, or until nobody is left who could write.
    pub(super) fn run(
        mut self,
        encoder: Encoder,
        route: Route,
        workers: Vec<mpsc::Sender<DownlinkEvent>>,
        mut producer: OutcomeProducer,
    ) {
        self.wait_for_topics(&producer);
        producer.ask_for_limits();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the commands from Kafka have no runtime");
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async move {
            let hand_over = match self.settings.hand_over.as_ref().map(|settings| settings.start(IN_FLIGHT_MAX)) {
                Some(Ok(hand_over)) => Some(hand_over),
                None => None,
                Some(Err(error)) => {
                    tracing::error!(%error, "commands cannot be handed over");
                    return;
                }
            };
            let workers = workers.into_iter().map(forward).collect();
            let (settings, stats) = (self.settings.clone(), Arc::clone(&self.stats));
            let mut dispatcher = Dispatcher::new(settings, encoder, route, workers, hand_over, producer, stats);
            dispatcher.ages = std::mem::replace(&mut self.ages, Box::new(|_| ()));
            let Some(consumer) = self.make_consumer().await else { return };
            let (is_group, stats) = (self.settings.hand_over.is_some(), Arc::clone(&self.stats));
            let reading = Reading::new(consumer, dispatcher, is_group, stats);
            self.serve(reading).await;
        });
    }

    fn note_source(&self, availability: Availability) {
        self.source.send_if_modified(|state| std::mem::replace(state, availability) != availability);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn wait_for_topics(&self, producer: &OutcomeProducer) {
        let settings = &self.settings;
        let names = [&settings.command_topic, &settings.reply_topic, &settings.kafka.rejected_topic];
        let mut topics = TopicCheck::new(Subject::Commands, &names.map(String::as_str), settings.kafka.create_topics);
        let (client, config) = producer.client();
        let mut backoff = backoff();
        while !self.is_stopped() && !topics.is_ready(client, config, &self.causes, || ()) {
            thread::sleep(backoff.pause());
        }
    }

    async fn make_consumer(&self) -> Option<Arc<CommandConsumer>> {
        let mut backoff = backoff();
        loop {
            match consumer::make(&self.config, &self.settings.command_topic, Arc::clone(&self.causes)) {
                Ok(consumer) => return Some(Arc::new(consumer)),
                Err(error) => tracing::error!(%error, "no consumer of commands can be made"),
            }
            if self.is_stopped() {
                return None;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn serve(&mut self, mut reading: Reading) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The partitions are known when reading begins.
        let mut partitions = Question::new(LOOK_FOR_PARTITIONS, Some(Instant::now()));
        let mut readable = Question::new(LOOK_FOR_KAFKA, None);
        let mut is_there = true;
        let mut lag = Question::new(LOOK_AT_LAG, None);
        loop {
            reading.start().await;
            reading.apply_changes();
            reading.pause_and_resume();
            reading.store_offsets();
            reading.release_revoked();
            if reading.is_finished() {
                break;
            }
            if !reading.is_group && reading.is_reading {
                partitions.ask(|| {
                    let consumer = Arc::clone(&reading.consumer);
                    spawn_blocking(move || all_partitions(&consumer, &consumer.context().topic))
                });
            }
            if reading.is_reading {
                let is_open = is_there && reading.dispatcher.is_open() && !reading.is_refused();
                self.note_source(if is_open { Availability::Ok } else { Availability::Away });
            }
            readable.ask(|| {
                let consumer = Arc::clone(&reading.consumer);
                spawn_blocking(move || consumer::is_readable(&consumer, &consumer.context().topic))
            });
            lag.ask(|| reading.count_lag());
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(ServiceMessage::Outcome(number, outcome)) => reading.dispatcher.on_outcome(number, outcome),
                    Some(ServiceMessage::Stop) => reading.stop(),
                    Some(ServiceMessage::Finish(sender)) => reading.finish(sender),
                    None => break,
                },
                Some((number, delivery)) = self.deliveries.recv() => reading.dispatcher.on_delivery(number, delivery),
                (number, answer) = next_answer(reading.dispatcher.hand_over.as_deref()) => {
                    reading.dispatcher.on_hand_over_answer(number, answer);
                }
                record = next_record(&reading.consumer) => match record {
                    Ok(record) => reading.on_record(record),
                    Err(error) if is_about_a_batch(&error) => {
                        reading.log_error(&error);
                        reading.search_unreadable(&self.settings.kafka, &reading.dispatcher.partitions.numbers());
                    }
                    Err(error) => {
                        reading.note_refusal(&error);
                        if reading.log_error(&error) {
                            let Some(consumer) = self.make_consumer().await else { break };
                            reading.restart(consumer);
                        }
                    }
                },
                () = reading.consumer.context().changed() => {}
                // Whatever went wrong, the next look comes soon.
                found = partitions.answer() => reading.add_partitions(&found.and_then(Result::ok).unwrap_or_default()),
                answered = readable.answer() => is_there = answered.unwrap_or(false),
                // Without an answer the last one stands.
                counted = lag.answer() => if let Some(counted) = counted.flatten() {
                    self.stats.lag.store(counted.saturating_add(reading.waiting()), Ordering::Relaxed);
                },
                found = reading.inspection.next() => reading.skip_unreadable(found),
                _ = ticks.tick() => {
                    reading.dispatcher.on_tick();
                    let silent = reading.inspection.silent(reading.dispatcher.partitions.numbers());
                    reading.search_unreadable(&self.settings.kafka, &silent);
                }
            }
        }
        reading.close().await;
    }
}

/// Puts the events for a worker in line, so that a worker which is behind delays no other. The line is bounded by the
/// commands in flight.
fn forward(events: mpsc::Sender<DownlinkEvent>) -> mpsc::UnboundedSender<DownlinkEvent> {
    let (sender, mut line) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        while let Some(event) = line.recv().await {
            if events.send(event).await.is_err() {
                return;
            }
        }
    });
    sender
}

async fn next_answer(hand_over: Option<&dyn HandOver>) -> (u64, HandOverAnswer) {
    match hand_over {
        Some(hand_over) => poll_fn(|cx| hand_over.poll_answer(cx)).await,
        None => std::future::pending().await,
    }
}

async fn next_record(consumer: &CommandConsumer) -> Result<CommandRecord, ClientError> {
    consumer.recv().await.map(|message| CommandRecord::of(&message))
}
