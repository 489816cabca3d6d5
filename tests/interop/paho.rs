//! Eclipse Paho for Python: a device as its makers would write it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::{Bridge, Folder, Process, Registry, Settings, tool};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_device_on_paho_reports_answers_a_command_and_leaves() {
    for version in ["3.1", "3.1.1"] {
        let (registry, devices) = Registry::numbered(1);
        let mut bridge = Bridge::start(&Settings::stdio(&registry));
        let credentials = devices[0].credentials();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/device.py");
        let mut command = Command::new(tool::installed("venv/bin/python"));
        command.arg(script).args([version, &bridge.mqtt().port().to_string(), "product1", "device1"]);
        command.args([credentials.username, credentials.password]);
        let folder = Folder::new("paho");
        let mut device = Process::start(&mut command, &folder.path().join("device.log"));

        bridge.expect("device.online", "device1");
        for qos in 0..3 {
            let report = bridge.expect("device.properties.report", "device1");
            assert_eq!(report["data"]["properties"], json!({"qos": qos}), "{version}");
        }
        bridge.type_line(
            r#"{"messageType":"INVOKE_FUNCTION","messageId":"m1","productId":"product1","deviceId":"device1","functionId":"add","inputs":{"a":1,"b":2}}"#,
        );
        let outcome = bridge.expect("device.function.invoke.reply", "device1");
        assert_eq!((&outcome["correlationid"], &outcome["data"]["output"]), (&json!("m1"), &json!(3)), "{version}");
        assert_eq!(bridge.expect("device.offline", "device1")["data"]["headers"]["cause"], "disconnected");
        let code = device.exit_code(PATIENCE);
        assert_eq!(code, 0, "{version}: {}", std::fs::read_to_string(folder.path().join("device.log")).unwrap());
    }
}
