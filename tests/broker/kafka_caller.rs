//! Commands through real topics, with a bridge of a few lines behind them.

use std::thread;
use std::time::Duration;

use jetlinks_bridge::queue::CallError;
use jetlinks_bridge::queue::kafka::{KafkaCaller, KafkaSettings};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use super::support::Kafka;
use super::worker;

const COMMANDS: &str = "jetlinks.command";
const REPLIES: &str = "jetlinks.reply";

/// Takes one command, writes an outcome of another command and then its own; what it took.
fn answer_one(kafka: &Kafka) -> thread::JoinHandle<(String, String, Value)> {
    let consumer: BaseConsumer =
        kafka.client().set("group.id", "test").set("auto.offset.reset", "earliest").create().expect("a client");
    let producer: BaseProducer = kafka.client().create().expect("a client");
    consumer.subscribe(&[COMMANDS]).expect("a name of a topic");
    thread::spawn(move || {
        let message = loop {
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                break message.expect("the topic can be read");
            }
        };
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.expect("it is there")).into_owned();
        let header = message.headers().map(|headers| headers.get(0)).expect("a header");
        let (key, correlation) = (text(message.key()), text(header.value));
        let command: Value = serde_json::from_slice(message.payload().expect("it is there")).expect("it is JSON");
        for id in ["another", &correlation] {
            let outcome = json!({"type": "t", "correlationid": id, "data": {"success": true, "echo": command}});
            let outcome = outcome.to_string();
            producer.send(BaseRecord::to(REPLIES).key(&key).payload(&outcome)).expect("there is room");
        }
        producer.flush(Duration::from_secs(30)).expect("the broker stores them");
        (key, correlation, command)
    })
}

#[test]
fn a_command_gets_the_outcome_with_its_correlation_id_and_no_other() {
    let kafka = Kafka::start_with_topics(&[COMMANDS, REPLIES], 3);
    let settings = KafkaSettings::new(kafka.brokers());
    let bridge = answer_one(&kafka);
    let command = r#"{"messageType":"READ_PROPERTY","headers":{"correlation-id":"c1"}}"#;
    worker::run(async {
        let mut caller = KafkaCaller::open(&settings, COMMANDS, REPLIES).expect("the topics are there");
        let answer = caller.call("device1", command, "c1", worker::PATIENCE).await.expect("an outcome comes");
        let outcome: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!((&outcome["correlationid"], &outcome["data"]["success"]), (&json!("c1"), &json!(true)));
        let none = caller.call("device1", command, "c2", Duration::from_millis(300)).await;
        assert_eq!(none, Err(CallError::TimedOut));
    });
    let (key, correlation, taken) = bridge.join().unwrap();
    assert_eq!((key.as_str(), correlation.as_str()), ("device1", "c1"));
    assert_eq!(taken, serde_json::from_str::<Value>(command).unwrap());
}

#[test]
fn a_topic_of_outcomes_that_does_not_exist_is_an_error_at_once() {
    let kafka = Kafka::start_with_topics(&[COMMANDS], 1);
    let settings = KafkaSettings::new(kafka.brokers());
    let error = worker::run(async { KafkaCaller::open(&settings, COMMANDS, REPLIES).map(|_| ()) });
    assert_eq!(error, Err(CallError::Missing(format!("topic {REPLIES}"))));
}
