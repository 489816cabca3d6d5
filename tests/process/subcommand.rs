//! The subcommands that end by themselves: check, completions, credentials, explain, manual.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bridge::{Finished, run, run_command};
use crate::support::{Bridge, Connect, Folder, Registration, Registry, Settings, Wire, eventually};

fn write_config(folder: &Folder, registry: &Registry) -> String {
    folder.write("bridge.toml", &Settings::stdio(registry).render()).display().to_string()
}

fn json_of(finished: &Finished) -> Value {
    assert_eq!(finished.code, 0, "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

fn explain(arguments: &[&str]) -> Value {
    json_of(&run(&[&["explain", "--output", "json"], arguments].concat(), ""))
}

#[test]
fn check_accepts_a_good_configuration_and_prints_all_of_it() {
    let (registry, _) = Registry::numbered(1);
    let folder = Folder::new("config");
    let finished = run(&["check", "--config", &write_config(&folder, &registry)], "");
    assert_eq!(finished.code, 0, "{finished:?}");
    for key in ["ack_timeout", "inflight_per_connection", "keep_alive_max", "pending_per_device", "heartbeat"] {
        assert!(finished.stdout.contains(key), "{key}: {}", finished.stdout);
    }
}

#[test]
fn a_connect_with_the_printed_credentials_is_accepted() {
    let (registry, devices) = Registry::numbered(1);
    let folder = Folder::new("config");
    let config = write_config(&folder, &registry);
    let made = json_of(&run(&["credentials", "device1", "--config", &config, "--output", "json"], ""));
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    assert_eq!(text("clientId"), "device1");
    let timestamp: i64 = text("username").strip_prefix("id-of-device1|").unwrap().parse().unwrap();
    assert_eq!(devices[0].credentials_at(timestamp).password, text("password"));

    let bridge = Bridge::start(&Settings::stdio(&registry));
    let connect =
        Connect { username: Some(text("username")), password: Some(text("password")), ..Connect::of(&devices[0]) };
    drop(Wire::connect_as(bridge.mqtt(), &connect));
}

#[test]
fn credentials_for_people_come_with_lines_to_copy() {
    let (registry, devices) = Registry::numbered(1);
    let folder = Folder::new("config");
    let finished = run(&["credentials", "device1", "--config", &write_config(&folder, &registry)], "");
    assert_eq!(finished.code, 0, "{finished:?}");
    for word in ["mosquitto_pub", "device1", "id-of-device1|"] {
        assert!(finished.stdout.contains(word), "{word}: {}", finished.stdout);
    }
    assert!(!finished.stdout.contains(&devices[0].secure_key), "{}", finished.stdout);
}

#[test]
fn there_are_no_credentials_for_a_device_that_may_not_connect() {
    let registry = Registry::new(&[Registration::new("gw1"), Registration::child("child1", "gw1")]);
    let folder = Folder::new("config");
    let config = write_config(&folder, &registry);
    for device in ["device9", "child1"] {
        let finished = run(&["credentials", device, "--config", &config], "");
        assert_eq!(finished.code, 1, "{finished:?}");
        assert!(finished.stderr.contains(device), "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn explain_shows_the_envelope_and_where_it_goes() {
    let payload = r#"{"timestamp":1601196762389,"properties":{"a":1.50}}"#;
    let shown = explain(&["--topic", "/product1/device1/properties/report", "--payload", payload]);
    assert_eq!(shown["envelope"]["type"], "org.jetlinks.device.properties.report");
    assert_eq!(shown["envelope"]["data"]["properties"].to_string(), r#"{"a":1.50}"#);
    assert_eq!((&shown["rejected"], &shown["foreign"], &shown["answer"]), (&json!(null), &json!(false), &json!(null)));
    assert_eq!(shown["nats"]["subject"], "jetlinks.device.product1.device1.properties.report");
    assert_eq!(shown["kafka"], json!({"topic": "jetlinks.device", "key": "device1"}));
}

#[test]
fn explain_takes_a_payload_from_a_file_and_from_its_input() {
    let folder = Folder::new("payload");
    let path = format!("@{}", folder.write("payload.json", r#"{"tags":{"a":1}}"#).display());
    let shown = explain(&["--topic", "/product1/device1/tags", "--payload", &path]);
    assert_eq!(shown["envelope"]["data"]["tags"], json!({"a": 1}));

    let arguments = ["explain", "--output", "json", "--topic", "/product1/device1/tags", "--payload", "-"];
    let shown = json_of(&run(&arguments, r#"{"tags":{"b":2}}"#));
    assert_eq!(shown["envelope"]["data"]["tags"], json!({"b": 2}));
}

#[test]
fn explain_tells_a_rejected_a_foreign_and_an_answered_message_apart() {
    let rejected = explain(&["--topic", "/product1/device1/properties/report", "--payload", "{"]);
    assert_eq!(rejected["rejected"]["reason"], "undecodable");
    assert_eq!(rejected["envelope"]["type"], "org.jetlinks.bridge.rejected");
    assert_eq!(rejected["nats"]["subject"], "jetlinks.rejected.product1.device1");
    assert_eq!(rejected["kafka"]["topic"], "jetlinks.rejected");

    let own = ["--topic", "/product1/device1/tags", "--payload", "{}"];
    assert_eq!(explain(&[&own[..], &["--as", "product1/device1"]].concat())["foreign"], false);
    let foreign = explain(&[&own[..], &["--as", "product1/device2"]].concat());
    assert_eq!((&foreign["foreign"], &foreign["envelope"]), (&json!(true), &json!(null)));

    let answered = explain(&["--topic", "/product1/device1/time-sync", "--payload", r#"{"messageId":"t"}"#]);
    assert!(!answered["answer"].is_null(), "{answered}");
    assert_eq!(answered["envelope"], json!(null));
}

#[test]
fn explain_shows_what_a_command_becomes() {
    let command = |message_type: &str, members: &str| {
        format!(
            r#"{{"messageType":"{message_type}","productId":"product1","deviceId":"device1","messageId":"m1"{members}}}"#
        )
    };
    let shown = explain(&["--command", &command("INVOKE_FUNCTION", r#","functionId":"f""#)]);
    assert_eq!(shown["topic"], "/product1/device1/function/invoke");
    assert_eq!((&shown["body"]["function"], &shown["body"]["inputs"]), (&json!("f"), &json!([])));
    assert_eq!((&shown["closes"], &shown["unsupported"]), (&json!(false), &json!(false)));

    assert_eq!(explain(&["--command", &command("DISCONNECT", "")])["closes"], true);
    assert_eq!(explain(&["--command", &command("LOG", r#","log":"x""#)])["unsupported"], true);
    let direct = explain(&["--command", &command("DIRECT", r#","payload":"AAE=""#)]);
    assert_eq!((&direct["topic"], &direct["body_base64"]), (&json!("/product1/device1/direct"), &json!("AAE=")));
}

#[test]
fn explain_without_a_topic_and_a_command_is_a_wrong_command_line() {
    assert_eq!(run(&["explain"], "").code, 2);
    assert_eq!(run(&["explain", "--topic", "/product1/device1/tags"], "").code, 2);
}

#[test]
fn health_asks_where_the_configuration_says_that_the_bridge_listens() {
    let (registry, _) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    let listen = format!("admin.listen={}", bridge.admin());
    // It waits for two seconds.
    eventually("the bridge lives", Duration::from_secs(60), || {
        (run(&["health", "--set", &listen], "").code == 0).then_some(())
    });
    let elsewhere = run(&["health", "--ready", "--set", "admin.listen=127.0.0.1:1"], "");
    assert!(elsewhere.code == 1 && elsewhere.stderr.starts_with("health: 127.0.0.1:1: "), "{elsewhere:?}");
    assert_eq!(run(&["health", "--set", "admin.listen="], "").code, 78);
}

#[test]
fn bash_completes_a_subcommand_with_the_script_that_is_printed() {
    let script = run(&["completions", "bash"], "");
    assert_eq!(script.code, 0, "{script:?}");
    let ask = "COMP_WORDS=(jetlinks-bridge simu) COMP_CWORD=1\n\
               _jetlinks__bridge jetlinks-bridge simu jetlinks-bridge\necho \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-s"]);
    let finished = run_command(&mut bash, &format!("{}\n{ask}", script.stdout), Duration::from_secs(60));
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "simulate\n"), "{finished:?}");
}

#[test]
fn every_subcommand_has_a_manual_page_of_its_own() {
    let folder = Folder::new("manual");
    let to = folder.path().display().to_string();
    let finished = run(&["manual", &to], "");
    assert_eq!((finished.code, finished.stdout.as_str()), (0, ""), "{finished:?}");
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let help = run(&["--help"], "").stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.split_whitespace().next());
    let commands: Vec<&str> = commands.filter(|name| *name != "help").collect();
    assert!(commands.contains(&"run") && commands.contains(&"manual"), "{help}");
    for command in commands {
        let name = format!("jetlinks\\-bridge\\-{command}(1)");
        assert!(page("jetlinks-bridge.1").contains(&name), "{name}");
        assert!(page(&format!("jetlinks-bridge-{command}.1")).contains("\n.SH SYNOPSIS\n"), "{command}");
    }
}

#[test]
fn a_folder_for_manual_pages_that_does_not_exist_is_named() {
    let finished = run(&["manual", "/nonexistent/manual"], "");
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains("/nonexistent/manual"), "{finished:?}");
}
