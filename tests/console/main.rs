//! The console in a browser, against real bridges, a real NATS server and devices.
//!
//! The stories are in `stories.mjs`, by Playwright in Debian's Chromium. What the page alone cannot cause, such as a report
//! of a device, a story asks for on its stdout, one line of JSON each, and waits for an empty line on its stdin.

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Bridge, Device, Load, Nats, Process, Registration, Registry, Settings, tool};

/// Every story has to be told, in whatever order.
const STORIES: [&str; 19] = [
    "envelopes appear, and a pause holds them",
    "a filter lets through what it names",
    "an envelope is shown pretty or as it is, and copied",
    "hostile text of devices stays text",
    "sessions of all replicas are found by prefix and product, part by part",
    "a search shows its own answer, though an earlier one comes later",
    "details of a session lead to its messages, a command and a trace",
    "a trace shows what a device does",
    "a trace that is started while a token is tried goes on",
    "a session is ended with a token, on another replica too",
    "without a token the page only reads, and the bridge takes nothing else from it",
    "a wrong token is told, and the right one is forgotten with the tab",
    "a command gets its reply, and stays in the history",
    "a command to a device that is absent tells so",
    "plots move",
    "the keyboard is enough",
    "dark and light, as the system or as chosen",
    "a page of another origin reads nothing and changes nothing",
    "a queue that is away shows",
];

/// Longest silence of the stories.
const PATIENCE: Duration = Duration::from_secs(180);

const TOKEN: &str = "hush-hush";

/// Devices that only report, of which more than one part of the list is.
const FLEET: usize = 60;

/// Answers what reads ask for, and nothing else.
fn behaviour(topic: &str, _command: &Value) -> Option<Value> {
    topic.ends_with("/properties/read").then(|| json!({"properties": {"sn": "0042", "ratio": 1.50}, "success": true}))
}

#[test]
fn people_see_and_do_in_a_browser_what_the_console_promises() {
    let names = (1..=FLEET)
        .map(|number| format!("device{number}"))
        .chain(["speaker1", "reader1", "guest1", "guest2"].map(str::to_owned));
    let devices: Vec<Registration> = names.map(|name| Registration::new(&name)).collect();
    let find = |name: &str| devices.iter().find(|device| device.id == name).unwrap();
    let registry = Registry::new(&devices);
    let mut nats = Nats::start();
    // The first one has a token; the second one, of the same fleet, has none.
    let own = Bridge::start(&Settings::nats(&registry, &nats).text("admin.token", TOKEN));
    let other = Bridge::start(&Settings::nats(&registry, &nats));
    let _load = Load::start(own.mqtt(), &registry, FLEET, 0.5);
    let speaker = Device::connect(own.mqtt(), find("speaker1"), |_, _| None);
    let _reader = Device::connect(own.mqtt(), find("reader1"), behaviour);
    let _guests = ["guest1", "guest2"].map(|name| Device::connect(other.mqtt(), find(name), behaviour));

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    fs::create_dir_all(&folder).unwrap();
    let url = |bridge: &Bridge| format!("http://127.0.0.1:{}", bridge.admin().port());
    let mut call = Command::new(tool::system("node"));
    call.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console/stories.mjs"))
        .arg(tool::installed("node/node_modules/playwright-core"))
        .arg(tool::first_of_system(&["chromium-headless-shell", "chromium"]))
        .args([url(&own), url(&other), TOKEN.to_owned()])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = Process::spawn(&mut call, None);
    let mut stdin = process.take_stdin().unwrap();
    let stdout = process.take_stdout().unwrap();
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));

    let mut told = BTreeMap::new();
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Some(story) = line["story"].as_str() {
            println!("{story} ({:.1} s): {}", line["seconds"].as_f64().unwrap(), line["result"].as_str().unwrap());
            told.insert(story.to_owned(), line["result"].as_str().unwrap().to_owned());
            continue;
        }
        match line["ask"].as_str().unwrap() {
            "report" => speaker
                .publish(&find("speaker1").topic(line["topic"].as_str().unwrap()), line["payload"].as_str().unwrap()),
            "stop the queue" => nats.kill9(),
            other => panic!("nobody can {other}"),
        }
        stdin.write_all(b"\n").unwrap();
    }
    assert_eq!(process.exit_code(PATIENCE), 0, "the stories come to their end");
    let wrong: Vec<_> = STORIES.iter().filter(|story| told.get(**story).map(String::as_str) != Some("well")).collect();
    assert!(wrong.is_empty(), "failed or not told: {wrong:#?}");
    assert_eq!(told.len(), STORIES.len(), "{told:#?}");
}
