//! Simulated devices against the real bridge, and their ledger against what it wrote.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::support::bridge::{Finished, run};
use crate::support::{Bridge, Certificate, Folder, Registration, Registry, Settings};

const DEVICES: usize = 5;
const COUNT: usize = 200;

fn simulate(bridge: &Bridge, registry: &Registry, arguments: &[&str]) -> (Finished, Value) {
    let (address, registry) = (bridge.mqtt().to_string(), registry.path().display().to_string());
    let fixed = ["simulate", "--quiet", "--output", "json", "--address", &address, "--registry", &registry];
    let finished = run(&[&fixed, arguments].concat(), "");
    let summary = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    (finished, summary)
}

fn verify(ledger: &str, envelopes: &Path) -> (i32, Value) {
    let envelopes = envelopes.display().to_string();
    let finished = run(&["verify", "--output", "json", "--ledger", ledger, "--envelopes", &envelopes], "");
    let verdict = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    (finished.code, verdict)
}

/// Index of the line that is message `n` of the device.
fn find(lines: &[&str], device: &str, n: u64) -> usize {
    let is_it = |line: &&str| {
        let envelope: Value = serde_json::from_str(line).unwrap();
        envelope["deviceid"] == device && envelope["data"]["properties"]["n"] == n
    };
    lines.iter().position(is_it).expect("the message was written")
}

#[test]
fn verify_sees_a_planted_loss_and_a_planted_disorder_in_what_the_bridge_wrote() {
    let (registry, _) = Registry::numbered(DEVICES);
    let folder = Folder::new("simulated");
    let mut bridge = Bridge::spawn(&Settings::stdio(&registry), &[]);
    let mut stdout = bridge.take_stdout();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let ledger = folder.path().join("ledger").display().to_string();
    let (devices, count) = (DEVICES.to_string(), COUNT.to_string());
    let arguments = ["--devices", &devices, "--rate", "0", "--count", &count, "--ledger", &ledger];
    let (finished, summary) = simulate(&bridge, &registry, &arguments);
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(summary["acknowledged"], DEVICES * COUNT, "{summary}");
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 0);
    let text = reader.join().unwrap().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let written = |lines: &[&str]| folder.write("envelopes.jsonl", &lines.join("\n"));

    let (code, verdict) = verify(&ledger, &written(&lines));
    assert_eq!(code, 0, "{verdict}");
    assert_eq!(verdict["stored"], DEVICES * COUNT, "{verdict}");
    for name in ["lost", "out_of_order", "duplicates_by_n", "id_clashes", "unexpected", "unreadable"] {
        assert_eq!(verdict[name], 0, "{verdict}");
    }

    let mut lossy = lines.clone();
    lossy.remove(find(&lines, "device2", 7));
    let (code, verdict) = verify(&ledger, &written(&lossy));
    assert_eq!((code, &verdict["lost"]), (1, &Value::from(1)), "{verdict}");
    assert_eq!(verdict["lost_first"], serde_json::json!([{ "device": "device2", "n": 7 }]));

    let mut swapped = lines.clone();
    swapped.swap(find(&lines, "device3", 11), find(&lines, "device3", 12));
    let (code, verdict) = verify(&ledger, &written(&swapped));
    assert_eq!((code, &verdict["lost"], &verdict["out_of_order"]), (1, &Value::from(0), &Value::from(1)), "{verdict}");

    let mut doubled = lines.clone();
    let index = find(&lines, "device4", 3);
    doubled.insert(index, lines[index]);
    let (code, verdict) = verify(&ledger, &written(&doubled));
    assert_eq!((code, &verdict["duplicates_by_id"]), (0, &Value::from(1)), "{verdict}");

    // A copy that comes late: consumers drop it by its id.
    let mut late = lines.clone();
    late.push(lines[index]);
    let file = written(&late);
    let (code, verdict) = verify(&ledger, &file);
    assert_eq!((code, &verdict["out_of_order"]), (0, &Value::from(0)), "{verdict}");
    let finished =
        run(&["verify", "--ledger", &ledger, "--envelopes", &file.display().to_string(), "--last-copies"], "");
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stdout.contains("(last copies)"), "{finished:?}");

    fs::write(&ledger, "no ledger").unwrap();
    let finished = run(&["verify", "--ledger", &ledger, "--envelopes", "-"], "");
    assert_eq!(finished.code, 1, "{finished:?}");
}

#[test]
fn devices_that_are_refused_for_what_they_are_give_up() {
    let known = Registry::new(&[Registration::new("device1")]);
    let other_key = Registration { secure_key: "other".to_owned(), ..Registration::new("device1") };
    let bridge = Bridge::start(&Settings::stdio(&known));
    let (finished, summary) = simulate(&bridge, &Registry::new(&[other_key]), &["--count", "1"]);
    assert_eq!(finished.code, 1, "{finished:?}");
    assert_eq!(summary["refused"], serde_json::json!({ "4": 1 }), "{summary}");
}

#[test]
fn a_device_that_cannot_connect_says_why_while_the_simulation_runs() {
    let known = Registry::new(&[Registration::new("device1")]);
    let other_key = Registration { secure_key: "other".to_owned(), ..Registration::new("device1") };
    let strangers = Registry::new(&[other_key]);
    let bridge = Bridge::start(&Settings::stdio(&known));
    let simulate = |address: &str, arguments: &[&str]| {
        let registry = strangers.path().display().to_string();
        run(&[&["simulate", "--duration", "5s", "--address", address, "--registry", &registry], arguments].concat(), "")
    };
    let address = bridge.mqtt().to_string();
    let refused = simulate(&address, &[]);
    let told = "simulate: a device cannot connect: CONNACK with code 4, bad user name or password";
    assert!(refused.code == 1 && refused.stderr.starts_with(told), "{refused:?}");
    assert!(refused.stdout.contains("CONNACK with code 4") && !refused.stdout.contains("p50"), "{refused:?}");
    let away = simulate("127.0.0.1:1", &["--output", "json"]);
    let first: Value = serde_json::from_str(away.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(first["trouble"], "a device cannot connect: connection refused (127.0.0.1:1)", "{away:?}");
    let summary: Value = serde_json::from_str(&away.stdout).unwrap();
    assert_eq!(summary["latency_ms"], Value::Null, "{summary}");
    let many = simulate(&address, &["--devices", "5"]);
    assert!(many.stderr.contains("--generate 5") && many.stderr.contains("--write-registry FILE"), "{many:?}");
}

#[test]
fn every_quality_of_service_and_both_versions_come_through() {
    let (registry, _) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    for version in ["3.1", "3.1.1"] {
        for qos in ["0", "1", "2"] {
            let arguments = ["--version", version, "--qos", qos, "--rate", "0", "--count", "50", "--window", "7"];
            let (finished, summary) = simulate(&bridge, &registry, &arguments);
            assert_eq!(finished.code, 0, "{finished:?}");
            assert_eq!(summary["sent"], 50, "{summary}");
            assert_eq!(summary["acknowledged"], if qos == "0" { 0 } else { 50 }, "{summary}");
        }
    }
}

#[test]
fn devices_over_tls_are_acknowledged_for_what_was_written() {
    let (registry, _) = Registry::numbered(DEVICES);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path());
    let mut bridge = Bridge::start(&settings);
    let (file, folder) = (registry.path().display().to_string(), Folder::new("simulated"));
    let (address, ledger) = (bridge.listener("mqtt.tls").to_string(), folder.path().join("ledger"));
    let ledger = ledger.display().to_string();
    let arguments = ["simulate", "--quiet", "--output", "json", "--transport", "mqtts", "--address", &address];
    let load = ["--registry", &file, "--devices", "5", "--rate", "0", "--count", "2000", "--ledger", &ledger];
    let finished = run(&[&arguments[..], &load].concat(), "");
    assert_eq!(finished.code, 0, "{finished:?}");
    let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&summary["connected"], &summary["acknowledged"]), (&5.into(), &10_000.into()), "{summary}");
    bridge.signal(libc::SIGTERM);
    let lines: Vec<String> = bridge.remaining_envelopes().iter().map(Value::to_string).collect();
    let (code, verdict) = verify(&ledger, &folder.write("envelopes.jsonl", &lines.join("\n")));
    assert_eq!((code, &verdict["stored"], &verdict["lost"]), (0, &10_000.into(), &0.into()), "{verdict}");
}

#[test]
fn devices_over_coap_are_acknowledged_for_what_was_written() {
    let devices: Vec<_> = (1..=DEVICES).map(|number| Registration::encrypting(&format!("device{number}"))).collect();
    let registry = Registry::new(&devices);
    let certificate = Certificate::elliptic();
    let (file, folder) = (registry.path().display().to_string(), Folder::new("simulated"));
    for transport in ["coap", "dtls"] {
        let mut bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
        let address = bridge.listener(transport).to_string();
        let ledger = folder.path().join(transport).display().to_string();
        let arguments = ["simulate", "--quiet", "--output", "json", "--transport", transport, "--address", &address];
        let of_all = ["--registry", &file, "--devices", "5", "--rate", "0", "--count", "200", "--ledger", &ledger];
        let finished = run(&[&arguments[..], &of_all].concat(), "");
        assert_eq!(finished.code, 0, "{finished:?}");
        let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!((&summary["connected"], &summary["acknowledged"]), (&5.into(), &1000.into()), "{summary}");
        bridge.signal(libc::SIGTERM);
        let lines: Vec<String> = bridge.remaining_envelopes().iter().map(Value::to_string).collect();
        let (code, verdict) = verify(&ledger, &folder.write("envelopes.jsonl", &lines.join("\n")));
        assert_eq!((code, &verdict["stored"], &verdict["lost"]), (0, &1000.into(), &0.into()), "{verdict}");
    }
}

#[test]
fn a_device_over_coap_that_is_refused_gives_up() {
    let registry = Registry::new(&[Registration::encrypting("device1")]);
    let other_key = Registration { secure_key: "0123456789abcdef".to_owned(), ..Registration::encrypting("device1") };
    let certificate = Certificate::elliptic();
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let file = Registry::new(&[other_key]);
    let file = file.path().display().to_string();
    for transport in ["coap", "dtls"] {
        let address = bridge.listener(transport).to_string();
        let arguments = ["simulate", "--quiet", "--output", "json", "--transport", transport, "--address", &address];
        let finished = run(&[&arguments[..], &["--registry", &file, "--count", "1"]].concat(), "");
        assert_eq!(finished.code, 1, "{finished:?}");
        let summary: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(summary["ended"], serde_json::json!({ "answered 4.01": 1 }), "{summary}");
    }
}
