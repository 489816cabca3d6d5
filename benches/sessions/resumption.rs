//! Handshakes of TLS, full and resumed, without a CONNECT.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use jetlinks_bridge::simulate::AnyServer;
use tokio_rustls::rustls::client::{ClientConnection, Resumption};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use crate::processor;
use crate::support::{Bridge, Certificate, Registry, Settings};

/// Rounds of full and of resumed handshakes in turn, of which the median is told.
const ROUNDS: usize = 5;

/// Measures both versions with both kinds of certificates, `handshakes` in each round.
pub(crate) fn measure(handshakes: u32) {
    println!(
        "\n{handshakes} TLS handshakes a round, one worker, no CONNECT; us of the bridge, medians of {ROUNDS} rounds:"
    );
    println!("| version | EC P-256, full | resumed | RSA 2048, full | resumed |\n|---|---|---|---|---|");
    let certificates = [Certificate::elliptic(), Certificate::rsa()];
    for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
        let cells = certificates.each_ref().map(|certificate| {
            let [full, resumed] = measure_one(certificate, version, handshakes);
            format!("{full:.0} | {resumed:.0}")
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
}

/// Medians of full and of resumed handshakes.
fn measure_one(certificate: &Certificate, version: &'static SupportedProtocolVersion, handshakes: u32) -> [f64; 2] {
    let (registry, _) = Registry::numbered(1);
    let settings = Settings::stdio(&registry)
        .text("commands.queue", "none")
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.ticket_key", "a key of this benchmark alone")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path())
        .toml("limits.connect_rate", "1000000");
    let mut bridge = Bridge::start(&settings);
    let id = bridge.process().id();
    let address = bridge.listener("mqtt.tls");
    let clients =
        [Resumption::disabled(), Resumption::in_memory_sessions(4)].map(|resumption| client(version, resumption));
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for ((place, config), us) in clients.iter().enumerate().zip(&mut rounds) {
            let expected = if place == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            // The first of those that resume gets a ticket.
            let connect = || shake_hands(TcpStream::connect(address)?, config);
            connect().expect("the bridge takes connections");
            let before = processor::time_us(id);
            let kinds = (0..handshakes).map(|_| connect().expect("the bridge takes connections"));
            let count = kinds.filter(|kind| *kind == Some(expected)).count();
            assert_eq!(count, handshakes as usize, "handshakes that are {expected:?}");
            us.push(processor::time_us(id).saturating_sub(before) as f64 / f64::from(handshakes));
        }
    }
    rounds.map(|mut us| {
        us.sort_by(f64::total_cmp);
        us[ROUNDS / 2]
    })
}

/// Shakes hands and reads up to the end of the connection, which comes with the tickets.
fn shake_hands(mut stream: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Option<HandshakeKind>> {
    stream.set_nodelay(true)?;
    let server = ServerName::from(stream.peer_addr()?.ip());
    let mut connection = ClientConnection::new(Arc::clone(config), server).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let kind = connection.handshake_kind();
    connection.send_close_notify();
    connection.write_tls(&mut stream)?;
    stream.flush()?;
    while connection.read_tls(&mut stream)? > 0 {
        connection.process_new_packets().map_err(io::Error::other)?;
    }
    Ok(kind)
}

fn client(version: &'static SupportedProtocolVersion, resumption: Resumption) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .expect("ring has both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer::new(provider)))
        .with_no_client_auth();
    config.resumption = resumption;
    Arc::new(config)
}
