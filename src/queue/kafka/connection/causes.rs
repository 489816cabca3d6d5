//! Why Kafka does not do what is asked of it, in the words of librdkafka: told once for each change.
//!
//! librdkafka tells of a broker that it cannot reach with the host and the cause, at each kind of failure and then every 30 s
//! for as long as it goes on. A cause is told again when it had not been heard for [`MEMORY`], or all was well in between.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode;

/// A cause that was not heard for this long is news when it comes again.
const MEMORY: Duration = Duration::from_secs(70);

/// Causes that are remembered at most; beyond that all are forgotten. Each is a line of text.
const CAUSES_MAX: usize = 256;

/// The purpose of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Records of devices and of the bridge itself.
    Records,
    /// Commands to devices.
    Commands,
    /// Outcomes of commands.
    Outcomes,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Subject::Records => "records",
            Subject::Commands => "commands",
            Subject::Outcomes => "outcomes",
        }
    }
}

/// Causes that were heard lately; shared by clients that have the same troubles.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: HashMap<String, Instant>,
    last: Option<String>,
    heard: Option<Instant>,
}

impl Causes {
    /// Logs what librdkafka says of a broker, if that is news.
    pub(crate) fn broker(&self, subject: Subject, text: &str) {
        let subject = subject.as_str();
        let cause = cause_of(text);
        self.lock().heard = Some(Instant::now());
        if self.is_news(&cause, Instant::now()) {
            tracing::warn!(subject, cause, "trouble with a Kafka broker");
        }
    }

    /// Logs what else keeps a client from its work, if that is news.
    pub(crate) fn other(&self, subject: Subject, cause: &str) {
        if !self.is_news(cause, Instant::now()) {
            return;
        }
        match subject {
            Subject::Records => tracing::error!(cause, "Kafka does not take records"),
            Subject::Commands => tracing::error!(cause, "commands cannot be read from Kafka"),
            Subject::Outcomes => tracing::error!(cause, "Kafka does not take outcomes; they are sent again"),
        }
    }

    /// The cause that was heard last.
    pub(crate) fn last(&self) -> Option<String> {
        self.lock().last.clone()
    }

    /// Notes that all is well: whatever comes now is news.
    pub(crate) fn forget(&self) {
        *self.lock() = State::default();
    }

    /// Whether a broker was in trouble within this time.
    pub(crate) fn were_heard_within(&self, time: Duration) -> bool {
        self.lock().heard.is_some_and(|heard| heard.elapsed() < time)
    }

    /// Notes a cause; whether it was not known already.
    pub(crate) fn is_news(&self, cause: &str, now: Instant) -> bool {
        let mut state = self.lock();
        state.last = Some(cause.to_owned());
        if state.told.len() >= CAUSES_MAX {
            state.told.clear();
        }
        let before = state.told.insert(cause.to_owned(), now);
        before.is_none_or(|before| now.saturating_duration_since(before) > MEMORY)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of librdkafka for a connection that ends at its first request.
const NO_KAFKA: &str = "in state APIVERSION_QUERY";

/// The host and the cause, without what would make each attempt another cause: the thread, how long it took, how often it
/// was made.
pub(crate) fn cause_of(text: &str) -> String {
    let text = match text.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")) {
        Some((_, rest)) => rest,
        None => text,
    };
    let is_refused = text.contains("Disconnected") && text.contains(NO_KAFKA);
    let advice = if is_refused { "; does security.protocol fit this listener?" } else { "" };
    let text = text.split(" (after ").next().unwrap_or(text).trim_end();
    let Some((broker, cause)) = text.split_once(": ") else { return text.to_owned() };
    // `sasl_ssl://host:9093/bootstrap`, `host:9092/1`, `GroupCoordinator`.
    let host = broker.split_once("://").map_or(broker, |(_, host)| host);
    let host = host.rsplit_once('/').map_or(host, |(host, _)| host);
    format!("{host}: {cause}{advice}")
}

/// Whether a code is about a broker, and not about what it was asked for.
pub(crate) fn is_about_a_connection(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, OperationTimedOut, Resolve, SSL};
    matches!(code, Authentication | BrokerTransportFailure | OperationTimedOut | Resolve | SSL)
}

/// Logs what librdkafka says. What it says of brokers goes to `causes`; the rest matters to those who look for it.
pub(crate) fn log_line(causes: &Causes, subject: Subject, level: RDKafkaLogLevel, facility: &str, message: &str) {
    let is_quiet = matches!(level, RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug)
        // A broker that has just started has no number for a producer yet, and is asked again; a refusal ends the producer.
        || facility == "GETPID" && message.ends_with(": retrying");
    if facility == "FAIL" {
        causes.broker(subject, message);
    // Producers and consumers share their properties, and each is told of those that are the other's.
    } else if is_quiet || facility == "CONFWARN" || !causes.is_news(message, Instant::now()) {
        tracing::debug!(facility, message, "librdkafka");
    } else {
        tracing::warn!(subject = subject.as_str(), facility, message, "librdkafka");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_the_host_and_what_is_wrong_whatever_attempt_it_was() {
        for text in [
            "[thrd:sasl_ssl://kafka-1:9093/bootstrap]: sasl_ssl://kafka-1:9093/bootstrap: Connect failed (after 3ms in state CONNECT)",
            "kafka-1:9093/1: Connect failed (after 7ms in state CONNECT, 4 identical error(s) suppressed)",
            "kafka-1:9093: Connect failed",
        ] {
            assert_eq!(cause_of(text), "kafka-1:9093: Connect failed");
        }
        assert_eq!(cause_of("[thrd:main]: no colon"), "no colon");
        let text = "kafka-1:9093/bootstrap: Disconnected: connection closed (after 3ms in state APIVERSION_QUERY)";
        assert!(cause_of(text).contains("connection closed; does security.protocol fit"));
    }

    #[test]
    fn a_cause_is_news_once_until_it_was_silent_or_all_was_well() {
        let (causes, start) = (Causes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(causes.is_news("a", at(0)) && causes.is_news("b", at(0)));
        assert!(!causes.is_news("a", at(30)) && !causes.is_news("a", at(60)) && !causes.is_news("a", at(90)));
        assert!(causes.is_news("a", at(200)));
        assert_eq!(causes.last().as_deref(), Some("a"));
        causes.forget();
        assert!(causes.is_news("a", at(201)));
    }

    #[test]
    fn causes_without_end_are_forgotten_and_not_kept() {
        let causes = Causes::default();
        for number in 0..3 * CAUSES_MAX {
            assert!(causes.is_news(&number.to_string(), Instant::now()));
        }
        assert!(causes.lock().told.len() <= CAUSES_MAX);
    }
}
