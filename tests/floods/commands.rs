//! More commands at once than any device takes.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::flood::{Beside, Flood, per_second};
use crate::support::bridge::by_build;
use crate::support::{Bridge, Nats, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// A connection to NATS that speaks its protocol itself: a client would take more time for a flood than the bridge.
fn dial(nats: &Nats) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(nats.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut info = String::new();
    reader.read_line(&mut info).unwrap();
    reader.get_mut().write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nPING\r\n").unwrap();
    let mut pong = String::new();
    reader.read_line(&mut pong).unwrap();
    assert_eq!(pong.trim_end(), "PONG");
    reader
}

/// The next message: the last token of its subject, and its body.
fn next_message(reader: &mut BufReader<TcpStream>) -> (u32, Vec<u8>) {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an outcome in time");
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (header, total) = match words[..] {
            ["MSG", .., total] => (0, total.parse::<usize>().unwrap()),
            ["HMSG", .., header, total] => (header.parse().unwrap(), total.parse().unwrap()),
            ["PING"] => {
                reader.get_mut().write_all(b"PONG\r\n").unwrap();
                continue;
            }
            _ => panic!("{line}"),
        };
        let mut body = vec![0; total + 2];
        reader.read_exact(&mut body).unwrap();
        let number = words[1].rsplit('.').next().unwrap().parse().unwrap();
        return (number, body[header..total].to_vec());
    }
}

#[test]
fn each_of_100_000_requests_at_once_to_one_device_has_one_outcome_or_is_counted_as_lost() {
    const REQUESTS: u32 = 100_000;
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(3);
    let settings =
        Settings::nats(&registry, &nats).text("commands.timeout", "2s").text("limits.inflight_bytes", "32MiB");
    let mut bridge = Bridge::start(&settings);
    let _silent = Wire::connect(bridge.mqtt(), &devices[0]);
    let mut other = Wire::connect(bridge.mqtt(), &devices[1]);

    let beside = Beside::start(bridge.mqtt(), &devices[2]);
    let mut caller = dial(&nats);
    caller.get_mut().write_all(b"SUB flood.* 1\r\n").unwrap();
    let mut flood = Vec::new();
    for number in 0..REQUESTS {
        let body = format!(r#"{{"messageId":"m{number}"}}"#);
        let subject = "jetlinks.command.product1.device1.properties.read";
        write!(flood, "PUB {subject} flood.{number} {}\r\n{body}\r\n", body.len()).unwrap();
    }
    let mut writer = caller.get_ref().try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&flood).unwrap());
    let mut answered = HashSet::new();
    let lost = |bridge: &Bridge| bridge.metric("jetlinks_bridge_commands_total", &["lost"]) as usize;
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    while answered.len() + lost(&bridge) < REQUESTS as usize {
        for _ in 0..1000.min(REQUESTS as usize - answered.len() - lost(&bridge)) {
            let (number, body) = next_message(&mut caller);
            assert!(answered.insert(number), "a second outcome of {number}");
            let envelope: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(envelope["correlationid"], format!("m{number}"), "{envelope}");
            *codes.entry(envelope["data"]["code"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    writing.join().unwrap();
    beside.bear_strangers("requests at once to one device", || REQUESTS.to_string(), None);
    let peak = bridge.process().peak_bytes();
    println!("{codes:?}, {} lost, peak {} MiB", lost(&bridge), peak / MIB);
    // As many as may wait, and those for which these left room while the flood went on.
    assert!(codes.get("TIME_OUT").is_some_and(|count| *count >= 64) && codes.len() == 2, "{codes:?}");
    assert!(peak <= (64 + 32) * MIB, "{} MiB", peak / MIB);
    eventually("nothing waits", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_commands_pending", &[]) == 0.0).then_some(())
    });
    other.publish_acknowledged(&devices[1].topic("tags"), r#"{"tags":{"a":1}}"#, 1);
}

#[test]
fn commands_without_end_delay_no_message_of_another_device() {
    const DEVICES: usize = 50;
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(DEVICES + 1);
    let settings = Settings::commands(&registry, &nats.url()).text("commands.timeout", "2s");
    let bridge = Bridge::start(&settings);
    let silent: Vec<Wire> = devices[1..].iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let mut late = Vec::new();
    for (name, asked) in [("one device", 1), ("many devices", DEVICES)] {
        let beside = Beside::start(bridge.mqtt(), &devices[0]);
        let caller = dial(&nats);
        let mut writer = caller.get_ref().try_clone().unwrap();
        let flood = Flood::start(by_build(2_000.0, 20_000.0), move |number| {
            let (body, device) = (format!(r#"{{"messageId":"m{number}"}}"#), 2 + number % asked);
            let subject = format!("jetlinks.command.product1.device{device}.properties.read");
            write!(writer, "PUB {subject} flood.{number} {}\r\n{body}\r\n", body.len()).unwrap();
        });
        let heard = || bridge.metric("jetlinks_bridge_commands_total", &[]);
        eventually("commands are refused", PATIENCE, || (heard() > 2_000.0).then_some(()));
        late.extend(beside.bear_one(&format!("commands to {name}"), per_second(|| flood.rate(), "commands")));
    }
    assert!(late.is_empty(), "{late:?}");
    drop(silent);
}

#[test]
fn long_texts_and_endless_time_outs_of_a_caller_take_no_memory_and_no_place_of_others() {
    const DEVICES: usize = 20;
    const AT_ONCE: usize = 32;
    // A debug build takes a second and more for a few megabytes of headers.
    let (requests, long) = by_build((8 * DEVICES, 64 << 10), (64 * DEVICES, 900 << 10));
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(DEVICES);
    let settings = Settings::commands(&registry, &nats.url()).text("limits.inflight_bytes", "16MiB");
    let mut bridge = Bridge::start(&settings);
    let mut wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let mut caller = dial(&nats);
    caller.get_mut().write_all(b"SUB honest.* 1\r\n").unwrap();
    let head = format!("NATS/1.0\r\ncorrelation-id: {}\r\n\r\n", "x".repeat(long));
    let mut writer = caller.get_ref().try_clone().unwrap();
    let heard = || bridge.metric("jetlinks_bridge_commands_total", &[]) as usize;
    for number in 0..requests {
        let body = format!(r#"{{"messageId":"m{number}","headers":{{"timeout":9223372036854775807}}}}"#);
        let subject = format!("jetlinks.command.product1.device{}.properties.read", 1 + number % DEVICES);
        let (bytes, total) = (head.len(), head.len() + body.len());
        write!(writer, "HPUB {subject} greedy.{number} {bytes} {total}\r\n{head}{body}\r\n").unwrap();
        // What lies in the server for a client that reads slowly is bounded there, and the connection ended.
        if number % (AT_ONCE / 2) == 0 {
            eventually("most have their outcome", PATIENCE, || (heard() + AT_ONCE / 2 >= number).then_some(()));
        }
    }
    eventually("each of them has its outcome", PATIENCE, || (heard() == requests).then_some(()));
    let subject = "jetlinks.command.product1.device1.properties.read";
    write!(writer, "PUB {subject} honest.1 2\r\n{{}}\r\n").unwrap();
    let command = wires[0].next_publish();
    wires[0].reply(&command, r#""success":true,"properties":{"a":1}"#);
    let (_, outcome) = next_message(&mut caller);
    let outcome: Value = serde_json::from_slice(&outcome).unwrap();
    assert_eq!(outcome["origin"], "device", "{outcome}");
    let peak = bridge.process().peak_bytes();
    println!("{requests} commands with a correlation-id of {long} bytes: peak {} MiB", peak / MIB);
    // The client reads what the server sends at once, and copies headers, before the bridge sees a command.
    let read_at_once = (2 * AT_ONCE * long) as u64;
    assert!(peak <= (64 + 16) * MIB + read_at_once, "{} MiB", peak / MIB);
}
