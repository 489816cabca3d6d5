//! Sections `nats`, `nats.tls` and `nats.stream`.

use std::time::Duration;

use super::material::Material;
use super::reader::Reader;
use super::section::section;
use super::url::Url;
use crate::protocol::address::is_subject_prefix;
use crate::protocol::secret::Secret;

section! {
    /// Servers of NATS, subjects and stream.
    NatsConfig checked by Self::check {
        /// Servers; never empty when NATS is used. Replicas coordinate exactly when it is not empty.
        servers: Vec<Url> = list(
            r#"a list of servers, such as ["nats://nats:4222"]"#,
            |text| Url::parse(text, &["nats", "tls", "ws", "wss"], true),
        ),
        /// A credentials file (`.creds`) or its text.
        credentials: Option<Material> = material(),
        /// First tokens of every subject.
        prefix: String = checked(
            "jetlinks",
            TOKENS,
            |text| is_subject_prefix(text) && !text.starts_with("_INBOX"),
        ),
        /// First tokens of the reply subjects; never below `prefix`, nor above it.
        inbox_prefix: String = checked("_INBOX", TOKENS, is_subject_prefix),
        /// JetStream domain of the stream and the registry's bucket, one token between `$JS` and `API` of the subjects;
        /// `None`, the default: that of the servers themselves.
        domain: Option<String> = optional_text("a domain's name, of letters, digits, _ and -", is_stream),
        /// Secrets that sign claims of replicas; a second one is the previous, still accepted. Empty, the default: claims
        /// are not signed.
        claim_secret: Vec<Secret> = secrets(2),
        /// Interval of PINGs to a silent server.
        ping_interval: Duration = duration("5s"),
        /// Certificate authority of the servers; `None`: those of the system.
        tls_ca as "tls.ca": Option<Material> = material(),
        /// Own certificate; only together with `tls_private_key`.
        tls_certificate as "tls.certificate": Option<Material> = material(),
        /// Own key; only together with `tls_certificate`.
        tls_private_key as "tls.private_key": Option<Material> = material(),
        /// The stream of the messages.
        stream: StreamConfig = section(),
    }
}

section! {
    /// The stream and its settings, which apply only at its creation.
    StreamConfig {
        /// Name of the stream.
        name: String = checked("JETLINKS_DEVICE", "a stream's name, of letters, digits, _ and -", is_stream),
        /// Copies.
        replicas: usize = number(1, 1..=5),
        /// Longest age of messages; 0 is no limit.
        max_age: Duration = duration_or_zero("7d"),
        /// Most bytes of messages; `None`, the default: no limit.
        max_bytes: Option<u64> = optional_size(),
    }
}

/// Description of a prefix of subjects, for messages.
const TOKENS: &str = "tokens of letters, digits, _ and -, with dots between";

fn is_stream(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Whether a prefix of NATS subjects is another one, or begins with it.
fn is_below(prefix: &str, other: &str) -> bool {
    prefix.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl NatsConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        let (subjects, inboxes) = (&self.prefix, &self.inbox_prefix);
        if is_below(subjects, inboxes) || is_below(inboxes, subjects) {
            let reason = "must not be nats.prefix, nor above or below it: answers would be taken for messages";
            reader.invalid("nats.inbox_prefix", reason);
        }
        reader.needs_both(
            [
                ("nats.tls.certificate", self.tls_certificate.is_some()),
                ("nats.tls.private_key", self.tls_private_key.is_some()),
            ],
            None,
        );
    }
}
