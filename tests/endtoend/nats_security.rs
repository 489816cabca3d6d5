//! NATS that asks who comes: certificates, credentials, keys, and no more permissions than the documents name.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::unconstrained;

use crate::command::obey;
use crate::kafka_security::code_of_connect;
use crate::support::bridge::{command, run, wait_for_log};
use crate::support::{
    Authority, Bridge, Device, Folder, Nats, Operator, Process, Registration, Registry, Settings, document, eventually,
    http,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Of the first of the users whom the documents name.
pub(crate) const BRIDGE_PASSWORD: &str = "password-of-bridge";
const PASSWORDS: [&str; 3] = [BRIDGE_PASSWORD, "password-of-keeper", "password-of-platform"];

/// A server with a configuration of its own.
struct Stage {
    nats: Nats,
    folder: Folder,
}

impl Stage {
    fn new(configuration: &str) -> Self {
        let folder = Folder::new("access");
        let file = folder.write("server.conf", configuration).display().to_string();
        Self { nats: Nats::start_with(&["-c", &file]), folder }
    }

    /// A server that shows and asks for certificates of this authority, and knows the users of this operator.
    fn guarded(authority: &Authority, operator: &Operator) -> Self {
        ["server", "client"].iter().for_each(|name| authority.issue(name));
        let [certificate, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| authority.path(name));
        let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}\n");
        Self::new(&(tls + &operator.server()))
    }

    fn servers(&self, scheme: &str, user: &str) -> String {
        format!("[\"{scheme}://{user}{}\"]", self.nats.address())
    }

    /// Runs a subcommand of the bridge with this configuration to its end; what it printed.
    fn run(&self, settings: &Settings, arguments: &[&str], input: &str) -> String {
        let config = self.folder.write("tool.toml", &settings.render()).display().to_string();
        let finished = run(&[arguments, &["--config", &config]].concat(), input);
        assert_eq!(finished.code, 0, "{arguments:?}: {finished:?}");
        finished.stdout
    }

    /// Monitoring entries of the connections with that name.
    fn connections(&self, name: &str) -> Vec<Value> {
        let page =
            http::get(self.nats.monitoring(), "/connz?auth=true&subs=true").expect("the server has its pages").body;
        let page: Value = serde_json::from_str(&page).unwrap();
        let all = page["connections"].as_array().unwrap().iter();
        all.filter(|connection| connection["name"] == name).cloned().collect()
    }
}

fn is_subscribed(connection: &Value, subject: &str) -> bool {
    connection["subscriptions_list"].as_array().is_some_and(|list| list.iter().any(|one| one == subject))
}

/// The replica's id, which is also the name of its connections.
fn replica(bridge: &Bridge) -> String {
    let line = wait_for_log(bridge, &["bridge started"]);
    line.split("replica=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
}

/// Devices in the bucket, messages to JetStream, commands from NATS.
fn everything(registry: &Registry, nats: &Nats) -> Settings {
    Settings::nats(registry, nats).text("registry.source", "nats")
}

fn trusting(settings: Settings, authority: &Authority) -> Settings {
    settings.text("nats.tls.ca", &authority.path("ca.pem"))
}

fn with_certificate(settings: Settings, authority: &Authority) -> Settings {
    settings
        .text("nats.tls.certificate", &authority.path("client.pem"))
        .text("nats.tls.private_key", &authority.path("client.key"))
}

fn put_device(stage: &Stage, settings: &Settings, device: &Registration) {
    let Registration { product, id, secure_id, secure_key, .. } = device;
    let named = ["--id", id, "--product", product, "--secure-id", secure_id, "--secure-key-stdin"];
    stage.run(settings, &[&["devices", "put"], &named[..]].concat(), secure_key);
}

/// Asks the device for a property with the bridge's own command.
fn ask(stage: &Stage, settings: &Settings) {
    let command = ["send", "--device", "product1/device1", "--type", "properties.read", r#"{"properties":["sn"]}"#];
    let answer: Value = serde_json::from_str(&stage.run(settings, &command, "")).unwrap();
    assert_eq!((&answer["origin"], &answer["data"]["success"]), (&json!("device"), &json!(true)), "{answer}");
}

/// Sends reports until one is read from the stream, by the bridge's own command.
fn send_until_stored(stage: &Stage, settings: &Settings, device: &Device, topic: &str) {
    let config = stage.folder.write("tail.toml", &settings.render()).display().to_string();
    let mut tail = command();
    tail.args(["tail", "--config", &config, "--count", "1", "--type", "properties.report"]);
    tail.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut tail = Process::spawn(&mut tail, None);
    let status = eventually("a report is read from the stream", PATIENCE, || {
        device.publish(topic, r#"{"properties":{"a":1}}"#);
        tail.ended()
    });
    assert!(status.success(), "{status}");
    let mut line = String::new();
    tail.take_stdout().unwrap().read_to_string(&mut line).unwrap();
    let envelope: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(envelope["deviceid"], "device1");
}

#[test]
fn every_connection_proves_itself_with_a_certificate_and_credentials() {
    let (authority, operator) = (Authority::new(), Operator::new());
    let stage = Stage::guarded(&authority, &operator);
    let (nobody, _) = Registry::numbered(0);
    let credentials = stage.folder.write("bridge.creds", &operator.credentials()).display().to_string();
    let settings = with_certificate(trusting(everything(&nobody, &stage.nats), &authority), &authority)
        .toml("nats.servers", &stage.servers("tls", ""))
        .text("nats.credentials_file", &credentials);
    let device = Registration::new("device1");
    put_device(&stage, &settings, &device);

    let bridge = Bridge::start(&settings);
    let held = Device::connect(bridge.mqtt(), &device, obey);
    send_until_stored(&stage, &settings, &held, &device.topic("properties/report"));
    ask(&stage, &settings);

    let connections = stage.connections(&replica(&bridge));
    for connection in &connections {
        assert!(connection["tls_version"].is_string(), "{connection}");
        assert!(connection["jwt"].is_string(), "{connection}");
    }
    // One for messages, one for commands, one to agree with other replicas, one for the registry.
    assert_eq!(connections.len(), 4, "{connections:?}");
    let taking = |connection: &&Value| is_subscribed(connection, "jetlinks.command.product1.device1.>");
    let commands: Vec<&Value> = connections.iter().filter(taking).collect();
    assert_eq!(commands.len(), 1, "{connections:?}");
    assert!(!is_subscribed(commands[0], "jetlinks.claim"), "{commands:?}");
}

#[test]
fn a_key_that_was_renewed_counts_at_the_next_connection_without_a_restart() {
    let (before, after) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let server = |user: &nkeys::KeyPair| format!("authorization {{ users: [ {{ nkey: {} }} ] }}\n", user.public_key());
    let stage = Stage::new(&server(&before));
    let (registry, devices) = Registry::numbered(1);
    let seed = stage.folder.write("seed", &before.seed().unwrap()).display().to_string();
    let settings = Settings::nats(&registry, &stage.nats).text("nats.credentials_file", &seed);
    let bridge = Bridge::start(&settings);
    let held = Device::connect(bridge.mqtt(), &devices[0], obey);
    ask(&stage, &settings);

    fs::remove_file(&seed).unwrap();
    stage.folder.write("server.conf", &server(&after));
    stage.nats.process().signal(libc::SIGHUP);
    for role in ["uplink", "commands", "coordination"] {
        let role = format!("role=\"{role}\"");
        wait_for_log(&bridge, &["the NATS server cannot be reached", &role, &seed, "cannot be read"]);
    }
    assert_eq!(bridge.readiness().1["coordination"], "away");

    stage.folder.write("seed.part", &after.seed().unwrap());
    fs::rename(stage.folder.path().join("seed.part"), &seed).unwrap();
    eventually("NATS is there again", PATIENCE, || {
        let (_, parts) = bridge.readiness();
        (parts["queue"] == "ok" && parts["coordination"] == "ok").then_some(())
    });
    send_until_stored(&stage, &settings, &held, &devices[0].topic("properties/report"));
    eventually("the commands are there again", PATIENCE, || {
        let config = stage.folder.write("tool.toml", &settings.render()).display().to_string();
        let command = ["send", "--config", &config, "--device", "product1/device1", "--type", "properties.read", "{}"];
        (run(&command, "").code == 0).then_some(())
    });
}

/// The users of the documents, with passwords in the order in which they stand there.
pub(crate) fn documented_users() -> String {
    let block = document::block("security.md", "authorization {");
    let parts: Vec<&str> = block.split('…').collect();
    assert_eq!(parts.len(), PASSWORDS.len() + 1, "{block}");
    let filled = parts.iter().zip(PASSWORDS).map(|(part, password)| format!("{part}{password}"));
    filled.collect::<String>() + parts[PASSWORDS.len()]
}

/// Configurations of the bridge, who keeps its registry, and the platform, each as its user.
fn documented_settings(stage: &Stage, registry: &Registry) -> [Settings; 3] {
    ["bridge", "keeper", "platform"].map(|user| {
        let servers = stage.servers("nats", &format!("{user}:password-of-{user}@"));
        let settings = everything(registry, &stage.nats).toml("nats.servers", &servers);
        settings.text("nats.inbox_prefix", &format!("_INBOX_{user}"))
    })
}

#[test]
fn the_documented_permissions_are_enough_and_one_that_is_missing_is_named() {
    let users = documented_users();
    let stage = Stage::new(&users);
    let (nobody, _) = Registry::numbered(0);
    let [bridge_settings, keeper, platform] = documented_settings(&stage, &nobody);
    let device = Registration::new("device1");
    let replicas = [(); 2].map(|()| Bridge::start(&bridge_settings));
    put_device(&stage, &keeper, &device);
    for replica in &replicas {
        eventually("the device is known", PATIENCE, || (code_of_connect(replica, &device) == 0).then_some(()));
    }
    let older = Device::connect(replicas[0].mqtt(), &device, obey);
    let held = Device::connect(replicas[1].mqtt(), &device, obey);
    send_until_stored(&stage, &platform, &held, &device.topic("properties/report"));
    ask(&stage, &platform);
    eventually("the older session has ended", PATIENCE, || {
        (replicas[0].metric("jetlinks_bridge_sessions", &[]) == 0.0).then_some(())
    });
    stage.run(&keeper, &["devices", "ls"], "");
    stage.run(&keeper, &["devices", "rm", "device1"], "");
    eventually("the session of a device that was removed has ended", PATIENCE, || {
        (replicas[1].metric("jetlinks_bridge_sessions", &[]) == 0.0).then_some(())
    });
    for replica in &replicas {
        assert!(!replica.log().to_lowercase().contains("violation"), "{}", replica.log());
    }
    drop((older, held, replicas));

    let missing = "$JS.API.STREAM.INFO.JETLINKS_DEVICE";
    // The first of those who have it is the bridge.
    let stage = Stage::new(&users.replacen(&format!("\"{missing}\","), "", 1));
    let [bridge_settings, ..] = documented_settings(&stage, &nobody);
    let bridge = Bridge::start_unready(&bridge_settings);
    wait_for_log(&bridge, &["WARN", "role=\"uplink\"", "Permissions Violation for Publish", missing]);
    assert_eq!(bridge.readiness().1["queue"], "starting");
}

/// Subjects of [`Spy`].
const SPIED: [&str; 7] = [">", "_INBOX.>", "_INBOX_bridge.>", "_INBOX_keeper.>", "$KV.>", "$JS.>", "jetlinks.>"];

/// A user of NATS who tries to hear everything that the others are told.
struct Spy {
    runtime: Runtime,
    client: async_nats::Client,
    heard: Vec<async_nats::Subscriber>,
}

impl Spy {
    fn start(stage: &Stage, user: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("nats://{}", stage.nats.address());
        let options =
            async_nats::ConnectOptions::with_user_and_password(user.to_owned(), format!("password-of-{user}"))
                .custom_inbox_prefix(format!("_INBOX_{user}"));
        let (client, heard) = runtime.block_on(async {
            let client = options.connect(url).await.unwrap();
            let mut heard = Vec::new();
            for subject in SPIED {
                heard.push(client.subscribe(subject).await.unwrap());
            }
            client.flush().await.unwrap();
            (client, heard)
        });
        Self { runtime, client, heard }
    }

    /// Messages received until now, each with its subscription: a message of a stream keeps its own subject.
    fn heard(&mut self) -> Vec<(&'static str, String)> {
        // The runtime's budget must not end it before all is told.
        self.runtime.block_on(unconstrained(async {
            // Its answer comes behind everything that was to come before.
            self.client.request("$JS.API.STREAM.INFO.JETLINKS_DEVICE", "".into()).await.unwrap();
            let mut texts = Vec::new();
            for (subject, subscription) in SPIED.into_iter().zip(&mut self.heard) {
                while let Some(Some(message)) = futures_util::FutureExt::now_or_never(subscription.next()) {
                    texts.push((subject, String::from_utf8_lossy(&message.payload).into_owned()));
                }
            }
            texts
        }))
    }
}

#[test]
fn a_platform_with_the_documented_permissions_hears_no_answer_of_the_bridge_or_the_keeper() {
    let users = documented_users();
    let everywhere = r#"{ user: observer, password: "password-of-observer" }"#;
    let stage = Stage::new(&users.replacen("users: [", &format!("users: [ {everywhere}"), 1));
    let (nobody, _) = Registry::numbered(0);
    let [bridge_settings, keeper, _] = documented_settings(&stage, &nobody);
    let (mut platform, mut observer) = (Spy::start(&stage, "platform"), Spy::start(&stage, "observer"));
    let device = Registration::new("device1");
    let first = Bridge::start(&bridge_settings);
    put_device(&stage, &keeper, &device);
    stage.run(&keeper, &["devices", "ls"], "");
    // It is delivered the whole bucket.
    let second = Bridge::start(&bridge_settings);
    for replica in [&first, &second] {
        eventually("the device is known", PATIENCE, || (code_of_connect(replica, &device) == 0).then_some(()));
    }
    let _held = Device::connect(second.mqtt(), &device, obey);
    let answer = stage.nats.run_cli(&[
        "--user",
        "platform",
        "--password",
        "password-of-platform",
        "--inbox-prefix",
        "_INBOX_platform",
        "request",
        "--raw",
        "jetlinks.command.product1.device1.properties.read",
        r#"{"properties":["sn"]}"#,
    ]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(answer["data"]["success"], true, "{answer}");

    let all = observer.heard();
    for inbox in ["_INBOX_bridge.>", "_INBOX_keeper.>"] {
        let is_key = |(subject, text): &(&str, String)| *subject == inbox && text.contains(&*device.secure_key);
        assert!(all.iter().any(is_key), "whoever may subscribe {inbox} reads the key there: {all:#?}");
    }
    assert!(all.iter().all(|(subject, _)| *subject != "_INBOX.>"), "every connection has its prefix: {all:#?}");
    assert_eq!(platform.heard(), Vec::new());
}

#[test]
fn what_a_consumer_of_the_platform_delivers_to_replicas_is_the_word_of_none() {
    let observer = r#"{ user: observer, password: "password-of-observer" }"#;
    let stage = Stage::new(&documented_users().replacen("users: [", &format!("users: [ {observer}"), 1));
    let (nobody, _) = Registry::numbered(0);
    let [settings, keeper, _] = documented_settings(&stage, &nobody);
    let device = Registration::new("device1");
    let bridge = Bridge::start(&settings);
    put_device(&stage, &keeper, &device);
    eventually("the device is known", PATIENCE, || (code_of_connect(&bridge, &device) == 0).then_some(()));
    let _held = Device::connect(bridge.mqtt(), &device, obey);
    let nats = |user: &str, words: &[&str]| {
        let (password, inbox) = (format!("password-of-{user}"), format!("_INBOX_{user}"));
        let access = ["--user", user, "--password", &password, "--inbox-prefix", &inbox];
        let output = stage.nats.run_cli(&[&access, words].concat());
        assert!(output.status.success(), "{output:?}");
    };
    let ignored = || bridge.metric("jetlinks_bridge_coordination_claims_ignored_total", &["malformed"]);
    let begin = ignored();
    for subject in ["jetlinks.replica", "jetlinks.claim"] {
        let consumer = json!({"deliver_subject": subject, "deliver_policy": "new", "ack_policy": "none"});
        let order = json!({"stream_name": "JETLINKS_DEVICE", "config": consumer}).to_string();
        nats("platform", &["request", "$JS.API.CONSUMER.CREATE.JETLINKS_DEVICE", &order]);
    }
    // As it may be stored in binary mode, where a device writes what is at the top.
    let said = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let ask = json!({"ask": {"id": "a", "to": [], "request": {"end": device.id}}});
    let said = u64::try_from(said).unwrap();
    let forged = json!({"replica": "r", "said": said, "draining": false, "sheds": false, "body": ask}).to_string();
    nats("observer", &["pub", "jetlinks.device.product1.device1.event", &forged]);
    eventually("it is ignored on both subjects", PATIENCE, || (ignored() >= begin + 2.0).then_some(()));
    assert_eq!(bridge.metric("jetlinks_bridge_sessions_closed_total", &["cause=\"kicked\""]), 0.0);
}

#[test]
fn whoever_is_not_let_in_by_nats_says_why_and_lets_no_device_in() {
    let (authority, operator, stranger) = (Authority::new(), Operator::new(), Authority::new());
    let stage = Stage::guarded(&authority, &operator);
    let open = Stage::new(&documented_users());
    let (registry, devices) = Registry::numbered(1);
    let good = stage.folder.write("good.creds", &operator.credentials()).display().to_string();
    let wrong = stage.folder.write("wrong.creds", &Operator::new().credentials()).display().to_string();
    let settings = Settings::nats(&registry, &stage.nats).toml("nats.servers", &stage.servers("tls", ""));
    let cases = [
        (
            Settings::nats(&registry, &open.nats).toml("nats.servers", &open.servers("nats", "bridge:wrong-password@")),
            "authorization violation",
        ),
        (
            with_certificate(trusting(settings.clone(), &authority), &authority).text("nats.credentials", &wrong),
            "authorization violation",
        ),
        (
            with_certificate(trusting(settings.clone(), &stranger), &authority).text("nats.credentials", &good),
            "invalid peer certificate",
        ),
        (trusting(settings, &authority).text("nats.credentials", &good), "CertificateRequired"),
    ];
    let secrets: Vec<String> = [&good, &wrong].iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let secrets: Vec<&str> = secrets.iter().flat_map(|text| text.lines()).filter(|line| !line.contains('-')).collect();
    let cases = cases.map(|(settings, cause)| (Bridge::start_unready(&settings), cause));
    for (bridge, cause) in cases {
        for role in ["uplink", "commands", "coordination"] {
            wait_for_log(&bridge, &["WARN", "the NATS server cannot be reached", &format!("role=\"{role}\""), cause]);
        }
        let (status, parts) = bridge.readiness();
        assert_eq!((status, &parts["queue"], &parts["coordination"]), (503, &json!("starting"), &json!("starting")));
        assert_eq!(code_of_connect(&bridge, &devices[0]), 3, "come later");
        let log = bridge.log();
        assert!(!log.contains("async_nats"), "the client's own words come with each attempt: {log}");
        for secret in secrets.iter().copied().filter(|secret| !secret.is_empty()).chain(["wrong-password"]) {
            assert!(!log.contains(secret), "{log}");
        }
    }
}
