//! Handshakes of TLS and DTLS, and sessions that say nothing.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::processor;
use crate::support::bridge::command;
use crate::support::{Bridge, Certificate, Process, Registration, Registry, Settings, eventually};

/// For all sessions to be there, and then to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at the metrics. The bridge writes the page for each of them, and that counts as cost of the handshakes.
const LOOK: Duration = Duration::from_millis(500);

/// After this silence every session has given its buffers back.
const REST: Duration = Duration::from_secs(15);

/// Layer below the sessions.
#[derive(Clone, Copy)]
enum Layer {
    /// MQTT over TLS.
    Tls,
    /// CoAP over DTLS.
    Dtls,
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Dtls => "DTLS",
        }
    }

    fn transport(self) -> &'static str {
        match self {
            Self::Tls => "mqtts",
            Self::Dtls => "dtls",
        }
    }

    /// Name of the listener in the log.
    fn listener(self) -> &'static str {
        match self {
            Self::Tls => "mqtt.tls",
            Self::Dtls => "dtls",
        }
    }

    fn settings(self, registry: &Registry, certificate: &Certificate) -> Settings {
        let settings = Settings::stdio(registry).text("commands.queue", "none");
        match self {
            Self::Tls => settings
                .text("mqtt.tls.listen", "127.0.0.1:0")
                .text("mqtt.tls.certificate", &certificate.path())
                .text("mqtt.tls.private_key", &certificate.key_path()),
            Self::Dtls => settings.coap(certificate),
        }
    }

    /// Devices that are let in by now.
    fn devices(self, bridge: &Bridge) -> u32 {
        let devices = match self {
            Self::Tls => bridge.metric("jetlinks_bridge_sessions", &[]),
            Self::Dtls => bridge.metric("jetlinks_bridge_coap_tokens_total", &[]),
        };
        devices as u32
    }
}

/// Measures both layers with both kinds of certificates.
pub(crate) fn measure(sessions: u32) {
    println!("\n{sessions} sessions, one worker; a handshake and its CONNECT, or its request for a token:");
    println!("{:<15} {:>16} {:>14} {:>16} {:>18}", "", "us a handshake", "handshakes/s", "bytes each", "resting");
    let certificates = [("EC P-256", Certificate::elliptic()), ("RSA 2048", Certificate::rsa())];
    for layer in [Layer::Tls, Layer::Dtls] {
        for (name, certificate) in &certificates {
            measure_one(layer, name, certificate, sessions);
        }
    }
}

fn measure_one(layer: Layer, name: &str, certificate: &Certificate, sessions: u32) {
    let devices: Vec<_> = (1..=sessions).map(|number| Registration::encrypting(&format!("device{number}"))).collect();
    let registry = Registry::new(&devices);
    let settings = layer.settings(&registry, certificate).toml("limits.connect_rate", "1000000");
    let mut bridge = Bridge::start(&settings);
    let id = bridge.process().id();
    let before = (processor::time_us(id), bridge.process().resident_bytes(), Instant::now());
    let mut call = command();
    call.args(["simulate", "--transport", layer.transport(), "--hold", "--quiet", "--duration", "300s"])
        // Not more at once than may be half open.
        .args(["--connect-rate", "2000", "--address", &bridge.listener(layer.listener()).to_string()])
        .args(["--devices", &sessions.to_string(), "--registry"])
        .arg(registry.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut devices = Process::spawn(&mut call, None);
    eventually("all devices are let in", PATIENCE, || {
        thread::park_timeout(LOOK);
        (layer.devices(&bridge) >= sessions).then_some(())
    });
    let seconds = before.2.elapsed().as_secs_f64();
    let after = (processor::time_us(id), bridge.process().resident_bytes());
    let rested = Instant::now() + REST;
    eventually("the sessions rest", PATIENCE, || (Instant::now() >= rested).then_some(()));
    let resting = bridge.process().resident_bytes();
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(sessions);
    let rate = f64::from(sessions) / seconds;
    println!(
        "{:<15} {:>16.1} {rate:>14.0} {:>16.0} {:>18.0}",
        format!("{} {name}", layer.name()),
        each(before.0, after.0),
        each(before.1, after.1),
        each(before.1, resting)
    );
    devices.stop(Duration::from_secs(30));
}
