//! Followers, and the lines that they get.

use std::cell::Cell;
use std::net::IpAddr;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::protocol::command::CommandIdentity;
use crate::protocol::downlink::Code;
use crate::protocol::topic::MessageType;
use crate::protocol::uplink::{Channel, Record};
use crate::replica::request::Subject;
use crate::session::mqtt::Ending;
use crate::session::step::{Action, Carrier, Peer, Step, StoredAnswer};

const BOUNDS: Bounds = Bounds { lines: 100, bytes: 100_000 };

const PEER: Peer<'static> = Peer::Text("127.0.0.1:40000");

fn record(channel: Channel, envelope: &str, address: &str) -> Record {
    Record {
        channel,
        address: Bytes::copy_from_slice(address.as_bytes()),
        payload: Bytes::copy_from_slice(envelope.as_bytes()),
        attributes: Vec::new(),
        recorded_ms: 0,
        trace: None,
    }
}

fn report(product: &str, device: &str) -> Record {
    let envelope = format!(
        r#"{{"id":"01A","type":"org.jetlinks.device.properties.report","productid":"{product}","deviceid":"{device}","data":{{"t":1.50}}}}"#
    );
    record(Channel::Device, &envelope, &format!("jetlinks.device.product1.gw1.child.{device}.properties.report"))
}

fn step<'a>(device: &'a str, about: &'a str, action: Action<'a>) -> Step<'a> {
    Step { product: "product1", device, about, action }
}

/// Followers, and the worker that tells them.
struct Rig {
    followers: Arc<Followers>,
    worker: WorkerFollowers,
}

impl Rig {
    fn new() -> Self {
        let followers = Arc::new(Followers::new("replica1"));
        Self { worker: followers.worker(), followers }
    }

    fn follow(&self, filter: Filter) -> Lines {
        self.followers.follow(filter, BOUNDS).expect("there is room")
    }

    fn tell(&mut self, step: &Step<'_>) {
        self.worker.step(PEER, step, || 1_700_000_000_000);
    }
}

fn taken(lines: &mut Lines) -> Vec<Value> {
    let text = |line| match line {
        Line::Text(text) => serde_json::from_slice(&text).expect("a line is JSON"),
        Line::Dropped(count) => Value::from(count),
    };
    std::iter::from_fn(|| lines.take()).map(text).collect()
}

fn device(id: &str) -> Filter {
    Filter::Trace(Subject::Device(id.to_owned()))
}

#[test]
fn nobody_follows_before_and_after_the_lines_are_there_and_the_bound_holds() {
    let rig = Rig::new();
    assert!(!rig.worker.is_followed());
    let lines: Vec<Lines> = (0..FOLLOWERS_MAX).map(|_| rig.follow(device("device1"))).collect();
    assert!(rig.worker.is_followed());
    assert!(rig.followers.follow(device("device1"), BOUNDS).is_none());
    drop(lines);
    assert!(!rig.worker.is_followed());
    assert!(rig.followers.follow(device("device1"), BOUNDS).is_some());
}

#[test]
fn a_step_that_no_filter_takes_is_not_written_and_one_that_several_take_is_written_once() {
    let mut rig = Rig::new();
    let mut lines = [rig.follow(device("device1")), rig.follow(device("device1")), rig.follow(device("device2"))];
    let clocks = Cell::new(0);
    for id in ["device1", "device3"] {
        rig.worker.step(PEER, &step(id, id, Action::TimeSync), || {
            clocks.set(clocks.get() + 1);
            1_700_000_000_000
        });
    }
    assert_eq!(lines.each_mut().map(|lines| taken(lines).len()), [1, 1, 0]);
    assert_eq!(clocks.get(), 1);
}

#[test]
fn a_trace_shows_a_device_as_itself_and_as_a_child_a_product_or_an_address() {
    let mut rig = Rig::new();
    let ip: IpAddr = [127, 0, 0, 1].into();
    let filters = [
        device("gw1"),
        device("child1"),
        Filter::Trace(Subject::Product("product1".to_owned())),
        Filter::Trace(Subject::Product("product2".to_owned())),
        Filter::Trace(Subject::Address(ip, None)),
        Filter::Trace(Subject::Address(ip, Some(40_000))),
        Filter::Trace(Subject::Address(ip, Some(1))),
    ];
    let mut lines = filters.map(|filter| rig.follow(filter));
    let mut shown = |peer, step: &Step<'_>| {
        rig.worker.step(peer, step, || 0);
        lines.each_mut().map(|lines| taken(lines).len())
    };
    let publish = Action::Publish { topic: "/product1/gw1", by: Carrier::Coap, payload: None };
    assert_eq!(shown(PEER, &step("gw1", "child1", publish)), [1, 1, 1, 0, 1, 1, 0]);
    assert_eq!(shown(PEER, &step("gw1", "gw1", publish)), [1, 0, 1, 0, 1, 1, 0]);
    assert_eq!(shown(Peer::Address(None), &step("device2", "device2", publish)), [0, 0, 1, 0, 0, 0, 0]);
    let stored = report("product2", "child1");
    let answer = StoredAnswer::None;
    let action = Action::Stored { record: &stored, latency_us: 0, queue_us: 0, answer };
    assert_eq!(shown(PEER, &step("gw1", "gw1", action)), [1, 1, 1, 0, 1, 1, 0], "stored, and the child's");
    let of_coap = Step { product: "", ..step("child1", "child1", action) };
    assert_eq!(shown(Peer::Text(""), &of_coap), [0, 1, 0, 1, 0, 0, 0], "the envelope names its product");
}

#[test]
fn envelopes_are_shown_whole_by_product_device_and_type() {
    let mut rig = Rig::new();
    let text = |text: &str| Some(text.to_owned());
    let filter = |product, device, kind| Filter::Envelopes { product, device, kind };
    let filters = [
        filter(None, None, None),
        filter(text("product2"), None, None),
        filter(text("product1"), None, None),
        filter(None, text("gw1"), None),
        filter(None, text("child1"), text("properties.report")),
        filter(None, None, text("org.jetlinks.device.properties.report")),
        filter(None, None, text("ties.report")),
        filter(None, None, text("rejected")),
    ];
    let mut lines = filters.map(|filter| rig.follow(filter));
    let mut envelope = report("product2", "child1");
    rig.tell(&step("gw1", "child1", Action::Envelope(&envelope)));
    rig.tell(&step("gw1", "child1", Action::TimeSync));
    let shown = lines.each_mut().map(taken);
    assert_eq!(shown.each_ref().map(Vec::len), [1, 1, 0, 1, 1, 1, 0, 0]);
    let structured = shown[0][0].clone();
    assert_eq!(structured["replicaId"], "replica1");
    assert_eq!(structured["envelope"]["data"]["t"].to_string(), "1.50");
    let parsed: Value = serde_json::from_slice(&envelope.payload).expect("JSON");
    let attributes = ["id", "type", "productid", "deviceid"];
    envelope.attributes = attributes.map(|name| (name, parsed[name].as_str().unwrap_or_default().to_owned())).to_vec();
    envelope.payload = Bytes::from_static(b"{\"t\":1.50}");
    rig.tell(&step("gw1", "child1", Action::Envelope(&envelope)));
    let shown = lines.each_mut().map(taken);
    assert_eq!(shown.each_ref().map(Vec::len), [1, 1, 0, 1, 1, 1, 0, 0], "in binary mode as well");
    assert_eq!(shown[0][0], structured);
}

#[test]
fn each_step_is_a_sentence_with_its_numbers() {
    let mut rig = Rig::new();
    let mut lines = rig.follow(device("device1"));
    let rejected = record(
        Channel::Rejected,
        r#"{"id":"01B","type":"org.jetlinks.bridge.rejected","data":{"reason":"undecodable","detail":"no object"}}"#,
        "device1",
    );
    let identity = CommandIdentity {
        product: "product1".to_owned(),
        device: "device1".to_owned(),
        children: Vec::new(),
        message_type: Some(MessageType::ReadProperty),
        message_id: Some("m1".to_owned()),
        correlation_id: None,
        about_product: None,
        trace: None,
    };
    let long = "é".repeat(400);
    let publish =
        |payload| Action::Publish { topic: "/product1/device1/tags", by: Carrier::Will, payload: Some(payload) };
    let failed =
        Action::Outcome { identity: &identity, code: Some(Code::TimeOut), text: "no reply in time", latency_us: 5_000 };
    let actions = [
        (
            Action::Refuse { reason: "wrong_credentials", detail: "" },
            "refused",
            "device1 at 127.0.0.1:40000 is refused: wrong_credentials",
        ),
        (publish(b"{}"), "publish", "device1 sends 2 bytes on /product1/device1/tags (its will)"),
        (publish(&[0xff, 0xfe]), "publish", "device1 sends 2 bytes on /product1/device1/tags (its will)"),
        (publish(long.as_bytes()), "publish", "device1 sends 800 bytes on /product1/device1/tags (its will)"),
        (Action::Envelope(&rejected), "rejected", "rejected: undecodable: no object; envelope 01B goes to the queue"),
        (
            Action::Stored { record: &rejected, latency_us: 2_000, queue_us: 1_234, answer: StoredAnswer::None },
            "acknowledged",
            "the queue has envelope 01B after 1.2 ms",
        ),
        (Action::Command(&identity), "command", "a command for device1: READ_PROPERTY m1"),
        (failed, "outcome", "READ_PROPERTY m1 failed after 5 ms: TIME_OUT: no reply in time"),
        (Action::Disconnect(Ending::KeepAlive), "disconnect", "the session of device1 ends: keep_alive"),
    ];
    for (action, ..) in &actions {
        rig.tell(&step("device1", "device1", *action));
    }
    let shown = taken(&mut lines);
    for (line, (_, event, text)) in shown.iter().zip(&actions) {
        assert_eq!((&line["event"], &line["text"]), (&Value::from(*event), &Value::from(*text)));
        assert_eq!((&line["device"], &line["product"]), (&"device1".into(), &"product1".into()));
        assert_eq!((&line["peer"], &line["time"]), (&"127.0.0.1:40000".into(), &"2023-11-14T22:13:20.000Z".into()));
    }
    assert_eq!((&shown[1]["payload"], &shown[2]["payloadBase64"]), (&"{}".into(), &"//4=".into()));
    assert_eq!((&shown[3]["payload"], &shown[3]["bytes"]), (&"é".repeat(256).into(), &800.into()));
    assert_eq!(shown[5]["queueMs"], Value::from(1.2));
    assert_eq!((&shown[7]["code"], &shown[7]["messageId"]), (&"TIME_OUT".into(), &"m1".into()));
}
