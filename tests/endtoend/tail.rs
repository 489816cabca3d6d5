//! `tail --last`: the last envelopes of a stream and of topics.

use serde_json::Value;

use crate::support::bridge::{Finished, run};
use crate::support::{Bridge, Folder, Kafka, Nats, Registration, Registry, Settings, Wire};

/// Reports of two devices, one after the other.
const REPORTS: u64 = 20;

fn tail(settings: &Settings, arguments: &[&str]) -> Finished {
    let folder = Folder::new("tail");
    let config = folder.write("bridge.toml", &settings.render()).display().to_string();
    run(&[&["tail", "--config", &config], arguments].concat(), "")
}

/// Devices and numbers of the reports that were printed.
fn reports(finished: &Finished) -> Vec<(String, u64)> {
    assert_eq!(finished.code, 0, "{finished:?}");
    let read = |line: &str| {
        let envelope: Value = serde_json::from_str(line).unwrap();
        (envelope["deviceid"].as_str().unwrap().to_owned(), envelope["data"]["properties"]["n"].as_u64().unwrap())
    };
    finished.stdout.lines().map(read).collect()
}

fn looks_back(settings: &Settings, devices: &[Registration]) {
    let bridge = Bridge::start(settings);
    let mut wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    for n in 1..=REPORTS {
        let at = usize::try_from(n).unwrap() % wires.len();
        let (topic, payload) = (devices[at].topic("properties/report"), format!("{{\"properties\":{{\"n\":{n}}}}}"));
        wires[at].publish_acknowledged(&topic, &payload, u16::try_from(n).unwrap());
    }
    let nonsense = devices[0].topic("nonsense");
    wires[0].publish_acknowledged(&nonsense, "{}", 99);
    let expected = |numbers: &[u64]| -> Vec<(String, u64)> {
        numbers.iter().map(|&n| (devices[usize::try_from(n).unwrap() % devices.len()].id.clone(), n)).collect()
    };

    let reported = ["--type", "properties.report", "--no-follow", "--last"];
    let last = tail(settings, &[&reported[..], &["3"]].concat());
    assert_eq!(reports(&last), expected(&[18, 19, 20]), "{last:?}");
    assert_eq!(reports(&tail(settings, &[&reported[..], &["1000"]].concat())).len() as u64, REPORTS);
    let of_one =
        tail(settings, &["--last", "2", "--type", "REPORT_PROPERTY", "--device", &devices[0].id, "--count", "2"]);
    assert_eq!(reports(&of_one), expected(&[18, 20]), "{of_one:?}");

    let rejected = tail(settings, &["--last", "5", "--no-follow", "--type", "rejected"]);
    assert!(rejected.stdout.lines().count() == 1 && rejected.stdout.contains("unknown_topic"), "{rejected:?}");
    let nothing = tail(settings, &["--last", "5", "--no-follow", "--type", "event"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert!(nothing.stderr.contains("nothing is stored"), "{nothing:?}");
}

#[test]
fn the_last_envelopes_of_a_stream_are_printed_in_their_order() {
    let (registry, devices) = Registry::numbered(2);
    let nats = Nats::start();
    looks_back(&Settings::nats(&registry, &nats).text("presence.heartbeat", "1h"), &devices);
}

#[test]
fn the_last_envelopes_of_topics_are_printed_in_the_order_of_their_times() {
    let (registry, devices) = Registry::numbered(2);
    let kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3);
    looks_back(&Settings::kafka(&registry, &kafka).text("presence.heartbeat", "1h"), &devices);
}
