//! Outcomes of commands whose device is silent, slow, replaced, or has too many pending.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::caller::{Answer, Caller, count_codes, read_of};
use crate::support::{Bridge, Device, Nats, Registration, Registry, Settings, Stopwatch, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Default of `commands.pending_per_device`.
const PENDING_PER_DEVICE: usize = 64;

/// Tolerance of a deadline: it is checked ten times a second, on a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(3);

/// A bridge with device1 and device2, and a caller.
struct Stage {
    _nats: Nats,
    settings: Settings,
    bridge: Bridge,
    devices: Vec<Registration>,
    caller: Caller,
    _registry: Registry,
}

impl Stage {
    fn new() -> Self {
        Self::with(|settings| settings)
    }

    fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let nats = Nats::start();
        let (registry, devices) = Registry::numbered(2);
        let settings = change(Settings::nats(&registry, &nats));
        let bridge = Bridge::start(&settings);
        let caller = Caller::connect(&[nats.url()]);
        Self { _nats: nats, settings, bridge, devices, caller, _registry: registry }
    }

    /// device1 on a connection of its own.
    fn connect(&self) -> Wire {
        Wire::connect(self.bridge.mqtt(), &self.devices[0])
    }

    /// Another replica, that coordinates with the first.
    fn second_replica(&self) -> Bridge {
        let second = Bridge::start(&self.settings);
        for replica in [&self.bridge, &second] {
            eventually("replicas coordinate", PATIENCE, || {
                (replica.readiness().1["coordination"] == "ok").then_some(())
            });
        }
        second
    }

    /// Asks device1 until the bridge says that the device does not read what it was sent: by then the buffers of both
    /// ends are full.
    fn fill(&self) {
        let filling = "x".repeat(100_000);
        self.send_until_busy(&write_of("device1"), &json!({"properties": {"filling": filling}}));
        // What is left has no room for another large one, and some for small ones.
        self.send_until_busy(&write_of("device1"), &json!({"properties": {"filling": &filling[..1_000]}}));
        self.send_until_busy(&check_of("device1"), &json!({}));
    }

    fn send_until_busy(&self, subject: &str, command: &Value) {
        let mut command = command.clone();
        command["headers"] = json!({"sendAndForget": true});
        for _ in 0..1_000 {
            let answer = self.caller.request(subject, &command.to_string());
            match answer.code() {
                "REQUEST_HANDLING" => {}
                code => return assert_eq!(code, "SYSTEM_BUSY", "{answer:?}"),
            }
        }
        panic!("a thousand commands were taken for a device that does not read");
    }
}

/// Smaller than any read.
fn check_of(device: &str) -> String {
    format!("jetlinks.command.product1.{device}.state-check")
}

fn write_of(device: &str) -> String {
    format!("jetlinks.command.product1.{device}.properties.write")
}

/// A read that the device has so many milliseconds for.
fn read_within(timeout_ms: u64) -> String {
    json!({"properties": ["sn"], "headers": {"timeout": timeout_ms}}).to_string()
}

fn obey(_: &str, _: &serde_json::Value) -> Option<serde_json::Value> {
    Some(json!({"properties": {"sn": 1}}))
}

fn assert_failure(answer: &Answer, code: &str) {
    assert_eq!(answer.code(), code, "{answer:?}");
    assert_eq!(answer.error_code.as_deref(), Some(code), "{answer:?}");
    assert_eq!((&answer.envelope["origin"], &answer.envelope["data"]["success"]), (&json!("bridge"), &json!(false)));
}

#[test]
fn a_thousand_requests_at_once_to_a_silent_device_get_one_outcome_each() {
    let stage = Stage::new();
    let _silent = stage.connect();
    let body = read_within(1_000);
    let asked: Vec<usize> = (0..1_000).map(|_| stage.caller.ask(&read_of("device1"), &body)).collect();
    let answers = stage.caller.answers(&asked);
    let counts = count_codes(&answers);
    assert_eq!(counts.get("TIME_OUT"), Some(&PENDING_PER_DEVICE), "{counts:?}");
    assert_eq!(counts.get("SYSTEM_BUSY"), Some(&(asked.len() - PENDING_PER_DEVICE)), "{counts:?}");
    // Nothing came twice, not even later: the device is asked once more, and that answer is behind all others.
    assert_failure(&stage.caller.request(&read_of("device1"), &body), "TIME_OUT");
    stage.caller.answers(&asked);
}

#[test]
fn a_flood_of_small_and_large_commands_is_answered_to_the_last_one() {
    let stage = Stage::new();
    let _silent = stage.connect();
    let large = json!({"properties": {"a": "x".repeat(10_000)}, "headers": {"timeout": 1_000}}).to_string();
    let small = read_within(1_000);
    let ask = |number: usize| match number % 4 {
        0 => stage.caller.ask(&write_of("device1"), &large),
        _ => stage.caller.ask(&read_of("device1"), &small),
    };
    let asked: Vec<usize> = (0..10_000).map(ask).collect();
    let counts = count_codes(&stage.caller.answers(&asked));
    assert_eq!(counts.values().sum::<usize>(), asked.len());
    assert!(counts.keys().all(|code| ["TIME_OUT", "SYSTEM_BUSY"].contains(&code.as_str())), "{counts:?}");
    assert_eq!(stage.bridge.metric("jetlinks_bridge_commands_total", &["outcome=\"lost\""]), 0.0);
}

#[test]
fn a_device_that_does_not_read_is_busy_and_delays_no_other() {
    let stage = Stage::new();
    let mut deaf = stage.connect();
    let _quick = Device::connect(stage.bridge.mqtt(), &stage.devices[1], obey);
    stage.fill();
    for _ in 0..20 {
        let busy = stage.caller.ask(&read_of("device1"), &read_within(1_000));
        let watch = Stopwatch::start();
        let quick = stage.caller.request(&read_of("device2"), &read_within(10_000));
        assert!(quick.is_of_device() && watch.counted(quick.after) < LATE, "{quick:?}");
        assert_failure(&stage.caller.answer(busy), "SYSTEM_BUSY");
    }
    // Once it reads again, it gets all that was promised, and then what is new.
    let before: f64 = stage.bridge.metric("jetlinks_bridge_commands_total", &["outcome=\"request_handling\""]);
    for _ in 0..before as usize {
        let topic = deaf.next_publish().topic;
        assert!(topic.ends_with("/properties/write") || topic.ends_with("/state-check"), "{topic}");
    }
    let asked = stage.caller.ask(&read_of("device1"), &read_within(10_000));
    let command = deaf.next_publish();
    assert_eq!(command.topic, "/product1/device1/properties/read");
    deaf.reply(&command, r#""properties":{"sn":1}"#);
    assert!(stage.caller.answer(asked).is_of_device());
}

#[test]
fn more_commands_than_may_wait_in_all_are_refused_whosever_they_are() {
    let stage = Stage::with(|settings| {
        settings.toml("runtime.workers", "1").toml("commands.pending", "3").toml("commands.pending_per_device", "2")
    });
    let _wires = stage.devices.iter().map(|device| Wire::connect(stage.bridge.mqtt(), device)).collect::<Vec<_>>();
    let ask = |device: &str| stage.caller.ask(&read_of(device), &read_within(1_000));
    let asked = ["device1", "device1", "device1", "device2", "device2"].map(ask);
    let answers = stage.caller.answers(&asked);
    let codes: Vec<&str> = answers.iter().map(Answer::code).collect();
    assert_eq!(codes, ["TIME_OUT", "TIME_OUT", "SYSTEM_BUSY", "TIME_OUT", "SYSTEM_BUSY"]);
    // Those that ended make room.
    assert_failure(&stage.caller.request(&read_of("device2"), &read_within(100)), "TIME_OUT");
}

#[test]
fn a_message_id_that_is_in_flight_is_refused_and_the_first_command_goes_on() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    let body = json!({"messageId": "m1", "properties": ["sn"]}).to_string();
    let first = stage.caller.ask(&read_of("device1"), &body);
    let command = wire.next_publish();
    let second = stage.caller.request(&read_of("device1"), &body);
    assert_failure(&second, "PARAMETER_ERROR");
    assert_eq!(second.envelope["correlationid"], "m1");
    wire.reply(&command, r#""properties":{"sn":1}"#);
    assert!(stage.caller.answer(first).is_of_device());
    let again = stage.caller.ask(&read_of("device1"), &body);
    let command = wire.next_publish();
    wire.reply(&command, r#""properties":{"sn":1}"#);
    assert!(stage.caller.answer(again).is_of_device());
}

#[test]
fn a_command_that_asks_for_an_answer_where_the_bridge_listens_is_refused_and_counted() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    let forbidden = ["jetlinks.command.product1.device2.disconnect", "jetlinks.device.x", "jetlinks", "$JS.API.INFO"];
    for reply in forbidden {
        stage.caller.publish(&read_of("device1"), Some(reply), r#"{"properties":["forbidden"]}"#);
    }
    let asked = stage.caller.ask(&read_of("device1"), r#"{"properties":["sn"]}"#);
    // What reaches the device first is the command behind the forbidden ones.
    let command = wire.next_publish();
    assert_eq!(command.json()["properties"], json!(["sn"]));
    wire.reply(&command, r#""properties":{"sn":1}"#);
    assert!(stage.caller.answer(asked).is_of_device());
    let refused = stage.bridge.metric("jetlinks_bridge_commands_total", &["outcome=\"reply_subject_refused\""]);
    assert_eq!(refused as usize, forbidden.len());
}

#[test]
fn a_command_that_the_replaced_session_was_sent_ends_at_its_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(1_500);
    let stage = Stage::new();
    for second in [None, Some(stage.second_replica())] {
        let mut older = stage.connect();
        let watch = Stopwatch::start();
        let asked = stage.caller.ask(&read_of("device1"), &read_within(TIMEOUT.as_millis() as u64));
        older.next_publish();
        let _newer = Wire::connect(second.as_ref().unwrap_or(&stage.bridge).mqtt(), &stage.devices[0]);
        older.wait_closed();
        let answer = stage.caller.answer(asked);
        assert_failure(&answer, "TIME_OUT");
        assert!(answer.after >= TIMEOUT && watch.counted(answer.after) < TIMEOUT + LATE, "{answer:?}");
    }
}

#[test]
fn a_command_that_the_replaced_session_was_not_sent_is_lost_at_once() {
    let stage = Stage::with(|settings| settings.toml("commands.pending_per_device", "1000"));
    let filling = "x".repeat(100_000);
    for second in [None, Some(stage.second_replica())] {
        let mut older = stage.connect();
        let mut taken = Vec::new();
        let mut code = String::new();
        while code != "SYSTEM_BUSY" {
            // Kernel buffers take much; what is beyond them waits in the bridge.
            let members = json!({"a": filling});
            let body =
                json!({"messageId": taken.len().to_string(), "properties": members, "headers": {"timeout": 60_000}});
            let number = stage.caller.ask(&write_of("device1"), &body.to_string());
            // The same again is refused, and tells by how whether the first was taken.
            code = stage.caller.request(&write_of("device1"), &body.to_string()).code().to_owned();
            if !stage.caller.is_answered(number) {
                taken.push(number);
            }
        }
        let _newer = Wire::connect(second.as_ref().unwrap_or(&stage.bridge).mqtt(), &stage.devices[0]);
        let replaced = Instant::now();
        let last = *taken.last().expect("some command was taken");
        assert_failure(&stage.caller.answer(last), "CONNECTION_LOST");
        assert!(!stage.caller.is_answered(taken[0]), "what was written may still be answered");
        // A device that does not read is closed as soon as any other.
        eventually("the older connection is closed", PATIENCE, || {
            let replicas = [Some(&stage.bridge), second.as_ref()].into_iter().flatten();
            let connections: f64 = replicas.map(|replica| replica.metric("jetlinks_bridge_connections", &[])).sum();
            (connections as usize == 1).then_some(())
        });
        println!("a deaf device's older connection was closed after {:?}", replaced.elapsed());
        older.read_to_end();
    }
}
