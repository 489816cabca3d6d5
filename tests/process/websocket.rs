//! MQTT over WebSocket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::http::{HeaderValue, StatusCode};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Error, Message, WebSocket, client};

use crate::support::packet;
use crate::support::wire::{Carrier, dial, dial_tls};
use crate::support::{Bridge, Certificate, Connect, Registration, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// A WebSocket as a stream of bytes: one write, one message.
struct Bytes<S: Carrier> {
    socket: WebSocket<S>,
    received: Vec<u8>,
}

impl<S: Carrier> Read for Bytes<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.received.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.received = bytes.to_vec(),
                Ok(_) => {}
                Err(Error::Io(error)) => return Err(error),
                Err(_) => return Ok(0),
            }
        }
        let taken = self.received.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.received[..taken]);
        self.received.drain(..taken);
        Ok(taken)
    }
}

impl<S: Carrier> Write for Bytes<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.send(Message::Binary(bytes.to_vec().into())).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<S: Carrier> Carrier for Bytes<S> {
    fn tcp(&self) -> &TcpStream {
        self.socket.get_ref().tcp()
    }
}

/// Asks for a WebSocket; the answer, or its status.
fn ask<S: Carrier>(stream: S, path: &str, subprotocol: Option<&str>) -> Result<(WebSocket<S>, Response), StatusCode> {
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    if let Some(name) = subprotocol {
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(name).unwrap());
    }
    client(request, stream).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(Error::Http(response)) => response.status(),
        other => panic!("no answer of HTTP: {other}"),
    })
}

fn open(address: SocketAddr) -> WebSocket<TcpStream> {
    ask(dial(address), "/mqtt", Some("mqtt")).unwrap().0
}

fn start() -> (Bridge, Registry, Vec<Registration>) {
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry).text("mqtt.websocket.listen", "127.0.0.1:0"));
    (bridge, registry, devices)
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(bytes.to_vec().into())
}

/// The next binary message; the connection is expected to go on.
fn next_binary(socket: &mut WebSocket<TcpStream>) -> Vec<u8> {
    loop {
        if let Message::Binary(bytes) = socket.read().unwrap() {
            return bytes.to_vec();
        }
    }
}

#[test]
fn a_device_reports_and_is_commanded_over_websocket_with_tls_and_without() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry)
        .text("mqtt.websocket.listen", "127.0.0.1:0")
        .text("mqtt.websocket_tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path());
    let mut bridge = Bridge::start(&settings);
    for (listener, subprotocol) in [("mqtt.websocket", "mqtt"), ("mqtt.websocket_tls", "mqttv3.1")] {
        let address = bridge.listener(listener);
        let mut wire = if listener == "mqtt.websocket" {
            let (socket, answer) = ask(dial(address), "/mqtt", Some(subprotocol)).unwrap();
            assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], subprotocol);
            Wire::connect_over(Bytes { socket, received: Vec::new() }, &devices[0])
        } else {
            let tls = dial_tls(address, &certificate, |_| {}).unwrap();
            let (socket, answer) = ask(tls, "/mqtt", Some("other, mqttv3.1")).unwrap();
            assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], subprotocol);
            Wire::connect_over(Bytes { socket, received: Vec::new() }, &devices[0])
        };
        bridge.expect("device.online", "device1");
        let large = format!(r#"{{"data":"{}"}}"#, "x".repeat(200_000));
        wire.publish_acknowledged(&devices[0].topic("event/large"), &large, 1);
        assert_eq!(bridge.expect("device.event", "device1")["data"]["data"].as_str().unwrap().len(), 200_000);
        bridge.type_line(
            r#"{"messageType":"READ_PROPERTY","messageId":"m1","productId":"product1","deviceId":"device1","properties":["a"]}"#,
        );
        let command = wire.next_publish();
        wire.reply(&command, r#""properties":{"a":1}"#);
        assert_eq!(bridge.expect("device.properties.read.reply", "device1")["correlationid"], "m1");
        wire.send(&[0xe0, 0]);
        wire.wait_closed();
        assert_eq!(bridge.expect("device.offline", "device1")["data"]["headers"]["cause"], "disconnected");
    }
}

#[test]
fn packets_begin_and_end_anywhere_in_frames() {
    let (mut bridge, _registry, devices) = start();
    let mut socket = open(bridge.listener("mqtt.websocket"));
    let topic = devices[0].topic("tags");
    let publish = |id| packet::publish(&topic, br#"{"tags":{}}"#, 1, id);
    let bytes = [Connect::of(&devices[0]).bytes(), publish(1), publish(2), publish(3)].concat();
    // Small frames, messages of several frames, a ping between two of them.
    for (number, piece) in bytes.chunks(7).enumerate() {
        let opcode = if number % 3 == 0 { Data::Binary } else { Data::Continue };
        let is_last = (number + 1) * 7 >= bytes.len();
        socket
            .send(Message::Frame(Frame::message(piece.to_vec(), OpCode::Data(opcode), number % 3 == 2 || is_last)))
            .unwrap();
        if number == 4 {
            socket.send(Message::Ping(b"there?".to_vec().into())).unwrap();
        }
    }
    let (mut received, mut pong) = (Vec::new(), None);
    while received.len() < 16 || pong.is_none() {
        match socket.read().unwrap() {
            Message::Binary(bytes) => received.extend_from_slice(&bytes),
            Message::Pong(payload) => pong = Some(payload),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pong.unwrap().as_ref(), b"there?");
    assert_eq!(received[..4], [0x20, 2, 0, 0]);
    assert_eq!(received[4..], [0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3]);
    bridge.expect("device.online", "device1");
    for _ in 0..3 {
        bridge.expect("device.tags", "device1");
    }
}

#[test]
fn a_client_that_closes_the_websocket_is_answered_and_its_connection_is_lost() {
    let (mut bridge, _registry, devices) = start();
    let mut socket = open(bridge.listener("mqtt.websocket"));
    socket.send(binary(&Connect::of(&devices[0]).bytes())).unwrap();
    assert_eq!(next_binary(&mut socket), [0x20, 2, 0, 0]);
    bridge.expect("device.online", "device1");
    socket.close(None).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(Some(_)))), "the bridge says good-bye too");
    assert_eq!(bridge.expect("device.offline", "device1")["data"]["headers"]["cause"], "connection_lost");
}

#[test]
fn text_and_broken_frames_close_the_connection_with_their_status() {
    let (mut bridge, _registry, devices) = start();
    let address = bridge.listener("mqtt.websocket");
    let end = |bytes: &[u8]| {
        let mut socket = open(address);
        socket.send(binary(&Connect::of(&devices[0]).bytes())).unwrap();
        assert_eq!(next_binary(&mut socket), [0x20, 2, 0, 0]);
        socket.get_mut().write_all(bytes).unwrap();
        match socket.read() {
            Ok(Message::Close(Some(close))) => u16::from(close.code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end(&[0x81, 0x80, 0, 0, 0, 0]), 1003, "text");
    assert_eq!(end(&[0x82, 0x00]), 1002, "not masked");
    assert_eq!(end(&[0xf2, 0x80, 0, 0, 0, 0]), 1002, "reserved bits");
    for _ in 0..3 {
        bridge.expect("device.online", "device1");
        assert_eq!(bridge.expect("device.offline", "device1")["data"]["headers"]["cause"], "connection_lost");
    }
}

/// Sends a request as it is; the status of the answer.
fn status(address: SocketAddr, request: &str) -> String {
    let mut stream = dial(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    // The end may come as a reset, when the bridge left some of the request unread.
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A request for a WebSocket with further headers.
fn upgrade_with(headers: &str) -> String {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: mqtt";
    format!("GET /mqtt HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n{key}\r\n{headers}\r\n")
}

#[test]
fn a_request_for_a_websocket_has_no_body() {
    let (bridge, _registry, _) = start();
    let address = bridge.listener("mqtt.websocket");
    let status = |headers: &str| status(address, &upgrade_with(headers));
    assert_eq!(status(""), "101");
    assert_eq!(status("Content-Length: 5\r\n"), "400");
    assert_eq!(status("Transfer-Encoding: chunked\r\n"), "400");
    assert_eq!(status("content-length: 0\r\ntransfer-encoding: identity\r\n"), "400");
}

#[test]
fn a_page_of_another_origin_is_refused_where_origins_are_set_and_a_device_has_none() {
    let (bridge, _registry, _) = start();
    let open_to_all = bridge.listener("mqtt.websocket");
    assert_eq!(status(open_to_all, &upgrade_with("Origin: https://anywhere.example\r\n")), "101");
    let (registry, _) = Registry::numbered(1);
    let settings = Settings::stdio(&registry)
        .text("mqtt.websocket.listen", "127.0.0.1:0")
        .toml("mqtt.websocket.origins", r#"["https://Console.example", "http://localhost:8080"]"#);
    let bridge = Bridge::start(&settings);
    let address = bridge.listener("mqtt.websocket");
    let rows = [
        ("", "101"),
        ("Origin: https://console.example\r\n", "101"),
        ("Origin: http://localhost:8080\r\n", "101"),
        ("Origin: http://localhost\r\n", "403"),
        ("Origin: http://console.example\r\n", "403"),
        ("Origin: https://console.example.attacker.example\r\n", "403"),
        ("Origin: null\r\n", "403"),
        ("Origin: https://console.example\r\nOrigin: https://attacker.example\r\n", "403"),
    ];
    for (headers, expected) in rows {
        assert_eq!(status(address, &upgrade_with(headers)), expected, "{headers}");
    }
}

#[test]
fn requests_for_something_else_are_answered_in_http() {
    let (bridge, _registry, _) = start();
    let address = bridge.listener("mqtt.websocket");
    assert_eq!(ask(dial(address), "/other", Some("mqtt")).unwrap_err(), StatusCode::NOT_FOUND);
    assert_eq!(ask(dial(address), "/mqtt", Some("stomp")).unwrap_err(), StatusCode::BAD_REQUEST);
    assert_eq!(ask(dial(address), "/mqtt", None).unwrap_err(), StatusCode::BAD_REQUEST);
    let raw = |request: &str| status(address, request);
    assert_eq!(raw("GET /mqtt HTTP/1.1\r\nHost: a\r\n\r\n"), "426");
    assert_eq!(raw("POST /mqtt HTTP/1.1\r\nHost: a\r\n\r\n"), "405");
    assert_eq!(raw("nonsense\r\n\r\n"), "400");
    assert_eq!(raw(&format!("GET /mqtt HTTP/1.1\r\nA: {}", "a".repeat(8_192 - 23))), "431");
    eventually("each is counted", PATIENCE, || {
        let refused = bridge.metric("jetlinks_bridge_connects_total", &["websocket_handshake"]);
        (refused == 7.0).then_some(())
    });
}

#[test]
fn a_flood_of_pings_that_nobody_reads_the_answers_of_takes_no_memory() {
    let (mut bridge, _registry, devices) = start();
    let mut socket = open(bridge.listener("mqtt.websocket"));
    socket.send(binary(&Connect::of(&devices[0]).bytes())).unwrap();
    assert_eq!(next_binary(&mut socket), [0x20, 2, 0, 0]);
    let before = bridge.process().resident_bytes();
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'p'; 125]].concat();
    let wave = ping.repeat(1_000);
    for _ in 0..300 {
        socket.get_mut().write_all(&wave).unwrap();
    }
    socket.send(binary(&packet::publish(&devices[0].topic("tags"), br#"{"tags":{}}"#, 0, 0))).unwrap();
    bridge.expect("device.online", "device1");
    bridge.expect("device.tags", "device1");
    let grown = bridge.process().resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for pings");
}

#[test]
fn the_answer_to_a_refused_device_arrives_over_websocket() {
    let (bridge, _registry, devices) = start();
    let liar = Registration { secure_key: "wrong".to_owned(), ..devices[0].clone() };
    let mut socket = open(bridge.listener("mqtt.websocket"));
    socket.send(binary(&Connect::of(&liar).bytes())).unwrap();
    assert_eq!(next_binary(&mut socket), [0x20, 2, 0, 4]);
    assert!(matches!(socket.read(), Ok(Message::Close(Some(_)))));
}
