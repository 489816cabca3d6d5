//! `explain`: what the bridge would make of a message or of a command. No server is needed; with `--config` the registry is
//! asked for products and children.
#![expect(clippy::disallowed_methods, reason = "the time of receipt is now")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::check::EXIT_CONFIGURATION;
use super::examples;
use super::input::{loaded, text_or_file};
use super::lookup::{self, LookupError};
use super::output::{Output, one_line};
use crate::config::{Config, Sources};
use crate::protocol::child::{Child, Children};
use crate::protocol::explain::{CommandExplanation, Explainer, MessageExplanation};
use crate::protocol::id::{DeviceId, IdError, ProductId};
use crate::protocol::topic::MessageType;
use crate::registry::Device;

/// Explains what the bridge would make of a message of a device, or of a command to one
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(group = clap::ArgGroup::new("subject").required(true), after_help = examples::EXPLAIN)]
pub struct ExplainArgs {
    /// Topic on which the device publishes
    #[arg(long, value_name = "TOPIC", group = "subject", requires = "payload")]
    pub topic: Option<String>,

    /// Payload: the text itself, @FILE, or - for stdin
    #[arg(long, value_name = "TEXT|@FILE|-", requires = "topic", allow_hyphen_values = true)]
    pub payload: Option<String>,

    /// A command as JSON, with messageType, productId and deviceId: the text itself, @FILE, or - for stdin
    #[arg(long, value_name = "JSON|@FILE|-", group = "subject", allow_hyphen_values = true)]
    pub command: Option<String>,

    /// The connected device, when it is not the one of the topic
    #[arg(long = "as", value_name = "PRODUCT/DEVICE", value_parser = parse_session, requires = "topic")]
    pub session: Option<(ProductId, DeviceId)>,

    /// Exit with 1 when the message or the command is rejected, refused or foreign
    #[arg(long)]
    pub fail: bool,

    /// How to print; json: one object, of a message with envelope, rejected, foreign, answer, nats and kafka, of a command with
    /// topic, body or body_base64, closes, unsupported and error
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Prints the explanation to `out`. Exit code 0 whenever there is one, that of a rejection included unless `--fail`; 1 when the
/// payload or the registry cannot be read; 78 when the configuration has mistakes (it gives the names of subjects and topics).
pub fn run(args: &ExplainArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Some(loaded) = loaded(sources, err) else { return ExitCode::from(EXIT_CONFIGURATION) };
    let (config, is_built_in) = (loaded.config, loaded.built_in);
    // The registry of the built-in configuration is nobody's own.
    let names_registry = |setting: &String| setting.trim_start().starts_with("registry.");
    let is_own = !is_built_in || sources.settings.iter().any(names_registry);
    let registry = Some(&config).filter(|_| is_own);
    match explain(args, &config, registry) {
        Ok(Explained { text, is_refused }) => {
            // Nobody is left to tell when stdout is closed.
            let _ = writeln!(out, "{text}");
            if is_refused && args.fail { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "explain: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Children and products out of the registry of the configuration; of nothing where that is `None`.
struct RegistryChildren<'a> {
    config: Option<&'a Config>,
    /// The first look-up that failed.
    error: RefCell<Option<LookupError>>,
}

impl RegistryChildren<'_> {
    fn find(&self, id: &str) -> Option<Arc<Device>> {
        match lookup::find(self.config?, id) {
            Ok(device) => Some(device),
            Err(LookupError::Unknown(_)) => None,
            Err(error) => {
                self.error.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    /// The session of the device that the topic names: its product is the registry's. `None` for a device that the
    /// registry does not know.
    fn session(&self, topic: &str) -> Option<(ProductId, DeviceId)> {
        let id = topic.strip_prefix('/').unwrap_or(topic).split('/').nth(1)?;
        let device = self.find(id)?;
        Some((device.product.clone(), device.id.clone()))
    }
}

impl Children for RegistryChildren<'_> {
    fn child(&self, id: &str) -> Child {
        self.find(id).map_or(Child::Unknown, |device| Child::Known {
            product: device.product.clone(),
            gateway: device.gateway.clone(),
        })
    }
}

/// `registry` is the configuration whose registry is asked for products and children; `None` asks none.
fn explain(args: &ExplainArgs, config: &Config, registry: Option<&Config>) -> io::Result<Explained> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let explainer = Explainer {
        subject_prefix: config.nats.prefix.clone(),
        kafka_topic: config.kafka.uplink_topic.clone(),
        kafka_rejected_topic: config.kafka.rejected_topic.clone(),
        packet_bytes_max: config.limits.packet_bytes,
        now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        seed: now.as_nanos(),
    };
    if let Some(command) = &args.command {
        let explanation = explainer.command(&text_or_file(command)?);
        let text = match args.output {
            Output::Json => one_line(&explanation.json()),
            Output::Text => describe_command(&explanation),
        };
        return Ok(Explained { text, is_refused: explanation.error.is_some() });
    }
    let topic = args.topic.as_deref().unwrap_or_default();
    let payload = text_or_file(args.payload.as_deref().unwrap_or_default())?;
    let is_asked = registry.is_some();
    let registry = RegistryChildren { config: registry, error: RefCell::default() };
    let session = match &args.session {
        Some(session) => Some(session.clone()),
        None => registry.session(topic),
    };
    let session = session.as_ref().map(|(product, device)| (product.as_str(), device.as_str()));
    let explanation = explainer.message(topic, &payload, session, &registry);
    if let Some(error) = registry.error.into_inner() {
        return Err(io::Error::other(error));
    }
    let text = match args.output {
        Output::Json => one_line(&explanation.json()),
        Output::Text => describe_message(topic, &explanation, is_asked),
    };
    Ok(Explained { text, is_refused: explanation.foreign || explanation.rejected.is_some() })
}

/// An explanation, and whether it is that of something that the bridge does not take.
#[derive(Debug)]
struct Explained {
    text: String,
    is_refused: bool,
}

fn parse_session(text: &str) -> Result<(ProductId, DeviceId), String> {
    let (product, device) = text.split_once('/').ok_or("expected PRODUCT/DEVICE")?;
    let ids = || -> Result<_, IdError> { Ok((ProductId::new(product)?, DeviceId::new(device)?)) };
    ids().map_err(|error| error.to_string())
}

/// Members of an envelope that a note may be about.
#[derive(Deserialize)]
struct Envelope {
    data: Option<EnvelopeData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeData {
    message_type: Option<String>,
    properties: Option<BTreeMap<String, IgnoredAny>>,
}

/// Whether an envelope is that of a report of nothing.
fn reports_nothing(envelope: &str) -> bool {
    let data = serde_json::from_str::<Envelope>(envelope).ok().and_then(|envelope| envelope.data);
    data.is_some_and(|data| {
        data.message_type.as_deref() == Some(MessageType::ReportProperty.name())
            && data.properties.is_none_or(|properties| properties.is_empty())
    })
}

/// The lines for people. `is_asked`: whether a registry told products and gateways.
fn describe_message(topic: &str, explanation: &MessageExplanation, is_asked: bool) -> String {
    let mut lines = Vec::new();
    if explanation.foreign {
        lines.push("foreign: this topic is not the session's, or names a product or device that cannot be; the connection is closed, nothing is written".to_owned());
    }
    if let Some(answer) = &explanation.answer {
        lines.push(format!("answer: {}/reply {answer}", topic.strip_suffix('/').unwrap_or(topic)));
    }
    if let Some((reason, detail)) = &explanation.rejected {
        lines.push(format!("rejected: {}: {detail}", reason.as_str()));
    }
    if let Some(subject) = &explanation.subject {
        lines.push(format!("NATS: subject {subject}"));
    }
    if let Some((topic, key)) = &explanation.kafka {
        lines.push(format!("Kafka: topic {topic}, key {key}"));
    }
    if let Some(envelope) = &explanation.envelope {
        lines.push(format!("envelope: {envelope}"));
        if reports_nothing(envelope) {
            let text = r#"note: the report has no properties; they stand in an object of that name: {"properties":{"temp":36.8}}"#;
            lines.push(text.to_owned());
        }
    }
    if !is_asked {
        lines.push(
            "note: without the registry, which --config names: products and gateways are those of the topic".to_owned(),
        );
    }
    shown(&lines)
}

/// The lines, each as one: what a device sends ends none.
fn shown(lines: &[String]) -> String {
    lines.iter().map(|line| one_line(line)).collect::<Vec<_>>().join("\n")
}

/// The lines for people.
fn describe_command(explanation: &CommandExplanation) -> String {
    let mut lines = Vec::new();
    if explanation.closes {
        lines.push("closes: nothing is published; the session ends and the bridge answers itself".to_owned());
    }
    if let Some(topic) = &explanation.topic {
        lines.push(format!("topic: {topic}"));
    }
    if let Some(body) = &explanation.body {
        lines.push(format!("body: {body}"));
    }
    if let Some(base64) = &explanation.body_base64 {
        lines.push(format!("body (base64): {base64}"));
    }
    if let Some((code, message)) = &explanation.error {
        let what = if explanation.is_unsupported() { "unsupported" } else { "refused" };
        lines.push(format!("{what}: {}: {message}", code.as_str()));
    }
    shown(&lines)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config;
    use crate::protocol::json::must_be_escaped;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn explained(words: &[&str]) -> String {
        let line = Line::try_parse_from([&["explain"], words].concat()).expect("the arguments are right");
        let config = config::load(&Sources::default()).expect("the built-in configuration is right").config;
        explain(&line.args, &config, None).expect("nothing is read from elsewhere").text
    }

    #[test]
    fn a_report_is_shown_with_subject_key_and_digits_as_written() {
        let text = explained(&["--topic", "/p/d/properties/report", "--payload", r#"{"properties":{"a":1.50}}"#]);
        assert!(text.contains("NATS: subject jetlinks.device.p.d.properties.report\n"), "{text}");
        assert!(text.contains("Kafka: topic jetlinks.device, key d\n"), "{text}");
        assert!(text.contains(r#""properties":{"a":1.50}"#), "{text}");
    }

    #[test]
    fn a_rejection_is_an_explanation() {
        let text = explained(&["--topic", "/p/d/nonsense", "--payload", "x"]);
        assert!(text.starts_with("rejected: unknown_topic: "), "{text}");
        assert!(text.contains("Kafka: topic jetlinks.rejected, key d\n"), "{text}");
    }

    #[test]
    fn another_session_makes_a_topic_foreign() {
        let text = explained(&["--topic", "/p/d/tags", "--payload", "{}", "--as", "p/d2"]);
        assert!(text.starts_with("foreign: "), "{text}");
    }

    #[test]
    fn a_configuration_brings_the_registrys_products_and_children() {
        let config = |text: &str| {
            let settings = vec![format!("registry.file.path={}/config/devices.toml", env!("CARGO_MANIFEST_DIR"))];
            let config = config::load(&Sources { settings, ..Sources::default() }).expect("right").config;
            let line = Line::try_parse_from(["explain", "--payload", "{}", "--topic", text]).expect("right");
            explain(&line.args, &config, Some(&config)).expect("the file is there").text
        };
        let own = config("/product1/gw1/child/child1/tags");
        assert!(own.contains(r#""productid":"product2""#) && own.contains(r#""gatewayid":"gw1""#), "{own}");
        let foreign = config("/product1/device1/child/child1/tags");
        assert!(foreign.starts_with("rejected: foreign_child: "), "{foreign}");
        let other_product = config("/product9/device1/tags");
        assert!(other_product.starts_with("foreign: "), "{other_product}");
        let unknown = config("/product9/device9/tags");
        assert!(unknown.contains(r#""productid":"product9""#), "{unknown}");
    }

    #[test]
    fn a_report_without_properties_and_a_look_without_the_registry_are_told() {
        let report = |payload: &str| explained(&["--topic", "/p/d/properties/report", "--payload", payload]);
        for payload in [r#"{"temp":36.8}"#, r#"{"properties":{}}"#] {
            assert!(report(payload).contains("\nnote: the report has no properties"), "{}", report(payload));
        }
        let full = report(r#"{"properties":{"temp":36.8}}"#);
        assert!(!full.contains("no properties") && full.ends_with("those of the topic"), "{full}");
        let tags = explained(&["--topic", "/p/d/tags", "--payload", "{}"]);
        assert!(!tags.contains("no properties"), "{tags}");
    }

    #[test]
    fn what_is_not_taken_is_a_failure_where_that_is_asked_for() {
        let code = |arguments: &[&str], settings: &[String]| {
            let line = Line::try_parse_from([&["explain"], arguments].concat()).expect("the arguments are right");
            let sources = Sources { settings: settings.to_vec(), ..Sources::default() };
            format!("{:?}", run(&line.args, &sources, &mut Vec::new(), &mut Vec::new()))
        };
        let [good, bad] = [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| format!("{code:?}"));
        let read = r#"{"messageType":"READ_PROPERTY","productId":"p","deviceId":"d"}"#;
        for (arguments, expected) in [
            (&["--topic", "/p/d/tags", "--payload", "{}"][..], &good),
            (&["--topic", "/p/d/nonsense", "--payload", "{}"], &bad),
            (&["--topic", "/p/d+/tags", "--payload", "{}"], &bad),
            (&["--topic", "/p/d/tags", "--payload", "{}", "--as", "p/d2"], &bad),
            (&["--command", read], &good),
            (&["--command", r#"{"messageType":"EVENT","productId":"p","deviceId":"d"}"#], &bad),
            (&["--command", "{}"], &bad),
        ] {
            assert_eq!(&code(&[arguments, &["--fail"]].concat(), &[]), expected, "{arguments:?}");
            assert_eq!(code(arguments, &[]), good, "{arguments:?}");
        }
        // The registry counts where a setting names it.
        let registry = [format!("registry.file.path={}/config/devices.toml", env!("CARGO_MANIFEST_DIR"))];
        let foreign = ["--topic", "/product9/device1/tags", "--payload", "{}", "--fail"];
        assert_eq!((code(&foreign, &[]), code(&foreign, &registry)), (good, bad));
    }

    #[test]
    fn a_topic_whose_ids_cannot_be_belongs_to_nobody() {
        for topic in ["/p/d+/tags", &format!("/{}/d/tags", "p".repeat(65)), "//d/tags"] {
            let text = explained(&["--topic", topic, "--payload", "{}"]);
            assert!(text.starts_with("foreign: "), "{text}");
        }
    }

    #[test]
    fn nothing_that_a_device_sends_is_obeyed_by_the_terminal() {
        let payload = "{\"tags\":{\"a\u{9b}31m\":\"\u{9d}0;title\u{9c}\u{202e}\u{2028}\"}}";
        for (topic, output) in
            [("/p/d/tags", "text"), ("/p/d/tags", "json"), ("/p/d/x\u{9b}\u{1b}[2J\nNATS: subject forged", "text")]
        {
            let text = explained(&["--topic", topic, "--payload", payload, "--output", output]);
            assert!(!text.contains(|c| must_be_escaped(c) && c != '\n'), "{text:?}");
            assert!(!text.contains("\nNATS: subject forged"), "{text}");
            assert!(text.contains(r"\u009b31m") || topic != "/p/d/tags", "{text}");
        }
        let text = explained(&["--topic", "/p/d/time-sync\u{9b}", "--payload", "{}"]);
        assert!(!text.contains(|c| must_be_escaped(c) && c != '\n'), "{text:?}");
    }

    #[test]
    fn json_output_is_one_object_with_every_field() {
        let words = ["--topic", "/p/d/time-sync", "--payload", r#"{"messageId":"7"}"#, "--output", "json"];
        let json: serde_json::Value = serde_json::from_str(&explained(&words)).expect("the output is JSON");
        assert_eq!(json["answer"]["messageId"], "7");
        for field in ["envelope", "rejected", "nats", "kafka"] {
            assert!(json[field].is_null(), "{json}");
        }
        assert_eq!(json["foreign"], false);
    }

    #[test]
    fn commands_show_where_they_go_or_why_not() {
        let text = explained(&["--command", r#"{"messageType":"READ_PROPERTY","productId":"p","deviceId":"d"}"#]);
        assert!(text.starts_with("topic: /p/d/properties/read\nbody: {"), "{text}");
        let text = explained(&["--command", r#"{"messageType":"EVENT","productId":"p","deviceId":"d"}"#]);
        assert!(text.starts_with("unsupported: UNSUPPORTED_MESSAGE: "), "{text}");
        let text = explained(&["--command", r#"{"messageType":"DISCONNECT","productId":"p","deviceId":"d"}"#]);
        assert!(text.starts_with("closes: "), "{text}");
    }

    #[test]
    fn a_topic_needs_a_payload_and_a_command_stands_alone() {
        for words in [
            &["explain"][..],
            &["explain", "--topic", "/p/d/tags"],
            &["explain", "--payload", "{}"],
            &["explain", "--topic", "/p/d/tags", "--payload", "{}", "--command", "{}"],
            &["explain", "--topic", "/p/d/tags", "--payload", "{}", "--as", "p"],
        ] {
            assert!(Line::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
