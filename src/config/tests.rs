//! Sources, mistakes and samples, through [`load`] as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Reader;
use super::section::Section as _;
use super::*;
use crate::protocol::librdkafka::{RESERVED, Reserved};
use crate::protocol::trace::SampleRatio;

/// Folder of the samples.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config");

/// A directory of its own for each test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("jetlinks-bridge-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sources of settings alone, with the one key that has no default.
fn settings(texts: &[&str]) -> Sources {
    let mut settings = vec!["registry.file.path=devices.toml".to_owned()];
    settings.extend(texts.iter().map(|text| (*text).to_owned()));
    // A variable keeps the built-in configuration out.
    let environment = BTreeMap::from([(format!("{ENVIRONMENT_PREFIX}LOG__FORMAT"), "text".to_owned())]);
    Sources { environment, settings, ..Sources::default() }
}

fn config(texts: &[&str]) -> Config {
    load(&settings(texts)).unwrap().config
}

fn mistakes(texts: &[&str]) -> Vec<String> {
    load(&settings(texts)).unwrap_err().0.iter().map(ToString::to_string).collect()
}

fn warnings(texts: &[&str]) -> Vec<String> {
    let loaded = load(&settings(texts)).unwrap();
    loaded.warnings.into_iter().map(|warning| warning.key).collect()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = config(&[]);
    assert_eq!(config.mqtt.listen, ["0.0.0.0:1883".parse().unwrap()]);
    assert_eq!(config.mqtt.keep_alive_max, Duration::from_secs(1_200));
    assert_eq!(config.coap.listen, ["0.0.0.0:5683".parse().unwrap()]);
    assert_eq!(config.admin.listen, ["127.0.0.1:9090".parse().unwrap()]);
    assert_eq!((config.uplink.queue, config.commands.queue), (UplinkQueue::Stdio, CommandQueue::None));
    assert_eq!((config.commands.pending_per_device, config.commands.pending), (64, 65_536));
    assert_eq!((config.limits.packet_bytes, config.limits.inflight_bytes), (262_144, 268_435_456));
    assert_eq!((config.limits.connections, config.limits.connect_rate), (100_000, 2_000));
    assert_eq!(
        (config.kafka.uplink_topic.as_str(), config.kafka.group.as_str()),
        ("jetlinks.device", "jetlinks-bridge")
    );
    assert_eq!((config.nats.prefix.as_str(), config.nats.stream.name.as_str()), ("jetlinks", "JETLINKS_DEVICE"));
    assert_eq!(config.nats.stream.max_age, Duration::from_secs(604_800));
    assert_eq!((config.runtime.workers, config.drain.rate), (1, 1_000));
}

#[test]
fn every_sample_loads_without_a_warning() {
    let mut seen = 0;
    for entry in fs::read_dir(SAMPLES).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") || path.ends_with("devices.toml") {
            continue;
        }
        let loaded = load(&Sources { files: vec![path.clone()], ..Sources::default() });
        let loaded = loaded.unwrap_or_else(|mistakes| panic!("{}:\n{mistakes}", path.display()));
        let odd: Vec<_> = loaded.warnings.iter().filter(|warning| warning.key != "admin.token").collect();
        assert!(odd.is_empty(), "{}: {odd:?}", path.display());
        assert_eq!(loaded.config.registry.file, Some(Path::new(SAMPLES).join("devices.toml")));
        seen += 1;
    }
    assert!(seen >= 3, "{seen} samples");
}

#[test]
fn the_sample_for_production_shows_every_key_with_its_default() {
    let text = fs::read_to_string(format!("{SAMPLES}/production.toml")).unwrap();
    let defaults = load(&settings(&[])).unwrap().resolved;
    let mut section = String::new();
    let mut shown = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.trim_start_matches("# ").split_once(" = ") {
            shown.insert(format!("{section}.{}", key.trim_end_matches("_file")), (line.starts_with('#'), value));
        }
    }
    let open = ["kafka.properties", "tracing.headers"];
    for section in open {
        assert!(text.contains(&format!("\n[{section}]\n")), "{section} is not shown");
    }
    for key in known_keys().iter().filter(|key| !open.contains(&key.as_str()) && !key.ends_with("_file")) {
        let (is_default, value) = shown.get(key).unwrap_or_else(|| panic!("{key} is not shown"));
        if let (true, Some(default)) = (is_default, defaults.value(key))
            && !default.is_empty()
            && !matches!(default, "\"\"" | "[]")
        {
            assert_eq!(*value, default, "{key}");
        }
    }
}

#[test]
fn the_documentation_names_every_key_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let named: std::collections::BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    let known = known_keys().into_iter().filter(|key| !key.ends_with("_file")).collect();
    assert_eq!(named, known);
}

/// The names of all keys that the configuration asks for.
fn known_keys() -> std::collections::BTreeSet<String> {
    let (figment, tree) = (figment::Figment::new(), figment::value::Dict::new().into());
    let mut reader = Reader::new(&figment, &tree);
    Config::read(&mut reader, "");
    reader.known().map(str::to_owned).collect()
}

#[test]
fn later_sources_win() {
    let scratch = Scratch::new("later");
    let first = scratch.write("a.toml", "mqtt.listen = '127.0.0.1:1'\nlog.level = 'warn'\nlimits.connections = 1\n");
    let second =
        scratch.write("b.toml", "[log]\nlevel = 'error'\n[limits]\nconnections = 2\n[registry.file]\npath = 'd'\n");
    let environment = BTreeMap::from([
        ("JETLINKS_BRIDGE__LIMITS__CONNECTIONS".to_owned(), "3".to_owned()),
        ("JETLINKS_BRIDGE__DRAIN__RATE".to_owned(), "3".to_owned()),
        ("JETLINKS_BRIDGE_PORT".to_owned(), "tcp://10.0.0.1".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ]);
    let settings = vec!["drain.rate=4".to_owned(), "drain.rate=5".to_owned()];
    let loaded = load(&Sources { files: vec![first, second], environment, settings }).unwrap();
    let config = loaded.config;
    assert_eq!(config.mqtt.listen, ["127.0.0.1:1".parse().unwrap()]);
    assert_eq!((config.log.level.as_str(), config.limits.connections, config.drain.rate), ("error", 3, 5));
    assert_eq!(config.registry.file, Some(scratch.0.join("d")));
    assert!(!loaded.built_in);
}

#[test]
fn the_built_in_configuration_counts_only_when_no_file_and_no_variable_does() {
    let bare = load(&Sources { settings: vec!["log.level=debug".to_owned()], ..Sources::default() }).unwrap();
    assert!(bare.built_in);
    assert_eq!(bare.config.mqtt.listen, ["127.0.0.1:1883".parse().unwrap()]);
    assert_eq!(bare.config.registry.file, Some(PathBuf::from("config/devices.toml")));
    assert_eq!(bare.config.log.level, "debug");
    let configured = load(&settings(&[])).unwrap();
    assert!(!configured.built_in);
    assert_eq!(configured.config.mqtt.listen, ["0.0.0.0:1883".parse().unwrap()]);
}

#[test]
fn all_mistakes_are_reported_at_once_each_by_name() {
    let scratch = Scratch::new("all");
    let file = scratch.write(
        "bridge.toml",
        "[mqtt]\nlisten = 'localhost:1883'\nconnect_timeout = 10\nlisten_backlog = 5\n\
         [limits]\npacket_bytes = '256'\ninflight_per_connection = 20000\n\
         [uplink]\nqueue = 'kafak'\n[lgo]\nlevel = 'info'\n[log]\nlevel = 'loud'\n",
    );
    let settings = vec!["limits.conections=5".to_owned(), "drain.rate=0".to_owned(), "nonsense".to_owned()];
    let environment = BTreeMap::from([("JETLINKS_BRIDGE__ADMIN".to_owned(), "x".to_owned())]);
    let shown = load(&Sources { files: vec![file.clone()], environment, settings }).unwrap_err().to_string();
    let expected = [
        "JETLINKS_BRIDGE__ADMIN: not the name of a key, which is JETLINKS_BRIDGE__SECTION__KEY".to_owned(),
        "--set: \"nonsense\" given, expected section.key=value".to_owned(),
        format!(
            "mqtt.listen: \"localhost:1883\" given, expected an IP address with a port, such as \"0.0.0.0:1883\" or \
             \"[::]:1883\", several with commas between, or \"\" for off ({}:2)",
            file.display()
        ),
        format!("mqtt.connect_timeout: 10 given, expected {}, more than 0 ({}:3)", parse::DURATION, file.display()),
        "registry.file.path: not set, but registry.source = \"file\" needs the file of the devices".to_owned(),
        format!("uplink.queue: \"kafak\" given, expected one of \"stdio\", \"kafka\", \"nats\" ({}:9)", file.display()),
        format!(
            "limits.packet_bytes: \"256\" given, expected {}, from 1B to 63MiB ({}:6)",
            parse::SIZE,
            file.display()
        ),
        format!(
            "limits.inflight_per_connection: 20000 given, expected a whole number from 1 to 16384 ({}:7)",
            file.display()
        ),
        "drain.rate: \"0\" given, expected a whole number from 1 to 10000000 (--set drain.rate)".to_owned(),
        format!(
            "log.level: \"loud\" given, expected one of off, error, warn, info, debug, trace, or levels of modules, such \
             as \"info,async_nats=debug\" ({}:13)",
            file.display()
        ),
        format!("lgo: unknown key, did you mean log? ({}:11)", file.display()),
        "limits.conections: unknown key, did you mean limits.connections? (--set limits.conections)".to_owned(),
        format!(
            "mqtt.listen_backlog: unknown key, the section has connect_timeout, keep_alive_max, listen, \
             proxy_protocol_from ({}:4)",
            file.display()
        ),
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_that_is_not_toml_is_reported_by_line_without_its_content() {
    let scratch = Scratch::new("syntax");
    let file = scratch.write("bridge.toml", "[admin]\ntoken = 'hush\n");
    let gone = scratch.0.join("gone.toml");
    let shown =
        load(&Sources { files: vec![file.clone(), gone.clone()], ..Sources::default() }).unwrap_err().to_string();
    assert!(shown.starts_with(&format!("{}:2: not valid TOML: ", file.display())), "{shown}");
    assert!(shown.contains(&format!("{}: cannot be read: ", gone.display())), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn a_file_that_is_not_toml_counts_up_to_its_first_error_and_may_set_what_nothing_else_does() {
    let scratch = Scratch::new("recovered");
    for rest in [
        "[mqtt\nlisten = 'x'\n",
        "connect_timeout = [\nlisen = 1\n",
        "listen = 'a' 'b'\nlisen = 1\n",
        "listen\nlisen = 1\n",
        "rate = 1\nrate = 0\n[lgo]\na = 1\n",
        "= 1\n[lgo]\na = 1\n",
    ] {
        let file = scratch.write("a.toml", &format!("[drain]\nrte = 1\n{rest}"));
        let shown = load(&Sources { files: vec![file], ..Sources::default() }).unwrap_err().to_string();
        let mut told = shown.lines().filter(|line| !line.contains(": not valid TOML: "));
        assert!(told.next().is_some_and(|line| line.starts_with("drain.rte: unknown key")), "{rest}: {shown}");
        assert_eq!(told.next(), None, "{rest}: {shown}");
    }
}

#[test]
fn values_and_names_that_no_key_has_are_told_as_they_are_written() {
    let scratch = Scratch::new("odd");
    let text = "[registry.file]\npath = 'd'\n[log]\nlevel = 2020-01-01\n'' = 1\n[drain]\nrate = 18446744073709551617\n\
         timeout = 1.5\n[mqtt]\nlisten = [{ port = 1 }]\n";
    let file = scratch.write("a.toml", text);
    let shown = load(&Sources { files: vec![file], ..Sources::default() }).unwrap_err().to_string();
    for (start, end) in [
        ("log.level: \"2020-01-01\" given, expected", "a.toml:4)"),
        ("log.: unknown key", "a.toml:5)"),
        ("drain.rate: 18446744073709551617 given, expected", "a.toml:7)"),
        ("drain.timeout: 1.5 given, expected", "a.toml:8)"),
        ("mqtt.listen: [a table] given, expected", "a.toml:10)"),
    ] {
        assert!(shown.lines().any(|line| line.starts_with(start) && line.ends_with(end)), "{start}: {shown}");
    }
    assert_eq!(shown.lines().count(), 5, "{shown}");
}

#[test]
fn a_section_in_place_of_a_key_and_a_key_in_place_of_a_section_are_mistakes() {
    let shown = mistakes(&["mqtt.listen.port=1883", "nats.tls=on"]);
    assert_eq!(
        shown,
        [
            "mqtt.listen: a table given, expected a value (--set mqtt.listen.port)",
            "nats.tls: a value given, expected a section (--set nats.tls)",
        ]
    );
}

#[test]
fn lists_come_from_the_environment_with_commas_or_as_toml() {
    for text in ["nats.servers=nats://a:4222, nats://b:4222", "nats.servers=[\"nats://a:4222\", \"nats://b:4222\"]"] {
        let servers: Vec<String> = config(&[text]).nats.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["nats://a:4222", "nats://b:4222"], "{text}");
    }
    let networks = config(&["mqtt.proxy_protocol_from=10.0.0.0/8,::1"]).mqtt.proxy_protocol_from;
    assert!(networks[0].contains("10.1.1.1".parse().unwrap()) && networks[1].contains("::1".parse().unwrap()));
    let origins = config(&["mqtt.websocket.origins=https://A.example, http://[::1]:8080"]).mqtt.websocket.origins;
    assert_eq!(origins, ["https://a.example", "http://[::1]:8080"]);
    for text in ["a.example", "https://a.example/", "https://u@a.example", "://a", "https://a.example:port"] {
        let shown = mistakes(&[&format!("mqtt.websocket_tls.origins={text}")]);
        assert!(shown[0].contains("expected a list of origins"), "{shown:?}");
    }
}

#[test]
fn inboxes_are_apart_from_the_subjects_of_the_bridge() {
    assert_eq!(config(&[]).nats.inbox_prefix, "_INBOX");
    for good in ["_INBOX_BRIDGE", "_INBOX.bridge", "jetlinks2", "x.jetlinks"] {
        assert_eq!(config(&[&format!("nats.inbox_prefix={good}")]).nats.inbox_prefix, good);
    }
    for bad in ["jetlinks", "jetlinks.device", "", "a..b", "a.>", "$JS"] {
        let shown = mistakes(&[&format!("nats.inbox_prefix={bad}")]);
        assert!(shown.len() == 1 && shown[0].starts_with("nats.inbox_prefix: "), "{bad}: {shown:?}");
    }
    let shown = mistakes(&["nats.prefix=a.b", "nats.inbox_prefix=a"]);
    assert!(shown.len() == 1 && shown[0].starts_with("nats.inbox_prefix: must not be nats.prefix"), "{shown:?}");
}

#[test]
fn a_domain_is_one_token_and_none_unless_it_is_set() {
    let domain = |texts: &[&str]| config(texts).nats.domain;
    assert_eq!((domain(&[]), domain(&["nats.domain="])), (None, None));
    assert_eq!(domain(&["nats.domain=hub"]).as_deref(), Some("hub"));
    let shown = mistakes(&["nats.domain=a.b"]);
    assert!(
        shown.len() == 1 && shown[0].starts_with("nats.domain: \"a.b\" given, expected a domain's name"),
        "{shown:?}"
    );
}

#[test]
fn the_name_of_the_stream_and_its_settings_can_both_be_set() {
    let nats = config(&["nats.stream.replicas=3", "nats.stream=DEVICES"]).nats;
    assert_eq!((nats.stream.name.as_str(), nats.stream.replicas), ("DEVICES", 3));
    let scratch = Scratch::new("stream");
    let file = scratch.write("a.toml", "[nats]\nstream = 'DEVICES'\n[registry.file]\npath = 'd'\n");
    assert_eq!(load(&Sources { files: vec![file], ..Sources::default() }).unwrap().config.nats.stream.name, "DEVICES");
}

#[test]
fn properties_of_kafka_are_joined_with_dots_whatever_way_they_are_written() {
    let scratch = Scratch::new("properties");
    let password = scratch.write("password", "hush\n");
    let file = scratch.write(
        "a.toml",
        "[registry.file]\npath = 'd'\n[kafka.properties]\n'security.protocol' = 'SSL'\nlinger.ms = 1\n\
         socket.keepalive.enable = true\nsasl.password_file = 'password'\n",
    );
    let environment =
        BTreeMap::from([("JETLINKS_BRIDGE__KAFKA__PROPERTIES__SECURITY__PROTOCOL".to_owned(), "SASL_SSL".to_owned())]);
    let loaded = load(&Sources { files: vec![file], environment, settings: Vec::new() }).unwrap();
    let properties: Vec<(&str, &str)> =
        loaded.config.kafka.properties.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(
        properties,
        [
            ("linger.ms", "1"),
            ("sasl.password", "hush"),
            ("security.protocol", "SASL_SSL"),
            ("socket.keepalive.enable", "true"),
        ]
    );
    let shown = loaded.resolved.to_string();
    assert!(shown.contains("\"linger.ms\" = \"1\"") && shown.contains(&password.display().to_string()), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn properties_that_would_break_the_promise_are_refused() {
    for Reserved { names, reason } in RESERVED {
        for name in names {
            let shown = mistakes(&[&format!("kafka.properties.{name}=1")]);
            assert!(shown[0].starts_with(&format!("kafka.properties.{name}: {reason}")), "{shown:?}");
        }
    }
    let shown = mistakes(&["kafka.properties.topic.acks=1"]);
    assert!(shown[0].starts_with("kafka.properties.topic.acks: it is all"), "{shown:?}");
    let shown = mistakes(&["kafka.properties.linger.ms=1", "kafka.properties.queue.buffering.max.ms=1"]);
    let twice = "kafka.properties.queue.buffering.max.ms: the same as linger.ms, which is set too";
    assert!(shown[0].starts_with(twice), "{shown:?}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let scratch = Scratch::new("secrets");
    let token = scratch.write("token", "hush-token\r\n");
    let pair = scratch.write("pair", "hush-1\nhush-2\n");
    let texts = [
        format!("admin.token_file={}", token.display()),
        format!("dtls.token_secret_file={}", pair.display()),
        format!("nats.claim_secret_file={}", pair.display()),
        format!("mqtt.tls.ticket_key_file={}", pair.display()),
        "registry.http.token=hush-http".to_owned(),
        "nats.servers=nats://user:hush-nats@a:4222".to_owned(),
        "kafka.properties.sasl.password=hush-kafka".to_owned(),
        "nats.credentials=-----BEGIN NATS USER JWT-----hush".to_owned(),
    ];
    let loaded = load(&settings(&texts.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    let config = &loaded.config;
    assert_eq!(config.admin.token.as_ref().map(Secret::expose), Some("hush-token"));
    assert_eq!(config.dtls.token_secret.iter().map(Secret::expose).collect::<Vec<_>>(), ["hush-1", "hush-2"]);
    assert_eq!(config.nats.claim_secret.iter().map(Secret::expose).collect::<Vec<_>>(), ["hush-1", "hush-2"]);
    let ticket_key = &config.mqtt.tls.ticket_key;
    assert_eq!(ticket_key.secrets().iter().map(Secret::expose).collect::<Vec<_>>(), ["hush-1", "hush-2"]);
    scratch.write("pair", "hush-3\n\nhush-1\nhush-2");
    let again = ticket_key.read().unwrap();
    assert_eq!(again.iter().map(Secret::expose).collect::<Vec<_>>(), ["hush-3", "hush-1", "hush-2"]);
    for wrong in ["", "\n", "hush\nhush\nhush\nhush"] {
        scratch.write("pair", wrong);
        let error = ticket_key.read().unwrap_err().to_string();
        assert!(error.contains("one to 3 are expected") && !error.contains("hush"), "{error}");
    }
    assert_eq!(config.nats.servers[0].expose(), "nats://user:hush-nats@a:4222");
    let shown = format!("{config:?}{:?}{}", loaded.warnings, loaded.resolved);
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("nats://***@a:4222") && shown.contains("<redacted>"), "{shown}");
}

#[test]
fn a_wrong_secret_is_not_shown_in_its_mistake() {
    let shown = mistakes(&[
        "dtls.token_secret=[\"hush1\", \"hush2\", \"hush3\"]",
        "admin.token=",
        "nats.servers=http://user:hush@a",
        "registry.http.token_file=/nowhere/at/all",
    ])
    .join("\n");
    assert!(!shown.contains("hush"), "{shown}");
    for start in ["dtls.token_secret: ", "admin.token: nothing given", "nats.servers: \"http://***@a\" given"] {
        assert!(shown.contains(start), "{shown}");
    }
    assert!(shown.contains("registry.http.token_file: /nowhere/at/all cannot be read"), "{shown}");
}

#[test]
fn the_later_of_a_secret_and_its_file_counts_and_both_in_one_source_are_a_mistake() {
    let scratch = Scratch::new("both");
    let token = scratch.write("token", "from the file");
    let file = scratch.write("a.toml", "[registry.file]\npath = 'd'\n[admin]\ntoken = 'own'\n");
    let by_file = vec![format!("admin.token_file={}", token.display())];
    let loaded = load(&Sources { files: vec![file], settings: by_file, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.admin.token, Some(Secret::new("from the file")));
    let shown = mistakes(&["admin.token=a", "admin.token_file=b"]);
    assert!(shown[0].starts_with("admin.token: set together with admin.token_file"), "{shown:?}");
}

#[test]
fn what_is_needed_and_not_set_is_a_mistake() {
    for (texts, start) in [
        (&["uplink.queue=kafka"][..], "kafka.brokers: not set, but uplink.queue"),
        (&["uplink.queue=nats"][..], "nats.servers: not set, but uplink.queue"),
        (&["commands.queue=nats"][..], "nats.servers: not set, but commands.queue"),
        (&["nats.tls.certificate=a"][..], "nats.tls.private_key: not set, but nats.tls.certificate needs it"),
        (&["mqtt.tls.private_key=a"][..], "mqtt.tls.certificate: not set, but mqtt.tls.private_key needs it"),
    ] {
        let shown = mistakes(texts);
        assert!(shown.len() == 1 && shown[0].starts_with(start), "{texts:?}: {shown:?}");
    }
}

#[test]
fn a_longest_time_out_below_the_usual_one_is_a_mistake() {
    for text in ["commands.timeout=11m", "commands.timeout_max=9s"] {
        let shown = mistakes(&[text]);
        assert!(shown.len() == 1 && shown[0].starts_with("commands.timeout_max: must not be shorter"), "{shown:?}");
    }
    let commands = config(&["commands.timeout=10m"]).commands;
    assert_eq!((commands.timeout, commands.timeout_max), (Duration::from_secs(600), Duration::from_secs(600)));
}

#[test]
fn a_command_topic_that_the_bridge_writes_to_is_a_mistake() {
    let shown = mistakes(&["kafka.command_topic=jetlinks.reply"]);
    assert!(shown.len() == 1 && shown[0].starts_with("kafka.command_topic: must differ"), "{shown:?}");
}

#[test]
fn the_url_of_a_service_is_followed_by_the_id_and_nothing_else() {
    for url in ["http://user@a", "http://user:hush@a/devices", "https://a/devices?x=1", "https://a/#x"] {
        let shown = mistakes(&["registry.source=http", &format!("registry.http.url={url}")]);
        assert!(shown.len() == 1 && shown[0].starts_with("registry.http.url: must not carry"), "{shown:?}");
        assert!(!shown[0].contains("hush"), "{shown:?}");
    }
    config(&["registry.source=http", "registry.http.url=https://platform:8443/devices/"]);
}

#[test]
fn what_works_but_is_odd_is_a_warning_and_no_mistake() {
    assert_eq!(warnings(&["admin.listen=0.0.0.0:9090"]), ["admin.token"]);
    assert_eq!(warnings(&["limits.inflight_bytes=512KiB"]), ["limits.inflight_bytes"]);
    assert_eq!(
        warnings(&["uplink.queue=kafka", "kafka.brokers=a:1", "limits.packet_bytes=1MiB"]),
        ["limits.packet_bytes"]
    );
    assert_eq!(warnings(&["kafka.brokers=a:9092"]), ["kafka.brokers"]);
    assert_eq!(warnings(&["mqtt.listen="]), Vec::<String>::new());
    assert_eq!(warnings(&["mqtt.listen=", "coap.listen="]), ["mqtt.listen"]);
    let dtls = ["dtls.listen=0.0.0.0:5684", "dtls.certificate=a.pem", "dtls.private_key=b.pem"];
    assert_eq!(warnings(&dtls), ["dtls.token_secret"]);
    assert_eq!(warnings(&[&dtls[..], &["dtls.token_secret=0123456789abcde"]].concat()), ["dtls.token_secret"]);
    assert_eq!(warnings(&[&dtls[..], &["dtls.token_secret=0123456789abcdef"]].concat()), Vec::<String>::new());
    assert_eq!(
        warnings(&["registry.source=http", "registry.http.url=http://a", "registry.product_secrets=true"]),
        ["registry.product_secrets"]
    );
    assert_eq!(warnings(&["coap.direct=true"]), ["coap.direct"]);
    assert_eq!(warnings(&["coap.direct=true", "coap.listen="]), Vec::<String>::new());
    assert_eq!(warnings(&["nats.claim_secret=0123456789abcde"]), ["nats.claim_secret"]);
    assert_eq!(warnings(&["nats.claim_secret=0123456789abcdef"]), Vec::<String>::new());
    assert_eq!(warnings(&[]), Vec::<String>::new());
}

#[test]
fn two_listeners_cannot_have_one_address() {
    let shown = mistakes(&["mqtt.listen=127.0.0.1:1883", "mqtt.websocket.listen=127.0.0.1:1883"]);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].starts_with("mqtt.websocket.listen: 127.0.0.1:1883 is that of mqtt.listen"), "{shown:?}");
    config(&["mqtt.listen=127.0.0.1:0", "mqtt.websocket.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"]);
}

#[test]
fn a_tls_listener_needs_certificate_and_key_with_websocket_or_without() {
    for listener in ["mqtt.tls.listen", "mqtt.websocket_tls.listen"] {
        let shown = mistakes(&[&format!("{listener}=0.0.0.0:8883")]);
        let keys: Vec<_> = shown.iter().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(keys, ["mqtt.tls.certificate", "mqtt.tls.private_key"]);
        assert!(shown[0].contains(listener), "{shown:?}");
    }
    config(&["mqtt.websocket.listen=0.0.0.0:8083", "mqtt.tls.listen="]);
}

#[test]
fn the_resolved_configuration_loads_again_to_the_same() {
    let scratch = Scratch::new("again");
    let texts = [
        "mqtt.listen=127.0.0.1:0,[::1]:1883",
        "coap.listen=",
        "limits.inflight_bytes=10MB",
        "drain.timeout=1500ms",
        "nats.servers=nats://a:4222",
        "nats.stream.max_bytes=1GiB",
        "kafka.properties.linger.ms=5",
        "kafka.group=it's \"quoted\" \\",
        "mqtt.proxy_protocol_from=10.0.0.0/8",
    ];
    let first = load(&settings(&texts)).unwrap();
    let file = scratch.write("again.toml", &first.resolved.to_string());
    let mut second = load(&Sources { files: vec![file], ..Sources::default() }).unwrap();
    assert_eq!(second.config.registry.file, Some(scratch.0.join("devices.toml")));
    second.config.registry.file = first.config.registry.file.clone();
    assert_eq!(second.config, first.config);
}

#[test]
fn tracing_is_off_until_it_has_an_endpoint() {
    let off = config(&[]).tracing;
    assert_eq!((off.traces_url(), off.service_name.as_str()), (None, "jetlinks-bridge"));
    let on = config(&["tracing.endpoint=http://otel:4318", "tracing.headers.authorization=Bearer t"]).tracing;
    assert_eq!(on.traces_url().as_deref(), Some("http://otel:4318/v1/traces"));
    assert_eq!(on.headers, [("authorization".to_owned(), Secret::new("Bearer t".to_owned()))]);
    assert!(!format!("{on:?}").contains("Bearer"), "{on:?}");
    assert_eq!(warnings(&["tracing.sample_ratio=1"]), ["tracing.sample_ratio"]);
}

#[test]
fn a_share_is_a_number_from_0_to_1_however_it_is_written() {
    let scratch = Scratch::new("share");
    for (text, share) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
        let expected = SampleRatio::new(share).unwrap();
        assert_eq!(config(&[&format!("tracing.sample_ratio={text}")]).tracing.sample_ratio, expected, "{text}");
        let file = scratch.write("share.toml", &format!("[tracing]\nsample_ratio = {text}\n"));
        let loaded = load(&Sources { files: vec![file], ..settings(&[]) }).unwrap();
        assert_eq!(loaded.config.tracing.sample_ratio, expected, "{text}");
    }
}

#[test]
fn mistakes_of_tracing_are_told_by_key_and_without_secrets() {
    let found = mistakes(&[
        "tracing.endpoint=http://user:hidden@otel",
        "tracing.sample_ratio=1.5",
        "tracing.headers.a b=hidden",
        "tracing.service_name=",
        "tracing.ratio=1",
    ]);
    for key in ["endpoint", "sample_ratio", "headers.a b", "service_name", "ratio"] {
        assert!(found.iter().any(|mistake| mistake.starts_with(&format!("tracing.{key}"))), "{key}: {found:?}");
    }
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(!found.concat().contains("hidden"), "{found:?}");
}
