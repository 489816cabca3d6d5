//! Devices behind HAProxy.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::support::{Bridge, Folder, Process, Registration, Registry, Settings, Wire, eventually, port, tool};

const PATIENCE: Duration = Duration::from_secs(60);

/// One HAProxy with a listener for each version of the header.
fn start(bridge: &Bridge, folder: &Folder) -> (Process, [SocketAddr; 2]) {
    let addresses = [port::free_port(), port::free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut config =
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n".to_owned();
    for (version, address) in ["send-proxy", "send-proxy-v2"].iter().zip(addresses) {
        let server = bridge.mqtt();
        config +=
            &format!("listen {version}\n  bind {address}\n  server bridge {server} {version} check inter 100ms\n");
    }
    let file = folder.write("haproxy.cfg", &config);
    let mut haproxy = Command::new(tool::system("haproxy"));
    let process = Process::start(haproxy.arg("-db").arg("-f").arg(file), &folder.path().join("haproxy.log"));
    for address in addresses {
        eventually("HAProxy listens", PATIENCE, || port::is_open(address).then_some(()));
    }
    (process, addresses)
}

#[test]
fn devices_behind_haproxy_keep_their_addresses_and_its_checks_harm_nobody() {
    let (registry, _) = Registry::numbered(2);
    let settings = Settings::stdio(&registry).toml("mqtt.proxy_protocol_from", r#"["127.0.0.1"]"#);
    let mut bridge = Bridge::start(&settings);
    let folder = Folder::new("haproxy");
    let (_process, addresses) = start(&bridge, &folder);
    for (number, address) in (1..).zip(addresses) {
        let device = Registration::new(&format!("device{number}"));
        let mut wire = Wire::connect(address, &device);
        let online = bridge.expect("device.online", &device.id);
        assert_eq!(online["data"]["headers"]["cliAddr"], wire.local_address().to_string(), "{online}");
        wire.publish_acknowledged(&device.topic("tags"), r#"{"tags":{}}"#, 1);
        bridge.expect("device.tags", &device.id);
        drop(wire);
        bridge.expect("device.offline", &device.id);
    }
    // The checks connect and leave, and say LOCAL or UNKNOWN at most.
    assert_eq!(bridge.metric("jetlinks_bridge_connects_total", &["proxy_header"]), 0.0);
}
