//! MQTT.js: a device over WebSocket, and over TCP and TLS for comparison.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::{Bridge, Certificate, Folder, Process, Registry, Settings, tool};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_device_on_mqtt_js_reports_answers_a_command_and_leaves_on_every_listener() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path())
        .text("mqtt.websocket.listen", "127.0.0.1:0")
        .text("mqtt.websocket_tls.listen", "127.0.0.1:0");
    let mut bridge = Bridge::start(&settings);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/device.mjs");
    let modules = tool::installed("node/node_modules");
    for (scheme, listener, path) in [
        ("mqtt", "mqtt", ""),
        ("mqtts", "mqtt.tls", ""),
        ("ws", "mqtt.websocket", "/mqtt"),
        ("wss", "mqtt.websocket_tls", "/mqtt"),
    ] {
        for version in ["3.1", "3.1.1"] {
            let url = format!("{scheme}://localhost:{}{path}", bridge.listener(listener).port());
            let credentials = devices[0].credentials();
            let mut command = Command::new(tool::system("node"));
            command.arg(&script).arg(&modules).args([&url, version, "device1"]);
            command.args([credentials.username, credentials.password, certificate.path()]);
            let folder = Folder::new("mqttjs");
            let log = folder.path().join("device.log");
            let mut device = Process::start(&mut command, &log);

            bridge.expect("device.online", "device1");
            for qos in 0..3 {
                let report = bridge.expect("device.properties.report", "device1");
                assert_eq!(report["data"]["properties"], json!({"qos": qos}), "{url} {version}");
            }
            let large = bridge.expect("device.event", "device1");
            assert_eq!(large["data"]["data"].as_str().map(str::len), Some(200_000), "{url} {version}");
            bridge.type_line(
                r#"{"messageType":"INVOKE_FUNCTION","messageId":"m1","productId":"product1","deviceId":"device1","functionId":"add","inputs":{"a":1,"b":2}}"#,
            );
            let outcome = bridge.expect("device.function.invoke.reply", "device1");
            assert_eq!((&outcome["correlationid"], &outcome["data"]["output"]), (&json!("m1"), &json!(3)), "{url}");
            assert_eq!(bridge.expect("device.offline", "device1")["data"]["headers"]["cause"], "disconnected");
            let code = device.exit_code(PATIENCE);
            assert_eq!(code, 0, "{url} {version}: {}", std::fs::read_to_string(&log).unwrap());
        }
    }
}
