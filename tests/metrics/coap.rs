//! Devices over CoAP, without DTLS and with it.

use std::io::{self, Read, Write};
use std::net::UdpSocket;

use jetlinks_bridge::codec::coap::{Code, Kind, MessageBuilder, MessageToken, decode, option};
use jetlinks_bridge::session::coap::sign_token_request;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslVerifyMode};

use crate::page::Seen;
use crate::support::coap::{Datagrams, anywhere, socket};
use crate::support::registry::now_ms;
use crate::support::{Bridge, Certificate, CoapDevice, Registration, Registry, Settings, Wire, eventually, port};
use crate::{PATIENCE, wait_counted};

const REPORT: &str = r#"{"properties":{"a":1}}"#;

/// A critical option that nobody knows.
const UNKNOWN_OPTION: u16 = 9999;

/// Media type CBOR.
const FORMAT_CBOR: u32 = 60;

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    let certificate = Certificate::elliptic();
    plain(&mut seen);
    secured(&mut seen, &certificate);
    full(&mut seen, &certificate);
    away(&mut seen);
    drain(&mut seen);
    seen
}

/// A request that asks for no acknowledgement.
pub(crate) fn unconfirmed(device: &mut CoapDevice, registration: &Registration) -> Vec<u8> {
    let mut datagram = device.encrypted(registration, "properties/report", REPORT).encode();
    // The second of the four types (RFC 7252 section 3).
    datagram[0] |= 0x10;
    datagram
}

fn plain(seen: &mut Seen) {
    let (good, short) = (Registration::encrypting("device1"), Registration::new("device2"));
    let short = Registration { secure_key: "short".to_owned(), ..short };
    let disabled = Registration::encrypting("device3").disabled();
    let registry = Registry::new(&[good.clone(), short.clone(), disabled.clone()]);
    let settings = Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0").text("coap.max_age", "1h");
    let bridge = Bridge::start(&settings.text("limits.packet_bytes", "4KiB"));
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    #[track_caller]
    fn expect(device: &mut CoapDevice, request: MessageBuilder, code: Code) {
        assert_eq!(device.request(&request).code(), code);
    }
    let report = device.encrypted(&good, "properties/report", REPORT);
    expect(&mut device, report.clone(), Code::CREATED);
    expect(&mut device, report, Code::CREATED);
    wait_counted(&bridge, "coap_duplicates_total", &[]);
    let time = device.encrypted(&good, "time-sync", "{}");
    expect(&mut device, time, Code::CONTENT);
    let time = device.encrypted(&good, "time-sync", "{}").uint(option::ACCEPT, FORMAT_CBOR);
    expect(&mut device, time, Code::NOT_ACCEPTABLE);
    // Block 0 with more to come, 16 bytes each; then one whose neighbours are missing.
    let first = device.post(&good.id, &good.topic("tags")).uint(option::BLOCK1, 0x08).payload(&[0; 16]);
    expect(&mut device, first, Code::CONTINUE);
    let third = device.post(&good.id, &good.topic("log")).uint(option::BLOCK1, 0x28).payload(&[0; 16]);
    expect(&mut device, third, Code::REQUEST_ENTITY_INCOMPLETE);
    let broken = device.encrypted(&good, "tags", r#"{"tags":1}"#);
    expect(&mut device, broken, Code::BAD_REQUEST);
    let unproven = device.encrypted(&good, "tags", "no JSON");
    expect(&mut device, unproven, Code::UNAUTHORIZED);
    let nowhere = device.encrypted(&good, "nowhere", "{}");
    expect(&mut device, nowhere, Code::NOT_FOUND);
    let other = Registration { id: "device9".to_owned(), ..good.clone() };
    let foreign = device.post(&good.id, "/product1/device9/tags").payload(&encrypted_payload(&good));
    expect(&mut device, foreign, Code::FORBIDDEN);
    let large = device.encrypted(&good, "tags", &format!("{{}}{}", " ".repeat(5_000)));
    expect(&mut device, large, Code::REQUEST_ENTITY_TOO_LARGE);
    let unknown_option = device.post(&good.id, &good.topic("tags")).option(UNKNOWN_OPTION, b"x");
    expect(&mut device, unknown_option, Code::BAD_OPTION);
    let proxied = device.post(&good.id, &good.topic("tags")).option(option::PROXY_SCHEME, b"coap");
    expect(&mut device, proxied, Code::PROXYING_NOT_SUPPORTED);
    let cbor = device.encrypted(&good, "tags", "{}").uint(option::CONTENT_FORMAT, FORMAT_CBOR);
    expect(&mut device, cbor, Code::UNSUPPORTED_CONTENT_FORMAT);
    let id = device.message_id();
    let token = MessageToken::new(&id.to_be_bytes()).unwrap();
    let get = MessageBuilder::new(Kind::Confirmable, Code::GET, id, token).path(&good.topic("tags"));
    expect(&mut device, get.option(option::DEVICE_ID, good.id.as_bytes()), Code::METHOD_NOT_ALLOWED);

    let id = device.message_id();
    let token = MessageToken::new(&id.to_be_bytes()).unwrap();
    let nameless = MessageBuilder::new(Kind::Confirmable, Code::POST, id, token).path(&good.topic("tags"));
    expect(&mut device, nameless, Code::UNAUTHORIZED);
    for registration in [&other, &disabled] {
        let request = device.encrypted(registration, "tags", "{}");
        expect(&mut device, request, Code::UNAUTHORIZED);
    }
    let short = device.post(&short.id, &short.topic("tags")).payload(&[0; 16]);
    expect(&mut device, short, Code::UNAUTHORIZED);
    let garbled = device.post(&good.id, &good.topic("tags")).payload(&[7; 16]);
    expect(&mut device, garbled, Code::UNAUTHORIZED);
    let old = device.encrypted(&good, "properties/report", r#"{"timestamp":1,"properties":{}}"#);
    expect(&mut device, old, Code::UNAUTHORIZED);
    device.send(b"noise");
    wait_counted(&bridge, "coap_noise_total", &[]);
    wait_counted(&bridge, "sent_bytes_total", &["coap"]);
    wait_counted(&bridge, "connections", &["coap", "open"]);
    seen.scrape(&bridge);
}

fn encrypted_payload(registration: &Registration) -> Vec<u8> {
    use jetlinks_bridge::protocol::cipher;
    cipher::encrypt(cipher::key(&registration.secure_key).unwrap(), b"{}")
}

fn secured(seen: &mut Seen, certificate: &Certificate) {
    let devices = [Registration::encrypting("device1"), Registration::encrypting("device2")];
    let registry = Registry::new(&devices);
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(certificate).text("dtls.token_ttl", "8s"));
    let [good, other] = &devices;
    let mut device = CoapDevice::dtls(bridge.listener("dtls"));
    let token = device.token(good);
    let request = device.with_token(good, &token, "properties/report", REPORT);
    assert_eq!(device.request(&request).code(), Code::CREATED);
    wait_counted(&bridge, "dtls_sessions", &[]);
    wait_counted(&bridge, "sent_bytes_total", &["dtls"]);
    seen.scrape(&bridge);
    let mut asking = CoapDevice::dtls(bridge.listener("dtls"));
    let mut grant = |timestamp: i64, key: &str| {
        let payload = format!(r#"{{"timestamp":{timestamp}}}"#);
        let signature = sign_token_request(payload.as_bytes(), key);
        let request = asking.post(&good.id, "/auth").option(option::SIGNATURE, &signature).payload(payload.as_bytes());
        assert_eq!(asking.request(&request).code(), Code::UNAUTHORIZED);
    };
    grant(now_ms(), "another key");
    grant(1, &good.secure_key);
    let tokenless = device.post(&good.id, &good.topic("tags")).payload(b"{}");
    assert_eq!(device.request(&tokenless).code(), Code::UNAUTHORIZED);
    let stolen = device.with_token(other, &token, "tags", "{}");
    assert_eq!(device.request(&stolen).code(), Code::UNAUTHORIZED);
    eventually("the token has expired", PATIENCE, || {
        let request = device.with_token(good, &token, "properties/report", REPORT);
        (device.request(&request).code() == Code::UNAUTHORIZED).then_some(())
    });
    wait_counted(&bridge, "coap_refused_total", &["expired_token"]);
    assert!(try_with_trust(bridge.listener("dtls")).is_err(), "nobody vouches for the certificate");
    wait_counted(&bridge, "dtls_handshakes_total", &["failed"]);
    let mut half = socket(anywhere(), bridge.listener("dtls"));
    begin_handshake(&mut half);
    wait_counted(&bridge, "connections", &["dtls", "opening"]);
    seen.scrape(&bridge);
}

fn client() -> openssl::ssl::SslContextBuilder {
    let mut context = SslContext::builder(SslMethod::dtls_client()).unwrap();
    context.set_options(SslOptions::NO_QUERY_MTU);
    context.set_read_ahead(true);
    context
}

/// A handshake of a client that wants a certificate which somebody vouches for.
fn try_with_trust(server: std::net::SocketAddr) -> Result<(), String> {
    let mut context = client();
    context.set_verify(SslVerifyMode::PEER);
    let mut ssl = Ssl::new(&context.build()).unwrap();
    ssl.set_mtu(1200).unwrap();
    ssl.connect(Datagrams(socket(anywhere(), server))).map(drop).map_err(|error| error.to_string())
}

/// Two flights of a client, and then nothing more.
fn begin_handshake(link: &mut UdpSocket) {
    /// Lets two datagrams out.
    #[derive(Debug)]
    struct Short<'a>(&'a UdpSocket, usize);
    impl Read for Short<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1 == 0 {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.0.recv(buffer)
        }
    }
    impl Write for Short<'_> {
        fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
            self.1 = self.1.checked_sub(1).ok_or(io::ErrorKind::ConnectionAborted)?;
            self.0.send(datagram)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut ssl = Ssl::new(&client().build()).unwrap();
    ssl.set_mtu(1200).unwrap();
    assert!(ssl.connect(Short(link, 2)).is_err());
}

/// One session is all that there may be.
fn full(seen: &mut Seen, certificate: &Certificate) {
    let device = Registration::encrypting("device1");
    let registry = Registry::new(std::slice::from_ref(&device));
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(certificate).toml("limits.connections", "1"));
    let _silent = CoapDevice::dtls(bridge.listener("dtls"));
    // It makes room for who authenticates.
    CoapDevice::dtls(bridge.listener("dtls")).token(&device);
    wait_counted(&bridge, "dtls_unauthenticated_total", &[]);
    let second = socket(anywhere(), bridge.listener("dtls"));
    second.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let mut ssl = Ssl::new(&client().build()).unwrap();
    ssl.set_mtu(1200).unwrap();
    assert!(ssl.connect(Datagrams(second)).is_err());
    wait_counted(&bridge, "dtls_handshakes_total", &["refused"]);
    seen.scrape(&bridge);
}

/// Neither a registry nor a queue answers.
fn away(seen: &mut Seen) {
    let good = Registration::encrypting("device1");
    let registry = Registry::new(std::slice::from_ref(&good));
    let settings = Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0");
    let nobody = port::free_port();
    let without_registry = settings
        .clone()
        .text("registry.source", "http")
        .text("registry.http.url", &format!("http://127.0.0.1:{nobody}/"))
        .text("registry.http.timeout", "200ms");
    let without_queue = settings
        .text("uplink.queue", "nats")
        .text("commands.queue", "none")
        .toml("nats.servers", &format!("[\"nats://127.0.0.1:{nobody}\"]"));
    for (settings, reason) in [(without_registry, "registry_away"), (without_queue, "queue_away")] {
        let bridge = Bridge::start_unready(&settings);
        let mut device = CoapDevice::plain(bridge.listener("coap"));
        let datagram = unconfirmed(&mut device, &good);
        device.send(&datagram);
        assert_eq!(device.receive().unwrap().code(), Code::SERVICE_UNAVAILABLE);
        wait_counted(&bridge, "coap_dropped_total", &[reason]);
        seen.scrape(&bridge);
    }
}

fn drain(seen: &mut Seen) {
    // One a second: more than the test takes seconds.
    let devices: Vec<_> = (1..=20).map(|number| Registration::encrypting(&format!("device{number}"))).collect();
    let registry = Registry::new(&devices);
    let settings = Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0").toml("drain.rate", "1");
    let bridge = Bridge::start(&settings);
    let _wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    bridge.signal(libc::SIGTERM);
    wait_counted(&bridge, "draining", &[]);
    let datagram = unconfirmed(&mut device, &devices[0]);
    device.send(&datagram);
    assert!(decode(&datagram).is_ok() && device.receive().unwrap().code() == Code::SERVICE_UNAVAILABLE);
    wait_counted(&bridge, "coap_dropped_total", &["draining"]);
    seen.scrape(&bridge);
}
