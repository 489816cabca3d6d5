//! A registry behind HTTP.

use std::time::Duration;

use crate::page::Seen;
use crate::support::service::{Mood, Service};
use crate::support::{Bridge, Connect, Registration, Registry, Settings, Wire};
use crate::wait_counted;

fn knock(bridge: &Bridge, id: &str) -> u8 {
    let mut wire = Wire::open(bridge.mqtt());
    wire.send(&Connect::of(&Registration::new(id)).bytes());
    let code = wire.next_packet().body[1];
    if code > 0 {
        // What is counted is counted then.
        wire.wait_closed();
    }
    code
}

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    let (service, device) = (Service::start(), Registration::new("device1"));
    let record = |id: &str| {
        serde_json::json!({
            "id": id, "product": device.product, "secureId": device.secure_id, "secureKey": device.secure_key,
        })
    };
    service.put("device1", &record("device1"));
    service.put("device2", &record("device3"));
    let (nothing, _) = Registry::numbered(0);
    let settings = Settings::stdio(&nothing)
        .text("registry.source", "http")
        .text("registry.http.url", &service.url())
        .text("registry.http.timeout", "10s");
    let bridge = Bridge::start(&settings);
    assert_eq!([knock(&bridge, "device1"), knock(&bridge, "device1")], [0, 0]);
    assert_eq!(knock(&bridge, "device9"), 4);
    assert_eq!(knock(&bridge, "device2"), 3, "the record of another device");
    service.set_mood(Mood::Refusing(422, "device5"));
    assert_eq!(knock(&bridge, "device5"), 3);
    service.set_mood(Mood::Down);
    assert_eq!(knock(&bridge, "device4"), 3);
    wait_counted(&bridge, "registry_requests_total", &["failed"]);
    wait_counted(&bridge, "registry_requests_total", &["unreadable"]);
    wait_counted(&bridge, "registry_requests_total", &["refused"]);
    seen.scrape(&bridge);

    service.set_mood(Mood::Slow(Duration::from_secs(1)));
    let slow = settings.text("registry.http.timeout", "2s").toml("registry.http.concurrency", "1");
    let slow = Bridge::start(&slow);
    let devices: Vec<_> = (0..8).map(|number| Registration::new(&format!("other{number}"))).collect();
    let _waiting: Vec<Wire> = devices
        .iter()
        .map(|device| {
            let mut wire = Wire::open(slow.mqtt());
            wire.send(&Connect::of(device).bytes());
            wire
        })
        .collect();
    wait_counted(&slow, "registry_lookups_waiting", &[]);
    seen.scrape(&slow);
    wait_counted(&slow, "registry_lookups_total", &["late"]);
    seen.scrape(&slow);
    seen
}
