//! Permissions that the user lacks, as the server tells of them.

use std::collections::VecDeque;

use async_nats::ServerError;

/// An operation that the server has refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A message on this subject went nowhere.
    Publish(String),
    /// This subscription does not exist, from the beginning or any more.
    Subscription(String),
    /// A message was larger than this user may send; the server ends the connection for it.
    Payload,
}

impl Violation {
    /// Reads what nats-server says: `Permissions Violation for Publish to "subject"`, and `… for Subscription to "subject"`
    /// with more behind it.
    pub(crate) fn read(error: &ServerError) -> Option<Self> {
        let ServerError::Other(text) = error else { return None };
        if text == "Maximum Payload Violation" {
            return Some(Violation::Payload);
        }
        let (kind, rest) = text.strip_prefix("Permissions Violation for ")?.split_once(" to \"")?;
        let subject = rest.split('"').next()?.to_owned();
        match kind {
            "Publish" => Some(Violation::Publish(subject)),
            "Subscription" => Some(Violation::Subscription(subject)),
            _ => None,
        }
    }
}

/// Violations that wait for the connection's owner; one more is dropped. The client itself drops what comes faster than
/// 128 at a time, so whoever counts on them must do without some.
const WAITING_MAX: usize = 256;

/// Violations on their way.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    waiting: VecDeque<Violation>,
}

impl Violations {
    pub(crate) fn push(&mut self, violation: Violation) {
        if self.waiting.len() < WAITING_MAX && !self.waiting.contains(&violation) {
            self.waiting.push_back(violation);
        }
    }

    pub(crate) fn take(&mut self) -> VecDeque<Violation> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_violation_is_found_in_the_words_of_the_server() {
        let read = |text: &str| Violation::read(&ServerError::Other(text.to_owned()));
        let publish = |subject: &str| Some(Violation::Publish(subject.to_owned()));
        let subscription = |subject: &str| Some(Violation::Subscription(subject.to_owned()));
        for (text, expected) in [
            (
                r#"Permissions Violation for Publish to "jetlinks.device.p.d.event.e""#,
                publish("jetlinks.device.p.d.event.e"),
            ),
            (r#"Permissions Violation for Subscription to "_INBOX.a.*""#, subscription("_INBOX.a.*")),
            (
                r#"Permissions Violation for Subscription to "jetlinks.command.p.d.>" (sid "7")"#,
                subscription("jetlinks.command.p.d.>"),
            ),
            (r#"Permissions Violation for Subscription to "a" using queue "q" (sid "7")"#, subscription("a")),
            (r#"Permissions Violation for Publish with Reply of "a""#, None),
            ("Maximum Payload Violation", Some(Violation::Payload)),
            ("Stale Connection", None),
            ("Permissions Violation for Publish to", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(Violation::read(&ServerError::AuthorizationViolation), None);
    }
}
