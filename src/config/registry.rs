//! Sections `registry`, `registry.file`, `registry.nats` and `registry.http`.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Choice, Reader};
use super::url::Url;
use crate::protocol::secret::Secret;

/// Source of the devices' credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The section that is used. Default `file`.
    pub source: RegistrySource,
    /// Whether a device without its own secret may use its product's. Default no.
    pub product_secrets: bool,
    /// The file of the devices; always set when `source` is `file`.
    pub file: Option<PathBuf>,
    /// The bucket in NATS KV. Default `jetlinks_devices`.
    pub nats_bucket: String,
    /// The HTTP service.
    pub http: HttpRegistryConfig,
}

/// Kind of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrySource {
    /// A TOML file.
    File,
    /// A bucket in NATS KV.
    Nats,
    /// An HTTP service.
    Http,
}

impl RegistrySource {
    /// The word for it in the configuration.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, source)| *source == self).map_or("", |(word, _)| word)
    }
}

impl Choice for RegistrySource {
    const ALL: &'static [(&'static str, Self)] = &[("file", Self::File), ("nats", Self::Nats), ("http", Self::Http)];
}

/// A registry behind HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRegistryConfig {
    /// `GET {url}/{id}` answers with the record of a device.
    pub url: Option<Url>,
    /// Bearer token.
    pub token: Option<Secret>,
    /// Timeout of one request, and of the wait for its turn. Default 2 s.
    pub timeout: Duration,
    /// Requests under way at once, 1 to 1,024. Default 64.
    pub concurrency: usize,
    /// Lifetime of a cached record. Default 15 min.
    pub cache_ttl: Duration,
    /// Lifetime of a cached "unknown". Default 10 s.
    pub negative_ttl: Duration,
}

impl RegistryConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let registry = Self {
            source: reader.choice("registry.source", "file"),
            product_secrets: reader.flag("registry.product_secrets", false),
            file: reader.path("registry.file.path"),
            nats_bucket: reader.checked(
                "registry.nats.bucket",
                "jetlinks_devices",
                "a bucket's name, of letters, digits, _ and -",
                |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')),
            ),
            http: HttpRegistryConfig {
                url: reader.url(
                    "registry.http.url",
                    r#"a URL, such as "https://platform/devices""#,
                    &["http", "https"],
                ),
                token: reader.secret("registry.http.token"),
                timeout: reader.duration("registry.http.timeout", "2s"),
                concurrency: reader.number("registry.http.concurrency", 64, 1..=1_024),
                cache_ttl: reader.duration("registry.http.cache_ttl", "15m"),
                negative_ttl: reader.duration("registry.http.negative_ttl", "10s"),
            },
        };
        match registry.source {
            RegistrySource::File => {
                let needed = "registry.source = \"file\" needs the file of the devices";
                reader.missing("registry.file.path", registry.file.is_some(), needed);
            }
            RegistrySource::Http => {
                reader.missing("registry.http.url", registry.http.url.is_some(), "registry.source = \"http\" needs it");
            }
            RegistrySource::Nats => {}
        }
        if registry.http.url.as_ref().is_some_and(|url| !url.is_base()) {
            let reason = "must not carry a user, a query or a fragment: the id of the device follows it, and \
                          registry.http.token is the way to say who asks";
            reader.invalid("registry.http.url", reason);
        }
        registry
    }
}
