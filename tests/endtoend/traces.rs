//! Traces through real queues: from the caller to the device and back, from the device to whoever reads the queue.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetlinks_bridge::protocol::trace::TraceContext;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::command::obey;
use crate::support::bridge::wait_for_log;
use crate::support::{Bridge, Collector, Device, Exported, Kafka, Nats, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CALLERS_SPAN: &str = "b7ad6b7169203331";

fn traced(settings: Settings, collector: &Collector, ratio: &str) -> Settings {
    settings.text("tracing.endpoint", &collector.url()).toml("tracing.sample_ratio", ratio)
}

fn context(text: &str) -> TraceContext {
    TraceContext::parse(text).unwrap_or_else(|| panic!("no traceparent: {text}"))
}

fn span_id(context: TraceContext) -> String {
    format!("{:?}", context.span_id)
}

/// Headers and value of a message.
struct Stored {
    headers: Vec<(String, String)>,
    value: Value,
}

impl Stored {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The place in a trace, which attribute and header must agree about.
    fn context(&self) -> TraceContext {
        let header = self.header("traceparent").unwrap_or_else(|| panic!("{:?}", self.headers));
        let attributes =
            [self.value["traceparent"].as_str(), self.header("ce_traceparent"), self.header("ce-traceparent")];
        assert_eq!(attributes.into_iter().flatten().collect::<Vec<_>>(), [header], "{}", self.value);
        context(header)
    }
}

/// The newest message of a subject in the stream.
fn last_stored(nats: &Nats, subject: &str) -> Option<Stored> {
    let output = nats.run_cli(&["stream", "get", "JETLINKS_DEVICE", "--last-for", subject, "--json"]);
    let message: Value = serde_json::from_slice(&output.stdout).ok()?;
    let bytes = |name: &str| STANDARD.decode(message[name].as_str()?).ok();
    let headers = String::from_utf8(bytes("hdrs")?).unwrap();
    Some(Stored { headers: header_lines(&headers), value: serde_json::from_slice(&bytes("data")?).ok()? })
}

/// The command line writes the time of day in front of some.
fn header_lines(text: &str) -> Vec<(String, String)> {
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    let name = |text: &str| text.rsplit(' ').next().unwrap_or_default().to_ascii_lowercase();
    pairs.map(|(start, value)| (name(start), value.trim().to_owned())).collect()
}

/// The answer to a request, with its headers.
fn request(nats: &Nats, suffix: &str, body: &str, options: &[&str]) -> Stored {
    let subject = format!("jetlinks.command.product1.device1.{suffix}");
    let output = nats.run_cli(&[&["request", "--timeout", "12s", &subject, body], options].concat());
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let value = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok().filter(Value::is_object));
    Stored { value: value.unwrap_or_else(|| panic!("{text}")), headers: header_lines(&text) }
}

fn assert_uplink(exported: &Exported, system: &str, destination: &str) {
    assert_eq!(exported.span.kind(), SpanKind::Producer);
    assert_eq!(exported.attribute("messaging.system"), system);
    assert_eq!(exported.attribute("messaging.destination.name"), destination);
    assert_eq!(exported.attribute("jetlinks.device.id"), "device1");
    assert_eq!(exported.attribute("jetlinks.product.id"), "product1");
    assert!(exported.span.start_time_unix_nano <= exported.span.end_time_unix_nano, "{exported:?}");
    assert_eq!(exported.span.status, None);
}

#[test]
fn a_message_in_jetstream_and_its_span_have_one_place_in_one_trace() {
    for mode in ["structured", "binary"] {
        let (nats, collector) = (Nats::start(), Collector::start());
        let (registry, devices) = Registry::numbered(1);
        let settings = Settings::nats(&registry, &nats).text("envelope.mode", mode);
        let bridge = Bridge::start(&traced(settings, &collector, "1"));
        let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
        wire.publish_acknowledged(&devices[0].topic("properties/report"), r#"{"properties":{"t":1}}"#, 1);
        let subject = "jetlinks.device.product1.device1.properties.report";
        let stored = last_stored(&nats, subject).unwrap();
        let exported = collector.span(stored.context());
        assert_eq!(exported.span.name, "jetlinks uplink properties.report");
        assert_uplink(&exported, "nats", subject);
        let id = stored.header("ce-id").or(stored.value["id"].as_str()).unwrap();
        assert_eq!((exported.attribute("messaging.message.id"), exported.parent()), (id, String::new()));
        assert_eq!(exported.resource["service.name"], "jetlinks-bridge");

        let online = last_stored(&nats, "jetlinks.device.product1.device1.online").unwrap();
        assert_eq!(online.header("traceparent"), None, "presence is nobody's message");
        eventually("the span is counted", PATIENCE, || {
            let exported = bridge.metric("jetlinks_bridge_spans_total", &["outcome=\"exported\""]);
            (exported >= 1.0).then_some(())
        });
    }
}

#[test]
fn a_request_on_nats_its_command_its_reply_and_its_outcome_are_one_trace() {
    for mode in ["structured", "binary"] {
        let (nats, collector) = (Nats::start(), Collector::start());
        let (registry, devices) = Registry::numbered(1);
        let settings = Settings::nats(&registry, &nats).text("envelope.mode", mode);
        // The caller's decision counts, not the share of the traces that begin here.
        let bridge = Bridge::start(&traced(settings, &collector, "0"));
        let _device = Device::connect(bridge.mqtt(), &devices[0], obey);

        let header = format!("traceparent:{CALLER}");
        let outcome = request(&nats, "properties.read", r#"{"properties":["sn"]}"#, &["--header", &header]).context();
        assert_eq!(outcome.trace_id, context(CALLER).trace_id);
        let command = collector.span(outcome);
        assert_eq!(
            (command.span.name.as_str(), command.span.kind()),
            ("jetlinks command properties.read", SpanKind::Consumer)
        );
        assert_eq!(command.parent(), CALLERS_SPAN);
        assert_eq!(
            command.attribute("messaging.destination.name"),
            "jetlinks.command.product1.device1.properties.read"
        );
        let subject = "jetlinks.device.product1.device1.properties.read.reply";
        let reply = eventually("the reply is in the stream", PATIENCE, || last_stored(&nats, subject)).context();
        let uplink = collector.span(reply);
        assert_eq!((reply.trace_id, uplink.parent()), (outcome.trace_id, span_id(outcome)));
        assert_uplink(&uplink, "nats", subject);

        // A failure of the bridge is in the caller's trace like a reply, and so is what cannot be read at all.
        for (suffix, body, failure) in [
            ("properties.write", r#"{"properties":7}"#, "PARAMETER_ERROR"),
            ("properties.read", "[]", "PARAMETER_ERROR"),
            ("log", "{}", "UNSUPPORTED_MESSAGE"),
        ] {
            let outcome = request(&nats, suffix, body, &["--header", &header]).context();
            let command = collector.span(outcome);
            assert_eq!(command.parent(), CALLERS_SPAN, "{suffix} {body}");
            assert_eq!(command.attribute("error.type"), failure, "{suffix} {body}");
        }

        for options in [&[][..], &["--header", "traceparent:00-malformed-01"]] {
            let fresh = request(&nats, "properties.read", r#"{"properties":["sn"]}"#, options);
            assert!(!fresh.context().sampled && fresh.context().trace_id != outcome.trace_id, "{options:?}");
        }
        let unsampled = format!("traceparent:{}00", &CALLER[..53]);
        let outcome = request(&nats, "properties.read", "{}", &["--header", &unsampled]).context();
        assert_eq!((outcome.trace_id, outcome.sampled), (context(CALLER).trace_id, false));
    }
}

struct Topics {
    kafka: Kafka,
    writer: BaseProducer,
}

impl Topics {
    fn new() -> Self {
        let topics = ["jetlinks.device", "jetlinks.rejected", "jetlinks.command", "jetlinks.reply"];
        let kafka = Kafka::start_with_topics(&topics, 1);
        let writer = kafka.client().create().unwrap();
        Self { kafka, writer }
    }

    fn command(&self, value: &str, traceparent: Option<&str>) {
        let mut headers = OwnedHeaders::new();
        if let Some(traceparent) = traceparent {
            headers = headers.insert(Header { key: "traceparent", value: Some(traceparent) });
        }
        let record = BaseRecord::to("jetlinks.command").key("device1").payload(value).headers(headers);
        self.writer.send(record).map_err(|(error, _)| error).unwrap();
        self.writer.flush(PATIENCE).unwrap();
    }

    /// The first record of a topic that is meant.
    fn wait_for(&self, topic: &str, is_meant: impl Fn(&Stored) -> bool) -> Stored {
        let reader: BaseConsumer = self.kafka.client().set("group.id", "test").create().unwrap();
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        reader.assign(&all).unwrap();
        eventually(&format!("the record is in {topic}"), PATIENCE, || {
            let message = reader.poll(Duration::from_millis(100))?.unwrap();
            Some(stored(&message)).filter(&is_meant)
        })
    }

    fn outcome(&self, message_id: &str) -> Stored {
        self.wait_for("jetlinks.reply", |stored| stored.header("correlation-id") == Some(message_id))
    }
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let headers = message.headers().into_iter().flat_map(Headers::iter).map(|header| {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
        (header.key.to_owned(), value)
    });
    Stored { headers: headers.collect(), value: serde_json::from_slice(message.payload().unwrap()).unwrap() }
}

fn read_property(message_id: &str, device: &str) -> String {
    format!(
        r#"{{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"{device}","messageId":"{message_id}"}}"#
    )
}

#[test]
fn a_message_a_command_and_its_outcome_keep_their_traces_through_kafka() {
    for mode in ["structured", "binary"] {
        let (topics, collector) = (Topics::new(), Collector::start());
        let (registry, devices) = Registry::numbered(1);
        let settings =
            Settings::kafka(&registry, &topics.kafka).text("commands.queue", "kafka").text("envelope.mode", mode);
        let bridge = Bridge::start(&traced(settings, &collector, "1"));
        wait_for_log(&bridge, &["commands are read from the end of their topic"]);
        let device = Device::connect(bridge.mqtt(), &devices[0], obey);
        device.publish(&devices[0].topic("event/started"), r#"{"data":1}"#);
        let event = topics.wait_for("jetlinks.device", |stored| {
            stored.value["messageType"] == "EVENT" || stored.value["data"]["messageType"] == "EVENT"
        });
        let exported = collector.span(event.context());
        assert_eq!(exported.span.name, "jetlinks uplink event");
        assert_uplink(&exported, "kafka", "jetlinks.device");
        assert_eq!(exported.attribute("messaging.kafka.message.key"), "device1");

        topics.command(&read_property("m1", "device1"), Some(CALLER));
        let outcome = topics.outcome("m1").context();
        let command = collector.span(outcome);
        assert_eq!((outcome.trace_id, command.parent().as_str()), (context(CALLER).trace_id, CALLERS_SPAN));
        assert_eq!(command.attribute("messaging.message.conversation_id"), "m1");
        let reply =
            topics.wait_for("jetlinks.device", |stored| stored.value.to_string().contains("READ_PROPERTY_REPLY"));
        let reply = collector.span(reply.context());
        assert_eq!((reply.context().trace_id, reply.parent()), (outcome.trace_id, span_id(outcome)));
    }
}

#[test]
fn a_command_that_one_replica_hands_to_another_stays_in_its_trace() {
    let (topics, nats, collector) = (Topics::new(), Nats::start(), Collector::start());
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::kafka(&registry, &topics.kafka)
        .text("commands.queue", "kafka")
        .toml("nats.servers", &format!("[{:?}]", nats.url()));
    let settings = traced(settings, &collector, "1");
    // The topic has one partition: the first replica has it, and the second one the device.
    let reader = Bridge::start(&settings);
    wait_for_log(&reader, &["partitions of the commands came here"]);
    let holder = Bridge::start(&settings);
    let _device = Device::connect(holder.mqtt(), &devices[0], obey);

    topics.command(&read_property("m1", "device1"), Some(CALLER));
    let outcome = topics.outcome("m1");
    assert_eq!(outcome.value["origin"], "device", "{}", outcome.value);
    let held = collector.span(outcome.context());
    let read = collector.span(context(&format!("00-{}-{}-01", &CALLER[3..35], held.parent())));
    assert_eq!(read.parent(), CALLERS_SPAN);
    assert_eq!(
        (held.context().trace_id, read.context().trace_id),
        (context(CALLER).trace_id, context(CALLER).trace_id)
    );
    assert_ne!(held.resource["service.instance.id"], read.resource["service.instance.id"]);

    // What no replica holds, and what is no command.
    topics.command(&read_property("m2", "device9"), Some(CALLER));
    let offline = collector.span(topics.outcome("m2").context());
    assert_eq!((offline.parent().as_str(), offline.attribute("error.type")), (CALLERS_SPAN, "CLIENT_OFFLINE"));
    topics.command("no command", Some(CALLER));
    let failed = topics.wait_for("jetlinks.rejected", |_| true);
    assert_eq!(collector.span(failed.context()).parent(), CALLERS_SPAN);
}
