//! Section `kafka`.

use super::reader::Reader;
use super::url::is_host;
use crate::protocol::librdkafka::{canonical, reason_against};
use crate::protocol::secret::Secret;

/// Brokers, topics and client properties of Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Addresses with commas between; always set when Kafka is used.
    pub brokers: Option<String>,
    /// Messages of devices, presence and heartbeats. Default `jetlinks.device`.
    pub uplink_topic: String,
    /// Messages that could not be decoded. Default `jetlinks.rejected`.
    pub rejected_topic: String,
    /// Commands. Default `jetlinks.command`.
    pub command_topic: String,
    /// Outcomes of commands. Default `jetlinks.reply`.
    pub reply_topic: String,
    /// Consumer group of the commands. Default `jetlinks-bridge`.
    pub group: String,
    /// Whether missing topics are created. Default no.
    pub create_topics: bool,
    /// Further properties of librdkafka, by their full names. All values are kept as secrets: some are.
    pub properties: Vec<(String, Secret)>,
}

/// Whether a property of librdkafka holds a secret, by its name.
fn is_secret(name: &str) -> bool {
    ["password", "secret", "passphrase", "ssl.key.pem", "private.key.pem", "ssl_key", "oauthbearer.config"]
        .iter()
        .any(|part| name.contains(part))
}

/// Protocols that librdkafka takes in front of a broker.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// Whether a text is a comma-separated list of brokers, each perhaps with a protocol in front.
fn are_brokers(text: &str) -> bool {
    text.split(',').all(|broker| match broker.trim().split_once("://") {
        Some((protocol, address)) => {
            PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol)) && is_host(address)
        }
        None => is_host(broker.trim()),
    })
}

fn is_topic(text: &str) -> bool {
    (1..=249).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

impl KafkaConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let topic = "a topic's name, of at most 249 letters, digits, dots, _ and -";
        let brokers = reader.checked(
            "kafka.brokers",
            "",
            r#"brokers with commas between, such as "kafka-1:9092,kafka-2:9092", without kafka:// in front"#,
            |text| text.is_empty() || are_brokers(text),
        );
        let kafka = Self {
            brokers: Some(brokers).filter(|text| !text.is_empty()),
            uplink_topic: reader.checked("kafka.uplink_topic", "jetlinks.device", topic, is_topic),
            rejected_topic: reader.checked("kafka.rejected_topic", "jetlinks.rejected", topic, is_topic),
            command_topic: reader.checked("kafka.command_topic", "jetlinks.command", topic, is_topic),
            reply_topic: reader.checked("kafka.reply_topic", "jetlinks.reply", topic, is_topic),
            group: reader
                .checked("kafka.group", "jetlinks-bridge", "a text that is not empty", |text| !text.is_empty()),
            create_topics: reader.flag("kafka.create_topics", false),
            properties: reader.properties("kafka.properties", is_secret),
        };
        if [&kafka.uplink_topic, &kafka.rejected_topic, &kafka.reply_topic].contains(&&kafka.command_topic) {
            let reason = "must differ from kafka.uplink_topic, kafka.rejected_topic and kafka.reply_topic: the bridge \
                          would read what it writes";
            reader.invalid("kafka.command_topic", reason);
        }
        for (at, (name, _)) in kafka.properties.iter().enumerate() {
            let key = format!("kafka.properties.{name}");
            let mut earlier = kafka.properties[..at].iter().map(|(earlier, _)| earlier);
            if let Some(reason) = reason_against(name) {
                reader.invalid(&key, reason);
            } else if let Some(other) = earlier.find(|earlier| canonical(earlier) == canonical(name)) {
                reader.invalid(&key, format!("the same as {other}, which is set too"));
            }
        }
        kafka
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_or_without_a_port() {
        for text in ["a:9092", "a,b:9092", "10.0.0.1:9092, [::1]:9092", "SASL_SSL://a:9093"] {
            assert!(are_brokers(text), "{text}");
        }
        for text in ["", "kafka://a:9092", "http://a:9092", "a:9092,", "a:b", "a b", "a:9092;b:9092", "a:0"] {
            assert!(!are_brokers(text), "{text}");
        }
    }

    #[test]
    fn properties_that_hold_secrets_are_known_by_name() {
        for name in ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!is_secret("sasl.username") && !is_secret("linger.ms") && !is_secret("ssl.key.location"));
    }
}
