//! DTLS handshakes, and sessions that say nothing.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::processor;
use crate::support::bridge::command;
use crate::support::{Bridge, Certificate, Process, Registration, Registry, Settings, eventually};

/// For all sessions to be there, and then to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// After this silence every session has given its buffers back.
const REST: Duration = Duration::from_secs(15);

/// Measures both kinds of certificates.
pub(crate) fn measure(sessions: u32) {
    println!("\n{sessions} DTLS sessions, one worker, each with one request for a token:");
    println!("{:<12} {:>16} {:>14} {:>16} {:>18}", "", "us a handshake", "handshakes/s", "bytes each", "resting");
    for (name, certificate) in [("EC P-256", Certificate::elliptic()), ("RSA 2048", Certificate::rsa())] {
        measure_one(name, &certificate, sessions);
    }
}

fn measure_one(name: &str, certificate: &Certificate, sessions: u32) {
    let devices: Vec<_> = (1..=sessions).map(|number| Registration::encrypting(&format!("device{number}"))).collect();
    let registry = Registry::new(&devices);
    let settings = Settings::stdio(&registry).text("commands.queue", "none").coap(certificate);
    let mut bridge = Bridge::start(&settings.toml("limits.connect_rate", "1000000"));
    let id = bridge.process().id();
    let before = (processor::time_us(id), bridge.process().resident_bytes(), Instant::now());
    let mut call = command();
    call.args(["simulate", "--transport", "dtls", "--hold", "--quiet", "--duration", "300s"])
        // Not more at once than may be half open.
        .args(["--connect-rate", "2000", "--address", &bridge.listener("dtls").to_string()])
        .args(["--devices", &sessions.to_string(), "--registry"])
        .arg(registry.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut devices = Process::spawn(&mut call, None);
    eventually("all devices have their token", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_coap_tokens_total", &[]) as u32 >= sessions).then_some(())
    });
    let seconds = before.2.elapsed().as_secs_f64();
    let after = (processor::time_us(id), bridge.process().resident_bytes());
    let rested = Instant::now() + REST;
    eventually("the sessions rest", PATIENCE, || (Instant::now() >= rested).then_some(()));
    let resting = bridge.process().resident_bytes();
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(sessions);
    let rate = f64::from(sessions) / seconds;
    println!(
        "{name:<12} {:>16.1} {rate:>14.0} {:>16.0} {:>18.0}",
        each(before.0, after.0),
        each(before.1, after.1),
        each(before.1, resting)
    );
    devices.stop(Duration::from_secs(30));
}
