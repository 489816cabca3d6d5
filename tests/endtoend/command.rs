//! Commands by `nats request`, as an operator types them.

use std::process::Output;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Bridge, Device, Kafka, Nats, Registration, Registry, Settings, Stopwatch, eventually};

/// The answer to `nats request` for a device that nobody holds comes this soon.
const PATIENCE: Duration = Duration::from_secs(60);

const AT_ONCE: Duration = Duration::from_secs(2);

struct Stage {
    nats: Nats,
    bridge: Bridge,
    devices: Vec<Registration>,
    _registry: Registry,
}

impl Stage {
    fn new() -> Self {
        let nats = Nats::start();
        let (registry, devices) = Registry::numbered(2);
        let bridge = Bridge::start(&Settings::nats(&registry, &nats));
        Self { nats, bridge, devices, _registry: registry }
    }

    fn request(&self, suffix: &str, body: &str, options: &[&str]) -> Output {
        let subject = format!("jetlinks.command.product1.device1.{suffix}");
        self.nats.run_cli(&[&["request", "--timeout", "12s", &subject, body], options].concat())
    }

    /// The envelope that answers a request.
    fn answer(&self, suffix: &str, body: &str) -> Value {
        let output = self.request(suffix, body, &["--raw"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

/// The newest envelope of a subject in the stream.
pub(crate) fn last_envelope(nats: &Nats, subject: &str) -> Option<Value> {
    let output = nats.run_cli(&["stream", "get", "JETLINKS_DEVICE", "--last-for", subject, "--json"]);
    let message: Value = serde_json::from_slice(&output.stdout).ok()?;
    let data = STANDARD.decode(message["data"].as_str()?).ok()?;
    serde_json::from_slice(&data).ok()
}

/// Does as told, but for what is called `bad`.
pub(crate) fn obey(topic: &str, command: &Value) -> Option<Value> {
    let is_bad = command.to_string().contains("\"bad\"");
    if is_bad {
        return Some(json!({"success": false, "code": "E42", "message": "bad"}));
    }
    match topic.rsplit_once('/')?.1 {
        "read" => Some(json!({"success": true, "properties": {"sn": "s1"}})),
        "write" => Some(json!({"success": true, "properties": command["properties"]})),
        "invoke" => Some(json!({"success": true, "functionId": command["functionId"], "output": command["inputs"]})),
        _ => None,
    }
}

#[test]
fn a_request_returns_the_envelope_of_the_devices_reply() {
    let stage = Stage::new();
    let _device = Device::connect(stage.bridge.mqtt(), &stage.devices[0], obey);
    let cases = [
        ("properties.read", r#"{"properties":["sn"]}"#, "properties", json!({"sn": "s1"})),
        ("properties.write", r#"{"properties":{"a":1}}"#, "properties", json!({"a": 1})),
        ("function.invoke", r#"{"functionId":"f","inputs":{"x":1}}"#, "output", json!([{"name": "x", "value": 1}])),
    ];
    for (suffix, body, member, value) in cases {
        let answer = stage.answer(suffix, body);
        assert_eq!(answer["type"], format!("org.jetlinks.device.{suffix}.reply"));
        assert_eq!((&answer["origin"], &answer["deviceid"]), (&json!("device"), &json!("device1")));
        assert_eq!((&answer["data"]["success"], &answer["data"][member]), (&json!(true), &value), "{answer}");
    }
    for (suffix, body) in [
        ("properties.read", r#"{"properties":["bad"]}"#),
        ("properties.write", r#"{"properties":{"bad":1}}"#),
        ("function.invoke", r#"{"functionId":"bad"}"#),
    ] {
        let answer = stage.answer(suffix, body);
        let data = &answer["data"];
        assert_eq!(
            (&answer["origin"], &data["success"], &data["code"]),
            (&json!("device"), &json!(false), &json!("E42"))
        );
    }
    // A reply is a device message like every other.
    let subject = "jetlinks.device.product1.device1.properties.read.reply";
    eventually("the reply is in the stream", PATIENCE, || last_envelope(&stage.nats, subject));
}

#[test]
fn a_request_for_a_device_that_nobody_holds_is_not_routable_at_once() {
    let stage = Stage::new();
    let watch = Stopwatch::start();
    let output = stage.request("properties.read", r#"{"properties":["sn"]}"#, &[]);
    let took = watch.elapsed();
    assert!(took < AT_ONCE, "{took:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("No responders"), "{output:?}");

    // The same after it was here and left.
    let device = Device::connect(stage.bridge.mqtt(), &stage.devices[0], obey);
    assert_eq!(stage.answer("properties.read", r#"{"properties":["sn"]}"#)["data"]["success"], true);
    drop(device);
    eventually("nobody responds any more", PATIENCE, || {
        let output = stage.request("properties.read", r#"{"properties":["sn"]}"#, &[]);
        String::from_utf8_lossy(&output.stderr).contains("No responders").then_some(())
    });
}

#[test]
fn a_silent_device_times_out_with_the_codes_of_both_worlds() {
    let stage = Stage::new();
    let device = Device::connect(stage.bridge.mqtt(), &stage.devices[0], |_, _| None);
    let body = r#"{"properties":["sn"],"headers":{"timeout":300}}"#;
    let answer = stage.answer("properties.read", body);
    assert_eq!(answer["type"], "org.jetlinks.device.properties.read.reply");
    let data = &answer["data"];
    assert_eq!(
        (&answer["origin"], &data["success"], &data["code"]),
        (&json!("bridge"), &json!(false), &json!("TIME_OUT"))
    );
    assert_eq!(device.next_command(), "/product1/device1/properties/read");

    let output = stage.request("properties.read", body, &[]);
    let text = [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned()).concat();
    assert!(text.contains("Nats-Service-Error:") && text.contains("Nats-Service-Error-Code:"), "{text}");
}

#[test]
fn an_empty_body_is_a_command_without_members() {
    let stage = Stage::new();
    let _device = Device::connect(stage.bridge.mqtt(), &stage.devices[0], obey);
    let answer = stage.answer("properties.read", "");
    assert_eq!(answer["data"]["success"], true, "{answer}");
}

#[test]
fn a_connected_device_is_reachable_as_soon_as_it_knows_that_it_is_connected() {
    let stage = Stage::new();
    for _ in 0..5 {
        let device = Device::connect(stage.bridge.mqtt(), &stage.devices[0], obey);
        assert_eq!(stage.answer("properties.read", r#"{"properties":["sn"]}"#)["data"]["success"], true);
        drop(device);
        eventually("the session is gone", PATIENCE, || {
            let output = stage.request("properties.read", "{}", &[]);
            String::from_utf8_lossy(&output.stderr).contains("No responders").then_some(())
        });
    }
}

#[test]
fn with_data_on_kafka_and_commands_on_nats_a_reply_goes_to_the_caller_and_to_the_topic() {
    let (nats, kafka) = (Nats::start(), Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3));
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::kafka(&registry, &kafka).text("commands.queue", "nats");
    let bridge = Bridge::start(&settings.toml("nats.servers", &format!("[{:?}]", nats.url())));
    let _device = Device::connect(bridge.mqtt(), &devices[0], obey);
    let subject = "jetlinks.command.product1.device1.properties.read";
    let output = nats.run_cli(&["request", "--timeout", "12s", "--raw", subject, r#"{"properties":["sn"]}"#]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(answer["data"]["properties"]["sn"], "s1", "{answer}");
    eventually("the reply is in the topic", PATIENCE, || {
        let output = kafka.run_kcat(&["-C", "-t", "jetlinks.device", "-e", "-q"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let stored = text.lines().find(|line| line.contains("properties.read.reply"))?;
        let stored: Value = serde_json::from_str(stored).unwrap();
        assert_eq!((&stored["id"], &stored["data"]), (&answer["id"], &answer["data"]));
        Some(())
    });
}
