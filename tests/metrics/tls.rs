//! TLS and WebSocket, and certificates that change.

use std::io::{Read, Write};

use openssl::ssl::{SslConnectorBuilder, SslFiletype, SslVerifyMode};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, client};

use crate::page::Seen;
use crate::support::wire::{dial, dial_tls};
use crate::support::{Bridge, Certificate, Connect, Folder, Operator, Registry, Settings, Wire};
use crate::wait_counted;

/// Opens a session over WebSocket; it stays while the stream does.
fn enter_websocket<S: Read + Write>(stream: S, connect: &Connect) -> tungstenite::WebSocket<S> {
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let Ok((mut socket, _)) = client(request, stream) else { panic!("no WebSocket") };
    socket.send(Message::Binary(connect.bytes().into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Binary(vec![0x20, 2, 0, 0].into()));
    socket
}

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    let mut server = Certificate::elliptic();
    let authority = Certificate::elliptic();
    let (registry, devices) = Registry::numbered(3);
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &server.path())
        .text("mqtt.tls.private_key", &server.key_path())
        .text("mqtt.tls.client_ca", &authority.path())
        .text("mqtt.websocket.listen", "127.0.0.1:0")
        .text("mqtt.websocket_tls.listen", "127.0.0.1:0");
    let bridge = Bridge::start(&settings.coap(&server));
    let names = ["device1", "device2"].map(|name| authority.sign(name, &[]));
    let show = |connector: &mut SslConnectorBuilder, own: &Certificate| {
        connector.set_verify(SslVerifyMode::NONE);
        connector.set_certificate_file(own.path(), SslFiletype::PEM).unwrap();
        connector.set_private_key_file(own.key_path(), SslFiletype::PEM).unwrap();
    };
    let dial_as = |listener: &str, own: &Certificate| {
        dial_tls(bridge.listener(listener), &authority, |connector| show(connector, own)).unwrap()
    };
    let _tls = Wire::connect_over(dial_as("mqtt.tls", &names[0]), &devices[0]);
    let _websocket_tls = enter_websocket(dial_as("mqtt.websocket_tls", &names[1]), &Connect::of(&devices[1]));
    let _websocket = enter_websocket(dial(bridge.listener("mqtt.websocket")), &Connect::of(&devices[2]));
    let mut wrong = Wire::over(dial_as("mqtt.tls", &names[0]));
    wrong.send(&Connect::of(&devices[1]).bytes());
    assert_eq!(wrong.next_packet().body, [0, 4]);
    wrong.wait_closed();
    let mut bare = Wire::open(bridge.listener("mqtt.tls"));
    bare.send(&Connect::of(&devices[0]).bytes());
    let mut page = dial(bridge.listener("mqtt.websocket"));
    page.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    wait_counted(&bridge, "connects_total", &["tls_handshake"]);
    wait_counted(&bridge, "connects_total", &["websocket_handshake"]);
    for way in ["mqtt_tls", "websocket", "websocket_tls"] {
        for direction in ["received", "sent"] {
            wait_counted(&bridge, &format!("{direction}_bytes_total"), &[&format!("\"{way}\"")]);
        }
    }
    seen.scrape(&bridge);

    server.spoil();
    for name in ["mqtt", "dtls"] {
        wait_counted(&bridge, "certificate_stale", &[name]);
    }
    seen.scrape(&bridge);
    server.renew();
    wait_counted(&bridge, "certificate_reloads_total", &["replaced"]);
    seen.scrape(&bridge);
    as_client(&mut seen, &names[0]);
    seen
}

/// Certificates and credentials that the bridge shows to its queues; nobody has to be there.
fn as_client(seen: &mut Seen, own: &Certificate) {
    const EXPIRY: u64 = 4_000_000_000;
    let (nobody, _) = Registry::numbered(0);
    let folder = Folder::new("credentials");
    let credentials = folder.write("bridge.creds", &Operator::new().credentials_until(EXPIRY));
    let settings = Settings::stdio(&nobody)
        .text("uplink.queue", "kafka")
        .text("commands.queue", "nats")
        .text("kafka.brokers", "127.0.0.1:1")
        .text("kafka.properties.security.protocol", "ssl")
        .text("kafka.properties.ssl.certificate.location", &own.path())
        .text("kafka.properties.ssl.key.location", &own.key_path())
        .toml("nats.servers", "[\"tls://127.0.0.1:1\"]")
        .text("nats.tls.certificate", &own.path())
        .text("nats.tls.private_key", &own.key_path())
        .text("nats.credentials_file", &credentials.display().to_string());
    let bridge = Bridge::start_unready(&settings);
    for (name, expiry) in [("kafka_client", own.expiry()), ("nats_client", own.expiry()), ("nats_credentials", EXPIRY)]
    {
        wait_counted(&bridge, "certificate_expiry_timestamp_seconds", &[name]);
        let told = bridge.metric("jetlinks_bridge_certificate_expiry_timestamp_seconds", &[name]);
        assert_eq!(told, expiry as f64, "{name}");
    }
    seen.scrape(&bridge);
}
