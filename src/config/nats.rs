//! Sections `nats`, `nats.tls` and `nats.stream`.

use std::time::Duration;

use super::material::Material;
use super::reader::Reader;
use super::url::Url;
use crate::protocol::address::is_subject_prefix;
use crate::protocol::secret::Secret;

/// Servers of NATS, subjects and stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// Servers; never empty when NATS is used. Replicas coordinate exactly when it is not empty.
    pub servers: Vec<Url>,
    /// A credentials file (`.creds`) or its text.
    pub credentials: Option<Material>,
    /// First tokens of every subject. Default `jetlinks`.
    pub prefix: String,
    /// First tokens of the reply subjects. Default `_INBOX`; never below `prefix`, nor above it.
    pub inbox_prefix: String,
    /// JetStream domain of the stream and the registry's bucket; `None`, the default: that of the servers themselves.
    pub domain: Option<String>,
    /// Secrets that sign claims of replicas; a second one is the previous, still accepted. At most two; empty, the
    /// default: claims are not signed.
    pub claim_secret: Vec<Secret>,
    /// Interval of PINGs to a silent server. Default 5 s.
    pub ping_interval: Duration,
    /// Certificate authority of the servers; `None`: those of the system.
    pub tls_ca: Option<Material>,
    /// Own certificate; only together with `tls_private_key`.
    pub tls_certificate: Option<Material>,
    /// Own key; only together with `tls_certificate`.
    pub tls_private_key: Option<Material>,
    /// The stream of the messages.
    pub stream: StreamConfig,
}

/// The stream and its settings, which apply only at its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Name of the stream. Default `JETLINKS_DEVICE`.
    pub name: String,
    /// Copies, 1 to 5. Default 1.
    pub replicas: usize,
    /// Longest age of messages; 0 is no limit. Default 7 days.
    pub max_age: Duration,
    /// Most bytes of messages; `None`, the default: no limit.
    pub max_bytes: Option<u64>,
}

fn is_stream(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Whether a prefix of NATS subjects is another one, or begins with it.
fn is_below(prefix: &str, other: &str) -> bool {
    prefix.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// One token between `$JS` and `API` of the subjects of JetStream.
fn is_domain(text: &str) -> bool {
    text.is_empty() || is_stream(text)
}

impl NatsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let nats = Self {
            servers: reader.list("nats.servers", r#"a list of servers, such as ["nats://nats:4222"]"#, |text| {
                Url::parse(text, &["nats", "tls", "ws", "wss"], true)
            }),
            credentials: reader.material("nats.credentials"),
            prefix: reader.checked(
                "nats.prefix",
                "jetlinks",
                "tokens of letters, digits, _ and -, with dots between",
                |text| is_subject_prefix(text) && !text.starts_with("_INBOX"),
            ),
            inbox_prefix: reader.checked(
                "nats.inbox_prefix",
                "_INBOX",
                "tokens of letters, digits, _ and -, with dots between",
                is_subject_prefix,
            ),
            domain: Some(reader.checked("nats.domain", "", "a domain's name, of letters, digits, _ and -", is_domain))
                .filter(|domain| !domain.is_empty()),
            claim_secret: reader.secrets("nats.claim_secret", 2),
            ping_interval: reader.duration("nats.ping_interval", "5s"),
            tls_ca: reader.material("nats.tls.ca"),
            tls_certificate: reader.material("nats.tls.certificate"),
            tls_private_key: reader.material("nats.tls.private_key"),
            stream: StreamConfig {
                name: reader.checked(
                    "nats.stream.name",
                    "JETLINKS_DEVICE",
                    "a stream's name, of letters, digits, _ and -",
                    is_stream,
                ),
                replicas: reader.number("nats.stream.replicas", 1, 1..=5),
                max_age: reader.duration_or_zero("nats.stream.max_age", "7d"),
                max_bytes: reader.optional_size("nats.stream.max_bytes"),
            },
        };
        let (subjects, inboxes) = (&nats.prefix, &nats.inbox_prefix);
        if is_below(subjects, inboxes) || is_below(inboxes, subjects) {
            let reason = "must not be nats.prefix, nor above or below it: answers would be taken for messages";
            reader.invalid("nats.inbox_prefix", reason);
        }
        reader.needs_both(
            [
                ("nats.tls.certificate", nats.tls_certificate.is_some()),
                ("nats.tls.private_key", nats.tls_private_key.is_some()),
            ],
            None,
        );
        nats
    }
}
