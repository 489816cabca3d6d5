//! Each record on its way: to its device, to its outcome, to an offset that may be committed.
//!
//! 1. `on_record` reads a record. What cannot be sent gets its outcome at once; a device of this replica gets the command
//!    through its worker; for every other one a request goes to whichever replica holds it. Nothing here waits, so the
//!    commands of one device leave in the order of their records.
//! 2. `on_outcome`, `on_hand_over_answer` and `on_tick` bring the outcome, which goes to the producer.
//! 3. `on_delivery` hears that Kafka has it; only then is the record answered. What Kafka gives back is sent again.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::KafkaCommandSettings;
use super::in_flight::{InFlight, InFlightCommand, Stage};
use super::outgoing::Outgoing;
use super::partitions::{Origin, Partitions};
use super::producer::{Delivery, OutcomeProducer};
use super::record::CommandRecord;
use crate::protocol::command::{Command, CommandError, CommandIdentity, UnreadableCommand};
use crate::protocol::downlink::{Code, DownlinkEvent, Outcome, Recipient};
use crate::protocol::envelope::Encoder;
use crate::protocol::id::DeviceId;
use crate::protocol::limit::Now;
use crate::protocol::trace::Span;
use crate::queue::count;
use crate::queue::kafka::KafkaAnswers;
use crate::queue::kafka::KafkaCommandStats;
use crate::queue::kafka::reader::unreadable::Unreadable;
use crate::replica::{HandOver, HandOverAnswer, HandOverRequest};

/// Commands in flight in all; at this number nothing more is read. One costs about 600 bytes beside its record.
pub(super) const IN_FLIGHT_MAX: usize = 16_384;

/// Bytes of their records, and of outcomes that Kafka has not acknowledged; likewise.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// With more bytes than this an outcome that is not small is replaced by a failure: replies may be much larger than the
/// commands that were read. The client copies what it sends, so the worst case is twice as much.
const OUTCOME_BYTES_MAX: usize = 2 * BYTES_MAX;

/// Up to this size an outcome is never replaced.
const SMALL_BYTES: usize = 4096;

/// The replica that holds the device tells a time-out itself; it gets this much longer to be heard.
const MARGIN: Duration = Duration::from_secs(2);

/// An outcome that Kafka gave back is sent again after this time.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The worker that holds a device, if this replica does.
pub(super) type Route = Box<dyn Fn(&DeviceId) -> Option<usize> + Send>;

/// Takes the age of each command that is read here.
pub(super) type Ages = Box<dyn Fn(Duration) + Send>;

/// Brings the commands of this replica's partitions to their devices, and their outcomes to Kafka.
pub(super) struct Dispatcher {
    settings: KafkaCommandSettings,
    encoder: Encoder,
    route: Route,
    workers: Vec<mpsc::UnboundedSender<DownlinkEvent>>,
    pub(super) hand_over: Option<Rc<dyn HandOver>>,
    producer: OutcomeProducer,
    pub(super) partitions: Partitions,
    in_flight: InFlight,
    /// From where on to read, where that has changed.
    answered: HashMap<i32, i64>,
    /// Outcomes that Kafka gave back, and when they are sent again.
    retries: VecDeque<(Instant, u64)>,
    is_full: bool,
    /// As the encoder knows it, ms since 1970.
    now_ms: u64,
    pub(super) ages: Ages,
    stats: Arc<KafkaCommandStats>,
}

impl Dispatcher {
    pub(super) fn new(
        settings: KafkaCommandSettings,
        encoder: Encoder,
        route: Route,
        workers: Vec<mpsc::UnboundedSender<DownlinkEvent>>,
        hand_over: Option<Rc<dyn HandOver>>,
        producer: OutcomeProducer,
        stats: Arc<KafkaCommandStats>,
    ) -> Self {
        Self {
            settings,
            encoder,
            route,
            workers,
            hand_over,
            producer,
            partitions: Partitions::default(),
            in_flight: InFlight::default(),
            answered: HashMap::new(),
            retries: VecDeque::new(),
            is_full: false,
            now_ms: 0,
            ages: Box::new(|_| ()),
            stats,
        }
    }

    /// Whether hand-over works, where it is wanted.
    pub(super) fn is_open(&self) -> bool {
        self.hand_over.as_ref().is_none_or(|hand_over| hand_over.is_open())
    }

    /// Whether there is room for more commands.
    pub(super) fn has_room(&mut self) -> bool {
        let (in_flight, bytes) = (self.in_flight.len(), self.in_flight.bytes());
        let divisor = if self.is_full { 2 } else { 1 };
        self.is_full = in_flight >= IN_FLIGHT_MAX / divisor || bytes >= BYTES_MAX / divisor;
        !self.is_full
    }

    /// The number of commands in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Takes out the offsets from which on to read, where they have changed.
    pub(super) fn take_answered(&mut self) -> HashMap<i32, i64> {
        std::mem::take(&mut self.answered)
    }

    /// Notes that these partitions have left.
    pub(super) fn on_lost(&mut self, numbers: &[i32]) {
        let abandoned = self.partitions.remove(numbers);
        self.stats.abandoned.fetch_add(u64::try_from(abandoned).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.answered.retain(|number, _| !numbers.contains(number));
    }

    /// Reads a record.
    pub(super) fn on_record(&mut self, record: &CommandRecord) {
        let Some(origin) = self.partitions.take(record.partition, record.offset) else { return };
        count(&self.stats.read);
        let now_ms = self.update_clock();
        let command = record.command();
        let holder = match &command {
            Ok(command) => self.holder(&command.device),
            Err(CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _)) => {
                self.holder(&identity.device)
            }
            Err(CommandError::Unreadable(..)) => {
                record.key.as_deref().and_then(|key| self.holder(std::str::from_utf8(key).ok()?))
            }
        };
        // Without hand-over every replica reads every record, and one of them at most has something to say.
        if holder.is_none() && self.hand_over.is_none() {
            count(&self.stats.foreign);
            self.mark_answered(&origin);
            return;
        }
        let age_ms = record.age_ms(now_ms);
        if let Some(age_ms) = age_ms {
            (self.ages)(Duration::from_millis(age_ms));
        }
        let command = match command {
            Ok(command) => command,
            Err(error) => return self.refuse(origin, record, error),
        };
        if age_ms.is_some_and(|age_ms| age_ms > millis(self.settings.max_age)) {
            count(&self.stats.stale);
            let identity = identity(&command);
            return self.fail(origin, identity, Code::TimeOut, "the command is older than commands.max_age");
        }
        if command.timeout_ms.is_some_and(|ms| Duration::from_millis(ms) > self.settings.timeout_max) {
            count(&self.stats.refused);
            let text = "header timeout is longer than commands.timeout_max";
            return self.fail(origin, identity(&command), Code::ParameterError, text);
        }
        match holder {
            Some((worker, device)) => self.send_to_worker(origin, record, worker, device, command),
            None => self.hand_over(origin, record, command),
        }
    }

    /// Writes that a part of a partition cannot be read, and lets the offset move on behind it once that is stored.
    pub(super) fn skip_unreadable(&mut self, part: &Unreadable) {
        let Some(origin) = self.partitions.take(part.partition, part.next - 1) else { return };
        count(&self.stats.skipped_batches);
        self.update_clock();
        let command = UnreadableCommand {
            text: format!("topic {}: {part}", self.settings.command_topic),
            topic: Some(self.settings.command_topic.clone()),
            record: Some((part.partition, part.first)),
            ..UnreadableCommand::default()
        };
        let outcome = self.encoder.command_failed(&command);
        let number = self.in_flight.insert(InFlightCommand::new(origin, None));
        self.send_outcome(number, Outgoing::rejected(outcome, None));
    }

    fn holder(&self, device: &str) -> Option<(usize, DeviceId)> {
        let device = DeviceId::new(device).ok()?;
        let worker = (self.route)(&device).filter(|worker| *worker < self.workers.len())?;
        Some((worker, device))
    }

    /// Answers a record whose command cannot be carried out.
    fn refuse(&mut self, origin: Origin, record: &CommandRecord, mut error: CommandError) {
        let parent = *error.trace_mut();
        *error.trace_mut() = self.encoder.tracer.begin(parent);
        let span = Span::of_command(*error.trace_mut(), parent, error.identity(), self.now());
        if let CommandError::Unreadable(command) = &mut error {
            command.topic = Some(self.settings.command_topic.clone());
        }
        let outcome = self.encoder.refused(&error);
        let code = outcome.failure.as_ref().map(|(code, _)| *code);
        let (identity, outgoing) = match error {
            CommandError::Unreadable(command) => {
                count(&self.stats.unreadable);
                let (partition, offset) = (record.partition, record.offset);
                tracing::debug!(partition, offset, cause = command.text, "a record is no command");
                (None, Outgoing::rejected(outcome, record.key.clone()))
            }
            CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _) => {
                count(&self.stats.refused);
                (Some(identity), Outgoing::reply(outcome))
            }
        };
        self.encoder.tracer.end(span, 0, code.map(Code::as_str));
        let number = self.in_flight.insert(InFlightCommand::new(origin, identity));
        self.send_outcome(number, outgoing);
    }

    fn fail(&mut self, origin: Origin, mut identity: Box<CommandIdentity>, code: Code, text: &str) {
        let span = self.begin(&mut identity);
        self.encoder.tracer.end(span, 0, Some(code.as_str()));
        let outcome = self.encoder.failure(&identity, code, text);
        let identity = Some(identity);
        let number = self.in_flight.insert(InFlightCommand::new(origin, identity));
        self.send_outcome(number, Outgoing::reply(outcome));
    }

    fn send_to_worker(
        &mut self,
        origin: Origin,
        record: &CommandRecord,
        worker: usize,
        device: DeviceId,
        command: Command,
    ) {
        let (identity, bytes) = (Some(identity(&command)), record.value.len());
        let number = self.in_flight.insert(InFlightCommand { bytes, ..InFlightCommand::new(origin, identity) });
        let ticket = Some(KafkaAnswers::ticket(number));
        let event = DownlinkEvent::Command { to: Recipient::Device(device), ticket, command: Ok(command) };
        // A worker that has ended answers nothing: the record stays unanswered, for the replica that reads it next.
        if self.workers.get(worker).is_some_and(|worker| worker.send(event).is_ok()) {
            count(&self.stats.local);
        }
    }

    /// The replica that holds the device begins a span of its own, below the one that begins here.
    fn hand_over(&mut self, origin: Origin, record: &CommandRecord, mut command: Command) {
        let mut identity = identity(&command);
        let span = self.begin(&mut identity);
        command.trace = identity.trace.or(command.trace);
        let Some(hand_over) = &self.hand_over else { return };
        let timeout = command.timeout_ms.map_or(self.settings.timeout, Duration::from_millis);
        let now = Instant::now();
        let (identity, bytes, span) = (Some(identity), record.value.len(), span.map(|span| (span, now)));
        let deadline = Some(now + timeout + MARGIN);
        let in_flight = InFlightCommand { bytes, deadline, span, ..InFlightCommand::new(origin, identity) };
        let number = self.in_flight.insert(in_flight);
        hand_over.send(HandOverRequest::new(number, &command, &record.value, now + timeout));
        count(&self.stats.handed_over);
    }

    /// A worker has the outcome.
    pub(super) fn on_outcome(&mut self, number: u64, outcome: Outcome) {
        if self.waits(number) {
            // What may have to stand in for this outcome belongs to the same trace.
            if let Some(identity) = self.in_flight.get_mut(number).and_then(|command| command.identity.as_mut()) {
                identity.trace = outcome.trace;
            }
            self.send_outcome(number, Outgoing::reply(outcome));
        }
    }

    /// Another replica has the outcome, or none can have it.
    pub(super) fn on_hand_over_answer(&mut self, number: u64, answer: HandOverAnswer) {
        if !self.waits(number) {
            return;
        }
        match answer {
            HandOverAnswer::Outcome(outcome) if !outcome.payload.is_empty() => {
                let Some(identity) = self.identity(number) else { return };
                let failure = outcome.failure.as_ref().and_then(|(code, _)| Code::from_name(code));
                self.end(number, failure);
                let outgoing = Outgoing::handed_over(outcome, &identity);
                self.send_outcome(number, outgoing);
            }
            // An outcome that NATS does not carry comes as its failure alone.
            HandOverAnswer::Outcome(outcome) => {
                let (code, text) = outcome.failure.unwrap_or_default();
                self.send_failure(number, Code::from_name(&code).unwrap_or(Code::SystemError), &text);
            }
            HandOverAnswer::NoResponders => {
                count(&self.stats.offline);
                self.send_failure(number, Code::ClientOffline, "no replica holds the device");
            }
            HandOverAnswer::NotSent(cause) => {
                count(&self.stats.not_sent);
                let text = format!("the command cannot be handed over: {cause}");
                self.send_failure(number, Code::ParameterError, &text);
            }
        }
    }

    /// Forgets what the workers have not answered, after they have ended: it is read again.
    pub(super) fn forget_local(&mut self) {
        self.in_flight.forget(|command| matches!(command.stage, Stage::Waiting) && command.deadline.is_none());
    }

    /// Looks at everything that waits for a time.
    pub(super) fn on_tick(&mut self) {
        let now = Instant::now();
        while let Some(number) = self.in_flight.pop_expired(now) {
            count(&self.stats.timed_out);
            self.send_failure(number, Code::TimeOut, "no reply in time");
        }
        if self.retries.front().is_some_and(|(when, _)| *when <= now) {
            self.producer.renew_if_needed();
        }
        while let Some((_, number)) = self.retries.pop_front_if(|(when, _)| *when <= now) {
            if let Some(InFlightCommand { stage: Stage::Answering(outgoing), .. }) = self.in_flight.get_mut(number) {
                count(&self.stats.answered_again);
                self.producer.send(number, outgoing);
            }
        }
    }

    /// Kafka has an outcome, or gives it back.
    pub(super) fn on_delivery(&mut self, number: u64, delivery: Delivery) {
        let Some(InFlightCommand { stage: Stage::Answering(_), .. }) = self.in_flight.get_mut(number) else { return };
        match delivery {
            Delivery::Stored => {
                count(&self.stats.answered);
                self.complete(number);
            }
            Delivery::Failed(cause) => {
                tracing::debug!(cause, "an outcome is sent again");
                self.retries.push_back((Instant::now() + RETRY_AFTER, number));
            }
            Delivery::Unstorable(cause) => self.substitute(number, &cause),
        }
    }

    /// Puts a short failure in the place of an outcome that Kafka never takes.
    fn substitute(&mut self, number: u64, cause: &str) {
        let Some(command) = self.in_flight.get_mut(number) else { return };
        let is_substitute = matches!(&command.stage, Stage::Answering(outgoing) if outgoing.is_substitute);
        match command.identity.clone().filter(|_| !is_substitute) {
            Some(identity) => {
                self.update_clock();
                let text = format!("Kafka does not take the outcome: {cause}");
                let outcome = self.encoder.failure(&identity, Code::SystemError, &text);
                self.send_outcome(number, Outgoing { is_substitute: true, ..Outgoing::reply(outcome) });
            }
            None => {
                tracing::error!(cause, "an outcome is lost: Kafka takes nothing in its place");
                count(&self.stats.answers_dropped);
                self.complete(number);
            }
        }
    }

    /// Sends an outcome and keeps it until Kafka has it.
    fn send_outcome(&mut self, number: u64, outgoing: Outgoing) {
        let bytes = outgoing.held_bytes();
        if bytes > SMALL_BYTES && self.in_flight.bytes().saturating_add(bytes) > OUTCOME_BYTES_MAX {
            return self.substitute(number, "too many outcomes wait for it");
        }
        self.in_flight.set_bytes(number, bytes);
        let Some(command) = self.in_flight.get_mut(number) else { return };
        self.producer.send(number, &outgoing);
        command.stage = Stage::Answering(outgoing);
    }

    fn send_failure(&mut self, number: u64, code: Code, text: &str) {
        let Some(identity) = self.identity(number) else { return };
        self.end(number, Some(code));
        self.update_clock();
        let outcome = self.encoder.failure(&identity, code, text);
        self.send_outcome(number, Outgoing::reply(outcome));
    }

    /// Begins this replica's part of a command's trace.
    fn begin(&mut self, identity: &mut CommandIdentity) -> Option<Box<Span>> {
        let parent = identity.trace;
        identity.trace = self.encoder.tracer.begin(parent);
        Span::of_command(identity.trace, parent, Some(identity), self.now())
    }

    fn end(&mut self, number: u64, failure: Option<Code>) {
        let span = self.in_flight.get_mut(number).and_then(|command| command.span.take());
        if let Some((span, since)) = span {
            let took_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.encoder.tracer.end(Some(span), took_us, failure.map(Code::as_str));
        }
    }

    /// The time of the record under way. Nobody here looks at the other clock.
    fn now(&self) -> Now {
        Now { unix_ms: self.now_ms, us: 0 }
    }

    fn waits(&mut self, number: u64) -> bool {
        self.in_flight.get_mut(number).is_some_and(|command| matches!(command.stage, Stage::Waiting))
    }

    fn identity(&mut self, number: u64) -> Option<Box<CommandIdentity>> {
        self.in_flight.get_mut(number)?.identity.clone()
    }

    fn complete(&mut self, number: u64) {
        if let Some(command) = self.in_flight.remove(number) {
            self.mark_answered(&command.origin);
        }
    }

    fn mark_answered(&mut self, origin: &Origin) {
        if let Some(offset) = self.partitions.answer(origin) {
            self.answered.insert(origin.partition, offset);
        }
    }

    /// The time at this moment, told to the encoder.
    fn update_clock(&mut self) -> u64 {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        self.encoder.set_now(now_ms);
        self.now_ms = now_ms;
        now_ms
    }
}

fn identity(command: &Command) -> Box<CommandIdentity> {
    Box::new(command.identity(command.message_id.as_deref().unwrap_or_default()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;
    use crate::protocol::downlink::Ticket;
    use crate::protocol::envelope::Mode;
    use crate::protocol::uplink::Addressing;
    use crate::queue::kafka::KafkaSettings;

    fn record(offset: i64, value: &str) -> CommandRecord {
        let (topic, timestamp) = ("jetlinks.command".to_owned(), Timestamp::NotAvailable);
        CommandRecord::of(&OwnedMessage::new(
            Some(value.into()),
            Some(b"device1".to_vec()),
            topic,
            timestamp,
            0,
            offset,
            None,
        ))
    }

    #[test]
    fn outcomes_that_kafka_does_not_take_are_bounded_and_a_failure_stands_in_for_one_that_is_too_much() {
        let settings = KafkaCommandSettings::new(KafkaSettings::new("127.0.0.1:9".to_owned()), None);
        let (producer, _deliveries) =
            OutcomeProducer::new(&settings.kafka, "jetlinks.reply", Arc::default()).expect("right settings");
        let encoder = Encoder::new(Mode::Structured, Addressing::Key, "replica1".to_owned(), 1);
        let (worker, mut events) = mpsc::unbounded_channel();
        let route: Route = Box::new(|_| Some(0));
        let stats = Arc::new(KafkaCommandStats::default());
        let mut dispatcher = Dispatcher::new(settings, encoder, route, vec![worker], None, producer, stats);
        dispatcher.partitions.assign(&[0]);
        let payload = Bytes::from(vec![b'x'; OUTCOME_BYTES_MAX / 4]);
        let read = r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","messageId":"m1"}"#;
        let mut numbers = Vec::new();
        for offset in 0..6 {
            dispatcher.on_record(&record(offset, read));
            let Ok(DownlinkEvent::Command { ticket: Some(Ticket(ticket)), .. }) = events.try_recv() else {
                panic!("no command")
            };
            numbers.push(ticket & !(1 << 63));
        }
        assert!(dispatcher.has_room());
        for number in &numbers {
            let outcome = Outcome {
                device: "device1".to_owned(),
                correlation_id: "m1".to_owned(),
                payload: payload.clone(),
                attributes: Vec::new(),
                trace: None,
                failure: None,
            };
            dispatcher.on_outcome(*number, outcome);
        }
        assert!(dispatcher.in_flight.bytes() <= OUTCOME_BYTES_MAX, "{}", dispatcher.in_flight.bytes());
        assert!(!dispatcher.has_room(), "nothing more is read");
        let kept: Vec<bool> = numbers
            .iter()
            .map(|number| match dispatcher.in_flight.get_mut(*number).map(|command| &command.stage) {
                Some(Stage::Answering(outgoing)) => {
                    let text = String::from_utf8_lossy(&outgoing.payload);
                    assert!(!outgoing.is_substitute || text.contains("SYSTEM_ERROR"), "{text}");
                    !outgoing.is_substitute
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kept, [true, true, true, false, false, false], "each has an outcome");
    }
}
