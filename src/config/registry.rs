//! Sections `registry`, `registry.file`, `registry.nats` and `registry.http`.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Choice, Reader};
use super::section::section;
use super::url::Url;
use crate::protocol::secret::Secret;

section! {
    /// Source of the devices' credentials.
    RegistryConfig checked by Self::check {
        /// The section that is used.
        source: RegistrySource = choice("file"),
        /// Whether a device without its own secret may use its product's.
        product_secrets: bool = flag(false),
        /// The file of the devices; always set when `source` is `file`.
        file as "file.path": Option<PathBuf> = path(),
        /// The bucket in NATS KV.
        nats_bucket as "nats.bucket": String = checked(
            "jetlinks_devices",
            "a bucket's name, of letters, digits, _ and -",
            |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')),
        ),
        /// The HTTP service.
        http: HttpRegistryConfig = section(),
    }
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

section! {
    /// A registry behind HTTP.
    HttpRegistryConfig {
        /// `GET {url}/{id}` answers with the record of a device.
        url: Option<Url> = url(r#"a URL, such as "https://platform/devices""#, &["http", "https"]),
        /// Bearer token.
        token: Option<Secret> = secret(),
        /// Timeout of one request, and of the wait for its turn.
        timeout: Duration = duration("2s"),
        /// Requests under way at once.
        concurrency: usize = number(64, 1..=1_024),
        /// Lifetime of a cached record.
        cache_ttl: Duration = duration("15m"),
        /// Lifetime of a cached "unknown".
        negative_ttl: Duration = duration("10s"),
    }
}

impl RegistryConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        match self.source {
            RegistrySource::File => {
                let needed = "registry.source = \"file\" needs the file of the devices";
                reader.missing("registry.file.path", self.file.is_some(), needed);
            }
            RegistrySource::Http => {
                reader.missing("registry.http.url", self.http.url.is_some(), "registry.source = \"http\" needs it");
            }
            RegistrySource::Nats => {}
        }
        if self.http.url.as_ref().is_some_and(|url| !url.is_base()) {
            let reason = "must not carry a user, a query or a fragment: the id of the device follows it, and \
                          registry.http.token is the way to say who asks";
            reader.invalid("registry.http.url", reason);
        }
    }
}
