//! The thread of the commands: its runtime, its consumer, the partitions that come and go.
//!
//! 1. The topics are waited for. With hand-over the group is joined once NATS is there; without, all partitions are
//!    read from their end.
//! 2. Each turn follows the changes of the partitions, stops reading those that are full (all of them while NATS is
//!    away), tells the client from where on to read, and takes the next event of any kind.
//! 3. A partition that has to leave is held for up to two seconds until its commands are answered and committed, so that
//!    the replica which gets it seldom reads one of them again. The end waits for the same.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::answers::Letter;
use super::consumer::{self, Change, CommandConsumer, QUESTION, all_partitions, ends, list};
use super::dispatcher::{Dispatcher, IN_FLIGHT_MAX, Route};
use super::given::Given;
use super::inspection::Inspection;
use super::producer::{Deliveries, OutcomeProducer};
use super::{KafkaCommandSettings, KafkaCommandStats};
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::envelope::Encoder;
use crate::protocol::uplink::Availability;
use crate::queue::Backoff;
use crate::queue::kafka::KafkaSettings;
use crate::queue::kafka::connection::topics::TopicCheck;
use crate::queue::kafka::connection::{Causes, Subject};
use crate::queue::kafka::reader::unreadable::{Unreadable, is_about_a_batch};
use crate::queue::kafka::stats::count;
use crate::replica::{HandOver, HandOverAnswer};

/// How often deadlines are looked at, and whether NATS is there.
const TICK: Duration = Duration::from_millis(50);

/// How long a partition that has to leave waits for its outcomes.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the outcomes of what is under way are waited for at the end.
const LAST_OUTCOMES: Duration = Duration::from_secs(5);

/// How often it is asked whether Kafka is there.
const LOOK_FOR_KAFKA: Duration = Duration::from_secs(2);

/// How often partitions that were added to the topic are looked for, where no group tells of them.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(30);

/// How long the client may take to read a partition from elsewhere on.
const SEEK: Duration = Duration::from_secs(1);

/// What the thread is started with.
pub(super) struct Service {
    pub(super) settings: KafkaCommandSettings,
    pub(super) config: ClientConfig,
    pub(super) is_stopped: Arc<AtomicBool>,
    pub(super) letters: mpsc::UnboundedReceiver<Letter>,
    pub(super) deliveries: Deliveries,
    pub(super) causes: Arc<Causes>,
    /// Whether commands can be read.
    pub(super) source: watch::Sender<Availability>,
    pub(super) stats: Arc<KafkaCommandStats>,
}

/// The next event of any kind.
enum Event {
    Letter(Option<Letter>),
    Delivery(u64, super::producer::Delivery),
    Answer(u64, HandOverAnswer),
    Record(Result<Given, ClientError>),
    Partitions(Vec<i32>),
    /// Whether Kafka has answered.
    Asked(bool),
    Unreadable(Result<Vec<Unreadable>, ClientError>),
    Change,
    Tick,
}

/// Partitions that have to leave, until when they may stay.
struct Leaving {
    partitions: TopicPartitionList,
    numbers: Vec<i32>,
    deadline: Instant,
}

/// What a run has at hand.
struct Run {
    consumer: Arc<CommandConsumer>,
    dispatcher: Dispatcher,
    topic: String,
    is_group: bool,
    is_reading: bool,
    is_stopping: bool,
    finishing: Option<(oneshot::Sender<()>, Instant)>,
    leaving: Vec<Leaving>,
    /// From where on to read, as the client was told and the group does not know yet.
    uncommitted: HashMap<i32, i64>,
    /// Read while nothing may be sent; they are next.
    held: VecDeque<Given>,
    inspection: Inspection,
    causes: Arc<Causes>,
    stats: Arc<KafkaCommandStats>,
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
            let dispatcher = Dispatcher::new(settings, encoder, route, workers, hand_over, producer, stats);
            let Some(consumer) = self.make_consumer().await else { return };
            let run = Run {
                consumer,
                dispatcher,
                topic: self.settings.command_topic.clone(),
                is_group: self.settings.hand_over.is_some(),
                is_reading: false,
                is_stopping: false,
                finishing: None,
                leaving: Vec::new(),
                uncommitted: HashMap::new(),
                held: VecDeque::new(),
                inspection: Inspection::new(),
                causes: Arc::clone(&self.causes),
                stats: Arc::clone(&self.stats),
            };
            self.serve(run).await;
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
        let mut backoff = Backoff::new();
        while !self.is_stopped() && !topics.is_ready(client, config, &self.causes, || ()) {
            thread::sleep(backoff.pause());
        }
    }

    async fn make_consumer(&self) -> Option<Arc<CommandConsumer>> {
        let mut backoff = Backoff::new();
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

    async fn serve(&mut self, mut run: Run) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = Instant::now();
        let mut looking = None;
        let mut asked: Option<Instant> = None;
        let mut asking = None;
        let mut is_there = true;
        loop {
            run.begin_reading().await;
            run.follow_changes();
            run.regulate();
            run.store();
            run.depart();
            if run.is_finished() {
                break;
            }
            if !run.is_group && run.is_reading && looking.is_none() && look.elapsed() > LOOK_FOR_PARTITIONS {
                look = Instant::now();
                let (consumer, topic) = (Arc::clone(&run.consumer), run.topic.clone());
                looking = Some(tokio::task::spawn_blocking(move || all_partitions(&consumer, &topic)));
            }
            if run.is_reading {
                let is_open = is_there && run.dispatcher.is_open();
                self.note_source(if is_open { Availability::Ok } else { Availability::Away });
            }
            if asking.is_none() && asked.is_none_or(|asked| asked.elapsed() > LOOK_FOR_KAFKA) {
                asked = Some(Instant::now());
                let (consumer, topic) = (Arc::clone(&run.consumer), run.topic.clone());
                asking =
                    Some(tokio::task::spawn_blocking(move || consumer.fetch_metadata(Some(&topic), QUESTION).is_ok()));
            }
            let event = tokio::select! {
                letter = self.letters.recv() => Event::Letter(letter),
                Some((number, delivery)) = self.deliveries.recv() => Event::Delivery(number, delivery),
                (number, answer) = next_answer(run.dispatcher.hand_over.as_deref()) => Event::Answer(number, answer),
                record = run.consumer.recv() => Event::Record(record.map(|message| Given::of(&message))),
                () = run.consumer.context().changed() => Event::Change,
                found = found(&mut looking) => Event::Partitions(found),
                answered = answered(&mut asking) => Event::Asked(answered),
                found = run.inspection.next() => Event::Unreadable(found),
                _ = ticks.tick() => Event::Tick,
            };
            match event {
                Event::Letter(Some(Letter::Outcome(number, outcome))) => run.dispatcher.answer(number, outcome),
                Event::Letter(Some(Letter::Stop)) => run.is_stopping = true,
                Event::Letter(Some(Letter::Finish(sender))) => {
                    run.is_stopping = true;
                    run.dispatcher.forget_local();
                    run.finishing = Some((sender, Instant::now() + LAST_OUTCOMES));
                }
                Event::Letter(None) => break,
                Event::Delivery(number, delivery) => run.dispatcher.deliver(number, delivery),
                Event::Answer(number, answer) => run.dispatcher.answer_from_afar(number, answer),
                Event::Record(Ok(given)) => run.take(given),
                Event::Record(Err(error)) if is_about_a_batch(&error) => {
                    run.complain(&error);
                    run.inspect(&self.settings.kafka, &run.dispatcher.partitions.numbers());
                }
                Event::Record(Err(error)) => {
                    if run.complain(&error) {
                        let Some(consumer) = self.make_consumer().await else { break };
                        run.begin_again(consumer);
                    }
                }
                Event::Partitions(numbers) => {
                    looking = None;
                    run.add_partitions(&numbers);
                }
                Event::Asked(is_answered) => {
                    asking = None;
                    is_there = is_answered;
                }
                Event::Unreadable(found) => run.skip(found),
                Event::Change => {}
                Event::Tick => {
                    run.dispatcher.tick();
                    let silent = run.inspection.silent(run.dispatcher.partitions.numbers());
                    run.inspect(&self.settings.kafka, &silent);
                }
            }
        }
        run.close();
    }
}

impl Run {
    fn may_send(&self) -> bool {
        !self.is_stopping && self.dispatcher.is_open()
    }

    /// Joins the group when hand-over works for the first time, or takes all partitions.
    async fn begin_reading(&mut self) {
        if self.is_reading || !self.may_send() {
            return;
        }
        if self.is_group {
            match self.consumer.subscribe(&[&self.topic]) {
                Ok(()) => self.is_reading = true,
                Err(error) => {
                    self.complain(&error);
                    tokio::time::sleep(TICK).await;
                }
            }
            return;
        }
        // Nothing else is there to be served meanwhile.
        match ends(&self.consumer, &self.topic).and_then(|ends| {
            self.consumer.incremental_assign(&ends)?;
            Ok(consumer::numbers(&ends))
        }) {
            Ok(numbers) => {
                self.dispatcher.partitions.assign(&numbers);
                self.is_reading = true;
                tracing::info!(partitions = numbers.len(), "commands are read from the end of their topic");
            }
            Err(error) => {
                self.complain(&error);
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Takes partitions that were added to the topic, from their beginning.
    fn add_partitions(&mut self, numbers: &[i32]) {
        let known = self.dispatcher.partitions.numbers();
        let added: Vec<i32> = numbers.iter().copied().filter(|number| !known.contains(number)).collect();
        if added.is_empty() {
            return;
        }
        let assigned = list(&self.topic, added.iter().map(|&number| (number, Offset::Beginning)))
            .and_then(|added| self.consumer.incremental_assign(&added));
        match assigned {
            Ok(()) => self.dispatcher.partitions.assign(&added),
            Err(error) => drop(self.complain(&error)),
        }
    }

    fn follow_changes(&mut self) {
        for change in self.consumer.context().take() {
            count(&self.stats.rebalances);
            match change {
                Change::Came(numbers) => {
                    tracing::info!(partitions = ?numbers, "partitions of the commands came here");
                    self.inspection.forget(&numbers);
                    self.dispatcher.partitions.assign(&numbers);
                }
                Change::Left(numbers) => self.part(&numbers),
                Change::Leaving(partitions) => {
                    let numbers = consumer::numbers(&partitions);
                    self.dispatcher.partitions.leave(&numbers);
                    self.leaving.push(Leaving { partitions, numbers, deadline: Instant::now() + LEAVE_TIMEOUT });
                }
            }
        }
    }

    /// Lets partitions go whose commands are answered, or whose time is over.
    fn depart(&mut self) {
        let now = Instant::now();
        let is_done = |leaving: &mut Leaving| {
            let is_answered = self.dispatcher.partitions.unanswered(&leaving.numbers) == 0;
            let is_committed = !leaving.numbers.iter().any(|number| self.uncommitted.contains_key(number));
            is_answered && is_committed || leaving.deadline <= now
        };
        let done: Vec<Leaving> = self.leaving.extract_if(.., is_done).collect();
        for leaving in done {
            if let Err(error) = self.consumer.incremental_unassign(&leaving.partitions) {
                tracing::warn!(%error, "partitions of the commands cannot be given up");
            }
            self.part(&leaving.numbers);
        }
    }

    fn part(&mut self, numbers: &[i32]) {
        tracing::info!(partitions = ?numbers, "partitions of the commands left");
        self.dispatcher.part(numbers);
        self.uncommitted.retain(|number, _| !numbers.contains(number));
        self.held.retain(|given| !numbers.contains(&given.partition));
    }

    fn regulate(&mut self) {
        if self.may_send() {
            while let Some(given) = self.held.pop_front() {
                self.dispatcher.take(&given);
            }
        }
        let is_open = self.may_send() && self.dispatcher.has_room();
        let regulation = self.dispatcher.partitions.regulate(is_open);
        for (numbers, is_pause) in [(regulation.pause, true), (regulation.resume, false)] {
            if numbers.is_empty() {
                continue;
            }
            let changed =
                list(&self.topic, numbers.iter().map(|&number| (number, Offset::Invalid))).and_then(|partitions| {
                    match is_pause {
                        true => self.consumer.pause(&partitions),
                        false => self.consumer.resume(&partitions),
                    }
                });
            if let Err(error) = changed {
                tracing::warn!(%error, partitions = ?numbers, is_pause, "partitions of the commands cannot be regulated");
            }
        }
    }

    /// Tells the client from where on to read, which commits that a few times a second, and hears what it committed.
    fn store(&mut self) {
        for (number, committed) in self.consumer.context().take_committed() {
            if self.uncommitted.get(&number).is_some_and(|stored| *stored <= committed) {
                self.uncommitted.remove(&number);
            }
        }
        let answered = self.dispatcher.take_answered();
        if answered.is_empty() || !self.is_group {
            return;
        }
        let offsets = answered.iter().map(|(&number, &offset)| (number, Offset::Offset(offset)));
        match list(&self.topic, offsets).and_then(|offsets| self.consumer.store_offsets(&offsets)) {
            Ok(()) => self.uncommitted.extend(answered),
            // A partition has left in this moment; whoever has it reads these again.
            Err(error) => tracing::debug!(%error, "offsets of the commands are not kept"),
        }
    }

    fn take(&mut self, given: Given) {
        // A partition that came in this very moment is known before its first record.
        self.follow_changes();
        self.inspection.advance(given.partition, given.offset + 1);
        if self.may_send() && self.held.is_empty() {
            self.dispatcher.take(&given);
        } else if !self.is_stopping {
            self.held.push_back(given);
        }
    }

    /// Looks whether these partitions can go on.
    fn inspect(&mut self, settings: &KafkaSettings, partitions: &[i32]) {
        if !partitions.is_empty() {
            self.inspection.begin(&self.consumer, settings, &self.topic, partitions);
        }
    }

    /// Goes on behind what cannot be read.
    fn skip(&mut self, found: Result<Vec<Unreadable>, ClientError>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.complain(&error);
                return;
            }
        };
        for part in found {
            let Unreadable { partition, first, next, cause } = &part;
            // The consumer itself got through it meanwhile.
            if self.inspection.position(*partition).is_some_and(|position| position >= *next) {
                continue;
            }
            if let Err(error) = self.consumer.seek(&self.topic, *partition, Offset::Offset(*next), SEEK) {
                // The partition has left, or the next failure leads here again.
                tracing::warn!(partition, %error, "what cannot be read is not skipped yet");
                continue;
            }
            self.inspection.advance(*partition, *next);
            tracing::error!(
                topic = self.topic,
                partition,
                first,
                next,
                cause,
                "commands cannot be read and are skipped"
            );
            self.dispatcher.skip(&part);
        }
    }

    /// Logs what the consumer says; true when it cannot go on.
    fn complain(&self, error: &ClientError) -> bool {
        match (error, error.rdkafka_error_code()) {
            (ClientError::MessageConsumptionFatal(_), _) => {
                consumer::complain_of_end(&self.consumer, &self.causes, error);
                return true;
            }
            // The consumer says these in more words to its context.
            (ClientError::MessageConsumption(_), _) => {
                tracing::debug!(%error, "commands cannot be read from Kafka for now");
            }
            (_, Some(code)) if consumer::is_about_a_connection(code) => {
                tracing::debug!(%error, "Kafka does not answer a question about commands");
            }
            _ => self.causes.other(Subject::Commands, &error.to_string()),
        }
        false
    }

    /// Goes on with another consumer. What is under way is answered, and read again.
    fn begin_again(&mut self, consumer: Arc<CommandConsumer>) {
        self.give_up_partitions();
        self.consumer = consumer;
        self.inspection.forget(&self.dispatcher.partitions.numbers());
        self.dispatcher.partitions.clear();
        self.uncommitted.clear();
        self.held.clear();
        self.is_reading = false;
    }

    /// Makes the consumer ready to be dropped, which waits for everything that was to leave.
    fn give_up_partitions(&mut self) {
        self.consumer.context().close();
        self.follow_changes();
        for leaving in self.leaving.drain(..) {
            if let Err(error) = self.consumer.incremental_unassign(&leaving.partitions) {
                tracing::debug!(%error, "partitions of the commands were given up already");
            }
        }
    }

    fn is_finished(&self) -> bool {
        let is_done = self.dispatcher.under_way() == 0 && self.uncommitted.is_empty();
        self.finishing.as_ref().is_some_and(|(_, deadline)| is_done || *deadline <= Instant::now())
    }

    /// Gives everything up; the client commits what it still can.
    fn close(mut self) {
        self.store();
        self.give_up_partitions();
        let (commands, partitions) = (self.dispatcher.under_way(), self.uncommitted.len());
        if commands > 0 || partitions > 0 {
            tracing::warn!(commands, partitions, "commands end without a commit; another replica reads them again");
        }
        let finishing = self.finishing.take();
        drop(self);
        if let Some((finished, _)) = finishing {
            // Nobody waits any more when it took too long.
            let _late = finished.send(());
        }
    }
}

/// Puts the events for a worker in line, so that a worker which is behind delays no other. The line is bounded by the
/// commands under way.
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

async fn found(looking: &mut Option<tokio::task::JoinHandle<Result<Vec<i32>, ClientError>>>) -> Vec<i32> {
    match looking {
        // Whatever went wrong, the next look comes soon.
        Some(looking) => looking.await.ok().and_then(Result::ok).unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Whether Kafka has answered; waits for ever where nothing was asked.
async fn answered(asking: &mut Option<tokio::task::JoinHandle<bool>>) -> bool {
    match asking {
        Some(asking) => asking.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}
