//! Reports over CoAP on their way to both queues.

use std::time::Duration;

use jetlinks_bridge::codec::coap::{Code, Kind, empty};
use serde_json::{Value, json};

use crate::report::{last_in_stream, reports_in_topic};
use crate::support::{Bridge, Certificate, CoapDevice, Kafka, Nats, Registration, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const REPORT: &str = r#"{"messageId":"m1","timestamp":1601196762389,"properties":{"temp":36.80}}"#;

fn stage() -> (Registry, Registration, Certificate) {
    let device = Registration::encrypting("device1");
    (Registry::new(std::slice::from_ref(&device)), device, Certificate::elliptic())
}

/// Reports once encrypted and once over DTLS.
fn report_both_ways(bridge: &Bridge, registration: &Registration) {
    let mut plain = CoapDevice::plain(bridge.listener("coap"));
    let request = plain.encrypted(registration, "properties/report", REPORT);
    assert_eq!(plain.request(&request).code(), Code::CREATED);
    let mut secured = CoapDevice::dtls(bridge.listener("dtls"));
    let token = secured.token(registration);
    let request = secured.with_token(registration, &token, "properties/report", REPORT);
    assert_eq!(secured.request(&request).code(), Code::CREATED);
}

fn reports_in_stream(nats: &Nats) -> u64 {
    let output = nats.run_cli(&["stream", "subjects", "JETLINKS_DEVICE", "--json"]);
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    counts["jetlinks.device.product1.device1.properties.report"].as_u64().unwrap_or_default()
}

#[test]
fn what_is_confirmed_over_coap_is_in_both_queues() {
    let (registry, registration, certificate) = stage();
    let nats = Nats::start();
    let kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3);
    let to_nats = Bridge::start(&Settings::nats(&registry, &nats).coap(&certificate));
    report_both_ways(&to_nats, &registration);
    let (_, _, envelope) = last_in_stream(&nats).expect("a confirmed report is in the stream");
    assert_eq!((reports_in_stream(&nats), &envelope["data"]["messageId"]), (2, &json!("m1")));
    assert_eq!(envelope.get("sessionid"), None);
    let to_kafka = Bridge::start(&Settings::kafka(&registry, &kafka).coap(&certificate));
    report_both_ways(&to_kafka, &registration);
    let reports = reports_in_topic(&kafka);
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0].envelope["data"], reports[1].envelope["data"]);
}

#[test]
fn an_answer_waits_for_the_queue_and_comes_apart() {
    let (registry, registration, certificate) = stage();
    let nats = Nats::start();
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).coap(&certificate));
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    nats.process().signal(libc::SIGSTOP);
    let status = format!("/proc/{}/status", nats.process().id());
    eventually("the server has stopped", PATIENCE, || {
        std::fs::read_to_string(&status).unwrap().contains("State:\tT").then_some(())
    });
    let request = device.encrypted(&registration, "properties/report", REPORT).encode();
    device.send(&request);
    let promise = device.receive().expect("an empty ACK after a second");
    assert_eq!((promise.kind(), promise.code()), (Kind::Acknowledgement, Code::EMPTY));
    // The same request again is promised again, and not written twice.
    device.send(&request);
    assert_eq!(device.receive().expect("the same promise").code(), Code::EMPTY);
    nats.process().signal(libc::SIGCONT);
    let answer = device.receive().expect("the answer");
    assert_eq!((answer.kind(), answer.code()), (Kind::Confirmable, Code::CREATED));
    device.send(&empty(Kind::Acknowledgement, answer.id()));
    assert_eq!(reports_in_stream(&nats), 1);
}

#[test]
fn a_queue_that_goes_away_is_told_and_its_return_is_noticed() {
    let (registry, registration, certificate) = stage();
    let mut nats = Nats::start();
    let settings = Settings::nats(&registry, &nats).coap(&certificate).text("limits.ack_timeout", "2s");
    let bridge = Bridge::start(&settings);
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    nats.kill9();
    eventually("requests are answered 5.03", PATIENCE, || {
        let request = device.encrypted(&registration, "properties/report", REPORT);
        device.send(&request.encode());
        let answer = loop {
            let answer = device.receive().expect("every request is answered");
            if answer.kind() == Kind::Confirmable {
                device.send(&empty(Kind::Acknowledgement, answer.id()));
            }
            if answer.code() != Code::EMPTY {
                break answer;
            }
        };
        (answer.kind() == Kind::Acknowledgement && answer.code() == Code::SERVICE_UNAVAILABLE).then_some(())
    });
    nats.restart();
    eventually("requests are confirmed", PATIENCE, || {
        let request = device.encrypted(&registration, "properties/report", REPORT);
        device.send(&request.encode());
        (device.receive().is_some_and(|answer| answer.code() == Code::CREATED)).then_some(())
    });
}
