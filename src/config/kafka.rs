//! Section `kafka`.

use super::reader::Reader;
use super::section::section;
use super::url::is_host;
use crate::protocol::librdkafka::{canonical, reason_against};
use crate::protocol::secret::Secret;

section! {
    /// Brokers, topics and client properties of Kafka.
    KafkaConfig checked by Self::check {
        /// Addresses with commas between; always set when Kafka is used.
        brokers: Option<String> = optional_text(
            r#"brokers with commas between, such as "kafka-1:9092,kafka-2:9092", without kafka:// in front"#,
            are_brokers,
        ),
        /// Messages of devices, presence and heartbeats.
        uplink_topic: String = checked("jetlinks.device", TOPIC, is_topic),
        /// Messages that could not be decoded.
        rejected_topic: String = checked("jetlinks.rejected", TOPIC, is_topic),
        /// Commands.
        command_topic: String = checked("jetlinks.command", TOPIC, is_topic),
        /// Outcomes of commands.
        reply_topic: String = checked("jetlinks.reply", TOPIC, is_topic),
        /// Consumer group of the commands.
        group: String = checked("jetlinks-bridge", "a text that is not empty", |text| !text.is_empty()),
        /// Whether missing topics are created.
        create_topics: bool = flag(false),
        /// Further properties of librdkafka, by their full names. All values are kept as secrets: some are.
        properties: Vec<(String, Secret)> = properties(is_secret),
    }
}

/// Description of a topic's name, for messages.
const TOPIC: &str = "a topic's name, of at most 249 letters, digits, dots, _ and -";

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
    fn check(&self, reader: &mut Reader<'_>) {
        if [&self.uplink_topic, &self.rejected_topic, &self.reply_topic].contains(&&self.command_topic) {
            let reason = "must differ from kafka.uplink_topic, kafka.rejected_topic and kafka.reply_topic: the bridge \
                          would read what it writes";
            reader.invalid("kafka.command_topic", reason);
        }
        for (at, (name, _)) in self.properties.iter().enumerate() {
            let key = format!("kafka.properties.{name}");
            let mut earlier = self.properties[..at].iter().map(|(earlier, _)| earlier);
            if let Some(reason) = reason_against(name) {
                reader.invalid(&key, reason);
            } else if let Some(other) = earlier.find(|earlier| canonical(earlier) == canonical(name)) {
                reader.invalid(&key, format!("the same as {other}, which is set too"));
            }
        }
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
