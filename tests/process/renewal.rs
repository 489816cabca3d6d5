//! Certificates that change while devices are connected.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jetlinks_bridge::codec::coap::Code;
use openssl::ssl::SslVerifyMode;

use crate::support::bridge::{run, wait_for_log};
use crate::support::wire::dial_tls;
use crate::support::{Bridge, Certificate, CoapDevice, Folder, Registration, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const DEVICES: usize = 20;

/// Devices that report without a pause until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    devices: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, certificate: &Certificate, devices: &[Registration]) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let device = |device: &Registration| {
            let tls = dial_tls(address, certificate, |_| {}).unwrap();
            let mut wire = Wire::connect_over(tls, device);
            let (topic, stop, acknowledged) = (device.topic("tags"), stop.clone(), acknowledged.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    wire.publish_acknowledged(&topic, r#"{"tags":{}}"#, 1);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let devices = devices.iter().map(device).collect();
        Self { stop, acknowledged, devices }
    }

    /// Waits until every device has reported again, more or less.
    fn wait_for_more(&self) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        eventually("devices are acknowledged", PATIENCE, || {
            (self.acknowledged.load(Ordering::Relaxed) > before + 2 * DEVICES as u64).then_some(())
        });
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.devices.into_iter().for_each(|device| device.join().expect("no connection was dropped"));
    }
}

/// The certificate that a new handshake is shown, in DER.
fn shown(address: SocketAddr, any: &Certificate) -> Vec<u8> {
    let tls = dial_tls(address, any, |connector| connector.set_verify(SslVerifyMode::NONE)).unwrap();
    tls.ssl().peer_certificate().unwrap().to_der().unwrap()
}

#[test]
fn a_renewed_certificate_is_shown_to_new_devices_and_drops_no_connection() {
    let (registry, devices) = Registry::numbered(DEVICES);
    let mut certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path());
    let bridge = Bridge::start(&settings);
    let address = bridge.listener("mqtt.tls");
    let load = Load::start(address, &certificate, &devices);
    let first = certificate.der();
    assert_eq!(shown(address, &certificate), first);
    let expiry = "jetlinks_bridge_certificate_expiry_timestamp_seconds";
    assert!(bridge.metric(expiry, &["mqtt"]) > 1.7e9);

    certificate.spoil();
    let stale = "jetlinks_bridge_certificate_stale";
    eventually("the broken pair is told", PATIENCE, || (bridge.metric(stale, &["mqtt"]) == 1.0).then_some(()));
    assert!(bridge.log().contains("the one before stays in force"), "{}", bridge.log());
    assert_eq!(shown(address, &certificate), first, "the pair before stays in force");
    load.wait_for_more();

    certificate.renew();
    let second = certificate.der();
    eventually("the new certificate is shown", PATIENCE, || (shown(address, &certificate) == second).then_some(()));
    eventually("nothing is stale", PATIENCE, || (bridge.metric(stale, &["mqtt"]) == 0.0).then_some(()));
    let reloads = "jetlinks_bridge_certificate_reloads_total";
    assert_eq!((bridge.metric(reloads, &["refused"]), bridge.metric(reloads, &["replaced"])), (1.0, 1.0));
    load.wait_for_more();
    assert_eq!(bridge.metric("jetlinks_bridge_sessions", &[]), DEVICES as f64);
    load.finish();
}

#[test]
fn an_expired_certificate_does_not_replace_a_valid_one() {
    let (registry, _) = Registry::numbered(1);
    let mut certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path());
    let bridge = Bridge::start(&settings);
    let address = bridge.listener("mqtt.tls");
    let (first, expiry) = (certificate.der(), certificate.expiry());
    let metric = |name: &str, label: &str| bridge.metric(&format!("jetlinks_bridge_certificate_{name}"), &[label]);

    certificate.renew_expired();
    eventually("it is told", PATIENCE, || (metric("stale", "mqtt") == 1.0).then_some(()));
    wait_for_log(&bridge, &["ERROR", "a renewed certificate cannot be used", "mqtt.tls.certificate: it has expired"]);
    let any = Certificate::elliptic();
    assert_eq!(shown(address, &any), first);
    assert_eq!(metric("expiry_timestamp_seconds", "mqtt"), expiry as f64);
    assert_eq!((metric("reloads_total", "refused"), metric("reloads_total", "replaced")), (1.0, 0.0));

    certificate.renew();
    let second = certificate.der();
    eventually("the valid one is shown", PATIENCE, || (shown(address, &any) == second).then_some(()));
    eventually("nothing is stale", PATIENCE, || (metric("stale", "mqtt") == 0.0).then_some(()));
}

#[test]
fn a_bridge_that_starts_with_an_expired_certificate_takes_any_other_one() {
    let (registry, _) = Registry::numbered(1);
    let mut certificate = Certificate::elliptic();
    certificate.renew_expired();
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path());
    let bridge = Bridge::start(&settings);
    wait_for_log(&bridge, &["ERROR", "the certificate has expired"]);
    certificate.renew_expired();
    let (address, any) = (bridge.listener("mqtt.tls"), Certificate::elliptic());
    eventually("the other one is shown", PATIENCE, || (shown(address, &any) == certificate.der()).then_some(()));
}

#[test]
fn a_renewed_certificate_is_shown_to_new_devices_over_dtls_and_ends_no_session() {
    let (registry, devices) = Registry::numbered(1);
    let mut certificate = Certificate::elliptic();
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let server = bridge.listener("dtls");
    let mut device = CoapDevice::dtls(server);
    let token = device.token(&devices[0]);
    assert_eq!(device.certificate(), certificate.der());

    certificate.renew();
    eventually("the new certificate is shown", PATIENCE, || {
        (CoapDevice::dtls(server).certificate() == certificate.der()).then_some(())
    });
    let report = device.with_token(&devices[0], &token, "tags", r#"{"tags":{}}"#);
    assert_eq!(device.request(&report).code(), Code::CREATED, "the session goes on");
}

#[test]
fn files_that_cannot_be_used_are_told_before_a_port_is_bound() {
    let (registry, _) = Registry::numbered(1);
    let (tls, dtls) = (Certificate::elliptic(), Certificate::elliptic());
    tls.spoil();
    dtls.spoil();
    let settings = Settings::stdio(&registry)
        .coap(&dtls)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &tls.path())
        .text("mqtt.tls.private_key", &tls.key_path());
    let folder = Folder::new("config");
    let path = folder.write("bridge.toml", &settings.render()).display().to_string();
    for subcommand in ["run", "check"] {
        let finished = run(&[subcommand, "--config", &path], "");
        assert_eq!(finished.code, 78, "{finished:?}");
        for key in ["mqtt.tls.private_key", "dtls.private_key"] {
            assert!(finished.stderr.contains(key), "both at once: {}", finished.stderr);
        }
        assert!(!finished.stderr.contains("listening"), "{}", finished.stderr);
    }
}

#[test]
fn all_files_that_are_missing_are_told_at_once() {
    let (registry, _) = Registry::numbered(1);
    let folder = Folder::new("config");
    let missing = |name: &str| folder.path().join(name).display().to_string();
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &missing("certificate"))
        .text("mqtt.tls.private_key", &missing("key"))
        .text("mqtt.tls.client_ca", &missing("ca"));
    let path = folder.write("bridge.toml", &settings.render()).display().to_string();
    let finished = run(&["check", "--config", &path], "");
    assert_eq!(finished.code, 78, "{finished:?}");
    for key in ["mqtt.tls.certificate", "mqtt.tls.private_key", "mqtt.tls.client_ca"] {
        assert!(finished.stderr.contains(key), "{key}: {}", finished.stderr);
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_told_and_keeps_no_end_waiting() {
    let (registry, _) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path());
    let mut bridge = Bridge::start(&settings);
    for path in [certificate.key_path(), registry.path().display().to_string()] {
        std::fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    }
    for metric in ["jetlinks_bridge_certificate_stale", "jetlinks_bridge_registry_stale"] {
        eventually("it is told", PATIENCE, || (bridge.metric(metric, &[]) == 1.0).then_some(()));
    }
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
}
