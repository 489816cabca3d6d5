//! Operators who ask one replica about all, and let sessions be shed.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Bridge, Nats, Registration, Registry, Settings, Stopwatch, Wire, eventually, http};

const PATIENCE: Duration = Duration::from_secs(60);

fn get(admin: SocketAddr, path: &str) -> Value {
    let answer = http::get(admin, path).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn post(admin: SocketAddr, body: &str) -> (u16, Value) {
    let answer = http::post(admin, "/api/shed", "", body).unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
}

fn devices(page: &Value) -> Vec<&str> {
    page["sessions"].as_array().unwrap().iter().map(|session| session["deviceId"].as_str().unwrap()).collect()
}

/// Replicas that hear each other and sign what they say, with the id of each.
pub(crate) struct Stage {
    nats: Nats,
    pub(crate) devices: Vec<Registration>,
    pub(crate) replicas: Vec<(Bridge, String)>,
}

impl Stage {
    pub(crate) fn new(replicas: usize, devices: usize) -> Self {
        let nats = Nats::start();
        let (registry, devices) = Registry::numbered(devices);
        let settings = Settings::commands(&registry, &nats.url()).text("nats.claim_secret", "secret-of-the-replicas");
        let replicas = (0..replicas).map(|_| Bridge::start(&settings));
        let replicas: Vec<Bridge> = replicas.collect();
        let id = |replica: &Bridge| {
            get(replica.admin(), "/api/shed")["replicas"][0]["replicaId"].as_str().unwrap().to_owned()
        };
        let replicas: Vec<_> =
            replicas.into_iter().map(|replica| (id(&replica), replica)).map(|(id, it)| (it, id)).collect();
        for (replica, _) in &replicas {
            eventually("the replicas hear each other", PATIENCE, || {
                let page = get(replica.admin(), "/api/sessions?replicas=all");
                (page["replicas"].as_array().unwrap().len() == replicas.len()).then_some(())
            });
        }
        Self { nats, devices, replicas }
    }

    pub(crate) fn admin(&self, number: usize) -> SocketAddr {
        self.replicas[number].0.admin()
    }
}

#[test]
fn one_replica_lists_the_sessions_of_all_and_names_the_one_that_stands_still() {
    let stage = Stage::new(3, 6);
    let wires: Vec<Wire> = stage
        .devices
        .iter()
        .enumerate()
        .map(|(number, device)| Wire::connect(stage.replicas[number % 3].0.mqtt(), device))
        .collect();
    let page = get(stage.admin(0), "/api/sessions?replicas=all&limit=4");
    assert_eq!(devices(&page), ["device1", "device2", "device3", "device4"]);
    assert_eq!((&page["total"], &page["next"], &page["missing"]), (&json!(6), &json!("device4"), &json!([])));
    assert_eq!(page["coordination"], "ok");
    assert_eq!(page["sessions"][1]["replicaId"], json!(stage.replicas[1].1));
    let page = get(stage.admin(0), "/api/sessions?replicas=all&limit=4&after=device4");
    assert_eq!((devices(&page), &page["next"]), (vec!["device5", "device6"], &Value::Null));
    let page = get(stage.admin(1), "/api/sessions?replicas=all&prefix=device3&product=product1");
    assert_eq!((devices(&page), &page["total"]), (vec!["device3"], &json!(1)));
    assert!(devices(&get(stage.admin(1), "/api/sessions?replicas=all&product=product9")).is_empty());
    let other = &stage.replicas[2].1;
    let page = get(stage.admin(0), &format!("/api/sessions?replica={other}&replica=nobody"));
    assert_eq!((devices(&page), &page["missing"]), (vec!["device3", "device6"], &json!(["nobody"])));

    stage.replicas[2].0.signal(libc::SIGSTOP);
    let watch = Stopwatch::start();
    let page = get(stage.admin(0), "/api/sessions?replicas=all");
    let took = watch.elapsed();
    stage.replicas[2].0.signal(libc::SIGCONT);
    assert_eq!((devices(&page), &page["missing"]), (vec!["device1", "device2", "device4", "device5"], &json!([other])));
    assert!(took < Duration::from_secs(4), "{took:?}");
    drop(wires);
}

#[test]
fn a_shed_reaches_every_replica_and_one_that_nobody_signed_reaches_none() {
    let stage = Stage::new(2, 4);
    let mut wires: Vec<Wire> = stage
        .devices
        .iter()
        .enumerate()
        .map(|(number, device)| Wire::connect(stage.replicas[number % 2].0.mqtt(), device))
        .collect();
    let ignored = || stage.replicas[1].0.metric("jetlinks_bridge_coordination_claims_ignored_total", &["unsigned"]);
    let before = ignored();
    let plan = r#"{"goal":{"end":9},"rate":100,"most":9}"#;
    let ask = format!(r#"{{"id":"a","to":[],"request":{{"shed":{plan}}}}}"#);
    let message = format!(r#"{{"replica":"r","said":1,"draining":false,"sheds":false,"body":{{"ask":{ask}}}}}"#);
    stage.nats.run_cli(&["pub", "jetlinks.replica", &message]);
    eventually("the message is ignored", PATIENCE, || (ignored() > before).then_some(()));
    assert_eq!(get(stage.admin(0), "/api/shed?replicas=all")["replicas"][1]["state"], "none");

    let (status, report) = post(stage.admin(0), r#"{"sessions":1,"replicas":"all"}"#);
    assert_eq!((status, report["replicas"].as_array().unwrap().len()), (202, 2), "{report}");
    for number in 0..2 {
        let shed = || stage.replicas[number].0.metric("jetlinks_bridge_sessions_closed_total", &["cause=\"shed\""]);
        eventually("a session of each is shed", PATIENCE, || (shed() == 1.0).then_some(()));
    }
    let states = eventually("both are done", PATIENCE, || {
        let report = get(stage.admin(1), "/api/shed?replicas=all");
        let states: Vec<Value> = report["replicas"].as_array().unwrap().iter().map(|it| it["state"].clone()).collect();
        states.iter().all(|state| *state == "done").then_some(states)
    });
    assert_eq!(states.len(), 2);
    // The first of each replica: the others are served.
    wires[2].publish_acknowledged(&stage.devices[2].topic("tags"), r#"{"tags":{}}"#, 1);
    wires[3].publish_acknowledged(&stage.devices[3].topic("tags"), r#"{"tags":{}}"#, 1);
    wires[0].wait_closed();
    wires[1].wait_closed();
}

#[test]
fn a_replica_that_stands_alone_sheds_its_own_sessions_and_says_that_it_hears_no_others() {
    let (registry, registered) = Registry::numbered(3);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    let admin = bridge.admin();
    let mut wires: Vec<Wire> = registered.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let page = get(admin, "/api/sessions?replicas=all");
    assert_eq!((devices(&page).len(), &page["coordination"]), (3, &json!("off")));
    for body in [r#"{"to":"mean"}"#, r#"{"to":1,"replicas":"all"}"#, r#"{"to":1,"replicas":["other"]}"#] {
        let (status, answer) = post(admin, body);
        assert_eq!((status, answer["error"].as_str().unwrap().contains("nats.servers")), (409, true), "{body}");
    }
    let (status, report) = post(admin, r#"{"to":1,"rate":1000}"#);
    assert_eq!((status, &report["replicas"][0]["left"]), (202, &json!(2)), "{report}");
    wires[0].wait_closed();
    wires[1].wait_closed();
    wires[2].publish_acknowledged(&registered[2].topic("tags"), r#"{"tags":{}}"#, 1);
    for device in &registered {
        bridge.expect("device.online", &device.id);
    }
    for device in &registered[..2] {
        assert_eq!(bridge.expect("device.offline", &device.id)["data"]["headers"]["cause"], "drained");
    }
    eventually("it has stayed there for a while", PATIENCE, || {
        (get(admin, "/api/shed")["replicas"][0]["state"] == "done").then_some(())
    });
    // Another one is stopped before its end.
    post(admin, r#"{"to":0,"rate":1}"#);
    let stopped = http::request(admin, "DELETE", "/api/shed", "").unwrap();
    assert!(stopped.body.contains(r#""state":"stopped""#), "{stopped:?}");
}
