//! Devices of a service behind HTTP.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::door::{self, ACCEPTED, AWAY, PATIENCE, REFUSED, is_served, knock, knock_at, knock_until, record};
use crate::support::bridge::{command, run_command, wait_for_log};
use crate::support::service::{Mood, Service};
use crate::support::{
    Bridge, Folder, Packet, Process, Registration, Registry, Settings, Wire, eventually, packet, port,
};

struct Stage {
    service: Service,
    bridge: Bridge,
    device: Registration,
}

impl Stage {
    /// A service that knows one device, and a bridge that asks it; records count for that time.
    fn new(cache_ttl: &str) -> Self {
        Self::with(cache_ttl, |settings| settings)
    }

    fn with(cache_ttl: &str, adapt: impl FnOnce(Settings) -> Settings) -> Self {
        let (service, device) = (Service::start(), Registration::new("device1"));
        service.put("device1", &record(&device));
        let bridge = Bridge::start(&adapt(settings(&service.url(), cache_ttl)));
        Self { service, bridge, device }
    }

    fn connect(&self) -> Wire {
        Wire::connect(self.bridge.mqtt(), &self.device)
    }
}

fn settings(url: &str, cache_ttl: &str) -> Settings {
    let (nothing, _) = Registry::numbered(0);
    Settings::stdio(&nothing)
        .text("registry.source", "http")
        .text("registry.http.url", url)
        .text("registry.http.token", "secret-of-the-service")
        .text("registry.http.timeout", "10s")
        .text("registry.http.cache_ttl", cache_ttl)
        .text("registry.http.negative_ttl", "5s")
}

/// Every way to answer that is neither a record of the device nor 404.
fn bad_moods(device: &Registration) -> Vec<Mood> {
    let always = |status, body: &str| Mood::Always(status, body.to_owned());
    let other = record(&Registration { id: "device9".to_owned(), ..device.clone() }).to_string();
    let huge = format!(r#"{{"id":"device1","product":"product1","x":"{}"}}"#, "x".repeat(1 << 20));
    vec![
        always(500, &record(device).to_string()),
        always(503, ""),
        always(401, ""),
        always(302, ""),
        always(204, ""),
        always(200, "<html>log in</html>"),
        always(200, ""),
        always(200, "[]"),
        always(200, r#"{"id":"device1","secureId":"x"}"#),
        always(200, &other),
        always(200, &huge),
        Mood::Down,
        Mood::Silent,
    ]
}

#[test]
fn a_device_is_let_in_by_its_record_and_asked_for_once_while_the_record_counts() {
    let stage = Stage::new("15m");
    for _ in 0..3 {
        assert_eq!(knock(&stage.bridge, &stage.device), ACCEPTED);
    }
    assert_eq!(knock(&stage.bridge, &door::rekeyed(&stage.device)), REFUSED);
    assert_eq!(stage.service.asked("device1"), 1);
    assert!(stage.service.authorizations().iter().all(|sent| sent == "Bearer secret-of-the-service"));
    assert!(!stage.bridge.log().contains("secret-of-the-service"));

    let odd = Registration::new("a b/c?".replace('/', "%").as_str());
    stage.service.put(&odd.id, &record(&odd));
    assert_eq!(knock(&stage.bridge, &odd), ACCEPTED);
    assert_eq!(stage.service.asked("a%20b%25c%3F"), 1);
    assert_eq!(stage.service.connections(), 1, "connections are used again");
    assert_eq!(stage.bridge.metric("jetlinks_bridge_registry_requests_total", &["found"]), 2.0);
    assert_eq!(stage.bridge.metric("jetlinks_bridge_registry_devices", &[]), 2.0);
}

#[test]
fn the_token_of_the_service_and_keys_of_devices_are_never_in_the_log() {
    let (service, device) = (Service::start(), Registration::new("device1"));
    service.put("device1", &record(&device));
    let settings = settings(&service.url(), "15m").text("log.level", "trace,hyper=trace,rustls=trace,tokio=trace");
    let bridge = Bridge::start(&settings);
    assert_eq!(knock(&bridge, &device), ACCEPTED);
    wait_for_log(&bridge, &["TRACE", "hyper"]);
    let log = bridge.log();
    for secret in ["secret-of-the-service", &device.secure_key] {
        assert_eq!(log.lines().filter(|line| line.contains(secret)).collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn an_unknown_device_is_refused_and_asked_for_again_after_its_time() {
    let stage = Stage::new("15m");
    let late = Registration::new("device2");
    assert_eq!(knock(&stage.bridge, &late), REFUSED);
    assert_eq!(knock(&stage.bridge, &late), REFUSED);
    assert_eq!(stage.service.asked("device2"), 1);
    stage.service.put("device2", &record(&late));
    knock_until(&stage.bridge, &late, ACCEPTED);
}

#[test]
fn nothing_but_a_record_of_the_device_lets_it_in_and_sessions_that_are_there_go_on() {
    // A service that is silent is away after 2 s.
    let stage = Stage::with("1s", |settings| settings.text("registry.http.timeout", "2s"));
    let mut wire = stage.connect();
    for mood in bad_moods(&stage.device) {
        let device = Registration::new("device2");
        stage.service.set_mood(mood.clone());
        // The record of the device that is connected is asked for meanwhile, unless the service is known to be away.
        let asked = stage.service.asked("device1") + stage.service.asked("jetlinks-bridge");
        eventually("the service is asked", PATIENCE, || {
            (stage.service.asked("device1") + stage.service.asked("jetlinks-bridge") > asked).then_some(())
        });
        // Also where the service never answers: within `registry.http.timeout`, and not when the mood changes.
        assert_eq!(knock(&stage.bridge, &device), AWAY, "{mood:?}");
        assert!(is_served(&mut wire), "{mood:?}");
    }
    stage.service.set_mood(Mood::Good);
    knock_until(&stage.bridge, &Registration::new("device2"), REFUSED);
    assert!(is_served(&mut wire));
}

#[test]
fn a_device_that_the_service_forbids_loses_its_session_within_the_time_of_its_record() {
    // Records are asked for again after four fifths of it at the latest: six seconds are left for a busy machine.
    const CACHE_TTL: Duration = Duration::from_secs(30);
    type Change = fn(&Service, &Registration);
    let changes: [Change; 3] = [
        |service, device| service.put(&device.id, &record(&door::rekeyed(device))),
        |service, device| service.put(&device.id, &record(&device.clone().disabled())),
        |service, device| service.remove(&device.id),
    ];
    let stage = Stage::new("30s");
    let devices = [1, 2, 3].map(|number| Registration::new(&format!("device{number}")));
    devices.iter().for_each(|device| stage.service.put(&device.id, &record(device)));
    let mut wires = devices.each_ref().map(|device| Wire::connect(stage.bridge.mqtt(), device));
    let begin = Instant::now();
    changes.iter().zip(&devices).for_each(|(change, device)| change(&stage.service, device));
    for (wire, device) in wires.iter_mut().zip(&devices) {
        wire.wait_closed();
        assert!(begin.elapsed() < CACHE_TTL, "{:?}", begin.elapsed());
        assert_eq!(knock(&stage.bridge, device), REFUSED);
    }
    assert_eq!(stage.bridge.metric("jetlinks_bridge_sessions", &[]), 0.0);
}

#[test]
fn ids_that_the_service_does_not_take_keep_no_session_alive_that_it_forbids() {
    for (status, outcome) in [(400, "refused"), (500, "failed")] {
        let stage = Stage::new("6s");
        stage.service.set_mood(Mood::Refusing(status, "%3B"));
        let (mut wire, begin) = (stage.connect(), Instant::now());
        let (address, is_over) = (stage.bridge.mqtt(), AtomicBool::new(false));
        let asked = || stage.service.asked("a%3Bb");
        thread::scope(|scope| {
            scope.spawn(|| {
                let stranger = Registration::new("a;b");
                while !is_over.load(Ordering::Relaxed) && begin.elapsed() < 2 * PATIENCE {
                    assert_eq!(knock_at(address, &stranger), AWAY);
                }
            });
            eventually("a stranger is asked for again and again", PATIENCE, || (asked() > 20).then_some(()));
            stage.service.put("device1", &record(&door::rekeyed(&stage.device)));
            wire.wait_closed();
            is_over.store(true, Ordering::Relaxed);
        });
        let asked = asked();
        assert!(stage.bridge.metric("jetlinks_bridge_registry_requests_total", &[outcome]) >= asked as f64);
        assert_eq!(stage.bridge.metric("jetlinks_bridge_part_up", &["registry"]), 1.0);
        assert!(!stage.bridge.log().contains("lost the registry"));
    }
}

#[test]
fn records_of_connected_devices_are_asked_for_while_the_service_counts_as_away() {
    let stage = Stage::new("6s");
    stage.service.set_mood(Mood::Refusing(503, "jetlinks-bridge"));
    let mut wire = stage.connect();
    stage.service.put("device2", &record(&stage.device));
    assert_eq!(knock(&stage.bridge, &Registration::new("device2")), AWAY, "the record of another device");
    wait_for_log(&stage.bridge, &["lost the registry", "status 503"]);
    stage.service.remove("device1");
    wire.wait_closed();
}

#[test]
fn a_change_that_was_missed_in_an_outage_counts_once_the_service_is_back() {
    let stage = Stage::new("2s");
    let mut wire = stage.connect();
    stage.service.set_mood(Mood::Down);
    wait_for_log(&stage.bridge, &["lost the registry"]);
    assert_eq!(stage.bridge.readiness().1["registry"], "away");
    assert_eq!(stage.bridge.readiness().0, 200);
    stage.service.remove("device1");
    knock_until(&stage.bridge, &stage.device, AWAY);
    stage.service.set_mood(Mood::Good);
    wire.wait_closed();
    knock_until(&stage.bridge, &stage.device, REFUSED);
}

#[test]
fn many_connects_of_one_device_ask_once_and_a_slow_service_is_asked_for_so_many_at_once() {
    let stage = Stage::with("15m", |settings| settings.text("registry.http.timeout", "2s"));
    stage.service.set_mood(Mood::Silent);
    let address = stage.bridge.mqtt();
    thread::scope(|scope| {
        let same = (0..10).map(|_| stage.device.clone());
        let others = (0..500).map(|number| Registration::new(&format!("other{number}")));
        for device in same.chain(others) {
            scope.spawn(move || assert_eq!(knock_at(address, &device), AWAY));
        }
    });
    assert_eq!(stage.service.asked("device1"), 1);
    // Two rounds at most within the time of those who wait, and the probe.
    assert!(stage.service.connections() <= 3 * 64, "{}", stage.service.connections());
    stage.service.set_mood(Mood::Good);
    knock_until(&stage.bridge, &stage.device, ACCEPTED);
}

#[test]
fn a_bridge_is_ready_once_the_service_has_answered_anything_that_it_should() {
    let service = Service::start();
    service.set_mood(Mood::Always(401, String::new()));
    let bridge = Bridge::start_unready(&settings(&service.url(), "15m"));
    wait_for_log(&bridge, &["the registry cannot be used", "status 401"]);
    assert_eq!((bridge.readiness().0, bridge.readiness().1["registry"].as_str()), (503, Some("starting")));
    service.set_mood(Mood::Good);
    eventually("the bridge is ready", PATIENCE, || (bridge.readiness().0 == 200).then_some(()));
    assert!(service.asked("jetlinks-bridge") >= 2);
}

#[test]
fn children_are_known_by_the_record_of_their_gateway() {
    let mut stage = Stage::new("15m");
    let gateway = Registration::new("gw1");
    let mut own = record(&gateway);
    own["children"] = json!([{"id": "child1", "product": "product2"}]);
    stage.service.put("gw1", &own);
    let mut other = record(&Registration::new("gw2"));
    other["children"] = json!([{"id": "child2", "product": "product2"}]);
    stage.service.put("gw2", &other);
    assert_eq!(knock(&stage.bridge, &Registration::new("gw2")), ACCEPTED);
    assert_eq!(knock(&stage.bridge, &stage.device), ACCEPTED);
    let mut wire = Wire::connect(stage.bridge.mqtt(), &gateway);
    let mut seen = Vec::new();
    for (child, id) in [("child1", 1), ("child2", 2), ("device1", 3), ("child9", 4)] {
        wire.publish(&gateway.topic(&format!("child/{child}/tags")), r#"{"tags":{}}"#, 1, id);
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBACK, id));
    }
    while seen.len() < 4 {
        let envelope = stage.bridge.next_envelope();
        match envelope["type"].as_str().and_then(|kind| kind.strip_prefix("org.jetlinks.")) {
            Some("device.tags") => seen.push(json!([envelope["deviceid"], envelope["productid"]])),
            Some("bridge.rejected") => seen.push(envelope["data"]["reason"].clone()),
            _ => {}
        }
    }
    let expected =
        [json!(["child1", "product2"]), json!("foreign_child"), json!("foreign_child"), json!(["child9", "product1"])];
    assert_eq!(seen, expected);
    assert_eq!(stage.service.asked("child9"), 0, "a child that a device invents is nobody's question");
}

#[test]
fn a_service_over_tls_is_trusted_by_the_certificates_of_the_system_alone() {
    let folder = Folder::new("tls");
    let device = Registration::new("device1");
    folder.write("devices/device1", &record(&device).to_string());
    let openssl = |line: &str| {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for authority in ["ca", "other"] {
        openssl(&format!("req -x509 {KEY} -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"));
    }
    openssl(&format!(
        "req {KEY} -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out request.pem"
    ));
    openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -copy_extensions copy -out certificate.pem");
    let port = port::free_port();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-WWW", "-accept", &port.to_string(), "-cert", "certificate.pem", "-key", "key.pem"]);
    let log = folder.path().join("server.log");
    let errors = File::create(&log).unwrap();
    server.current_dir(folder.path()).stdin(Stdio::null()).stdout(errors.try_clone().unwrap()).stderr(errors);
    let _server = Process::spawn(&mut server, Some(&log));

    let url = format!("https://localhost:{port}/devices");
    let config = folder.write("bridge.toml", &settings(&url, "15m").render());
    let ask = |roots: &str| {
        let mut call = command();
        call.args(["credentials", "device1", "--output", "json", "--config"]).arg(&config);
        call.env("SSL_CERT_FILE", folder.path().join(roots)).env_remove("SSL_CERT_DIR");
        run_command(&mut call, "", PATIENCE)
    };
    let found = eventually("the server answers", PATIENCE, || Some(ask("ca.pem")).filter(|end| end.code == 0));
    assert!(found.stdout.contains("id-of-device1|"), "{found:?}");
    let refused = ask("other.pem");
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains("certificate"), "{refused:?}");
}

/// A bridge that asks a slow service, with so many requests at once.
fn beside_slow_service(service: &Service, answer: Duration, concurrency: &str) -> Bridge {
    let settings = settings(&service.url(), "15m").text("mqtt.connect_timeout", "60s");
    let bridge = Bridge::start(&settings.toml("registry.http.concurrency", concurrency));
    service.set_mood(Mood::Slow(answer));
    bridge
}

/// Lets all these devices connect at once; how many were accepted and how many told to come later.
fn knock_at_once(bridge: &Bridge, devices: &[Registration]) -> (usize, usize) {
    let address = bridge.mqtt();
    let codes: Vec<u8> = thread::scope(|scope| {
        let knocking: Vec<_> = devices.iter().map(|device| scope.spawn(move || knock_at(address, device))).collect();
        knocking.into_iter().map(|code| code.join().unwrap()).collect()
    });
    let count = |wanted: u8| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!(count(ACCEPTED) + count(AWAY), devices.len(), "{codes:?}");
    (count(ACCEPTED), count(AWAY))
}

#[test]
fn a_slow_service_serves_whom_its_rate_allows_and_who_waited_in_vain_counts_apart_from_its_failures() {
    const DEVICES: usize = 300;
    let service = Service::start();
    let devices: Vec<_> = (0..2 * DEVICES).map(|number| Registration::new(&format!("device{number}"))).collect();
    devices.iter().for_each(|device| service.put(&device.id, &record(device)));
    let (first, second) = devices.split_at(DEVICES);

    let bridge = beside_slow_service(&service, Duration::from_secs(4), "64");
    let (accepted, refused) = knock_at_once(&bridge, first);
    // At the beginning, after four seconds, and where the machine is not busy after eight, 64 get their turn, and each has
    // what comes of it, also after the ten seconds that one may wait for his turn.
    assert!(accepted >= 2 * 64 && refused > 0, "{accepted} accepted, {refused} refused");
    let metric =
        |bridge: &Bridge, name: &str, label: &str| bridge.metric(&format!("jetlinks_bridge_registry_{name}"), &[label]);
    assert_eq!(metric(&bridge, "lookups_total", "late"), refused as f64);
    assert_eq!((metric(&bridge, "lookups_total", "away"), metric(&bridge, "requests_total", "failed")), (0.0, 0.0));
    assert_eq!(bridge.metric("jetlinks_bridge_part_up", &["registry"]), 1.0);
    eventually("nobody waits any more", PATIENCE, || (metric(&bridge, "lookups_waiting", "") == 0.0).then_some(()));
    let told = ["WARN", "the registry answers too slowly for all who connect", "concurrency=64", "answer_ms="];
    wait_for_log(&bridge, &told);
    assert_eq!(bridge.log().matches(told[1]).count(), 1, "once a minute");

    let wide = beside_slow_service(&service, Duration::from_secs(4), "300");
    assert_eq!(knock_at_once(&wide, second), (DEVICES, 0));
}

#[test]
fn a_service_that_always_takes_longer_than_the_timeout_is_named_and_keeps_a_new_bridge_from_being_ready() {
    let service = Service::start();
    service.set_mood(Mood::Slow(Duration::from_secs(30)));
    let bridge = Bridge::start_unready(&settings(&service.url(), "15m").text("registry.http.timeout", "2s"));
    wait_for_log(&bridge, &["WARN", "waiting for the registry", "no whole answer within registry.http.timeout"]);
    assert_eq!((bridge.readiness().0, bridge.readiness().1["registry"].as_str()), (503, Some("starting")));
    service.set_mood(Mood::Slow(Duration::from_millis(100)));
    eventually("the bridge is ready", PATIENCE, || (bridge.readiness().0 == 200).then_some(()));
}
