//! Sessions of TLS that OpenSSL resumes, at another bridge than that which gave the ticket.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::bridge::wait_for_log;
use crate::support::{Bridge, Certificate, Connect, Folder, Registration, Registry, Settings, eventually, tool};

const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `openssl s_client` for a version, and the name of that in its output.
const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")];

fn settings(registry: &Registry, certificate: &Certificate) -> Settings {
    Settings::stdio(registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path())
}

/// A device whose stack is OpenSSL: it offers its newest ticket each time it connects.
struct Device<'a> {
    folder: Folder,
    version: (&'static str, &'static str),
    server: &'a Certificate,
    own: Option<&'a Certificate>,
    connections: Cell<u32>,
}

impl<'a> Device<'a> {
    fn new(version: (&'static str, &'static str), server: &'a Certificate) -> Self {
        Self { folder: Folder::new("sessions"), version, server, own: None, connections: Cell::new(0) }
    }

    fn ticket(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("ticket-{number}"))
    }

    /// Connects until a ticket has come; whether the session was resumed.
    fn is_resumed(&self, bridge: &Bridge) -> bool {
        self.connect(bridge, None).0
    }

    /// Connects, sends a CONNECT where there is one, and waits for a ticket, and for a CONNACK. Whether the session was
    /// resumed, and the code of the CONNACK.
    fn connect(&self, bridge: &Bridge, connect: Option<&Registration>) -> (bool, Option<u8>) {
        let number = self.connections.get();
        self.connections.set(number + 1);
        let output = self.folder.path().join(format!("output-{number}"));
        let (offered, given) = (number.checked_sub(1).map(|former| self.ticket(former)), self.ticket(number));
        let mut call = Command::new(tool::system("openssl"));
        call.args(["s_client", self.version.0, "-connect", &bridge.listener("mqtt.tls").to_string()])
            .args(["-servername", "localhost", "-verify_return_error", "-CAfile", &self.server.path()])
            .arg("-sess_out")
            .arg(&given)
            .stdin(Stdio::piped())
            .stdout(File::create(&output).unwrap())
            .stderr(Stdio::null());
        if let Some(offered) = &offered {
            call.arg("-sess_in").arg(offered);
        }
        if let Some(own) = self.own {
            call.args(["-cert", &own.path(), "-key", &own.key_path()]);
        }
        let mut child = call.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if let Some(device) = connect {
            stdin.write_all(&Connect::of(device).bytes()).unwrap();
        }
        let (mut is_resumed, mut code) = (false, None);
        eventually("the session begins", PATIENCE, || {
            let text = shown(&output);
            let says = |kind: &str| text.contains(&format!("{kind}, {}, Cipher is ", self.version.1));
            (is_resumed, code) = (says("Reused"), connack(&output));
            let has_ticket = fs::read_to_string(&given).is_ok_and(|text| text.contains("-----END SSL SESSION"));
            let is_there = has_ticket && says("New") || is_resumed && (has_ticket || !self.is_given_anew());
            (is_there && (connect.is_none() || code.is_some())).then_some(())
        });
        drop(stdin);
        child.wait().unwrap();
        if let Some(offered) = offered.filter(|_| !given.exists()) {
            fs::copy(offered, given).unwrap();
        }
        (is_resumed, code)
    }

    /// Whether OpenSSL writes the ticket of a resumed session into its file; with 1.2 it does not.
    fn is_given_anew(&self) -> bool {
        self.version.1 == "TLSv1.3"
    }
}

fn shown(output: &Path) -> String {
    String::from_utf8_lossy(&fs::read(output).unwrap()).into_owned()
}

fn connack(output: &Path) -> Option<u8> {
    let bytes = fs::read(output).unwrap();
    bytes.windows(4).find(|bytes| bytes[..3] == [0x20, 2, 0]).map(|bytes| bytes[3])
}

#[test]
fn openssl_resumes_its_session_at_another_replica_with_the_same_key() {
    let (registry, _) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let start = |key: &str| Bridge::start(&settings(&registry, &certificate).text("mqtt.tls.ticket_key", key));
    let replicas = ["key-of-the-tickets", "key-of-the-tickets"].map(start);
    let other = start("key-of-somebody-else");
    for version in VERSIONS {
        let device = Device::new(version, &certificate);
        assert!(!device.is_resumed(&replicas[0]), "the first one");
        assert!(device.is_resumed(&replicas[1]), "{version:?}");
        assert!(device.is_resumed(&replicas[0]), "{version:?}");
        assert!(!device.is_resumed(&other), "another key, and it connects: {version:?}");
    }
    let counted = |bridge: &Bridge| {
        ["full", "resumed"].map(|kind| bridge.metric("jetlinks_bridge_tls_handshakes_total", &[kind]))
    };
    assert_eq!(counted(&replicas[0]), [2.0, 2.0]);
    assert_eq!(counted(&replicas[1]), [0.0, 2.0]);
    assert_eq!(counted(&other), [2.0, 0.0]);
}

#[test]
fn keys_are_renewed_in_their_file_without_a_restart() {
    let (registry, _) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let folder = Folder::new("keys");
    let file = folder.write("ticket_key", "first-of-the-keys\n");
    let settings = settings(&registry, &certificate).text("mqtt.tls.ticket_key_file", &file.display().to_string());
    let bridge = Bridge::start(&settings);
    let replaced = "jetlinks_bridge_certificate_reloads_total";
    let renew = |keys: &str, times: f64| {
        folder.write("ticket_key", keys);
        eventually("the keys are in force", PATIENCE, || {
            (bridge.metric(replaced, &["replaced"]) == times).then_some(())
        });
    };
    let [early, late] = [(); 2].map(|()| VERSIONS.map(|version| Device::new(version, &certificate)));
    for device in early.iter().chain(&late) {
        assert!(!device.is_resumed(&bridge));
    }
    renew("second-of-the-keys\nfirst-of-the-keys\n", 1.0);
    wait_for_log(&bridge, &["INFO", "renewed keys of session tickets are in force"]);
    for device in &early {
        assert!(device.is_resumed(&bridge), "by the former key: {:?}", device.version);
    }
    renew("third-of-the-keys\nsecond-of-the-keys\n", 2.0);
    for device in &early {
        assert_eq!(device.is_resumed(&bridge), device.is_given_anew(), "by the second key: {:?}", device.version);
    }
    for device in &late {
        assert!(!device.is_resumed(&bridge), "the first key is gone: {:?}", device.version);
    }
    folder.write("ticket_key", "\n");
    wait_for_log(&bridge, &["ERROR", "mqtt.tls.ticket_key", "it has 0 lines with a secret"]);
    for device in early.iter().chain(&late) {
        assert!(device.is_resumed(&bridge), "the keys before stay in force: {:?}", device.version);
    }
}

#[test]
fn a_resumed_session_stands_for_the_device_of_its_certificate_alone() {
    let (registry, devices) = Registry::numbered(2);
    let (server, authority) = (Certificate::elliptic(), Certificate::elliptic());
    let settings = settings(&registry, &server)
        .text("mqtt.tls.client_ca", &authority.path())
        .text("mqtt.tls.ticket_key", "key-of-the-tickets");
    let mut replicas = [(); 2].map(|()| Bridge::start(&settings));
    let own = authority.sign("device1", &[]);
    for version in VERSIONS {
        let device = Device { own: Some(&own), ..Device::new(version, &server) };
        assert_eq!(device.connect(&replicas[0], Some(&devices[0])), (false, Some(0)));
        replicas[0].expect("device.online", "device1");
        assert_eq!(device.connect(&replicas[1], Some(&devices[0])), (true, Some(0)), "{version:?}");
        replicas[1].expect("device.online", "device1");
        assert_eq!(device.connect(&replicas[1], Some(&devices[1])), (true, Some(4)), "another device: {version:?}");
        for replica in &mut replicas {
            replica.expect("device.offline", "device1");
        }
    }
    assert_eq!(replicas[1].metric("jetlinks_bridge_connects_total", &["wrong_certificate"]), 2.0);
}
