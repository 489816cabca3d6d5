//! librdkafka: its properties and what it calls back.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};

use super::stats::count;
use super::{KafkaError, KafkaSettings, KafkaStats};
use crate::protocol::uplink::{Inbox, Receipt, Token};
use crate::queue::Throttle;

/// Properties that carry the promise or have a setting of their own, by all of their names.
const RESERVED: [&str; 15] = [
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "bootstrap.servers",
    "metadata.broker.list",
    "queue.buffering.max.kbytes",
    "delivery.report.only.error",
    "enable.gapless.guarantee",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "partition.assignment.strategy",
];

/// Properties that name a file which librdkafka reads when a client is made. It tells of one that is missing only then, and
/// not which.
const FILES: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.crl.location", "ssl.keystore.location"];

/// What `ssl.ca.location` may say instead: look where systems keep their authorities.
const PROBE: &str = "probe";

/// A record waits this long for others to the same partition.
const LINGER: &str = "1";

/// Between two attempts to reach a broker at most, as for every queue.
pub(super) const RECONNECT_MAX: &str = "2000";

pub(super) type Producer = BaseProducer<Context>;

/// The properties of the producer.
///
/// # Errors
/// [`KafkaError`] names the property.
pub(super) fn config(settings: &KafkaSettings) -> Result<ClientConfig, KafkaError> {
    if settings.brokers.trim().is_empty() {
        return Err(KafkaError::NoBroker);
    }
    let mut config = ClientConfig::new();
    config
        .set("partitioner", "murmur2_random")
        .set("linger.ms", LINGER)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", RECONNECT_MAX)
        .set("socket.keepalive.enable", "true")
        .set("client.id", &settings.client_id);
    for (name, value) in &settings.properties {
        if RESERVED.contains(&name.as_str()) {
            return Err(KafkaError::Reserved(name.clone()));
        }
        if FILES.contains(&name.as_str()) && value != PROBE {
            let unreadable = |error: std::io::Error| KafkaError::Property(name.clone(), format!("{value}: {error}"));
            std::fs::File::open(value).map_err(unreadable)?;
        }
        config.set(name, value);
    }
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", settings.message_timeout.as_millis().max(1).to_string())
        .set("queue.buffering.max.kbytes", (settings.buffer_bytes / 1024).max(1).to_string())
        .set_log_level(RDKafkaLogLevel::Notice);
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(ClientError::ClientConfig(_, cause, name, _)) => Err(KafkaError::Property(name, cause)),
        Err(other) => Err(KafkaError::Client(other.to_string())),
    }
}

/// Makes and drops a producer and a consumer of these properties, without a broker to connect to: librdkafka finds some
/// contradictions, files that it cannot use and mechanisms that it was not built with only then.
///
/// # Errors
/// [`KafkaError`] in the words of librdkafka.
pub(super) fn try_out(config: &ClientConfig, kind: ClientKind) -> Result<(), KafkaError> {
    let name = ["sasl.mechanism", "sasl.mechanisms"].into_iter().find(|name| config.get(name).is_some_and(is_oauth));
    if let Some(name) = name.filter(|_| config.get("enable.sasl.oauthbearer.unsecure.jwt") != Some("true")) {
        // librdkafka would wait for the program to give it a token.
        let cause = "OAUTHBEARER needs sasl.oauthbearer.method = \"oidc\", which is not in this build";
        return Err(KafkaError::Property(name.to_owned(), cause.to_owned()));
    }
    let mut config = config.clone();
    config.remove("bootstrap.servers");
    let made = match kind {
        ClientKind::Producer => config.create::<BaseProducer>().map(drop),
        ClientKind::Consumer => config.create::<BaseConsumer>().map(drop),
    };
    made.map_err(|error| KafkaError::Client(error.to_string()))
}

/// The two kinds of librdkafka's clients; some properties are for one of them alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    Producer,
    Consumer,
}

fn is_oauth(mechanism: &str) -> bool {
    mechanism.eq_ignore_ascii_case("OAUTHBEARER")
}

/// Makes the producer.
///
/// # Errors
/// [`KafkaError::Client`] where librdkafka finds a contradiction or a file that it cannot use.
pub(super) fn producer(config: &ClientConfig, context: Context) -> Result<Producer, KafkaError> {
    Producer::from_config_and_context(config, context).map_err(|error| KafkaError::Client(error.to_string()))
}

/// What the callbacks of one producer note; they run on the thread that polls.
pub(super) struct Context {
    inbox: Arc<Inbox>,
    stats: Arc<KafkaStats>,
    notes: Arc<Notes>,
}

/// Read by the poller and by the worker.
#[derive(Debug)]
pub(super) struct Notes {
    /// Records handed over and not yet reported on.
    pub(super) outstanding: AtomicI64,
    /// Records stored by this producer.
    pub(super) stored: AtomicU64,
    /// Records given back by this producer, but for those that no producer could get through.
    pub(super) failed: AtomicU64,
    /// librdkafka says that no broker is connected.
    pub(super) all_down: AtomicBool,
    /// The producer cannot go on.
    pub(super) is_fatal: AtomicBool,
    /// Why the last connection was not made or was lost, in the words of librdkafka.
    cause: Mutex<Option<String>>,
    complaints: Mutex<Throttle>,
    log: Mutex<Throttle>,
}

impl Default for Notes {
    fn default() -> Self {
        let throttle = || Mutex::new(Throttle::new(Duration::from_secs(30)));
        Self {
            outstanding: AtomicI64::new(0),
            stored: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            all_down: AtomicBool::new(false),
            is_fatal: AtomicBool::new(false),
            cause: Mutex::default(),
            complaints: throttle(),
            log: throttle(),
        }
    }
}

impl Notes {
    /// Why the last connection was not made or was lost.
    pub(super) fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_cause(&self, reason: &str) {
        // How long the attempt took and how often it was made would make each one another cause.
        let cause = reason.split(" (after ").next().unwrap_or(reason).to_owned();
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }

    /// Logs that records come back, now and then.
    pub(super) fn complain(&self, error: &ClientError) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = complaints.pass(Instant::now()) {
            tracing::error!(%error, suppressed, "Kafka does not take records");
        }
    }
}

impl Context {
    pub(super) fn new(inbox: Arc<Inbox>, stats: Arc<KafkaStats>, notes: Arc<Notes>) -> Self {
        Self { inbox, stats, notes }
    }
}

impl rdkafka::ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(&self.notes.log, level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.notes.all_down.store(true, Ordering::Relaxed),
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::warn!(reason, "the Kafka producer cannot go on; another takes its place");
                self.notes.is_fatal.store(true, Ordering::Relaxed);
            }
            _ => {
                tracing::debug!(%error, reason, "Kafka connection trouble");
                self.notes.note_cause(reason);
            }
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let token = Token::from_u64(u64::try_from(opaque).unwrap_or_default());
        self.notes.outstanding.fetch_sub(1, Ordering::Relaxed);
        // The inbox wakes its worker for the first receipt only; the rest of the batch is there before it has woken.
        match result {
            Ok(_) => {
                count(&self.notes.stored);
                count(&self.stats.stored);
                self.inbox.post_one(Receipt::Stored(token));
            }
            Err((error, _)) => {
                count(&self.stats.failed);
                if !is_unstorable(error) {
                    count(&self.notes.failed);
                }
                if !is_own_purge(error) {
                    self.notes.complain(error);
                }
                self.inbox.post_one(Receipt::Failed(token));
            }
        }
    }
}

/// Logs what librdkafka says. It repeats itself at every attempt to connect; what matters is also said by those who
/// listen to it.
pub(super) fn log_line(throttle: &Mutex<Throttle>, level: RDKafkaLogLevel, facility: &str, message: &str) {
    let is_quiet = matches!(level, RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug);
    // Producers and consumers share their properties, and each is told of those that are the other's.
    if is_quiet || facility == "CONFWARN" {
        tracing::debug!(facility, message, "librdkafka");
        return;
    }
    let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
    match throttle.pass(Instant::now()) {
        Some(suppressed) => tracing::warn!(facility, message, suppressed, "librdkafka"),
        None => tracing::debug!(facility, message, "librdkafka"),
    }
}

/// Whether it is the record that the broker does not take, and not records in general.
pub(super) fn is_unstorable(error: &ClientError) -> bool {
    use RDKafkaErrorCode::{
        InvalidMessageSize, InvalidRecord, InvalidTimestamp, MessageBatchTooLarge, MessageSizeTooLarge,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(MessageSizeTooLarge | MessageBatchTooLarge | InvalidMessageSize | InvalidRecord | InvalidTimestamp)
    )
}

/// Whether the record came back because its producer was given up, which is said elsewhere.
fn is_own_purge(error: &ClientError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(name: &str, value: &str) -> Option<KafkaError> {
        let mut settings = KafkaSettings::new("127.0.0.1:9092".to_owned());
        settings.properties.push((name.to_owned(), value.to_owned()));
        config(&settings).err()
    }

    #[test]
    fn properties_that_carry_the_promise_are_refused_by_name_and_others_are_checked() {
        assert_eq!(config(&KafkaSettings::new(String::new())).err(), Some(KafkaError::NoBroker));
        assert_eq!(mistake("compression.type", "lz4"), None);
        assert_eq!(mistake("linger.ms", "5"), None);
        for name in RESERVED {
            assert_eq!(mistake(name, "1"), Some(KafkaError::Reserved(name.to_owned())));
        }
        assert!(
            matches!(mistake("no.such.property", "1"), Some(KafkaError::Property(name, _)) if name == "no.such.property")
        );
        assert!(
            matches!(mistake("ssl.key.location", "/nonexistent"), Some(KafkaError::Property(name, _)) if name == "ssl.key.location")
        );
        assert_eq!(mistake("ssl.ca.location", "probe"), None);
        assert!(matches!(mistake("linger.ms", "soon"), Some(KafkaError::Property(name, _)) if name == "linger.ms"));
    }

    #[test]
    fn settings_do_not_show_the_values_of_properties() {
        let mut settings = KafkaSettings::new("127.0.0.1:9092".to_owned());
        settings.properties.push(("sasl.password".to_owned(), "hidden".to_owned()));
        let text = format!("{settings:?}");
        assert!(text.contains("sasl.password") && !text.contains("hidden"), "{text}");
    }
}
