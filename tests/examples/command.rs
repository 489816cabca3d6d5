//! Commands by the example programs: a reply, a refusal, a time-out, no responders, `async`, children.

use serde_json::{Value, json};

use crate::program::{Language, Program};
use crate::support::{Bridge, Device, Kafka, Nats, Registration, Registry, Settings, Wire};

const READ: &str = r#"{"properties":["sn"]}"#;

/// Answers all but what is called `bad`.
fn obey(topic: &str, command: &Value) -> Option<Value> {
    match command.to_string().contains("\"bad\"") {
        true => Some(json!({"success": false, "code": "E42", "message": "bad"})),
        false => topic.ends_with("/read").then(|| json!({"properties": {"sn": "s1"}})),
    }
}

/// Asks by every language at once. Returns what each printed; whether it ends with 0 is given.
fn ask(nats: &Nats, device: &str, body: &str, options: &[&str], is_good: bool) -> Vec<Vec<String>> {
    start(nats, device, body, options).into_iter().map(|program| finish(program, is_good)).collect()
}

fn start(nats: &Nats, device: &str, body: &str, options: &[&str]) -> Vec<Program> {
    Language::ALL.map(|language| call(language, nats, device, body, options)).into()
}

fn call(language: Language, nats: &Nats, device: &str, body: &str, options: &[&str]) -> Program {
    // The flags of Go stand before the arguments.
    let arguments = match language {
        Language::Go => [options, &[device, "properties.read", body]].concat(),
        _ => [&[device, "properties.read", body], options].concat(),
    };
    Program::start(language, "command", &arguments, &[("NATS_URL", &nats.url())])
}

fn finish(program: Program, is_good: bool) -> Vec<String> {
    let (language, errors) = (program.language, program.errors());
    let (code, lines) = program.finish();
    assert_eq!(code, i32::from(!is_good), "{language:?}: {lines:?} {errors}");
    lines
}

fn assert_reply(line: &str, device: &str) {
    let reply: Value = serde_json::from_str(line.strip_prefix("reply ").unwrap_or_else(|| panic!("{line}"))).unwrap();
    assert_eq!((&reply["deviceId"], &reply["properties"]), (&json!(device), &json!({"sn": "s1"})), "{line}");
}

#[test]
fn commands_over_nats_end_in_the_reply_or_a_failure_that_is_named() {
    let nats = Nats::start();
    let [device1, device2, device3, gateway] = ["device1", "device2", "device3", "gw1"].map(Registration::new);
    let late = ["device4", "device5", "device6"].map(Registration::new);
    let child = Registration { product: "product2".to_owned(), ..Registration::child("child1", "gw1") };
    let known = [&[device1.clone(), device2.clone(), device3, gateway.clone(), child][..], &late].concat();
    let registry = Registry::new(&known);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats));
    let offline = start(&nats, "product1/device3", READ, &[]);
    for (language, device) in Language::ALL.into_iter().zip(&late) {
        let early = call(language, &nats, &format!("product1/{}", device.id), READ, &[]);
        early.wait_for_error("no responders, once more");
        let _late = Device::connect(bridge.mqtt(), device, obey);
        assert_reply(&finish(early, true)[0], &device.id);
    }
    let _device = Device::connect(bridge.mqtt(), &device1, obey);
    let _gateway = Device::connect(bridge.mqtt(), &gateway, obey);
    let _silent = Wire::connect(bridge.mqtt(), &device2);

    for (device, id) in
        [("product1/device1", "device1"), ("product1/gw1/child/child1", "child1"), ("product2/child1", "child1")]
    {
        for lines in ask(&nats, device, READ, &[], true) {
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_reply(&lines[0], id);
        }
    }
    for lines in ask(&nats, "product1/gw1/child/child1", READ, &["--async"], true) {
        assert_eq!((lines.len(), lines[0].as_str()), (2, "accepted"), "{lines:?}");
        assert_reply(&lines[1], "child1");
    }
    for lines in ask(&nats, "product1/device1", r#"{"properties":["bad"]}"#, &[], false) {
        assert_eq!(lines, ["failed E42 bad"]);
    }
    let hasty = r#"{"properties":["sn"],"headers":{"timeout":300}}"#;
    for lines in ask(&nats, "product1/device2", hasty, &[], false) {
        assert!(lines[0].starts_with("failed TIME_OUT "), "{lines:?}");
    }

    for program in offline {
        assert_eq!(finish(program, false), ["offline"]);
    }
}

#[test]
fn commands_over_kafka_end_in_the_reply_or_a_failure_that_is_named() {
    let kafka =
        Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected", "jetlinks.command", "jetlinks.reply"], 2);
    let [device1, device2, gateway] = ["device1", "device2", "gw1"].map(Registration::new);
    let registry = Registry::new(&[device1.clone(), device2.clone(), gateway.clone()]);
    let bridge = Bridge::start(&Settings::kafka(&registry, &kafka).text("commands.queue", "kafka"));
    let _device = Device::connect(bridge.mqtt(), &device1, obey);
    let _gateway = Device::connect(bridge.mqtt(), &gateway, obey);
    let _silent = Wire::connect(bridge.mqtt(), &device2);
    let ask = |device: &str, body: &str, is_good| {
        let variables = [("KAFKA_BROKERS", kafka.brokers())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let program = Program::start(Language::Python, "command_kafka", &[device, "READ_PROPERTY", body], &variables);
        finish(program, is_good).remove(0)
    };
    assert_reply(&ask("product1/device1", READ, true), "device1");
    assert_reply(&ask("product1/gw1/child/child1", READ, true), "child1");
    assert_eq!(ask("product1/device1", r#"{"properties":["bad"]}"#, false), "failed E42 bad");
    let hasty = r#"{"properties":["sn"],"headers":{"timeout":300}}"#;
    assert!(ask("product1/device2", hasty, false).starts_with("failed TIME_OUT "));
}
