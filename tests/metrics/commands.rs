//! Commands from stdin and from NATS.

use crate::page::Seen;
use crate::support::{Bridge, Caller, Nats, Registry, Settings, Wire, packet};
use crate::wait_counted;

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    from_stdin(&mut seen);
    from_nats(&mut seen);
    seen
}

fn from_stdin(seen: &mut Seen) {
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).toml("commands.pending_per_device", "1");
    let mut bridge = Bridge::start(&settings.text("commands.timeout", "1m"));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    let line = |kind: &str, device: &str, rest: &str| {
        format!(r#"{{"messageType":"{kind}","productId":"product1","deviceId":"{device}",{rest}}}"#)
    };
    let read = |device: &str, rest: &str| line("READ_PROPERTY", device, &format!(r#""properties":["sn"],{rest}"#));
    bridge.type_line(&read("device1", r#""messageId":"m1""#));
    let command = wire.next_publish();
    wait_counted(&bridge, "commands_pending", &[]);
    seen.scrape(&bridge);
    bridge.type_line(&read("device1", r#""messageId":"m1""#));
    bridge.type_line(&read("device1", r#""messageId":"m2""#));
    wait_counted(&bridge, "commands_total", &["parameter_error"]);
    wait_counted(&bridge, "commands_total", &["system_busy"]);
    wire.reply(&command, r#""properties":{"sn":1}"#);
    wait_counted(&bridge, "commands_total", &["reply"]);
    bridge.type_line(&read("device1", r#""messageId":"m3","headers":{"async":true}"#));
    bridge.type_line(&read("device9", r#""messageId":"m4""#));
    bridge.type_line(&line("REPORT_PROPERTY", "device1", r#""messageId":"m5""#));
    bridge.type_line("no JSON");
    bridge.type_line(&read("device1", r#""messageId":"m6","headers":{"timeout":50}"#));
    wait_counted(&bridge, "commands_total", &["time_out"]);
    wait_counted(&bridge, "commands_total", &["unreadable"]);
    bridge.type_line(&read("device1", r#""messageId":"m7""#));
    wait_counted(&bridge, "commands_pending", &[]);
    wire.send(&packet::DISCONNECT);
    wait_counted(&bridge, "commands_total", &["connection_lost"]);
    seen.scrape(&bridge);
}

fn from_nats(seen: &mut Seen) {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    let caller = Caller::connect(&[nats.url()]);
    let subject = "jetlinks.command.product1.device1.properties.read";
    caller.publish(subject, None, r#"{"properties":["sn"]}"#);
    wire.next_publish();
    caller.publish(subject, Some("jetlinks.device.product1.device1.tags"), "{}");
    let asked = caller.ask(subject, r#"{"properties":["sn"]}"#);
    let command = wire.next_publish();
    wire.reply(&command, r#""properties":{"sn":1}"#);
    assert!(caller.answer(asked).is_of_device());
    wait_counted(&bridge, "commands_total", &["reply_subject_refused"]);
    wait_counted(&bridge, "commands_total", &["unasked"]);
    wait_counted(&bridge, "command_answers_total", &["sent"]);
    wait_counted(&bridge, "part_up", &["coordination"]);
    seen.scrape(&bridge);

    let denied = "subscribe: { allow: \">\", deny: [\"jetlinks.command.>\"] }";
    let strict = Nats::configured(&format!(
        "authorization {{ users: [ {{ user: bridge, password: secret, permissions: {{ publish: \">\", {denied} }} }} ] }}\n"
    ));
    let servers = format!("[\"nats://bridge:secret@{}\"]", strict.address());
    let refused = Bridge::start(&Settings::nats(&registry, &strict).toml("nats.servers", &servers));
    let _unheard = Wire::connect(refused.mqtt(), &devices[0]);
    wait_counted(&refused, "commands_refused_interests", &[]);
    seen.scrape(&refused);

    let added = nats.run_cli(&["stream", "add", "COMMANDS", "--subjects", "jetlinks.command.>", "--defaults"]);
    assert!(added.status.success(), "{added:?}");
    let bridge = Bridge::start(&Settings::nats(&registry, &nats));
    wait_counted(&bridge, "commands_stored_by_stream", &[]);
    seen.scrape(&bridge);
}
