//! The partitions that this replica reads: assigned, paused, revoked, committed.
//!
//! A partition that is revoked is kept for up to two seconds until its commands are answered and committed, so that the replica
//! which gets it seldom reads one of them again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::consumer::{self, Change, CommandConsumer, ends, list};
use super::dispatcher::Dispatcher;
use super::inspection::{Inspection, lag};
use super::record::CommandRecord;
use crate::queue::count;
use crate::queue::kafka::KafkaCommandStats;
use crate::queue::kafka::KafkaSettings;
use crate::queue::kafka::connection::{Subject, is_about_a_connection};
use crate::queue::kafka::reader::unreadable::Unreadable;

/// How long a partition that was revoked waits for its outcomes.
const REVOKED_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the end waits for the outcomes of commands in flight.
const LAST_OUTCOMES: Duration = Duration::from_secs(5);

/// How long the client may take to read a partition from elsewhere on.
const SEEK: Duration = Duration::from_secs(1);

/// A topic that was refused counts as such for at least so long, unless a record comes.
const REFUSED: Duration = Duration::from_secs(60);

/// Pause before the brokers are asked again.
const RETRY: Duration = Duration::from_millis(50);

/// Partitions that were revoked, and are kept until their commands are answered or that time.
struct Revoked {
    partitions: TopicPartitionList,
    numbers: Vec<i32>,
    deadline: Instant,
}

/// The reading of commands with one consumer after the other.
pub(super) struct Reading {
    pub(super) consumer: Arc<CommandConsumer>,
    pub(super) dispatcher: Dispatcher,
    pub(super) is_group: bool,
    pub(super) is_reading: bool,
    phase: Phase,
    revoked: Vec<Revoked>,
    /// Offsets by partition that the client was told and the group has not committed yet.
    uncommitted: HashMap<i32, i64>,
    /// Records read while nothing may be sent; they are next.
    waiting: VecDeque<CommandRecord>,
    pub(super) inspection: Inspection,
    /// Without a group: from where on the partitions are read.
    begins: HashMap<i32, i64>,
    /// Whether the brokers refuse the group to this user; and since when the topic.
    refused: (bool, Option<Instant>),
    stats: Arc<KafkaCommandStats>,
}

/// The phases of the reading, in order.
enum Phase {
    /// Commands are read.
    Serving,
    /// No more are read; those in flight go on.
    Stopping,
    /// The end waits for those in flight, until that time at most.
    Finishing(oneshot::Sender<()>, Instant),
}

impl Reading {
    /// Nothing is read yet. In a group replicas share the partitions; without, each reads all of them.
    pub(super) fn new(
        consumer: Arc<CommandConsumer>,
        dispatcher: Dispatcher,
        is_group: bool,
        stats: Arc<KafkaCommandStats>,
    ) -> Self {
        Self {
            consumer,
            dispatcher,
            is_group,
            is_reading: false,
            phase: Phase::Serving,
            revoked: Vec::new(),
            uncommitted: HashMap::new(),
            waiting: VecDeque::new(),
            inspection: Inspection::new(),
            begins: HashMap::new(),
            refused: (false, None),
            stats,
        }
    }

    fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    /// Takes no more commands.
    pub(super) fn stop(&mut self) {
        if self.is_serving() {
            self.phase = Phase::Stopping;
        }
    }

    /// Takes no more commands, and brings those in flight to their end, for [`LAST_OUTCOMES`] at most.
    pub(super) fn finish(&mut self, finished: oneshot::Sender<()>) {
        self.dispatcher.forget_local();
        self.phase = Phase::Finishing(finished, Instant::now() + LAST_OUTCOMES);
    }

    fn may_send(&self) -> bool {
        self.is_serving() && self.dispatcher.is_open()
    }

    /// Joins the group when hand-over works for the first time, or takes all partitions.
    pub(super) async fn start(&mut self) {
        if self.is_reading || !self.may_send() {
            return;
        }
        if self.is_group {
            match self.consumer.subscribe(&[&self.consumer.context().topic]) {
                Ok(()) => self.is_reading = true,
                Err(error) => {
                    self.log_error(&error);
                    tokio::time::sleep(RETRY).await;
                }
            }
            return;
        }
        // Nothing else is there to be served meanwhile.
        match ends(&self.consumer, &self.consumer.context().topic).and_then(|ends| {
            self.consumer.incremental_assign(&ends)?;
            Ok(ends)
        }) {
            Ok(ends) => {
                let numbers = consumer::numbers(&ends);
                let begin = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
                self.begins = ends.elements().iter().map(|end| (end.partition(), begin(end.offset()))).collect();
                self.dispatcher.partitions.assign(&numbers);
                self.is_reading = true;
                tracing::info!(partitions = numbers.len(), "commands are read from the end of their topic");
            }
            Err(error) => {
                self.log_error(&error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Takes partitions that were added to the topic, from their beginning.
    pub(super) fn add_partitions(&mut self, numbers: &[i32]) {
        let known = self.dispatcher.partitions.numbers();
        let added: Vec<i32> = numbers.iter().copied().filter(|number| !known.contains(number)).collect();
        if added.is_empty() {
            return;
        }
        let assigned = list(&self.consumer.context().topic, added.iter().map(|&number| (number, Offset::Beginning)))
            .and_then(|added| self.consumer.incremental_assign(&added));
        match assigned {
            Ok(()) => self.dispatcher.partitions.assign(&added),
            Err(error) => drop(self.log_error(&error)),
        }
    }

    pub(super) fn apply_changes(&mut self) {
        for change in self.consumer.context().take() {
            count(&self.stats.rebalances);
            match change {
                Change::Assigned(numbers) => {
                    tracing::info!(partitions = ?numbers, "partitions of the commands came here");
                    // Also with none at all this replica is a member of the group.
                    self.refused = (false, None);
                    self.inspection.forget(&numbers);
                    self.dispatcher.partitions.assign(&numbers);
                }
                Change::Lost(numbers) => self.on_lost(&numbers),
                Change::Revoked(partitions) => {
                    let numbers = consumer::numbers(&partitions);
                    self.dispatcher.partitions.revoke(&numbers);
                    self.revoked.push(Revoked { partitions, numbers, deadline: Instant::now() + REVOKED_TIMEOUT });
                }
            }
        }
    }

    /// Lets partitions go whose commands are answered, or whose time is over.
    pub(super) fn release_revoked(&mut self) {
        let now = Instant::now();
        let is_done = |revoked: &mut Revoked| {
            let is_answered = self.dispatcher.partitions.unanswered(&revoked.numbers) == 0;
            let is_committed = !revoked.numbers.iter().any(|number| self.uncommitted.contains_key(number));
            is_answered && is_committed || revoked.deadline <= now
        };
        let done: Vec<Revoked> = self.revoked.extract_if(.., is_done).collect();
        for revoked in done {
            if let Err(error) = self.consumer.incremental_unassign(&revoked.partitions) {
                tracing::warn!(%error, "partitions of the commands cannot be given up");
            }
            self.on_lost(&revoked.numbers);
        }
    }

    fn on_lost(&mut self, numbers: &[i32]) {
        tracing::info!(partitions = ?numbers, "partitions of the commands left");
        self.dispatcher.on_lost(numbers);
        self.uncommitted.retain(|number, _| !numbers.contains(number));
        self.waiting.retain(|record| !numbers.contains(&record.partition));
    }

    pub(super) fn pause_and_resume(&mut self) {
        if self.may_send() {
            while let Some(record) = self.waiting.pop_front() {
                self.dispatcher.on_record(&record);
            }
        }
        let is_open = self.may_send() && self.dispatcher.has_room();
        let regulation = self.dispatcher.partitions.regulate(is_open);
        for (numbers, is_pause) in [(regulation.pause, true), (regulation.resume, false)] {
            if numbers.is_empty() {
                continue;
            }
            let changed = list(&self.consumer.context().topic, numbers.iter().map(|&number| (number, Offset::Invalid)))
                .and_then(|partitions| match is_pause {
                    true => self.consumer.pause(&partitions),
                    false => self.consumer.resume(&partitions),
                });
            if let Err(error) = changed {
                tracing::warn!(%error, partitions = ?numbers, is_pause, "partitions of the commands cannot be regulated");
            }
        }
    }

    /// Tells the client from where on to read, which commits that a few times a second, and hears what it committed.
    pub(super) fn store_offsets(&mut self) {
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
        match list(&self.consumer.context().topic, offsets).and_then(|offsets| self.consumer.store_offsets(&offsets)) {
            Ok(()) => self.uncommitted.extend(answered),
            // A partition has left in this moment; whoever has it reads these again.
            Err(error) => tracing::debug!(%error, "offsets of the commands are not kept"),
        }
    }

    /// Notes what the brokers refuse to this user. The client says each once, and nothing when it is over.
    pub(super) fn note_refusal(&mut self, error: &ClientError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => self.refused.0 = true,
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => self.refused.1 = Some(Instant::now()),
            _ => {}
        }
    }

    /// Whether commands do not come as the brokers refuse the group or the topic to this user. Of a topic in which nothing
    /// waits nobody knows after a while.
    pub(super) fn is_refused(&self) -> bool {
        let (group, topic) = self.refused;
        let is_behind = || self.stats.lag.load(Ordering::Relaxed) > 0;
        group || topic.is_some_and(|since| since.elapsed() < REFUSED || is_behind())
    }

    /// Records that were read and wait until commands may be sent.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Counts the records of this replica's partitions that nobody has read, on another thread.
    pub(super) fn count_lag(&self) -> tokio::task::JoinHandle<Option<u64>> {
        let consumer = Arc::clone(&self.consumer);
        let position = |number| {
            let position = self.inspection.position(number).or_else(|| self.begins.get(&number).copied());
            (number, position.or((!self.is_group).then_some(0)))
        };
        let positions: Vec<_> = self.dispatcher.partitions.numbers().into_iter().map(position).collect();
        tokio::task::spawn_blocking(move || lag(&consumer, &consumer.context().topic, &positions).ok())
    }

    pub(super) fn on_record(&mut self, record: CommandRecord) {
        // A partition that came in this very moment is known before its first record.
        self.apply_changes();
        self.refused.1 = None;
        self.inspection.advance(record.partition, record.offset + 1);
        if self.may_send() && self.waiting.is_empty() {
            self.dispatcher.on_record(&record);
        } else if self.is_serving() {
            self.waiting.push_back(record);
        }
    }

    /// Looks whether these partitions can go on.
    pub(super) fn search_unreadable(&mut self, settings: &KafkaSettings, partitions: &[i32]) {
        if !partitions.is_empty() {
            self.inspection.begin(&self.consumer, settings, &self.consumer.context().topic, partitions);
        }
    }

    /// Goes on behind what cannot be read.
    pub(super) fn skip_unreadable(&mut self, found: Result<Vec<Unreadable>, ClientError>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.log_error(&error);
                return;
            }
        };
        for part in found {
            let Unreadable { partition, first, next, cause } = &part;
            // The consumer itself got through it meanwhile.
            if self.inspection.position(*partition).is_some_and(|position| position >= *next) {
                continue;
            }
            if let Err(error) =
                self.consumer.seek(&self.consumer.context().topic, *partition, Offset::Offset(*next), SEEK)
            {
                // The partition has left, or the next failure leads here again.
                tracing::warn!(partition, %error, "what cannot be read is not skipped yet");
                continue;
            }
            self.inspection.advance(*partition, *next);
            tracing::error!(
                topic = self.consumer.context().topic,
                partition,
                first,
                next,
                cause,
                "commands cannot be read and are skipped"
            );
            self.dispatcher.skip_unreadable(&part);
        }
    }

    /// Logs what the consumer says; true when it cannot go on.
    pub(super) fn log_error(&self, error: &ClientError) -> bool {
        match (error, error.rdkafka_error_code()) {
            (ClientError::MessageConsumptionFatal(_), _) => {
                consumer::complain_of_end(&self.consumer, &self.consumer.context().causes, error);
                return true;
            }
            // The consumer says these in more words to its context.
            (ClientError::MessageConsumption(_), _) => {
                tracing::debug!(%error, "commands cannot be read from Kafka for now");
            }
            (_, Some(code)) if is_about_a_connection(code) => {
                tracing::debug!(%error, "Kafka does not answer a question about commands");
            }
            _ => self.consumer.context().causes.other(Subject::Commands, &error.to_string()),
        }
        false
    }

    /// Goes on with another consumer. What is under way is answered, and read again.
    pub(super) fn restart(&mut self, consumer: Arc<CommandConsumer>) {
        self.release_all();
        self.consumer = consumer;
        self.inspection.forget(&self.dispatcher.partitions.numbers());
        self.dispatcher.partitions.clear();
        self.uncommitted.clear();
        self.waiting.clear();
        self.begins.clear();
        self.is_reading = false;
    }

    /// Makes the consumer ready to be dropped, which waits for everything that was to leave.
    fn release_all(&mut self) {
        self.consumer.context().close();
        self.apply_changes();
        for revoked in self.revoked.drain(..) {
            if let Err(error) = self.consumer.incremental_unassign(&revoked.partitions) {
                tracing::debug!(%error, "partitions of the commands were given up already");
            }
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        let is_done = self.dispatcher.in_flight() == 0 && self.uncommitted.is_empty();
        matches!(&self.phase, Phase::Finishing(_, deadline) if is_done || *deadline <= Instant::now())
    }

    /// Gives everything up; the client commits what it still can, and leaves the group.
    pub(super) async fn close(mut self) {
        self.store_offsets();
        self.consumer.context().close();
        consumer::wait_for_other_holders(&self.consumer).await;
        self.release_all();
        let (commands, partitions) = (self.dispatcher.in_flight(), self.uncommitted.len());
        if commands > 0 || partitions > 0 {
            tracing::warn!(commands, partitions, "commands end without a commit; another replica reads them again");
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Stopping);
        drop(self);
        if let Phase::Finishing(finished, _) = phase {
            // Nobody waits any more when it took too long.
            let _late = finished.send(());
        }
    }
}
