//! DTLS as OpenSSL speaks it.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use crate::support::{Bridge, Certificate, Registry, Settings, tool};

/// The suites that docs/wire.md lists, as OpenSSL calls them; by the kind of the certificate.
const ELLIPTIC: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-AES256-CCM8",
];
const RSA: &[&str] = &["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"];

/// Suites of each kind that is not taken: OpenSSL offers them, so that a refusal is the bridge's.
const OTHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-ECDSA-NULL-SHA",
    "AECDH-AES128-SHA",
    "ADH-AES128-GCM-SHA256",
    "NULL-SHA256",
    "AES128-SHA",
    "AES128-GCM-SHA256",
    "AES128-CCM8",
    "DHE-RSA-AES128-GCM-SHA256",
    "PSK-AES128-CCM8",
    "ECDHE-PSK-AES128-CBC-SHA256",
];

/// Output of `openssl s_client` for a handshake that offers these suites alone.
fn handshake(bridge: &Bridge, certificate: &Certificate, suites: &str) -> Output {
    let address = bridge.listener("dtls").to_string();
    Command::new(tool::system("openssl"))
        .args(["s_client", "-dtls1_2", "-connect", &address, "-CAfile", &certificate.path(), "-verify_return_error"])
        // With a lower security level, and a key of its own, OpenSSL offers whatever it knows.
        .args(["-cipher", &format!("{suites}:@SECLEVEL=0"), "-psk", "00"])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Every suite of TLS 1.2 that this OpenSSL has.
fn known() -> BTreeSet<String> {
    let list = Command::new(tool::system("openssl"))
        .args(["ciphers", "-v", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"])
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let names = list.lines().filter(|line| !line.contains("TLSv1.3")).filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_suites_over_dtls_are_exactly_those_that_the_documents_list() {
    let registry = Registry::new(&[]);
    let known = known();
    let listed: BTreeSet<String> = [ELLIPTIC, RSA].concat().into_iter().map(str::to_owned).collect();
    let others: Vec<String> = known.difference(&listed).cloned().collect();
    for other in OTHERS {
        assert!(others.iter().any(|known| known == other), "{other}");
    }
    for (certificate, suites) in [(Certificate::elliptic(), ELLIPTIC), (Certificate::rsa(), RSA)] {
        let bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
        for suite in suites {
            let output = handshake(&bridge, &certificate, suite);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains(&format!("Cipher is {suite}\n")), "{suite}: {output:?}");
        }
        for offered in [&OTHERS.join(":"), &others.join(":")] {
            let output = handshake(&bridge, &certificate, offered);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && text.contains("alert handshake failure"), "{output:?}");
        }
    }
}
