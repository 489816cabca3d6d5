//! Section `tracing`.

use super::reader::Reader;
use super::section::section;
use super::url::Url;
use crate::protocol::secret::Secret;
use crate::protocol::trace::SampleRatio;

section! {
    /// Export of spans, and its sampling.
    TracingConfig checked by Self::check {
        /// OTLP over HTTP; `None` turns tracing off.
        endpoint: Option<Url> = url(
            "a URL with http:// or https://, such as http://otel-collector:4318",
            &["http", "https"],
        ),
        /// Sent with every export.
        headers: Vec<(String, Secret)> = properties(|_| true),
        /// Share of the traces that begin here whose spans are exported.
        sample_ratio: SampleRatio = share(0.001),
        /// `service.name` of the spans.
        service_name: String = checked("jetlinks-bridge", "a text that is not empty", |text| !text.is_empty()),
    }
}

/// The path of traces below a base URL (OTLP specification, "OTLP/HTTP Request").
const TRACES_PATH: &str = "/v1/traces";

impl TracingConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        if self.endpoint.as_ref().is_some_and(|url| !url.is_base()) {
            let reason = "must not carry a user, a query or a fragment; tracing.headers is the way to say who exports";
            reader.invalid("tracing.endpoint", reason);
        }
        for (name, value) in &self.headers {
            if !is_header(name, value.expose()) {
                let reason = "not an HTTP header: the name is letters, digits and hyphens, the value printable ASCII";
                reader.invalid(&format!("tracing.headers.{name}"), reason);
            }
        }
    }

    /// The URL that spans are posted to: the endpoint, or the path of traces below it.
    pub fn traces_url(&self) -> Option<String> {
        let url = self.endpoint.as_ref()?.expose().trim_end_matches('/');
        Some(if url.ends_with(TRACES_PATH) { url.to_owned() } else { format!("{url}{TRACES_PATH}") })
    }
}

fn is_header(name: &str, value: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base_or_the_url_of_the_traces_themselves() {
        for (text, expected) in [
            ("http://otel:4318", "http://otel:4318/v1/traces"),
            ("http://otel:4318/", "http://otel:4318/v1/traces"),
            ("https://otel/otlp", "https://otel/otlp/v1/traces"),
            ("https://otel/otlp/v1/traces", "https://otel/otlp/v1/traces"),
        ] {
            let config = TracingConfig {
                endpoint: Url::parse(text, &["http", "https"], false),
                sample_ratio: SampleRatio::new(1.0).expect("a share"),
                headers: Vec::new(),
                service_name: String::new(),
            };
            assert_eq!(config.traces_url().as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_header_has_a_name_and_a_value_that_http_takes() {
        for (name, value, expected) in [
            ("authorization", "Bearer t=,", true),
            ("x-api-key", "1", true),
            ("", "1", false),
            ("a b", "1", false),
            ("a:b", "1", false),
            ("a", "line\nbreak", false),
            ("a", "ä", false),
        ] {
            assert_eq!(is_header(name, value), expected, "{name}: {value}");
        }
    }
}
