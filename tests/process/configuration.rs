//! Mistakes in the configuration and their messages, and which source of a setting wins.

use std::net::TcpListener;
use std::time::Duration;

use jetlinks_bridge::protocol::librdkafka::RESERVED;

use crate::support::bridge::{self, command, run, run_command};
use crate::support::{Bridge, Folder, Registry, Settings, Wire, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// The path of a configuration file with that text.
fn write(folder: &Folder, text: &str) -> String {
    folder.write("bridge.toml", text).display().to_string()
}

#[test]
fn all_mistakes_are_named_at_once_before_a_port_is_bound() {
    let folder = Folder::new("config");
    let text = r#"
        mqtt.listen = "127.0.0.1:0"
        mqtt.listne = "127.0.0.1:0"
        mqtt.connect_timeout = "10"
        registry.source = "file"
        uplink.queue = "rabbit"
        commands.queue = "nats"
        limits.packet_bytes = "many"
        limits.inflight_per_connection = "x"
        drain.rate = -1
        nonsense.key = 1
    "#;
    let path = write(&folder, text);
    for subcommand in ["run", "check"] {
        let finished = run(&[subcommand, "--config", &path], "");
        assert_eq!(finished.code, 78, "{finished:?}");
        for name in [
            "listne",
            "mqtt.connect_timeout",
            "registry.file.path",
            "uplink.queue",
            "nats.servers",
            "limits.packet_bytes",
            "limits.inflight_per_connection",
            "drain.rate",
            "nonsense",
        ] {
            assert!(finished.stderr.contains(name), "{subcommand} does not name {name}: {}", finished.stderr);
        }
        assert!(!finished.stderr.contains("listening"), "{}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{}", finished.stdout);
    }
}

#[test]
fn mistakes_of_every_kind_and_source_are_told_in_one_go_each_with_its_place() {
    let folder = Folder::new("config");
    let first = "[registry.file]\npath = 'devices.toml'\n\
         [registry.http]\ntoken_file = 'absent'\n\
         [mqtt]\nlisten = '127.0.0.1:1883'\nlisen = '127.0.0.1:0'\nconnect_timeout = '10 minutes'\n\
         [admin]\nlisten = '127.0.0.1:1883'\ntoken = 'secret-of-the-page'\ntoken_file = 'token'\n\
         [limits]\npacket_bytes = true\ninflight_per_connection = 20000\n";
    let first = folder.write("first.toml", first).display().to_string();
    // `check` goes on to the file of the devices, which has none of these mistakes.
    folder.write("devices.toml", "device = []\n");
    let second = "[drain]\nrate = 'many'\ntimeout = \nlevel = 'hidden'\n";
    let second = folder.write("second.toml", second).display().to_string();
    let third = folder.path().join("absent.toml").display().to_string();
    let absent = folder.path().join("absent").display().to_string();
    let expected = [
        (format!("{second}:3: not valid TOML: "), String::new()),
        (format!("{third}: cannot be read: "), String::new()),
        ("JETLINKS_BRIDGE__ADMIN: not the name of a key".to_owned(), String::new()),
        ("--set: \"nonsense\" given, expected section.key=value".to_owned(), String::new()),
        (
            "mqtt.connect_timeout: \"10 minutes\" given, expected a duration with a unit".to_owned(),
            format!("({first}:8)"),
        ),
        ("limits.packet_bytes: true given, expected a size with a unit".to_owned(), format!("({first}:14)")),
        (
            "limits.inflight_per_connection: 20000 given, expected a whole number from 1 to 16384".to_owned(),
            format!("({first}:15)"),
        ),
        (format!("registry.http.token_file: {absent} cannot be read: "), format!("({first}:4)")),
        ("admin.token: set together with admin.token_file".to_owned(), format!("({first}:11)")),
        ("drain.rate: \"many\" given, expected a whole number".to_owned(), format!("({second}:2)")),
        ("log.level: \"loud\" given, expected one of off".to_owned(), "(JETLINKS_BRIDGE__LOG__LEVEL)".to_owned()),
        ("coap.direct: \"perhaps\" given, expected true or false".to_owned(), "(--set coap.direct)".to_owned()),
        ("admin.listen: 127.0.0.1:1883 is that of mqtt.listen".to_owned(), format!("({first}:10)")),
        ("mqtt.lisen: unknown key, did you mean mqtt.listen?".to_owned(), format!("({first}:7)")),
    ];
    for subcommand in ["check", "run"] {
        let mut call = command();
        call.arg(subcommand);
        call.args(["--config", &first, "--config", &second, "--config", &third]);
        call.args(["--set", "coap.direct=perhaps", "--set", "nonsense"]);
        call.env("JETLINKS_BRIDGE__LOG__LEVEL", "loud").env("JETLINKS_BRIDGE__ADMIN", "x");
        let finished = run_command(&mut call, "", PATIENCE);
        assert_eq!(finished.code, 78, "{finished:?}");
        let told: Vec<&str> = finished.stderr.lines().collect();
        for (start, end) in &expected {
            let is_it = |line: &&&str| line.starts_with(start.as_str()) && line.ends_with(end.as_str());
            assert_eq!(told.iter().filter(is_it).count(), 1, "{subcommand}: {start} … {end}: {}", finished.stderr);
        }
        assert_eq!(told.len(), expected.len(), "{subcommand} tells more: {}", finished.stderr);
        assert!(!finished.stderr.contains("secret-of"), "{}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{}", finished.stdout);
    }
}

#[test]
fn a_file_that_is_absent_or_not_toml_is_a_configuration_mistake_that_names_it() {
    let folder = Folder::new("config");
    let broken = write(&folder, "mqtt = [");
    let absent = folder.path().join("absent.toml").display().to_string();
    for path in [&broken, &absent] {
        let finished = run(&["run", "--config", path], "");
        assert_eq!(finished.code, 78, "{finished:?}");
        assert!(finished.stderr.contains(path.as_str()), "{}", finished.stderr);
    }
}

#[test]
fn an_empty_file_of_devices_is_a_configuration_mistake_that_names_it() {
    let folder = Folder::new("config");
    let devices = folder.write("devices.toml", "").display().to_string();
    for subcommand in ["run", "check"] {
        let finished = run(&[subcommand, "--set", &format!("registry.file.path={devices}")], "");
        assert_eq!(finished.code, 78, "{finished:?}");
        assert!(finished.stderr.contains(&devices) && finished.stderr.contains("device = []"), "{}", finished.stderr);
    }
}

#[test]
fn a_wrong_command_line_is_told_from_a_wrong_configuration() {
    for arguments in [&["run", "--nonsense"][..], &["nonsense"], &[]] {
        let finished = run(arguments, "");
        assert_eq!(finished.code, 2, "{arguments:?}: {finished:?}");
        assert!(!finished.stderr.is_empty());
    }
    let help = run(&["--help"], "");
    assert_eq!(help.code, 0);
    for subcommand in ["run", "check", "explain", "credentials"] {
        assert!(help.stdout.contains(subcommand), "{}", help.stdout);
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_later_and_earlier_files() {
    let (registry, _) = Registry::numbered(1);
    let folder = Folder::new("config");
    let settings = Settings::stdio(&registry).text("kafka.group", "from-first");
    let first = folder.write("first.toml", &settings.render()).display().to_string();
    let second = folder.write("second.toml", "kafka.group = \"from-second\"").display().to_string();
    let check = |environment: Option<&str>, arguments: &[&str]| {
        let mut call = command();
        call.arg("check").args(arguments);
        if let Some(value) = environment {
            call.env("JETLINKS_BRIDGE__KAFKA__GROUP", value);
        }
        let finished = run_command(&mut call, "", PATIENCE);
        assert_eq!(finished.code, 0, "{finished:?}");
        let sources = ["from-first", "from-second", "from-env", "from-set", "from-last-set"];
        let found: Vec<&str> =
            sources.into_iter().filter(|source| finished.stdout.contains(&format!("\"{source}\""))).collect();
        assert_eq!(found.len(), 1, "{}", finished.stdout);
        found[0].to_owned()
    };
    let one = ["--config", &first][..].to_vec();
    let two = [&one[..], &["--config", &second]].concat();
    let set = [&two[..], &["--set", "kafka.group=from-set"]].concat();
    let set_twice = [&set[..], &["--set", "kafka.group=from-last-set"]].concat();
    assert_eq!(check(None, &one), "from-first");
    assert_eq!(check(None, &two), "from-second");
    assert_eq!(check(Some("from-env"), &two), "from-env");
    assert_eq!(check(Some("from-env"), &set), "from-set");
    assert_eq!(check(None, &set_twice), "from-last-set");
}

#[test]
fn a_secret_is_read_from_a_file_and_never_printed() {
    let (registry, _) = Registry::numbered(1);
    let folder = Folder::new("config");
    let token = folder.write("token", "secret-of-the-page\n").display().to_string();
    let settings = Settings::stdio(&registry).text("admin.token_file", &token).toml(
        "kafka.properties",
        r#"{ "sasl.password" = "secret-of-kafka", ssl = { key = { password = "secret-of-tls" } } }"#,
    );
    let path = write(&folder, &settings.render());
    let finished = run(&["check", "--config", &path], "");
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(!finished.stdout.contains("secret-of"), "{}", finished.stdout);
    assert!(!finished.stderr.contains("secret-of"), "{}", finished.stderr);

    let mut bridge = Bridge::spawn(&settings, &["--set", "log.level=debug"]);
    bridge.read_lines();
    let answer = http::request(bridge.admin(), "GET", "/api/sessions", "Authorization: Bearer secret-of-the-page\r\n");
    assert_eq!(answer.unwrap().status, 200);
    let wrong = http::request(bridge.admin(), "GET", "/api/sessions", "Authorization: Bearer wrong\r\n").unwrap();
    assert!([401, 403].contains(&wrong.status), "{wrong:?}");
    assert!(!bridge.log().contains("secret-of"), "{}", bridge.log());
}

#[test]
fn a_port_that_is_taken_ends_the_bridge_with_a_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (registry, _) = Registry::numbered(1);
    let mut bridge = Bridge::spawn(&Settings::stdio(&registry).text("mqtt.listen", &address), &[]);
    assert_eq!(bridge.exit_code(), 1, "{}", bridge.log());
    assert!(bridge.log().contains(&address), "{}", bridge.log());
}

#[test]
fn a_listener_without_an_address_is_off() {
    let (registry, _) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry).text("mqtt.listen", ""));
    assert!(!bridge.log().contains("listener=mqtt"), "{}", bridge.log());
    assert!(!bridge.log().contains("listener=coap"), "{}", bridge.log());
}

#[test]
fn the_log_is_one_json_object_a_line_when_asked_for() {
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).text("log.format", "json").text("admin.listen", "");
    let mut bridge = Bridge::spawn(&settings, &[]);
    bridge.read_lines();
    let line = bridge::wait_for_log(&bridge, &["listening", "\"mqtt\""]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let find = |name: &str| line.get(name).or_else(|| line["fields"].get(name)).cloned().unwrap_or_default();
    assert_eq!(find("listener"), "mqtt", "{line}");
    let address = find("address").as_str().unwrap().parse().unwrap();
    drop(Wire::connect(address, &devices[0]));
    bridge.expect("device.online", "device1");
    bridge.expect("device.offline", "device1");
    for line in bridge.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn the_documents_and_the_chart_know_every_property_of_kafka_that_is_not_the_users() {
    let read = |name: &str| std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let document = read("docs/configuration.md");
    let documented: Vec<&str> =
        document.lines().skip_while(|line| !line.starts_with("| why it is not yours |")).skip(2).collect();
    let documented: Vec<&str> = documented.into_iter().take_while(|line| line.starts_with('|')).collect();
    let row = |names: &[&str], reason: &str| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("| {reason} | {} |", names.join(", "))
    };
    let rows: Vec<String> = RESERVED.iter().map(|reserved| row(reserved.names, reserved.reason)).collect();
    assert_eq!(documented, rows);
    let names: Vec<String> =
        RESERVED.iter().flat_map(|reserved| reserved.names).map(|name| name.replace('.', r"\\.")).collect();
    let pattern = format!(r"|^(topic\\.)?({})$", names.join("|"));
    assert!(read("charts/jetlinks-bridge/values.schema.json").contains(&pattern), "{pattern}");
}
