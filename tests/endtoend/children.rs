//! Commands to children: by their gateway's subject, and by their own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::command::last_envelope;
use crate::support::caller::{Answer, Caller};
use crate::support::{Bridge, Nats, Registration, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

const READ: &str = r#"{"properties":["sn"],"headers":{"timeout":10000}}"#;

struct Stage {
    nats: Nats,
    bridge: Bridge,
    caller: Caller,
    gateway: Wire,
    _registry: Registry,
}

/// A child of product2 that the registry binds to gw1.
fn child(id: &str) -> Registration {
    Registration { product: "product2".to_owned(), ..Registration::child(id, "gw1") }
}

impl Stage {
    /// gw1 of product1, connected, with children of product2 that the registry binds to it.
    fn new(children: &[&str], change: impl FnOnce(Settings) -> Settings) -> Self {
        let nats = Nats::start();
        let gateway = Registration::new("gw1");
        let mut devices = vec![gateway.clone(), Registration::new("gw2"), Registration::new("device1")];
        devices.push(Registration::child("foreign1", "gw2"));
        devices.extend(children.iter().map(|id| child(id)));
        let registry = Registry::new(&devices);
        let bridge = Bridge::start(&change(Settings::nats(&registry, &nats)));
        let caller = Caller::connect(&[nats.url()]);
        let gateway = Wire::connect(bridge.mqtt(), &gateway);
        Self { nats, bridge, caller, gateway, _registry: registry }
    }

    /// Asks; the gateway answers what reaches it, on that topic.
    fn ask(&mut self, subject: &str, topic: &str) -> Value {
        let asked = self.caller.ask(&format!("jetlinks.command.{subject}"), READ);
        let command = self.gateway.next_publish();
        assert_eq!(command.topic, topic);
        self.gateway.reply(&command, r#""properties":{"sn":1}"#);
        let [answer] = self.caller.answers(&[asked]).try_into().expect("one answer");
        assert!(answer.is_of_device(), "{answer:?}");
        answer.envelope
    }

    fn fail(&self, subject: &str) -> Answer {
        self.caller.request(&format!("jetlinks.command.{subject}"), READ)
    }
}

fn address(envelope: &Value) -> Value {
    json!([envelope["productid"], envelope["deviceid"], envelope["gatewayid"], envelope["source"]])
}

#[test]
fn a_bound_child_answers_on_its_own_subject_and_on_its_gateways_with_its_own_product() {
    let mut stage = Stage::new(&["child1"], |settings| settings);
    let topic = "/product1/gw1/child/child1/properties/read";
    let expected = json!(["product2", "child1", "gw1", "/product1/gw1/child/child1"]);
    for subject in ["product2.child1.properties.read", "product1.gw1.child.child1.properties.read"] {
        let answer = stage.ask(subject, topic);
        assert_eq!(address(&answer), expected, "{subject}");
        assert_eq!(answer["type"], "org.jetlinks.device.properties.read.reply");
        assert_eq!(answer["data"]["deviceId"], "child1");
    }
    // The gateway's product is not the child's, and that subject is nobody's.
    assert!(stage.fail("product1.child1.properties.read").is_no_responders());
    let stored = "jetlinks.device.product1.gw1.child.child1.properties.read.reply";
    let stored = eventually("the reply is stored", PATIENCE, || last_envelope(&stage.nats, stored));
    assert_eq!(address(&stored), expected);
}

#[test]
fn a_failure_about_a_child_names_the_childs_product_too() {
    let stage = Stage::new(&["child1"], |settings| settings.text("commands.timeout", "300ms"));
    let body = r#"{"properties":["sn"]}"#;
    for subject in ["product2.child1.properties.read", "product1.gw1.child.child1.properties.read"] {
        let answer = stage.caller.request(&format!("jetlinks.command.{subject}"), body);
        assert_eq!(answer.code(), "TIME_OUT");
        assert_eq!(address(&answer.envelope), json!(["product2", "child1", "gw1", "/product1/gw1/child/child1"]));
    }
}

#[test]
fn children_that_the_registry_does_not_know_and_nested_ones_are_reached_by_the_gateway_alone() {
    let mut stage = Stage::new(&["child1"], |settings| settings);
    let answer = stage.ask("product1.gw1.child.new1.properties.read", "/product1/gw1/child/new1/properties/read");
    assert_eq!(address(&answer), json!(["product1", "new1", "gw1", "/product1/gw1/child/new1"]));
    assert!(stage.fail("product1.new1.properties.read").is_no_responders());
    let answer = stage.ask(
        "product1.gw1.child.child1.child.new2.properties.read",
        "/product1/gw1/child/child1/child/new2/properties/read",
    );
    assert_eq!((&answer["deviceid"], &answer["gatewayid"]), (&json!("new2"), &json!("gw1")), "{answer}");
    let answer = stage
        .ask("product2.child1.child.new2.properties.read", "/product1/gw1/child/child1/child/new2/properties/read");
    assert_eq!((&answer["deviceid"], &answer["gatewayid"]), (&json!("new2"), &json!("gw1")), "{answer}");
}

#[test]
fn a_command_to_a_child_that_belongs_elsewhere_is_refused_and_not_sent() {
    let mut stage = Stage::new(&["child1"], |settings| settings);
    for foreign in ["foreign1", "device1", "gw2", "gw1"] {
        let answer = stage.fail(&format!("product1.gw1.child.{foreign}.properties.read"));
        assert_eq!(answer.code(), "PARAMETER_ERROR", "{foreign}: {answer:?}");
        let nested = stage.fail(&format!("product1.gw1.child.child1.child.{foreign}.properties.read"));
        assert_eq!(nested.code(), "PARAMETER_ERROR", "{foreign}: {nested:?}");
    }
    // The first that the gateway gets is the one that is right.
    stage.ask("product2.child1.properties.read", "/product1/gw1/child/child1/properties/read");
}

#[test]
fn more_children_than_a_gateway_may_have_are_reached_by_the_gateway_and_not_by_themselves() {
    let mut stage =
        Stage::new(&["child1", "child2", "child3"], |settings| settings.toml("limits.children_per_gateway", "2"));
    for number in [1, 2] {
        let topic = format!("/product1/gw1/child/child{number}/properties/read");
        stage.ask(&format!("product2.child{number}.properties.read"), &topic);
    }
    assert!(stage.fail("product2.child3.properties.read").is_no_responders());
    let answer = stage.ask("product1.gw1.child.child3.properties.read", "/product1/gw1/child/child3/properties/read");
    assert_eq!(answer["deviceid"], "child3");
    assert!(stage.bridge.log().contains("more children than it may have"), "{}", stage.bridge.log());
}

#[test]
fn a_gateway_that_leaves_takes_its_childrens_subjects_along() {
    let stage = Stage::new(&["child1"], |settings| settings);
    drop(stage.gateway);
    eventually("nobody responds for the child", PATIENCE, || {
        let answer = stage.caller.request("jetlinks.command.product2.child1.properties.read", READ);
        assert!(["NO_RESPONDERS", "CONNECTION_LOST", ""].contains(&answer.code()), "{answer:?}");
        answer.is_no_responders().then_some(())
    });
    assert_eq!(stage.bridge.metric("jetlinks_bridge_sessions", &[]), 0.0);
}
