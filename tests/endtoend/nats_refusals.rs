//! Records that NATS does not take, although it takes others: they cost their own device at most.

use std::time::Duration;

use serde_json::Value;

use crate::support::bridge::wait_for_log;
use crate::support::wire::Incoming;
use crate::support::{
    Bridge, Bystander, Connect, Load, Nats, Operator, Registration, Registry, Settings, Wire, eventually, http,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Devices under steady load, for which nothing may change.
const STEADY: usize = 10;

const REPORT: &str = r#"{"properties":{"a":1}}"#;

fn body(bytes: usize) -> String {
    format!(r#"{{"data":"{}"}}"#, "x".repeat(bytes))
}

/// A bridge, devices under load, one that is measured, one that will do what cannot be done, and quiet ones that come and
/// go.
struct Stage {
    bridge: Bridge,
    load: Load,
    bystander: Bystander,
    troublemaker: Registration,
    quiet: Vec<Registration>,
}

impl Stage {
    fn start(settings: impl FnOnce(&Registry) -> Settings) -> Self {
        let (registry, mut devices) = Registry::numbered(STEADY + 22);
        let bridge = Bridge::start(&settings(&registry));
        let load = Load::start(bridge.mqtt(), &registry, STEADY, 10.0);
        let mut others = devices.split_off(STEADY);
        let bystander = Bystander::start(bridge.mqtt(), &others.remove(0));
        let stage = Self { bridge, load, bystander, troublemaker: others.remove(0), quiet: others };
        stage.wait_for_more(STEADY);
        stage
    }

    fn stored(&self) -> usize {
        self.bridge.metric("jetlinks_bridge_stored_total", &[]) as usize
    }

    /// Waits until the devices under load have had each some more messages stored.
    fn wait_for_more(&self, each: usize) {
        let before = self.stored();
        eventually("messages go on", PATIENCE, || (self.stored() >= before + each * STEADY).then_some(()));
    }

    /// One device after the other comes, says something and goes.
    fn come_and_go(&self, number: usize) {
        let device = &self.quiet[number % self.quiet.len()];
        let mut wire = Wire::open(self.bridge.mqtt());
        wire.send(&Connect::of(device).bytes());
        assert_eq!(wire.next_packet().body, [0, 0], "every device is let in: {}", self.bridge.log());
        wire.publish_acknowledged(&device.topic("properties/report"), REPORT, 1);
    }

    /// Ends the load: nothing is lost, and nobody of it had to connect again or to wait.
    fn finish(mut self) {
        self.bystander.finish();
        assert_eq!(self.bridge.readiness().1["queue"], "ok");
        assert_eq!(self.bridge.metric("jetlinks_bridge_queue_outages_total", &[]), 0.0, "{}", self.bridge.log());
        let summary = self.load.finish();
        assert_eq!(summary["reconnects"], Value::from(0), "{summary}");
        self.load.verify(&self.bridge.config());
    }
}

fn nats(server: &Nats, arguments: &[&str]) {
    let output = server.run_cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn connections_so_far(server: &Nats) -> u64 {
    let page = http::get(server.monitoring(), "/varz").expect("the server has its pages").body;
    serde_json::from_str::<Value>(&page).unwrap()["total_connections"].as_u64().unwrap()
}

fn rejected(bridge: &Bridge, reason: &str) -> f64 {
    bridge.metric("jetlinks_bridge_rejected_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn a_message_above_the_servers_limit_is_rejected_and_costs_nobody_else_anything() {
    let server = Nats::configured("max_payload: 65536\n");
    let stage = Stage::start(|registry| Settings::nats(registry, &server));
    let mut wire = Wire::connect(stage.bridge.mqtt(), &stage.troublemaker);
    let topic = stage.troublemaker.topic("event/e");
    let before = connections_so_far(&server);
    let mut number = 0;
    // Until the bridge has looked whether the limit is still what it was.
    eventually("the limit is looked at again", PATIENCE, || {
        number += 1;
        wire.publish_acknowledged(&topic, &body(65_200), 7);
        if number % 5 == 0 {
            stage.come_and_go(number / 5);
        }
        (connections_so_far(&server) > before).then_some(())
    });
    wire.publish_acknowledged(&topic, &body(65_200), 7);
    assert!(rejected(&stage.bridge, "too_large") >= 10.0);
    stage.wait_for_more(10);
    stage.finish();
}

#[test]
fn a_message_above_the_limit_of_the_stream_is_rejected_and_one_below_it_is_stored() {
    let server = Nats::start();
    let stream = ["stream", "add", "JETLINKS_DEVICE", "--subjects", "jetlinks.>", "--max-msg-size", "4096"];
    nats(&server, &[&stream[..], &["--defaults"]].concat());
    let stage = Stage::start(|registry| Settings::nats(registry, &server));
    let mut wire = Wire::connect(stage.bridge.mqtt(), &stage.troublemaker);
    let topic = stage.troublemaker.topic("event/e");
    for number in 0..20 {
        wire.publish_acknowledged(&topic, &body(5000), 7);
        wire.publish_acknowledged(&topic, &body(3000), 8);
        stage.come_and_go(number);
    }
    assert_eq!(rejected(&stage.bridge, "too_large"), 20.0);
    // What the stream takes by now counts at once.
    nats(&server, &["stream", "edit", "JETLINKS_DEVICE", "--max-msg-size", "8192", "-f"]);
    wire.publish_acknowledged(&topic, &body(5000), 7);
    assert_eq!(rejected(&stage.bridge, "too_large"), 20.0);
    stage.finish();
}

#[test]
fn a_subject_that_is_full_keeps_no_other_device_out() {
    let server = Nats::start();
    let stream = ["stream", "add", "JETLINKS_DEVICE", "--subjects", "jetlinks.>", "--discard", "new"];
    let each = ["--discard-per-subject", "--max-msgs-per-subject", "30", "--defaults"];
    nats(&server, &[&stream[..], &each].concat());
    let (registry, devices) = Registry::numbered(21);
    let bridge = Bridge::start(&Settings::nats(&registry, &server));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    for _ in 0..50 {
        wire.publish_acknowledged(&devices[0].topic("event/e"), REPORT, 7);
    }
    assert_eq!(rejected(&bridge, "refused"), 20.0);
    // Its subject for what is rejected is full as well by now: it has nowhere to go, and its device alone waits.
    for _ in 0..10 {
        wire.publish_acknowledged(&devices[0].topic("event/e"), REPORT, 7);
    }
    wire.publish(&devices[0].topic("event/e"), REPORT, 1, 8);
    let mut others: Vec<Wire> = devices[1..].iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    for (other, device) in others.iter_mut().zip(&devices[1..]) {
        other.publish_acknowledged(&device.topic("event/e"), REPORT, 1);
    }
    wire.wait_closed();
    assert_eq!(bridge.metric("jetlinks_bridge_queue_outages_total", &[]), 0.0, "{}", bridge.log());
}

fn permitted(denied: &str) -> String {
    format!(
        "authorization {{ users: [ {{ user: bridge, password: secret, permissions: {{
            publish: {{ allow: \">\", deny: [{denied}] }}, subscribe: \">\" }} }} ] }}\n"
    )
}

#[test]
fn the_right_on_one_subject_that_is_taken_and_given_back_under_load_concerns_one_device() {
    let server = Nats::configured(&permitted(""));
    let servers = format!("[\"nats://bridge:secret@{}\"]", server.address());
    let stage = Stage::start(|registry| Settings::nats(registry, &server).toml("nats.servers", &servers));
    let device = &stage.troublemaker;
    let mut wire = Wire::connect(stage.bridge.mqtt(), device);
    wire.publish_acknowledged(&device.topic("event/e"), REPORT, 1);
    server.reload(&permitted(&format!("\"jetlinks.device.product1.{}.>\"", device.id)));
    (2..40).for_each(|id| wire.publish(&device.topic("event/e"), REPORT, 1, id));
    wait_for_log(&stage.bridge, &["NATS connection trouble", "Permissions Violation for Publish", &device.id]);
    let mut number = 0;
    eventually("the device is told to come again", PATIENCE, || {
        number += 1;
        stage.come_and_go(number);
        matches!(wire.next_within(Duration::from_millis(500)), Some(Incoming::Closed)).then_some(())
    });
    let mut again = Wire::connect(stage.bridge.mqtt(), device);
    again.publish(&device.topic("event/e"), REPORT, 1, 2);
    server.reload(&permitted(""));
    assert_eq!(again.next_packet().header, 0x40, "PUBACK");
    stage.wait_for_more(10);
    stage.finish();
}

#[test]
fn a_user_who_may_send_less_than_the_server_takes_loses_the_connection_once() {
    let operator = Operator::new();
    let server = Nats::configured(&operator.server());
    let folder = crate::support::Folder::new("user");
    let credentials = folder.write("bridge.creds", &operator.credentials_with_payload(4096)).display().to_string();
    let (registry, devices) = Registry::numbered(2);
    let settings = Settings::nats(&registry, &server).text("nats.credentials_file", &credentials);
    let bridge = Bridge::start(&settings);
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    for _ in 0..10 {
        wire.publish_acknowledged(&devices[0].topic("event/e"), &body(5000), 7);
        wire.publish_acknowledged(&devices[0].topic("event/e"), &body(3000), 8);
    }
    assert_eq!(rejected(&bridge, "too_large"), 10.0);
    let lost = bridge.log().lines().filter(|line| line.contains("lost the connection")).count();
    assert_eq!(lost, 1, "{}", bridge.log());
    wait_for_log(&bridge, &["lost the connection", "role=\"uplink\"", "Maximum Payload Violation"]);
}

#[test]
fn a_limit_below_what_the_bridge_itself_needs_is_a_fault_of_the_queue_and_over_when_it_is_raised() {
    let server = Nats::configured("max_payload: 1048576\n");
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::nats(&registry, &server));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    wire.publish_acknowledged(&devices[0].topic("event/e"), REPORT, 1);
    server.reload("max_payload: 300\n");
    wire.publish(&devices[0].topic("event/e"), REPORT, 1, 2);
    wait_for_log(&bridge, &["ERROR", "the NATS server takes too small messages", "max_payload=300"]);
    let queue_is = |state: &str| (bridge.readiness().1["queue"] == state).then_some(());
    eventually("the queue is away", PATIENCE, || queue_is("away"));
    assert_eq!(rejected(&bridge, "too_large"), 0.0);
    server.reload("max_payload: 1048576\n");
    eventually("the queue is back", PATIENCE, || queue_is("ok"));
    let mut again = Wire::connect(bridge.mqtt(), &devices[0]);
    again.publish_acknowledged(&devices[0].topic("event/e"), REPORT, 1);
}
