//! Callers of commands that keep what they get as it comes.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::stored::Stored;
use crate::support::{Kafka, caller};

const PATIENCE: Duration = Duration::from_secs(60);

/// A caller on one of the queues.
pub(crate) trait Commander {
    /// Gives a command that has its address in it.
    fn give(&mut self, command: &Value);

    /// Gives what is no command.
    fn give_unreadable(&mut self);

    /// Waits until each command has its outcome, as far as the queue tells.
    fn wait_for_outcomes(&mut self) {}
}

/// A caller on Kafka.
pub(crate) struct KafkaCommander {
    producer: BaseProducer,
    topic: String,
    asked: usize,
}

impl KafkaCommander {
    pub(crate) fn new(kafka: &Kafka, topic: &str) -> Self {
        let producer = kafka.client().create().expect("the client's settings are right");
        Self { producer, topic: topic.to_owned(), asked: 0 }
    }

    /// Commands that have an outcome.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    fn write(&self, key: &str, value: &str) {
        let record = BaseRecord::to(&self.topic).key(key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error).expect("the client takes records");
        self.producer.flush(PATIENCE).expect("the broker takes records");
    }
}

impl Commander for KafkaCommander {
    fn give(&mut self, command: &Value) {
        let device = command.get("gatewayId").unwrap_or(&command["deviceId"]);
        self.write(device.as_str().expect("an id"), &command.to_string());
        self.asked += 1;
    }

    fn give_unreadable(&mut self) {
        self.write("device1", "[");
        let nobodys = r#"{"messageId":"m1","productId":"product1","gatewayId":"gw1","messageType":"READ_PROPERTY"}"#;
        self.write("device1", nobodys);
        self.write("device1", r#"{"deviceId":"device1"}"#);
    }
}

/// A caller on NATS.
pub(crate) struct NatsCommander {
    runtime: Runtime,
    client: Client,
    replies: Subscriber,
    asked: usize,
    outcomes: Vec<Stored>,
}

impl NatsCommander {
    pub(crate) fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let (client, replies) = runtime.block_on(async {
            let client = caller::client(url).await;
            let replies = client.subscribe("outcome").await.expect("the client takes operations");
            client.flush().await.expect("the server is there");
            (client, replies)
        });
        Self { runtime, client, replies, asked: 0, outcomes: Vec::new() }
    }

    /// All outcomes.
    pub(crate) fn outcomes(self) -> Vec<Stored> {
        self.outcomes
    }

    fn request(&mut self, subject: String, headers: HeaderMap, body: Vec<u8>) {
        self.runtime.block_on(async {
            let request = self.client.publish_with_reply_and_headers(subject, "outcome", headers, body.into());
            request.await.expect("the client takes operations");
            self.client.flush().await.expect("the server is there");
        });
        self.asked += 1;
    }
}

impl Commander for NatsCommander {
    fn give(&mut self, command: &Value) {
        let text = |name: &str| command[name].as_str().unwrap_or_default();
        let dotted =
            jetlinks_bridge::protocol::topic::MessageType::from_name(text("messageType")).expect("a type").dotted();
        let device = match command.get("gatewayId") {
            Some(gateway) => format!("{}.child.{}", gateway.as_str().expect("an id"), text("deviceId")),
            None => text("deviceId").to_owned(),
        };
        let subject = format!("jetlinks.command.{}.{device}.{dotted}", text("productId"));
        let mut headers = HeaderMap::new();
        if let Some(id) = command["headers"]["correlation-id"].as_str() {
            headers.insert("correlation-id", id);
        }
        let body = match dotted {
            "direct" => STANDARD.decode(text("payload")).expect("base64"),
            _ => command.to_string().into_bytes(),
        };
        self.request(subject, headers, body);
    }

    fn give_unreadable(&mut self) {
        let subject = "jetlinks.command.product1.device1.properties.read".to_owned();
        self.request(subject, HeaderMap::new(), b"[".to_vec());
    }

    fn wait_for_outcomes(&mut self) {
        while self.outcomes.len() < self.asked {
            let replies = &mut self.replies;
            let reply = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, replies.next()).await });
            let reply = reply.expect("an outcome in time").expect("the connection lives");
            assert!(reply.status.is_none(), "{reply:?}");
            self.outcomes.push(Stored::of_nats(0, &reply));
        }
    }
}
