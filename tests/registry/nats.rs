//! Devices in a bucket of a real NATS server.

use std::time::Instant;

use serde_json::{Value, json};

use super::door::{self, ACCEPTED, AT_ONCE, AWAY, REFUSED, is_served, knock, knock_until, record};
use crate::support::bridge::{command, run_command, wait_for_log};
use crate::support::{Bridge, Nats, Packet, Registration, Registry, Settings, Wire, caller, eventually, packet, wait};

const BUCKET: &str = "jetlinks_devices";

struct Stage {
    nats: Nats,
    bridge: Bridge,
    device: Registration,
}

impl Stage {
    /// A bridge that has read a bucket with this device alone.
    fn new() -> Self {
        Self::with(Nats::start(), |settings| settings)
    }

    fn with(nats: Nats, adapt: impl FnOnce(Settings) -> Settings) -> Self {
        let device = Registration::new("device1");
        make_bucket(&nats);
        put(&nats, &device);
        let bridge = Bridge::start(&adapt(settings(&nats)));
        Self { nats, bridge, device }
    }

    fn connect(&self) -> Wire {
        Wire::connect(self.bridge.mqtt(), &self.device)
    }
}

pub(crate) fn settings(nats: &Nats) -> Settings {
    let (nothing, _) = Registry::numbered(0);
    Settings::stdio(&nothing).text("registry.source", "nats").toml("nats.servers", &format!("[{:?}]", nats.url()))
}

fn run(nats: &Nats, arguments: &[&str]) -> String {
    let output = nats.run_cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn make_bucket(nats: &Nats) {
    run(nats, &["kv", "add", BUCKET]);
}

fn put(nats: &Nats, device: &Registration) {
    put_text(nats, &format!("device.{}", device.id), &record(device).to_string());
}

fn put_text(nats: &Nats, key: &str, text: &str) {
    run(nats, &["kv", "put", BUCKET, key, text]);
}

fn delete(nats: &Nats, key: &str) {
    run(nats, &["kv", "del", BUCKET, key, "-f"]);
}

#[test]
fn a_change_in_the_bucket_ends_the_session_within_a_second_and_counts_at_the_next_connect() {
    let stage = Stage::new();
    type Step = fn(&Stage) -> (Registration, u8);
    let steps: [Step; 3] = [
        |stage| {
            let device = door::rekeyed(&stage.device);
            put(&stage.nats, &device);
            (device, ACCEPTED)
        },
        |stage| {
            put(&stage.nats, &stage.device.clone().disabled());
            (stage.device.clone(), REFUSED)
        },
        |stage| {
            delete(&stage.nats, "device.device1");
            (stage.device.clone(), REFUSED)
        },
    ];
    for change in steps {
        wait::soon_once("a change ends the session", AT_ONCE, || {
            put(&stage.nats, &stage.device);
            knock_until(&stage.bridge, &stage.device, ACCEPTED);
            let mut wire = stage.connect();
            let (device, code) = change(&stage);
            let begin = Instant::now();
            wire.wait_closed();
            let took = begin.elapsed();
            assert_eq!(knock(&stage.bridge, &device), code);
            took
        });
    }
}

#[test]
fn a_change_that_permits_the_session_leaves_it_alone() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    let mut same = record(&stage.device);
    same["children"] = json!([{"id": "child1", "product": "product2"}]);
    same["name"] = json!("Pump 7");
    put_text(&stage.nats, "device.device1", &same.to_string());
    put(&stage.nats, &Registration::new("device2"));
    knock_until(&stage.bridge, &Registration::new("device2"), ACCEPTED);
    assert!(is_served(&mut wire));
}

#[test]
fn a_missing_bucket_is_made_and_nobody_is_let_in_before_the_server_was_reached() {
    let mut nats = Nats::start();
    nats.kill9();
    let bridge = Bridge::start_unready(&settings(&nats));
    assert_eq!(bridge.readiness().1["registry"], "starting");
    assert_eq!(knock(&bridge, &Registration::new("device1")), AWAY);

    nats.restart();
    eventually("the bridge is ready", door::PATIENCE, || (bridge.readiness().0 == 200).then_some(()));
    assert_eq!(bridge.readiness().1["registry"], "ok");
    let info: Value =
        serde_json::from_str(&run(&nats, &["stream", "info", &format!("KV_{BUCKET}"), "--json"])).unwrap();
    assert_eq!(info["config"]["max_msgs_per_subject"], 1, "{info}");
    assert_eq!(knock(&bridge, &Registration::new("device1")), REFUSED);
    put(&nats, &Registration::new("device1"));
    knock_until(&bridge, &Registration::new("device1"), ACCEPTED);
    assert_eq!(bridge.metric("jetlinks_bridge_registry_devices", &[]), 1.0);
}

#[test]
fn a_lost_server_lets_nobody_in_ends_no_session_and_what_changed_meanwhile_counts_when_it_is_back() {
    let mut stage = Stage::new();
    let others = ["device2", "device3"].map(Registration::new);
    others.iter().for_each(|device| put(&stage.nats, device));
    knock_until(&stage.bridge, &others[1], ACCEPTED);
    let mut first = stage.connect();
    let [mut second, mut third] = [0, 1].map(|at| Wire::connect(stage.bridge.mqtt(), &others[at]));

    stage.nats.kill9();
    knock_until(&stage.bridge, &Registration::new("device9"), AWAY);
    assert_eq!(knock(&stage.bridge, &stage.device), AWAY);
    eventually("the page says so", door::PATIENCE, || (stage.bridge.readiness().1["registry"] == "away").then_some(()));
    assert_eq!(stage.bridge.readiness().0, 200);
    assert_eq!(stage.bridge.metric("jetlinks_bridge_registry_stale", &[]), 1.0);
    assert!(is_served(&mut first) && is_served(&mut second) && is_served(&mut third));

    // The bridge is held while the bucket changes, so that it finds the change by comparing and not by being told.
    stage.bridge.signal(libc::SIGSTOP);
    stage.nats.restart();
    put(&stage.nats, &door::rekeyed(&others[0]));
    delete(&stage.nats, "device.device3");
    stage.bridge.signal(libc::SIGCONT);
    second.wait_closed();
    third.wait_closed();
    knock_until(&stage.bridge, &door::rekeyed(&others[0]), ACCEPTED);
    assert!(is_served(&mut first), "its record is the same");
    assert_eq!(stage.bridge.metric("jetlinks_bridge_registry_stale", &[]), 0.0);
}

#[test]
fn a_server_that_only_stops_to_answer_is_a_lost_one() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    stage.nats.process().signal(libc::SIGSTOP);
    knock_until(&stage.bridge, &Registration::new("device9"), AWAY);
    assert!(is_served(&mut wire));
    stage.nats.process().signal(libc::SIGCONT);
    knock_until(&stage.bridge, &Registration::new("device9"), REFUSED);
    assert!(is_served(&mut wire));
}

#[test]
fn a_bucket_that_is_gone_is_waited_for_and_not_made_anew() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    run(&stage.nats, &["kv", "del", BUCKET, "-f"]);
    wait_for_log(&stage.bridge, &["lost the registry"]);
    knock_until(&stage.bridge, &Registration::new("device9"), AWAY);
    assert!(is_served(&mut wire));
    make_bucket(&stage.nats);
    wire.wait_closed();
    knock_until(&stage.bridge, &stage.device, REFUSED);
}

#[test]
fn a_record_that_cannot_be_read_lets_its_device_not_in_and_shows_no_secret() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    put_text(&stage.nats, "device.device1", r#"{"id":"device1","secureId":"x","secureKey":"hush-hush"}"#);
    put_text(&stage.nats, "device.device2", &record(&stage.device).to_string());
    put_text(&stage.nats, "device.a.b", "{}");
    let line = wait_for_log(&stage.bridge, &["a record of the registry cannot be read", "device.device1"]);
    assert!(line.contains("product is missing"), "{line}");
    wait_for_log(&stage.bridge, &["device.device2", "another one"]);
    wait_for_log(&stage.bridge, &["device.a.b"]);
    assert_eq!(knock(&stage.bridge, &stage.device), AWAY);
    assert!(is_served(&mut wire));
    assert!(!stage.bridge.log().contains("hush-hush"), "{}", stage.bridge.log());
    assert_eq!(stage.bridge.metric("jetlinks_bridge_registry_reloads_total", &["refused"]), 3.0);
    put(&stage.nats, &stage.device);
    knock_until(&stage.bridge, &stage.device, ACCEPTED);
}

#[test]
fn a_products_secret_serves_its_devices_where_it_is_allowed_and_its_change_ends_them() {
    let stage = Stage::with(Nats::start(), |settings| settings.toml("registry.product_secrets", "true"));
    let device = Registration { secure_id: "of-product1".to_owned(), ..Registration::new("device2") };
    let product = |key: &str| json!({"id": "product1", "secureId": "of-product1", "secureKey": key}).to_string();
    put_text(&stage.nats, "device.device2", r#"{"id":"device2","product":"product1"}"#);
    put_text(&stage.nats, "product.product1", &product(&device.secure_key));
    knock_until(&stage.bridge, &device, ACCEPTED);
    let (mut wire, mut own) = (Wire::connect(stage.bridge.mqtt(), &device), stage.connect());
    put_text(&stage.nats, "product.product1", &product("another"));
    wire.wait_closed();
    assert_eq!(knock(&stage.bridge, &device), REFUSED);
    assert!(is_served(&mut own), "it has a secret of its own");
}

#[test]
fn credentials_are_made_of_what_the_bucket_holds() {
    let stage = Stage::with(Nats::start(), |settings| settings.toml("registry.product_secrets", "true"));
    put_text(&stage.nats, "device.device2", r#"{"id":"device2","product":"product1"}"#);
    put_text(&stage.nats, "product.product1", r#"{"id":"product1","secureId":"of-product1","secureKey":"k"}"#);
    put_text(&stage.nats, "device.device3", r#"{"id":"device3","secureKey":"hush-hush"}"#);
    let ask = |device: &str| {
        let mut call = command();
        call.args(["credentials", device, "--output", "json", "--config"]).arg(stage.bridge.config());
        run_command(&mut call, "", door::PATIENCE)
    };
    for (device, secure_id) in [("device1", "id-of-device1"), ("device2", "of-product1")] {
        let found = ask(device);
        assert_eq!((found.code, found.stdout.contains(&format!("\"{secure_id}|"))), (0, true), "{found:?}");
    }
    for (device, reason) in [("device9", "not in bucket"), ("device3", "product is missing"), ("a/b", "not in bucket")]
    {
        let refused = ask(device);
        assert_eq!((refused.code, refused.stderr.contains(reason)), (1, true), "{refused:?}");
        assert!(!refused.stderr.contains("hush"), "{refused:?}");
    }
}

#[test]
fn ids_with_any_characters_have_their_key() {
    let stage = Stage::new();
    let device = Registration::new("a.b=c 度");
    put_text(&stage.nats, "device.a=2Eb=3Dc=20=E5=BA=A6", &record(&device).to_string());
    knock_until(&stage.bridge, &device, ACCEPTED);
}

#[test]
fn children_are_bound_by_either_record_and_foreign_elsewhere() {
    let mut stage = Stage::new();
    let gateway = Registration::new("gw1");
    let mut record = record(&gateway);
    record["children"] = json!([{"id": "child1", "product": "product2"}]);
    put_text(&stage.nats, "device.gw1", &record.to_string());
    put(&stage.nats, &Registration::child("child2", "gw1"));
    put(&stage.nats, &Registration::child("child3", "gw2"));
    knock_until(&stage.bridge, &gateway, ACCEPTED);
    let mut wire = Wire::connect(stage.bridge.mqtt(), &gateway);
    for (child, id) in [("child1", 1), ("child2", 2), ("child3", 3), ("device1", 4), ("child9", 5)] {
        wire.publish(&gateway.topic(&format!("child/{child}/tags")), r#"{"tags":{}}"#, 1, id);
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBACK, id));
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let envelope = stage.bridge.next_envelope();
        let (kind, data) = (envelope["type"].as_str().unwrap(), &envelope["data"]);
        match kind.strip_prefix("org.jetlinks.").unwrap() {
            "device.tags" => seen.push(format!("{} of {}", envelope["deviceid"], envelope["productid"])),
            "bridge.rejected" => seen.push(data["reason"].to_string()),
            _ => {}
        }
    }
    let text = |text: &str| format!("{text:?}");
    let of = |device: &str, product: &str| format!("{device:?} of {product:?}");
    assert_eq!(
        seen,
        [
            of("child1", "product2"),
            of("child2", "product1"),
            text("foreign_child"),
            text("foreign_child"),
            of("child9", "product1")
        ]
    );
}

#[test]
fn sixty_thousand_devices_are_read_at_start_and_again_after_a_loss() {
    const DEVICES: usize = 60_000;
    let mut nats = Nats::start();
    make_bucket(&nats);
    let first = Registration::new("device0");
    fill(&nats, DEVICES);
    let begin = Instant::now();
    let bridge = Bridge::start(&settings(&nats));
    println!("{DEVICES} devices: ready after {:?}", begin.elapsed());
    assert_eq!(bridge.metric("jetlinks_bridge_registry_devices", &[]), DEVICES as f64);
    let mut wire = Wire::connect(bridge.mqtt(), &first);
    nats.restart();
    wait_for_log(&bridge, &["lost the registry"]);
    knock_until(&bridge, &Registration::new(&format!("device{}", DEVICES - 1)), ACCEPTED);
    assert!(is_served(&mut wire));
}

/// Puts devices into the bucket, many at a time.
pub(crate) fn fill(nats: &Nats, devices: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = caller::client(&nats.url()).await;
        let context = caller::jetstream(client);
        let mut answers = Vec::new();
        for number in 0..devices {
            let device = Registration::new(&format!("device{number}"));
            let subject = format!("$KV.{BUCKET}.device.{}", device.id);
            answers.push(context.publish(subject, record(&device).to_string().into()).await.unwrap());
            if answers.len() == 1_000 {
                for answer in answers.drain(..) {
                    answer.await.unwrap();
                }
            }
        }
        for answer in answers {
            answer.await.unwrap();
        }
    });
}
