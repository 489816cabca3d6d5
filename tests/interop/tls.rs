//! TLS as OpenSSL and Mosquitto speak it.

use std::process::{Command, Output, Stdio};

use crate::support::{Bridge, Certificate, Registration, Registry, Settings, tool};

fn settings(registry: &Registry, certificate: &Certificate) -> Settings {
    Settings::stdio(registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path())
}

/// Output of `openssl s_client` for a handshake with these arguments.
fn handshake(bridge: &Bridge, certificate: &Certificate, arguments: &[&str]) -> Output {
    let address = bridge.listener("mqtt.tls").to_string();
    Command::new(tool::system("openssl"))
        .args(["s_client", "-connect", &address, "-servername", "localhost", "-verify_return_error"])
        .args(["-verify_hostname", "localhost", "-CAfile", &certificate.path()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn openssl_agrees_on_1_2_and_1_3_and_on_nothing_older() {
    let (registry, _) = Registry::numbered(1);
    for certificate in [Certificate::elliptic(), Certificate::rsa()] {
        let bridge = Bridge::start(&settings(&registry, &certificate));
        for (argument, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let output = handshake(&bridge, &certificate, &[argument]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains(&format!("New, {version}, Cipher is ")), "{output:?}");
            assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
        }
        // Without the lower security level OpenSSL itself would refuse to offer it.
        for argument in ["-tls1_1", "-tls1"] {
            let output = handshake(&bridge, &certificate, &[argument, "-cipher", "ALL:@SECLEVEL=0"]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && text.contains("SSL alert number"), "{argument}: {output:?}");
        }
    }
}

fn publish(bridge: &Bridge, server: &Certificate, device: &Registration, version: &str, more: &[&str]) -> Output {
    let credentials = device.credentials();
    Command::new(tool::system("mosquitto_pub"))
        .args(["-h", "localhost", "-p", &bridge.listener("mqtt.tls").port().to_string(), "-V", version])
        .args(["--cafile", &server.path(), "-i", &device.id, "-q", "1"])
        .args(["-u", &credentials.username, "-P", &credentials.password])
        .args(["-t", &device.topic("tags"), "-m", r#"{"tags":{}}"#])
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn mosquitto_pub_reports_over_tls() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&settings(&registry, &certificate));
    for version in ["mqttv31", "mqttv311"] {
        for tls in ["tlsv1.2", "tlsv1.3"] {
            let output = publish(&bridge, &certificate, &devices[0], version, &["--tls-version", tls]);
            assert!(output.status.success(), "{version} {tls}: {output:?}");
            bridge.expect("device.online", "device1");
            bridge.expect("device.tags", "device1");
            assert_eq!(bridge.expect("device.offline", "device1")["data"]["headers"]["cause"], "disconnected");
        }
    }
}

#[test]
fn mosquitto_pub_must_show_the_certificate_of_its_device_when_one_is_asked_for() {
    let (registry, devices) = Registry::numbered(2);
    let (server, authority) = (Certificate::elliptic(), Certificate::elliptic());
    let mut bridge = Bridge::start(&settings(&registry, &server).text("mqtt.tls.client_ca", &authority.path()));
    let client = authority.sign("device1", &[]);
    let (path, key_path) = (client.path(), client.key_path());
    let certificate = ["--cert", &path, "--key", &key_path];
    let output = publish(&bridge, &server, &devices[0], "mqttv311", &certificate);
    assert!(output.status.success(), "{output:?}");
    bridge.expect("device.online", "device1");
    bridge.expect("device.tags", "device1");
    let output = publish(&bridge, &server, &devices[1], "mqttv311", &certificate);
    assert_eq!(output.status.code(), Some(4), "the certificate is another device's: {output:?}");
    let output = publish(&bridge, &server, &devices[0], "mqttv311", &[]);
    assert!(!output.status.success(), "no certificate at all: {output:?}");
}
