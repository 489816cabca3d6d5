//! Spans in the form of OTLP, with the attributes of the semantic conventions for messaging.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans, Status, span, status};

use super::{Destinations, MessagingSystem, SpanSettings};
use crate::protocol::trace::{Operation, Span};
use crate::protocol::uplink::Channel;

/// Bits of a span's flags (OTLP, `SpanFlags`): the trace's flags, whether the parent's place is known, and elsewhere.
const SAMPLED: u32 = 0x1;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// One batch as it is posted.
pub(super) fn request(settings: &SpanSettings, spans: impl IntoIterator<Item = Span>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", &settings.service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &settings.instance_id),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(|span| convert(&settings.destinations, span)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() }],
    }
}

fn convert(destinations: &Destinations, span: Span) -> proto::Span {
    let is_command = span.operation == Operation::Command;
    let (kind, what) =
        if is_command { (span::SpanKind::Consumer, "command") } else { (span::SpanKind::Producer, "uplink") };
    let end_us = span.start_us.saturating_add(span.duration_us);
    // A command's parent is the caller's, or another replica's; a message's is the command that it answers.
    let is_remote = if is_command && span.parent.is_some() { IS_REMOTE } else { 0 };
    proto::Span {
        trace_id: span.context.trace_id.to_bytes().to_vec(),
        span_id: span.context.span_id.to_bytes().to_vec(),
        parent_span_id: span.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED | HAS_IS_REMOTE | is_remote,
        name: format!("jetlinks {what} {}", span.message),
        kind: kind.into(),
        start_time_unix_nano: span.start_us.saturating_mul(1000),
        end_time_unix_nano: end_us.saturating_mul(1000),
        attributes: attributes(destinations, &span),
        status: span
            .failure
            .map(|failure| Status { message: failure.to_owned(), code: status::StatusCode::Error.into() }),
        ..proto::Span::default()
    }
}

fn attributes(destinations: &Destinations, span: &Span) -> Vec<KeyValue> {
    let (system, name, operation) = match span.operation {
        Operation::Uplink(channel) => (destinations.uplink, uplink_name(destinations, channel, span), "send"),
        Operation::Command => (destinations.commands, command_name(destinations, span), "process"),
    };
    let mut attributes = vec![
        text("messaging.system", system.as_str()),
        text("messaging.operation.type", operation),
        text("messaging.operation.name", operation),
        text("messaging.destination.name", &name),
        text("jetlinks.message.type", span.message),
    ];
    let is_keyed = system == MessagingSystem::Kafka && span.operation != Operation::Command;
    let key = if is_keyed { String::from_utf8_lossy(&span.address) } else { "".into() };
    for (name, value) in [
        ("messaging.message.id", &*span.message_id),
        ("messaging.message.conversation_id", &span.correlation_id),
        ("messaging.kafka.message.key", &key),
        ("jetlinks.product.id", &span.product),
        ("jetlinks.device.id", &span.device),
        ("jetlinks.gateway.id", span.gateway.as_deref().unwrap_or_default()),
        ("error.type", span.failure.unwrap_or_default()),
    ] {
        if !value.is_empty() {
            attributes.push(text(name, value));
        }
    }
    attributes
}

fn uplink_name(destinations: &Destinations, channel: Channel, span: &Span) -> String {
    match (destinations.uplink, channel) {
        (MessagingSystem::Kafka, Channel::Rejected) => destinations.rejected_topic.clone(),
        (MessagingSystem::Kafka, _) => destinations.uplink_topic.clone(),
        (MessagingSystem::Nats, _) => String::from_utf8_lossy(&span.address).into_owned(),
        (MessagingSystem::Stdio, _) => "stdout".to_owned(),
    }
}

fn command_name(destinations: &Destinations, span: &Span) -> String {
    match destinations.commands {
        MessagingSystem::Kafka => destinations.command_topic.clone(),
        MessagingSystem::Nats if span.address.is_empty() => format!("{}.command", destinations.prefix),
        MessagingSystem::Nats => {
            format!("{}.command.{}", destinations.prefix, String::from_utf8_lossy(&span.address))
        }
        MessagingSystem::Stdio => "stdin".to_owned(),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value.to_owned()));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::trace::TraceContext;

    fn settings(uplink: MessagingSystem) -> SpanSettings {
        SpanSettings {
            url: String::new(),
            headers: Vec::new(),
            service_name: "bridge1".to_owned(),
            instance_id: "replica1".to_owned(),
            destinations: Destinations {
                uplink,
                uplink_topic: "jetlinks.device".to_owned(),
                rejected_topic: "jetlinks.rejected".to_owned(),
                commands: uplink,
                command_topic: "jetlinks.command".to_owned(),
                prefix: "jetlinks".to_owned(),
            },
        }
    }

    fn span(operation: Operation, address: &'static str) -> Span {
        let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let context = context.expect("well-formed");
        Span {
            context,
            parent: Some(context.span_id),
            operation,
            message: "properties.report",
            product: "product1".to_owned(),
            device: "child1".to_owned(),
            gateway: Some("gw1".to_owned()),
            address: Bytes::from_static(address.as_bytes()),
            message_id: "01J".to_owned(),
            correlation_id: String::new(),
            start_us: 5,
            duration_us: 7,
            failure: Some("ack_timeout"),
        }
    }

    fn converted(system: MessagingSystem, span: Span) -> (proto::Span, Vec<(String, String)>) {
        let mut request = request(&settings(system), [span]);
        let span = request.resource_spans[0].scope_spans[0].spans.remove(0);
        let pair = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.clone()) {
            Some(any_value::Value::StringValue(text)) => (pair.key.clone(), text),
            other => panic!("{other:?}"),
        };
        let pairs = span.attributes.iter().map(pair).collect();
        (span, pairs)
    }

    #[test]
    fn a_message_is_what_a_producer_sends() {
        let uplink = span(Operation::Uplink(Channel::Device), "child1");
        let (span, attributes) = converted(MessagingSystem::Kafka, uplink);
        assert_eq!(span.name, "jetlinks uplink properties.report");
        assert_eq!((span.kind(), span.flags), (span::SpanKind::Producer, 0x101));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5_000, 12_000));
        assert_eq!((span.trace_id.len(), span.span_id.len(), span.parent_span_id.len()), (16, 8, 8));
        let status = span.status.expect("a status");
        assert_eq!((status.code(), status.message.as_str()), (status::StatusCode::Error, "ack_timeout"));
        let expected = [
            ("messaging.system", "kafka"),
            ("messaging.operation.type", "send"),
            ("messaging.operation.name", "send"),
            ("messaging.destination.name", "jetlinks.device"),
            ("jetlinks.message.type", "properties.report"),
            ("messaging.message.id", "01J"),
            ("messaging.kafka.message.key", "child1"),
            ("jetlinks.product.id", "product1"),
            ("jetlinks.device.id", "child1"),
            ("jetlinks.gateway.id", "gw1"),
            ("error.type", "ack_timeout"),
        ];
        assert_eq!(attributes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_command_is_what_a_consumer_works_on() {
        let command = Span { failure: None, ..span(Operation::Command, "product1.device1.properties.read") };
        let (span, _) = converted(MessagingSystem::Nats, command);
        assert_eq!((span.kind(), span.flags, span.status), (span::SpanKind::Consumer, 0x301, None));
    }

    #[test]
    fn a_destination_is_a_topic_a_subject_or_a_stream_of_the_process() {
        let (device, rejected) = (Operation::Uplink(Channel::Device), Operation::Uplink(Channel::Rejected));
        for (system, operation, expected) in [
            (MessagingSystem::Kafka, device, "jetlinks.device"),
            (MessagingSystem::Kafka, rejected, "jetlinks.rejected"),
            (MessagingSystem::Kafka, Operation::Command, "jetlinks.command"),
            (MessagingSystem::Nats, device, "a.b"),
            (MessagingSystem::Nats, Operation::Command, "jetlinks.command.a.b"),
            (MessagingSystem::Stdio, device, "stdout"),
            (MessagingSystem::Stdio, Operation::Command, "stdin"),
        ] {
            let (_, attributes) = converted(system, span(operation, "a.b"));
            let name = attributes.iter().find(|(key, _)| key == "messaging.destination.name");
            assert_eq!(name.map(|(_, name)| name.as_str()), Some(expected), "{system:?} {operation:?}");
        }
    }
}
