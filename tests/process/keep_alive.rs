//! When silence is the end, and what is no silence.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::Stage;
use crate::command::command;
use crate::hostile::{frugal, send_halves};
use crate::presence::{connect_with_will, expect_will_and_offline};
use crate::support::packet::{self, Packet};
use crate::support::{Connect, Wire, eventually};

/// The keep-alive of the devices, in seconds, and the silence after which they are lost. Devices that live do something once
/// a second, so that a test may stand still for some seconds.
const KEEP_ALIVE: u16 = 4;
const LOST_AFTER: Duration = Duration::from_secs(6);

/// How long large packets are on their way: more than twice as long as silence may last.
const TRANSFER: Duration = Duration::from_secs(14);

/// How long anything may take that takes milliseconds on an idle machine. Whoever is lost by silence is lost within this
/// time: `mqtt.keep_alive_max`, which is the next limit, is 20 minutes.
const PATIENCE: Duration = Duration::from_secs(60);

const LARGE_BYTES: usize = 200_000;

/// The time of the day at which an envelope was made, from `2026-11-22T09:00:00.123Z`.
fn recorded(envelope: &Value) -> Duration {
    let time = envelope["recordedtime"].as_str().and_then(|text| text.get(11..23)).unwrap();
    let number = |at: std::ops::Range<usize>| time[at].parse::<u64>().unwrap();
    Duration::from_millis(((number(0..2) * 60 + number(3..5)) * 60 + number(6..8)) * 1000 + number(9..12))
}

/// Shows that the second envelope was made no earlier than so long after the first, by the bridge's own clock.
fn assert_apart(first: &Value, second: &Value, least: Duration) {
    let day = Duration::from_secs(24 * 60 * 60);
    let apart = (recorded(second) + day).abs_diff(recorded(first));
    let apart = apart.checked_sub(day).unwrap_or(apart);
    // The clock of the envelopes is not that of the deadlines.
    let earliest = least.saturating_sub(Duration::from_millis(5));
    assert!(apart >= earliest, "{apart:?} instead of {least:?}");
}

#[test]
fn a_device_that_falls_silent_is_lost_after_one_and_a_half_keep_alives_and_not_before() {
    let mut stage = Stage::new();
    let (mut wire, online) = connect_with_will(&mut stage, |connect| Connect { keep_alive: KEEP_ALIVE, ..connect });
    let offline = expect_will_and_offline(&mut stage, &online, "keep_alive");
    assert_apart(&online, &offline, LOST_AFTER);
    wire.wait_closed();
}

#[test]
fn a_device_that_asked_for_no_keep_alive_is_lost_after_the_longest_one_and_not_before() {
    let mut stage = Stage::with(|settings| settings.text("mqtt.keep_alive_max", "2s"));
    let (mut wire, online) = connect_with_will(&mut stage, |connect| connect);
    let offline = expect_will_and_offline(&mut stage, &online, "keep_alive");
    assert_apart(&online, &offline, Duration::from_secs(2));
    wire.wait_closed();
}

#[test]
fn a_ping_keeps_a_silent_device_online() {
    let mut stage = Stage::new();
    let (mut wire, online) = connect_with_will(&mut stage, |connect| Connect { keep_alive: KEEP_ALIVE, ..connect });
    // Longer than the time after which silence is the end, and the silence itself is what is under test.
    for _ in 0..8 {
        assert_eq!(wire.next_within(Duration::from_secs(1)), None, "closed although it pinged in time");
        wire.send(&packet::PINGREQ);
        assert_eq!(wire.next_packet().header, 0xD0);
    }
    drop(wire);
    let offline = expect_will_and_offline(&mut stage, &online, "connection_lost");
    assert_apart(&online, &offline, Duration::from_secs(8));
}

/// A connection over a narrow link: its system keeps hardly more than what was read.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// device1 behind a narrow link, connected, and its `online`.
fn connect_narrow(stage: &mut Stage) -> (TcpStream, Value) {
    let mut stream = narrow(stage.bridge.mqtt());
    let connect = Connect { keep_alive: KEEP_ALIVE, ..Connect::of(&stage.device1) };
    stream.write_all(&connect.bytes()).unwrap();
    let mut connack = Vec::new();
    take(&mut stream, 4, &mut connack);
    assert_eq!(connack, [0x20, 2, 0, 0]);
    (stream, stage.bridge.expect("device.online", "device1"))
}

/// Reads so many bytes as soon as they come.
fn take(stream: &mut TcpStream, count: usize, into: &mut Vec<u8>) {
    let mut left = vec![0; count];
    let mut taken = 0;
    eventually("the bytes come", PATIENCE, || {
        match stream.read(&mut left[taken..]) {
            Ok(0) => panic!("the connection was closed after {} bytes", into.len() + taken),
            Ok(read) => taken += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error} after {} bytes", into.len() + taken),
        }
        (taken == count).then_some(())
    });
    into.extend(left);
}

/// Waits for the moment at which the link has carried that share of a transfer.
fn until(begun: Instant, done: usize, of: usize) {
    let due = begun + TRANSFER.mul_f64(done as f64 / of as f64);
    eventually("the next bytes are due", PATIENCE, || (Instant::now() >= due).then_some(()));
}

/// Sends device1 a command of 200 kB that needs no reply; how many bytes its packet has, and the outcome.
fn send_large(stage: &mut Stage) -> (usize, Value) {
    let padding = "x".repeat(LARGE_BYTES);
    let members = format!(
        r#""messageId":"m1","timestamp":1,"properties":{{"a":"{padding}"}},"headers":{{"sendAndForget":true}}"#
    );
    stage.bridge.type_line(&command("WRITE_PROPERTY", &members));
    let outcome = stage.bridge.expect("device.properties.write.reply", "device1");
    assert_eq!(outcome["data"]["code"], "REQUEST_HANDLING", "{outcome}");
    let body = r#"{"messageType":"WRITE_PROPERTY","messageId":"m1","timestamp":1,"deviceId":"device1","properties":{"a":""},"headers":{"sendAndForget":true}}"#;
    // Three bytes of length stand in front for a packet of this size.
    let topic = stage.device1.topic("properties/write");
    (4 + 2 + topic.len() + body.len() + padding.len(), outcome)
}

/// Shows that the session goes on, and that nothing was said of its end.
fn assert_online(stage: &mut Stage, stream: &mut TcpStream) {
    let topic = stage.device1.topic("tags");
    stream.set_nonblocking(false).unwrap();
    stream.write_all(&packet::publish(&topic, br#"{"tags":{"a":1}}"#, 1, 9)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut answer = Vec::new();
    take(stream, 4, &mut answer);
    assert_eq!(answer, packet::puback(9));
    stage.bridge.expect("device.tags", "device1");
}

#[test]
fn a_device_lives_while_it_takes_a_large_command_and_pings() {
    take_slowly(true);
}

#[test]
fn a_device_lives_while_it_takes_a_large_command_and_says_nothing() {
    take_slowly(false);
}

fn take_slowly(pings: bool) {
    let mut stage = Stage::new();
    let (mut stream, _) = connect_narrow(&mut stage);
    let (packet_bytes, _) = send_large(&mut stage);
    let begun = Instant::now();
    let (mut taken, mut pinged) = (Vec::new(), 0);
    while taken.len() < packet_bytes {
        until(begun, taken.len(), packet_bytes);
        if pings && begun.elapsed().as_secs() > pinged {
            pinged += 1;
            stream.write_all(&packet::PINGREQ).unwrap();
        }
        let chunk = (packet_bytes - taken.len()).min(1000);
        take(&mut stream, chunk, &mut taken);
    }
    assert!(begun.elapsed() > 2 * LOST_AFTER, "this proved nothing");
    let pongs = usize::try_from(pinged).unwrap() * 2;
    let mut answers = Vec::new();
    take(&mut stream, pongs, &mut answers);
    assert_eq!((taken[0], answers), (0x30, [0xD0, 0].repeat(pongs / 2)));
    assert_online(&mut stage, &mut stream);
}

#[test]
fn a_device_lives_while_it_sends_a_large_message() {
    let mut stage = Stage::new();
    let mut wire =
        Wire::connect_as(stage.bridge.mqtt(), &Connect { keep_alive: KEEP_ALIVE, ..Connect::of(&stage.device1) });
    stage.bridge.expect("device.online", "device1");
    let payload = format!(r#"{{"properties":{{"a":"{}"}}}}"#, "x".repeat(LARGE_BYTES));
    let report = packet::publish(&stage.device1.topic("properties/report"), payload.as_bytes(), 1, 1);
    let begun = Instant::now();
    let mut sent = 0;
    for chunk in report.chunks(1000) {
        until(begun, sent, report.len());
        wire.send(chunk);
        sent += chunk.len();
    }
    assert!(begun.elapsed() > 2 * LOST_AFTER, "this proved nothing");
    assert_eq!(wire.next_packet(), Packet::answer(packet::PUBACK, 1));
    stage.bridge.expect("device.properties.report", "device1");
}

#[test]
fn a_device_that_takes_no_byte_of_its_command_and_sends_none_is_lost_after_one_and_a_half_keep_alives() {
    let mut stage = Stage::new();
    let (stream, _) = connect_narrow(&mut stage);
    let (_, written) = send_large(&mut stage);
    let offline = stage.bridge.expect("device.offline", "device1");
    assert_eq!(offline["data"]["headers"]["cause"], "keep_alive");
    assert_apart(&written, &offline, LOST_AFTER);
    drop(stream);
}

#[test]
fn a_device_that_pings_lives_although_it_takes_nothing_at_all() {
    let mut stage = Stage::new();
    let (mut stream, _) = connect_narrow(&mut stage);
    let (packet_bytes, _) = send_large(&mut stage);
    let begun = Instant::now();
    for ping in 0..14 {
        until(begun, ping, 14);
        stream.write_all(&packet::PINGREQ).unwrap();
    }
    assert!(begun.elapsed() > 2 * LOST_AFTER, "this proved nothing");
    let mut taken = Vec::new();
    take(&mut stream, packet_bytes + 28, &mut taken);
    assert_eq!(taken[packet_bytes..], [0xD0, 0].repeat(14));
    assert_online(&mut stage, &mut stream);
}

#[test]
fn a_device_lives_while_there_is_no_room_for_what_it_sends() {
    let (bridge, devices, _registry) = frugal(202);
    let (large, halves) = send_halves(&bridge, &devices[2..]);
    let connect = Connect { keep_alive: KEEP_ALIVE, ..Connect::of(&devices[1]) };
    let mut patient = Wire::connect_as(bridge.mqtt(), &connect);
    patient.publish(&devices[1].topic("tags"), &large, 1, 7);
    assert_eq!(patient.next_within(2 * LOST_AFTER), None, "there was room, or it was lost");
    drop(halves);
    assert_eq!(patient.next_packet(), Packet::answer(packet::PUBACK, 7));
}

#[test]
fn the_time_in_which_the_bridge_stands_still_is_no_silence_of_its_devices() {
    let mut stage = Stage::new();
    let (mut wire, online) = connect_with_will(&mut stage, |connect| Connect { keep_alive: KEEP_ALIVE, ..connect });
    stage.bridge.signal(libc::SIGSTOP);
    assert_eq!(wire.next_within(2 * LOST_AFTER), None);
    stage.bridge.signal(libc::SIGCONT);
    // Long enough for the bridge to look at every session once.
    assert_eq!(wire.next_within(LOST_AFTER / 2), None, "closed for the time in which nobody was read");
    wire.send(&packet::PINGREQ);
    assert_eq!(wire.next_packet().header, 0xD0);
    // And then it is.
    let offline = expect_will_and_offline(&mut stage, &online, "keep_alive");
    assert_apart(&online, &offline, 2 * LOST_AFTER + LOST_AFTER / 2 + LOST_AFTER);
    wire.wait_closed();
}
