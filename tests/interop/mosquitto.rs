//! The command line of Mosquitto.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::{Bridge, Process, Registration, Registry, Settings, eventually, tool};

const VERSIONS: [&str; 2] = ["mqttv31", "mqttv311"];
const PATIENCE: Duration = Duration::from_secs(60);

fn client(program: &str, bridge: &Bridge, device: &Registration, version: &str) -> Command {
    let credentials = device.credentials();
    let address = bridge.mqtt();
    let mut command = Command::new(tool::system(program));
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-V", version]);
    command.args(["-i", &device.id, "-u", &credentials.username, "-P", &credentials.password]);
    command
}

fn publish(bridge: &Bridge, device: &Registration, version: &str, arguments: &[&str]) -> Output {
    client("mosquitto_pub", bridge, device, version).args(arguments).output().unwrap()
}

#[test]
fn what_mosquitto_pub_sends_is_written_at_every_qos() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    let topic = devices[0].topic("properties/report");
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let payload = format!(r#"{{"properties":{{"qos":{qos}}}}}"#);
            let output = publish(&bridge, &devices[0], version, &["-q", qos, "-t", &topic, "-m", &payload]);
            assert!(output.status.success(), "{version} QoS {qos}: {output:?}");
            bridge.expect("device.online", "device1");
            let envelope = bridge.expect("device.properties.report", "device1");
            assert_eq!(envelope["data"]["properties"]["qos"].to_string(), qos);
            let offline = bridge.expect("device.offline", "device1");
            assert_eq!(offline["data"]["headers"]["cause"], "disconnected");
        }
    }
}

#[test]
fn many_lines_of_mosquitto_pub_over_one_connection_stay_in_order() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    let folder = crate::support::Folder::new("lines");
    let lines: String = (0..300).map(|number| format!("{{\"data\":{number}}}\n")).collect();
    let input = std::fs::File::open(folder.write("lines", &lines)).unwrap();
    let status = client("mosquitto_pub", &bridge, &devices[0], "mqttv311")
        .args(["-q", "2", "-l", "-t", &devices[0].topic("event/e")])
        .stdin(input)
        .status()
        .unwrap();
    assert!(status.success());
    bridge.expect("device.online", "device1");
    for number in 0..300 {
        assert_eq!(bridge.expect("device.event", "device1")["data"]["data"], number);
    }
}

#[test]
fn mosquitto_sub_gets_commands_at_the_qos_that_it_asked_for() {
    let (registry, devices) = Registry::numbered(1);
    for version in VERSIONS {
        for (asked, granted) in [("0", "0"), ("1", "1"), ("2", "1")] {
            let mut bridge = Bridge::start(&Settings::stdio(&registry));
            let folder = crate::support::Folder::new("subscriber");
            let log = folder.path().join("log");
            let plain = client("mosquitto_sub", &bridge, &devices[0], version);
            // Its output into a file would come all at its end.
            let mut command = Command::new(tool::system("stdbuf"));
            command.arg("-oL").arg(plain.get_program()).args(plain.get_args());
            command.args(["-d", "-C", "1", "-q", asked, "-t", &devices[0].topic("#"), "-F", "%q %t %p"]);
            let mut subscriber = Process::start(&mut command, &log);
            bridge.expect("device.online", "device1");
            eventually("the subscription is granted", PATIENCE, || {
                std::fs::read_to_string(&log)
                    .unwrap()
                    .contains(&format!("Subscribed (mid: 1): {granted}"))
                    .then_some(())
            });
            bridge.type_line(
                r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","properties":["sn"],"headers":{"async":true}}"#,
            );
            assert_eq!(subscriber.exit_code(PATIENCE), 0);
            let text = std::fs::read_to_string(&log).unwrap();
            let expected = format!("{granted} /product1/device1/properties/read {{");
            assert!(text.lines().any(|line| line.starts_with(&expected)), "{version} {asked}: {text}");
            let outcome = bridge.expect("device.properties.read.reply", "device1");
            assert_eq!(outcome["data"]["code"], "REQUEST_HANDLING");
        }
    }
}

#[test]
fn mosquitto_sub_hears_that_a_foreign_filter_is_refused() {
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    let output = client("mosquitto_sub", &bridge, &devices[0], "mqttv311")
        .args(["-t", "/product1/device2/#", "-W", "60"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("denied"), "{output:?}");
}

#[test]
fn mosquitto_pub_hears_that_its_password_is_wrong() {
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    let liar = Registration { secure_key: "wrong".to_owned(), ..devices[0].clone() };
    for version in VERSIONS {
        let output = publish(&bridge, &liar, version, &["-t", &devices[0].topic("tags"), "-m", "{}"]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("bad user name or password"), "{text}");
    }
}

#[test]
fn the_will_of_mosquitto_sub_is_written_when_it_is_killed() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    let mut command = client("mosquitto_sub", &bridge, &devices[0], "mqttv311");
    command.args(["-t", &devices[0].topic("#"), "--will-topic", &devices[0].topic("event/gone")]);
    command.args(["--will-payload", r#"{"data":"killed"}"#]).stdin(Stdio::null());
    let folder = crate::support::Folder::new("subscriber");
    let mut subscriber = Process::start(&mut command, &folder.path().join("log"));
    bridge.expect("device.online", "device1");
    subscriber.kill9();
    let will = bridge.expect("device.event", "device1");
    assert_eq!((will["subject"].as_str(), will["data"]["data"].as_str()), (Some("gone"), Some("killed")));
    assert_eq!(bridge.expect("device.offline", "device1")["data"]["headers"]["cause"], "connection_lost");
}
