//! The properties of librdkafka's clients.
//!
//! Every client begins with [`base`]. What its user gave comes behind that, and what promises rest on behind everything,
//! each under one name: of two names of one property librdkafka takes any.

use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, DefaultConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{BaseProducer, DefaultProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use crate::protocol::librdkafka::{canonical, reason_against};
use crate::protocol::secret::Secret;
use crate::queue::kafka::{KafkaError, KafkaSettings};

/// Properties that name a file which librdkafka reads when a client is made. It tells of one that is missing only then, and
/// not which.
const FILES: [&str; 6] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.crl.location",
    "ssl.keystore.location",
    "https.ca.location",
];

/// A value of `ssl.ca.location` that names no file: look where systems keep their authorities.
const PROBE: &str = "probe";

/// A record waits this long for others to the same partition.
const LINGER: &str = "1";

/// Interval of the statistics that show stuck partitions, ms. The second ones show them, and with the request to the brokers
/// this takes four seconds at most.
const STATISTICS: &str = "1500";

/// Between two attempts to reach a broker at most, as for every queue.
const RECONNECT_MAX: &str = "2000";

/// A consumer waits half a second for a broker that has nothing, and librdkafka wants a second more.
const REQUEST_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// The least that librdkafka takes as the time for making a connection, TLS and authentication included.
const SETUP_MIN: Duration = Duration::from_secs(1);

/// A broker that does not answer at all is named within five seconds: librdkafka looks at the time once a second.
const SETUP_MAX: Duration = Duration::from_secs(3);

/// The two kinds of librdkafka's clients; some properties are for one of them alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientKind {
    Producer,
    Consumer,
}

/// Properties that all clients have, with those that the user gave.
///
/// # Errors
/// [`KafkaError`] names the property.
pub(crate) fn base(settings: &KafkaSettings) -> Result<ClientConfig, KafkaError> {
    if settings.brokers.trim().is_empty() {
        return Err(KafkaError::NoBroker);
    }
    let mut config = ClientConfig::new();
    config.set("client.id", &settings.client_id).set("socket.keepalive.enable", "true");
    let mut wrong = Vec::new();
    for (name, value) in &settings.properties {
        let value = value.expose();
        if let Some(reason) = reason_against(name) {
            return Err(KafkaError::Reserved(name.clone(), reason));
        }
        if FILES.contains(&name.as_str()) && value != PROBE {
            wrong.extend(std::fs::File::open(value).err().map(|error| (name.clone(), format!("{value}: {error}"))));
        }
        let mut alone = ClientConfig::new();
        if let Err(ClientError::ClientConfig(_, cause, ..)) = alone.set(name, value).create_native_config() {
            wrong.push((name.clone(), cause));
        }
        config.set(canonical(name), value);
    }
    if !wrong.is_empty() {
        return Err(KafkaError::Properties(wrong));
    }
    if let Some(name) = without_token(&settings.properties) {
        let cause = "OAUTHBEARER needs sasl.oauthbearer.method = \"oidc\", which is not in this build";
        return Err(KafkaError::Properties(vec![(name.to_owned(), cause.to_owned())]));
    }
    let timeout = settings.request_timeout;
    set_default(&mut config, "socket.timeout.ms", &millis(timeout.max(REQUEST_TIMEOUT_MIN)));
    set_default(&mut config, "socket.connection.setup.timeout.ms", &millis(timeout.clamp(SETUP_MIN, SETUP_MAX)));
    config
        .set("metadata.broker.list", &settings.brokers)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", RECONNECT_MAX)
        .set("allow.auto.create.topics", "false")
        // Some connections that fail are told at this level alone.
        .set_log_level(RDKafkaLogLevel::Info);
    Ok(config)
}

/// The mechanism that would have librdkafka wait for ever for the program to give it a token.
fn without_token(properties: &[(String, Secret)]) -> Option<&str> {
    let is = |name: &str, wanted: &str| {
        properties.iter().any(|(own, value)| canonical(own) == name && value.expose() == wanted)
    };
    let mechanism = properties.iter().find(|(name, value)| {
        canonical(name) == "sasl.mechanisms" && value.expose().eq_ignore_ascii_case("OAUTHBEARER")
    });
    mechanism.filter(|_| !is("enable.sasl.oauthbearer.unsecure.jwt", "true")).map(|(name, _)| name.as_str())
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// A property that the user may change.
fn set_default(config: &mut ClientConfig, name: &str, value: &str) {
    let name = canonical(name);
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

/// The properties of a producer.
///
/// # Errors
/// [`KafkaError`] names the property.
pub(crate) fn producer(settings: &KafkaSettings) -> Result<ClientConfig, KafkaError> {
    Ok(producer_from(base(settings)?, settings))
}

/// As [`producer`], from what [`base`] gives.
pub(crate) fn producer_from(mut config: ClientConfig, settings: &KafkaSettings) -> ClientConfig {
    set_default(&mut config, "queue.buffering.max.ms", LINGER);
    config
        .set("partitioner", "murmur2_random")
        .set("statistics.interval.ms", STATISTICS)
        .set("request.required.acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", millis(settings.message_timeout.max(Duration::from_millis(1))))
        .set("queue.buffering.max.kbytes", (settings.buffer_bytes / 1024).max(1).to_string());
    config
}

/// The properties of a consumer, whose defaults the user may change. It reads nothing by itself: its caller says from where.
///
/// # Errors
/// [`KafkaError`] names the property.
pub(crate) fn consumer(
    settings: &KafkaSettings,
    group: &str,
    defaults: &[(&str, &str)],
) -> Result<ClientConfig, KafkaError> {
    let mut config = base(settings)?;
    for (name, value) in defaults {
        set_default(&mut config, name, value);
    }
    config
        // The client wants a name also where no group comes to be.
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error");
    Ok(config)
}

/// Makes a client of these properties.
///
/// # Errors
/// [`KafkaError::Client`] in the words of librdkafka.
pub(crate) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T, KafkaError> {
    T::from_config_and_context(config, context).map_err(|error| KafkaError::Client(error.to_string()))
}

/// Makes and drops a client of these properties, without a broker to connect to: librdkafka finds some contradictions, files
/// that it cannot use and mechanisms that it was not built with only then.
///
/// # Errors
/// [`KafkaError::Client`] in the words of librdkafka.
pub(crate) fn try_out(config: &ClientConfig, kind: ClientKind) -> Result<(), KafkaError> {
    let mut config = config.clone();
    config.remove("metadata.broker.list");
    match kind {
        ClientKind::Producer => create::<_, BaseProducer>(&config, DefaultProducerContext).map(drop),
        ClientKind::Consumer => create::<_, BaseConsumer>(&config, DefaultConsumerContext).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::librdkafka::RESERVED;

    fn mistake(name: &str, value: &str) -> Option<KafkaError> {
        let mut settings = KafkaSettings::new("127.0.0.1:9092".to_owned());
        settings.properties.push((name.to_owned(), Secret::new(value)));
        producer(&settings).err()
    }

    fn names(mistake: &Option<KafkaError>, name: &str) -> bool {
        matches!(mistake, Some(KafkaError::Properties(wrong)) if wrong.iter().all(|(own, _)| own == name))
    }

    #[test]
    fn properties_that_carry_the_promise_are_refused_by_name_and_others_are_checked() {
        assert_eq!(producer(&KafkaSettings::new(String::new())).err(), Some(KafkaError::NoBroker));
        for (name, value) in [("compression.type", "lz4"), ("linger.ms", "5"), ("ssl.ca.location", "probe")] {
            assert_eq!(mistake(name, value), None);
        }
        for name in RESERVED.iter().flat_map(|reserved| reserved.names) {
            assert!(matches!(mistake(name, "1"), Some(KafkaError::Reserved(own, _)) if own == *name), "{name}");
        }
        for (name, value) in [("no.such.property", "1"), ("ssl.key.location", "/nonexistent"), ("linger.ms", "soon")] {
            assert!(names(&mistake(name, value), name), "{name}: {:?}", mistake(name, value));
        }
    }

    #[test]
    fn a_broker_has_half_the_time_of_a_device_unless_the_user_says_otherwise() {
        let mut settings = KafkaSettings::new("127.0.0.1:9092".to_owned());
        settings.request_timeout = Duration::from_millis(3500);
        let timeout = |settings: &KafkaSettings| {
            let made = [producer(settings), consumer(settings, "group", &[])];
            made.map(|config| config.expect("good settings").get("socket.timeout.ms").expect("it is set").to_owned())
        };
        assert_eq!(timeout(&settings), ["3500", "3500"]);
        settings.properties.push(("socket.timeout.ms".to_owned(), Secret::new("7000")));
        assert_eq!(timeout(&settings), ["7000", "7000"]);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mut settings = KafkaSettings::new("127.0.0.1:9092".to_owned());
        settings.properties = ["linger.ms", "no.such"].map(|name| (name.to_owned(), Secret::new("soon"))).to_vec();
        let text = producer(&settings).expect_err("two mistakes").to_string();
        assert!(text.contains("linger.ms") && text.contains("no.such"), "{text}");
    }

    #[test]
    fn librdkafka_knows_every_reserved_property() {
        for name in RESERVED.iter().flat_map(|reserved| reserved.names) {
            let mut config = ClientConfig::new();
            let known = config.set(*name, "no such value").create_native_config();
            let text = known.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!text.contains("No such configuration property"), "{name}: {text}");
        }
    }

    #[test]
    fn no_property_has_two_names_in_one_client() {
        let mut settings = KafkaSettings::new("127.0.0.1:9092".to_owned());
        settings.properties.push(("linger.ms".to_owned(), Secret::new("7")));
        let made = [producer(&settings), consumer(&settings, "group", &[("max.partition.fetch.bytes", "1")])];
        for config in made.map(|made| made.expect("good settings")) {
            for (name, _) in config.config_map() {
                assert_eq!(canonical(name), name);
            }
            assert_eq!(config.get("queue.buffering.max.ms"), Some("7"));
        }
    }
}
