//! Connections when the limit of open files is low.

use std::time::Duration;

use crate::support::bridge::{run_command, with_files};
use crate::support::wire::dial;
use crate::support::{Bridge, Connect, Folder, Packet, Registry, Settings, Wire, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// A number that the start says of its limit of open files.
fn devices_told(text: &str) -> usize {
    let number = text.split("only ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number of devices in {text}"))
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let (registry, _) = Registry::numbered(1);
    let mut bridge = Bridge::start_with_files(&Settings::stdio(&registry), 100, 700);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", bridge.process().id())).unwrap();
    let open = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(open.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["700", "700"], "{open}");
}

#[test]
fn a_low_soft_limit_keeps_no_device_from_its_session_and_no_probe_waiting() {
    const DEVICES: usize = 400;
    let (registry, devices) = Registry::numbered(DEVICES);
    let settings = Settings::stdio(&registry).toml("limits.connections", "1000");
    let bridge = Bridge::start_with_files(&settings, 256, 4_000);
    let mut wires = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        wires.push(Wire::connect(bridge.mqtt(), device));
        if number % 20 == 0 {
            for path in ["/livez", "/readyz", "/metrics"] {
                assert_eq!(http::get(bridge.admin(), path).unwrap().status, 200, "{path} beside {number} devices");
            }
        }
    }
    assert_eq!(bridge.metric("jetlinks_bridge_sessions", &[]), DEVICES as f64);
    let open = bridge.metric("process_open_fds", &[]);
    assert!(open > DEVICES as f64, "{open}");
    assert_eq!(bridge.metric("process_max_fds", &[]), 4_000.0);
    assert!(!bridge.log().contains("Too many open files"), "{}", bridge.log());
}

#[test]
fn too_few_open_files_for_limits_connections_are_told_by_check_and_at_the_start() {
    let (registry, _) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).toml("limits.connections", "500");
    let folder = Folder::new("config");
    let config = folder.write("bridge.toml", &settings.render());
    let mut call = with_files(100, 400);
    call.args(["check", "--config"]).arg(&config);
    let checked = run_command(&mut call, "", PATIENCE);
    assert_eq!(checked.code, 0, "{checked:?}");
    let warned = "warning: limits.connections: 500, but with at most 400 open files";
    assert!(checked.stderr.starts_with(warned), "{}", checked.stderr);
    let mut call = with_files(100, 4_000);
    call.args(["check", "--config"]).arg(&config);
    assert_eq!(run_command(&mut call, "", PATIENCE).stderr, "");

    let bridge = Bridge::start_with_files(&settings, 100, 400);
    let log = bridge.log();
    let line = log.lines().find(|line| line.contains("limits.connections: 500")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("at most 400 open files"), "{line}");
    assert_eq!(devices_told(line), devices_told(&checked.stderr));
}

#[test]
fn devices_that_find_no_descriptor_are_told_and_probes_are_answered() {
    const FILES: u32 = 256;
    let (registry, devices) = Registry::numbered(300);
    let settings = Settings::stdio(&registry).toml("limits.connect_rate", "100000");
    let bridge = Bridge::start_with_files(&settings, 128, FILES);
    let served = devices_told(&bridge.log());
    assert!((50..200).contains(&served), "{served} of {FILES}");
    let wires: Vec<Wire> = devices[..served].iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let mut refused = Wire::open(bridge.mqtt());
    refused.send(&Connect::of(&devices[served]).bytes());
    assert_eq!(refused.next_packet(), Packet { header: 0x20, body: vec![0, 3] });
    refused.wait_closed();
    // Those that say nothing are held until they are told to go; more than there are descriptors.
    let strangers: Vec<_> = (0..2 * FILES).map(|_| dial(bridge.mqtt())).collect();
    for path in ["/livez", "/readyz"] {
        assert_eq!(http::get(bridge.admin(), path).unwrap().status, 200, "{path}");
    }
    assert!(!bridge.log().contains("Too many open files"), "{}", bridge.log());
    drop((wires, strangers));
    crate::support::eventually("there is room again", PATIENCE, || {
        let mut wire = Wire::open(bridge.mqtt());
        wire.send_regardless(&Connect::of(&devices[served]).bytes());
        let answer = wire.next();
        (answer == crate::support::wire::Incoming::Packet(Packet { header: 0x20, body: vec![0, 0] })).then_some(())
    });
}
