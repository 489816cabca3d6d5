//! Memory per device of a registry.

use super::door::PATIENCE;
use super::nats;
use crate::support::{Bridge, Nats, Registry, Settings, eventually};

/// As docs/operations.md says, bytes a device.
const HELD: u64 = 350;
const FILE_READ: u64 = 950;
const BUCKET_READ: u64 = 750;

const DEVICES: usize = 100_000;

/// Memory of a bridge without devices, which is everything else.
fn base(settings: &Settings) -> u64 {
    Bridge::start(settings).process().resident_bytes()
}

/// Fails unless the bridge holds at most that for each device now, and never held more than that.
#[expect(clippy::print_stdout, reason = "measured figures, for whoever asks with --nocapture")]
fn hold(bridge: &mut Bridge, what: &str, base: u64, read: u64) {
    let each = |bytes: u64| bytes.saturating_sub(base) / DEVICES as u64;
    eventually(&format!("{what} held in {HELD} bytes each"), PATIENCE, || {
        (each(bridge.process().resident_bytes()) <= HELD).then_some(())
    });
    let peak = each(bridge.process().peak_bytes());
    println!("{what}: {} bytes of a device, {peak} at most", each(bridge.process().resident_bytes()));
    assert!(peak <= read, "{what}: {peak} bytes each at most");
}

#[test]
fn the_documents_say_what_a_device_takes() {
    let operations = include_str!("../../docs/operations.md");
    for row in [format!("| file | {HELD} | {FILE_READ} |"), format!("| NATS KV | {HELD} | {BUCKET_READ} |")] {
        assert!(operations.contains(&row), "{row}");
    }
}

#[test]
fn a_file_of_devices_takes_what_is_documented_also_while_it_is_read_again() {
    let (empty, _) = Registry::numbered(0);
    let base = base(&Settings::stdio(&empty));
    let (registry, mut devices) = Registry::numbered(DEVICES);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    hold(&mut bridge, "read", base, FILE_READ);
    for number in 1..=2 {
        devices.iter_mut().for_each(|device| device.secure_key = format!("another-key-{number}"));
        registry.rewrite(&devices);
        eventually("the file is read again", PATIENCE, || {
            let read = bridge.metric("jetlinks_bridge_registry_reloads_total", &["replaced"]);
            (read >= f64::from(number)).then_some(())
        });
        hold(&mut bridge, "read again", base, FILE_READ);
    }
}

#[test]
fn a_bucket_of_devices_takes_what_is_documented_also_while_it_is_read_again() {
    let mut nats = Nats::start();
    nats::make_bucket(&nats);
    let settings = nats::settings(&nats);
    let base = base(&settings);
    nats::fill(&nats, DEVICES);
    let mut bridge = Bridge::start(&settings);
    hold(&mut bridge, "read", base, BUCKET_READ);
    nats.restart();
    eventually("the bucket is read again", PATIENCE, || {
        (bridge.log().matches("the registry answers").count() == 2).then_some(())
    });
    hold(&mut bridge, "read again", base, BUCKET_READ);
}
