//! `send` and `tail`, as an operator types them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bridge::{Finished, command, run_command};
use crate::support::{
    Bridge, Device, Folder, Kafka, Nats, Process, Registration, Registry, Settings, Wire, eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    _nats: Nats,
    bridge: Bridge,
    devices: Vec<Registration>,
    _registry: Registry,
}

impl Stage {
    fn new(mode: &str) -> Self {
        let nats = Nats::start();
        let (registry, devices) = Registry::numbered(2);
        let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("envelope.mode", mode));
        Self { _nats: nats, bridge, devices, _registry: registry }
    }

    fn send(&self, arguments: &[&str], input: &str) -> Finished {
        let mut call = command();
        call.arg("send").args(arguments).arg("--config").arg(self.bridge.config());
        run_command(&mut call, input, PATIENCE)
    }
}

/// Answers a read, fails at a write of `bad`, and is silent else.
fn obey(topic: &str, command: &Value) -> Option<Value> {
    match topic.rsplit_once('/')?.1 {
        "read" => Some(json!({"success": true, "properties": {"sn": "s1"}})),
        "write" => Some(json!({"success": false, "code": "E42", "message": format!("no {}", command["properties"])})),
        _ => None,
    }
}

fn envelope(finished: &Finished) -> Value {
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[test]
fn a_command_that_is_sent_prints_its_outcome_in_either_mode() {
    let read = r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","properties":["sn"]}"#;
    for mode in ["structured", "binary"] {
        let stage = Stage::new(mode);
        let _device = Device::connect(stage.bridge.mqtt(), &stage.devices[0], obey);
        let short = ["--device", "product1/device1", "--type", "properties/read", r#"{"properties":["sn"]}"#];
        for (arguments, input) in [(&[read][..], ""), (&short, ""), (&["-"], read)] {
            let finished = stage.send(arguments, input);
            assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{finished:?}");
            let outcome = envelope(&finished);
            assert_eq!(outcome["type"], "org.jetlinks.device.properties.read.reply");
            assert_eq!((&outcome["deviceid"], &outcome["specversion"]), (&json!("device1"), &json!("1.0")));
            assert_eq!(outcome["data"]["properties"], json!({"sn": "s1"}));
        }
        let failed =
            stage.send(&["--device", "product1/device1", "--type", "WRITE_PROPERTY", r#"{"properties":{"a":1}}"#], "");
        assert_eq!((failed.code, failed.stderr.as_str()), (1, "send: E42: no {\"a\":1}\n"), "{failed:?}");
        assert_eq!(envelope(&failed)["data"]["code"], "E42");
    }
}

#[test]
fn a_command_without_an_outcome_says_why_and_fails() {
    let stage = Stage::new("structured");
    let read = ["--device", "product1/device1", "--type", "properties.read"];
    let nobody = stage.send(&read, "");
    assert_eq!((nobody.code, nobody.stdout.as_str()), (1, ""), "{nobody:?}");
    assert!(nobody.stderr.contains("no responders"), "{nobody:?}");

    let _device = Device::connect(stage.bridge.mqtt(), &stage.devices[0], |_, _| None);
    let silent = stage.send(&[&read[..], &["--timeout", "300ms"]].concat(), "");
    assert_eq!(silent.code, 1, "{silent:?}");
    assert!(silent.stderr.starts_with("send: TIME_OUT: "), "{silent:?}");
    assert_eq!(envelope(&silent)["origin"], "bridge");

    let wrong = stage.send(&[r#"{"messageType":"EVENT","productId":"product1","deviceId":"device1"}"#], "");
    assert_eq!((wrong.code, wrong.stderr.as_str()), (1, "send: EVENT does not go to devices\n"), "{wrong:?}");
    let usage = stage.send(&["--device", "product1", "--type", "properties.read"], "");
    assert_eq!((usage.code, usage.stderr.contains("PRODUCT/DEVICE")), (2, true), "{usage:?}");

    let (registry, _) = Registry::numbered(1);
    let folder = Folder::new("send");
    let config = folder.write("bridge.toml", &Settings::stdio(&registry).render());
    let mut call = command();
    call.arg("send").args(read).arg("--config").arg(config);
    let unserved = run_command(&mut call, "", PATIENCE);
    assert_eq!((unserved.code, unserved.stderr.contains("commands.queue")), (78, true), "{unserved:?}");
}

/// A `tail` that reads already.
struct Tail {
    process: Process,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    _folder: Folder,
}

impl Tail {
    fn start(bridge: &Bridge, arguments: &[&str]) -> Self {
        let folder = Folder::new("tail");
        let log = folder.path().join("tail.log");
        let mut call = command();
        call.arg("tail").args(arguments).arg("--config").arg(bridge.config());
        call.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut process = Process::spawn(&mut call, Some(&log));
        let lines = BufReader::new(process.take_stdout().unwrap()).lines();
        eventually("tail reads", PATIENCE, || {
            std::fs::read_to_string(&log).unwrap().contains("tail: reading").then_some(())
        });
        Self { process, lines, _folder: folder }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("tail runs").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

/// Publishes a report of each device and a message that nobody understands, and waits for their acknowledgements.
fn talk(bridge: &Bridge, devices: &[Registration]) {
    for device in devices {
        let mut wire = Wire::connect(bridge.mqtt(), device);
        wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"t":1.50}}"#, 1);
        wire.publish_acknowledged(&device.topic("nonsense"), "{}", 2);
    }
}

fn assert_tail(bridge: &Bridge, devices: &[Registration]) {
    let mut all = Tail::start(bridge, &["--count", "4", "--type", "properties.report", "--type", "rejected"]);
    let mut one = Tail::start(bridge, &["--device", "device2"]);
    talk(bridge, devices);
    let mut seen: Vec<String> =
        (0..4).map(|_| all.next()).map(|e| format!("{} {}", e["type"], e["deviceid"])).collect();
    seen.sort();
    let of = |kind: &str, device: &str| format!("\"org.jetlinks.{kind}\" \"{device}\"");
    let expected = ["bridge.rejected", "device.properties.report"];
    let expected: Vec<String> = expected.iter().flat_map(|kind| [of(kind, "device1"), of(kind, "device2")]).collect();
    assert_eq!(seen, expected);
    assert_eq!(all.process.exit_code(PATIENCE), 0, "it was to end after four");

    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let envelope = one.next();
        assert_eq!(envelope["deviceid"], "device2", "{envelope}");
        if envelope["type"] == "org.jetlinks.device.properties.report" {
            assert_eq!(envelope["data"]["properties"].to_string(), r#"{"t":1.50}"#);
        }
        kinds.push(envelope["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["offline", "online", "rejected", "report"]);
    one.process.signal(libc::SIGINT);
    assert_eq!(one.process.exit_code(PATIENCE), 0);
}

#[test]
fn tail_prints_what_is_stored_in_jetstream_from_now_on_in_either_mode() {
    for mode in ["structured", "binary"] {
        let stage = Stage::new(mode);
        talk(&stage.bridge, &stage.devices);
        assert_tail(&stage.bridge, &stage.devices);
    }
}

#[test]
fn tail_prints_what_is_stored_in_both_topics_of_kafka() {
    let kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3);
    let (registry, devices) = Registry::numbered(2);
    let bridge = Bridge::start(&Settings::kafka(&registry, &kafka));
    talk(&bridge, &devices);
    assert_tail(&bridge, &devices);
}

#[test]
fn tail_of_a_queue_that_is_not_there_says_so() {
    let mut nats = Nats::start();
    let (registry, _) = Registry::numbered(1);
    let folder = Folder::new("tail");
    let run = |settings: &Settings| {
        let mut call = command();
        call.args(["tail", "--config"]).arg(folder.write("bridge.toml", &settings.render()));
        run_command(&mut call, "", PATIENCE)
    };
    let missing = run(&Settings::nats(&registry, &nats));
    assert_eq!((missing.code, missing.stderr.contains("JETLINKS_DEVICE does not exist")), (1, true), "{missing:?}");
    nats.kill9();
    assert_eq!(run(&Settings::nats(&registry, &nats)).code, 1);
    let stdio = run(&Settings::stdio(&registry));
    assert_eq!((stdio.code, stdio.stderr.contains("stdout")), (78, true), "{stdio:?}");
}
