//! Devices over MQTT.

use jetlinks_bridge::protocol::topic::MessageType;

use crate::page::Seen;
use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Registration, Registry, Settings, Wire, eventually, http, packet};
use crate::{PATIENCE, wait_counted};

/// Members that make a message of any type complete.
const BODY: &str = r#"{"properties":{"a":1},"data":[1],"output":1,"log":"l","tags":{},"metadata":"{}","state":0}"#;

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    admissions(&mut seen);
    messages_and_endings(&mut seen);
    limits(&mut seen);
    crowd(&mut seen);
    drain(&mut seen);
    seen
}

fn refuse(bridge: &Bridge, connect: &Connect, code: u8) {
    let mut wire = Wire::open(bridge.mqtt());
    wire.send(&connect.bytes());
    assert_eq!(wire.next_packet().body, [0, code], "{connect:?}");
    wire.wait_closed();
}

fn admissions(seen: &mut Seen) {
    let (device, disabled) = (Registration::new("device1"), Registration::new("device2").disabled());
    let restless = Registration::new("device3");
    let registry = Registry::new(&[device.clone(), disabled.clone(), restless.clone()]);
    let bridge = Bridge::start(&Settings::stdio(&registry).text("mqtt.connect_timeout", "5s"));
    let good = Connect::of(&device);
    let old = device.credentials_at(0);
    refuse(&bridge, &Connect { level: 5, ..good.clone() }, 1);
    refuse(&bridge, &Connect { client_id: String::new(), ..good.clone() }, 2);
    refuse(&bridge, &Connect { client_id: "device9".to_owned(), ..good.clone() }, 4);
    refuse(&bridge, &Connect::of(&disabled), 4);
    refuse(&bridge, &Connect { username: None, password: None, ..good.clone() }, 4);
    refuse(&bridge, &Connect { username: Some(old.username), password: Some(old.password), ..good.clone() }, 4);
    refuse(&bridge, &Connect { password: Some("x".repeat(32)), ..good.clone() }, 4);
    drop(Wire::open(bridge.mqtt()));
    wait_counted(&bridge, "connects_total", &["gone"]);
    let mut silent = Wire::open(bridge.mqtt());
    wait_counted(&bridge, "connections", &["mqtt", "opening"]);
    seen.scrape(&bridge);
    silent.send(b"no MQTT");
    silent.wait_closed();
    let _taken_over: Vec<Wire> = (0..6).map(|_| Wire::connect_as(bridge.mqtt(), &good)).collect();
    refuse(&bridge, &good, 3);
    seen.scrape(&bridge);
    eventually("the device connects too often", PATIENCE, || {
        let mut wire = Wire::open(bridge.mqtt());
        wire.send(&Connect::of(&restless).bytes());
        let code = wire.next_packet().body[1];
        wire.send_regardless(&packet::DISCONNECT);
        wire.wait_closed();
        (code == 3).then_some(())
    });
    wait_counted(&bridge, "connects_total", &["reconnect_limit"]);
    seen.scrape(&bridge);

    registry.rewrite(std::slice::from_ref(&device));
    wait_counted(&bridge, "registry_reloads_total", &["replaced"]);
    std::fs::write(registry.path(), "no TOML").unwrap();
    wait_counted(&bridge, "registry_reloads_total", &["refused"]);
    seen.scrape(&bridge);
}

fn messages_and_endings(seen: &mut Seen) {
    let gateway = Registration::new("gw1");
    let child = Registration::child("child1", "gw2");
    // One device alone would be let in once a second.
    let talkers: Vec<Registration> = (1..=20).map(|number| Registration::new(&format!("device{number}"))).collect();
    let registry = Registry::new(&[&[gateway.clone(), child], &talkers[..]].concat());
    let settings = Settings::stdio(&registry).text("limits.packet_bytes", "4KiB").text("coap.listen", "");
    let bridge = Bridge::start(&settings.text("admin.token", "hush"));
    let mut wire = Wire::connect(bridge.mqtt(), &gateway);
    let types = MessageType::all().filter(|message_type| message_type.goes_up());
    for (id, message_type) in (1..).zip(types) {
        let event = if message_type == MessageType::Event { "/e" } else { "" };
        wire.publish_acknowledged(&gateway.topic(&format!("{}{event}", message_type.suffix())), BODY, id);
    }
    wire.publish(&gateway.topic("time-sync"), r#"{"messageId":"m1"}"#, 0, 0);
    wire.next_publish();
    wire.publish_acknowledged(&gateway.topic("nowhere"), BODY, 101);
    wire.publish_acknowledged(&gateway.topic("tags"), "no JSON", 102);
    wire.publish_acknowledged(&gateway.topic("child/child1/tags"), BODY, 103);
    wire.publish_acknowledged(&gateway.topic("tags"), &"x".repeat(5_000), 104);
    wait_counted(&bridge, "sent_bytes_total", &["mqtt"]);
    wait_counted(&bridge, "received_bytes_total", &["mqtt"]);
    seen.scrape(&bridge);

    let kicked = http::request(bridge.admin(), "DELETE", "/api/sessions/gw1", "Authorization: Bearer hush\r\n");
    assert_eq!(kicked.unwrap().status, 204);
    wire.wait_closed();
    let mut wire = Wire::connect(bridge.mqtt(), &gateway);
    wire.send(&packet::DISCONNECT);
    wire.wait_closed();
    drop(Wire::connect(bridge.mqtt(), &gateway));
    wait_counted(&bridge, "sessions_closed_total", &["connection_lost"]);
    let mut silent = Wire::connect_as(bridge.mqtt(), &Connect { keep_alive: 1, ..Connect::of(&gateway) });
    silent.wait_closed();
    // The line about a foreign topic is the one that a device can repeat as it likes.
    let mut talkers = talkers.iter().cycle();
    eventually("lines are left out of the log", PATIENCE, || {
        let mut foreign = Wire::connect(bridge.mqtt(), talkers.next().unwrap());
        foreign.publish("/product1/device99/tags", BODY, 0, 0);
        foreign.wait_closed();
        (bridge.metric("jetlinks_bridge_log_lines_suppressed_total", &["warn"]) > 0.0).then_some(())
    });
    let mut shed = Wire::connect(bridge.mqtt(), &gateway);
    let begun = http::post(bridge.admin(), "/api/shed", "Authorization: Bearer hush\r\n", r#"{"sessions":1}"#);
    assert_eq!(begun.unwrap().status, 202);
    shed.wait_closed();
    seen.scrape(&bridge);
    let mortal = Bridge::start(&Settings::stdio(&registry).text("limits.session_age_max", "100ms"));
    Wire::connect(mortal.mqtt(), &gateway).wait_closed();
    seen.scrape(&mortal);
}

fn limits(seen: &mut Seen) {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n";
    let (registry, devices) = Registry::numbered(2);
    let settings = Settings::stdio(&registry).toml("limits.connections", "1");
    let settings = settings.toml("admin.full_not_ready", "true");
    let bridge = Bridge::start(&settings.toml("mqtt.proxy_protocol_from", r#"["127.0.0.0/8"]"#));
    seen.scrape(&bridge);
    let mut bare = Wire::open(bridge.mqtt());
    bare.send(&Connect::of(&devices[0]).bytes());
    bare.wait_closed();
    wait_counted(&bridge, "connects_total", &["proxy_header"]);
    let enter = |device: &Registration| {
        let mut wire = Wire::open(bridge.mqtt());
        wire.send(HEADER);
        wire.send(&Connect::of(device).bytes());
        let code = wire.next_packet().body[1];
        (wire, code)
    };
    let (_first, code) = enter(&devices[0]);
    assert_eq!(code, 0);
    assert_eq!(enter(&devices[1]).1, 3);
    // The answer comes first.
    wait_counted(&bridge, "connects_total", &["connection_limit"]);
    seen.scrape(&bridge);
}

fn crowd(seen: &mut Seen) {
    let (registry, _) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).toml("limits.connect_rate", "1");
    let bridge = Bridge::start(&settings);
    // Five go on within half of the time for a CONNECT.
    let _waiting: Vec<Wire> = (0..10).map(|_| Wire::open(bridge.mqtt())).collect();
    wait_counted(&bridge, "connects_total", &["crowded"]);
    wait_counted(&bridge, "connections_waiting", &[]);
    seen.scrape(&bridge);
}

fn drain(seen: &mut Seen) {
    // One a second: more than the test takes seconds.
    let (registry, mut devices) = Registry::numbered(21);
    let late_device = devices.remove(20);
    let mut bridge = Bridge::start(&Settings::stdio(&registry).toml("drain.rate", "1"));
    let mut late = Wire::open(bridge.mqtt());
    // Half a packet shows that the connection was accepted.
    let connect = Connect::of(&late_device).bytes();
    late.send(&connect[..4]);
    wait_counted(&bridge, "connections", &["opening"]);
    let _wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    bridge.signal(libc::SIGTERM);
    wait_counted(&bridge, "draining", &[]);
    late.send(&connect[4..]);
    assert_eq!(late.next(), Incoming::Packet(crate::support::Packet { header: 0x20, body: vec![0, 3] }));
    wait_counted(&bridge, "sessions_closed_total", &["drained"]);
    seen.scrape(&bridge);
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
}
