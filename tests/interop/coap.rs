//! libcoap with OpenSSL, with GnuTLS and without TLS, and aiocoap for Python.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use jetlinks_bridge::protocol::cipher;
use jetlinks_bridge::session::coap::sign_token_request;
use serde_json::json;

use crate::support::registry::now_ms;
use crate::support::{Bridge, Certificate, CoapDevice, Folder, Registration, Registry, Settings, bridge, tool};

const REPORT: &str = r#"{"messageId":"m1","properties":{"temperature":36.8}}"#;

struct Stage {
    bridge: Bridge,
    devices: [Registration; 2],
    registry: Registry,
    folder: Folder,
    _certificate: Certificate,
}

/// A request of a client of libcoap.
struct Request<'a> {
    client: &'a str,
    method: &'a str,
    path: &'a str,
    options: Vec<String>,
    body: Vec<u8>,
}

impl Stage {
    fn new(certificate: Certificate) -> Self {
        Self::with(certificate, |settings| settings)
    }

    fn with(certificate: Certificate, change: impl FnOnce(Settings) -> Settings) -> Self {
        let devices = [Registration::encrypting("device1"), Registration::encrypting("device2")];
        let registry = Registry::new(&devices);
        let settings = change(Settings::stdio(&registry).coap(&certificate));
        let bridge = Bridge::start(&settings);
        Self { bridge, devices, registry, folder: Folder::new("coap"), _certificate: certificate }
    }

    fn port(&self, client: &str) -> (&'static str, SocketAddr) {
        match client {
            "coap-client-notls" => ("coap", self.bridge.listener("coap")),
            _ => ("coaps", self.bridge.listener("dtls")),
        }
    }

    fn send(&self, request: &Request<'_>) -> (String, String) {
        let file = self.folder.path().join("body");
        std::fs::write(&file, &request.body).unwrap();
        let (scheme, address) = self.port(request.client);
        let mut command = Command::new(tool::system(request.client));
        command.args(["-v", "7", "-B", "60", "-m", request.method, "-f"]).arg(&file);
        if scheme == "coaps" {
            command.arg("-n");
        }
        for option in &request.options {
            command.args(["-O", option]);
        }
        let output = command.arg(format!("{scheme}://{address}{}", request.path)).output().unwrap();
        let text = text(&output);
        let code = text.rsplit("process incoming ").next().and_then(|rest| rest.split(' ').next());
        let code = code.filter(|code| code.len() == 4).unwrap_or_else(|| panic!("no answer: {text}")).to_owned();
        (code, text)
    }

    /// The code of the answer.
    fn code(&self, request: &Request<'_>) -> String {
        self.send(request).0
    }

    /// A report of device1, encrypted.
    fn encrypted<'a>(&self, path: &'a str, body: &str) -> Request<'a> {
        let key = cipher::key(&self.devices[0].secure_key).unwrap();
        let body = cipher::encrypt(key, body.as_bytes());
        let options = vec!["2100,device1".to_owned()];
        Request { client: "coap-client-notls", method: "post", path, options, body }
    }

    /// A token that a client of libcoap gets for a device.
    fn token(&self, client: &str, device: &Registration) -> String {
        let payload = format!("{{\"timestamp\":\"{}\"}}", now_ms());
        let signature = sign_token_request(payload.as_bytes(), &device.secure_key);
        let signature = format!("2110,{}", String::from_utf8_lossy(&signature));
        let options = vec![format!("2100,{}", device.id), signature];
        let request = Request { client, method: "post", path: "/auth", options, body: payload.into_bytes() };
        let (code, text) = self.send(&request);
        assert_eq!(code, "2.05", "{text}");
        let token = text.split("{\"token\":\"").last().and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(token.len(), 32, "{text}");
        token.to_owned()
    }

    /// A report of device1 with a token.
    fn with_token<'a>(client: &'a str, token: &str, path: &'a str) -> Request<'a> {
        let options = vec!["2100,device1".to_owned(), format!("2111,{token}")];
        Request { client, method: "post", path, options, body: REPORT.into() }
    }

    fn assert_report(&mut self) {
        let envelope = self.bridge.expect("device.properties.report", "device1");
        assert_eq!(envelope["data"]["properties"], json!({"temperature": 36.8}));
        assert_eq!((&envelope["origin"], envelope.get("sessionid")), (&json!("device"), None), "{envelope}");
    }

    fn assert_rejected(&mut self, reason: &str) {
        let envelope = self.bridge.expect("bridge.rejected", "device1");
        assert_eq!(envelope["data"]["reason"], reason, "{envelope}");
    }

    /// Shows that nothing is left on stdout.
    fn assert_nothing_more(&mut self) {
        assert_eq!(self.code(&self.encrypted("/product1/device1/event/last", "{}")), "2.01");
        assert_eq!(self.bridge.expect("device.event", "device1")["subject"], "last");
    }
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

const PATH: &str = "/product1/device1/properties/report";

#[test]
fn an_encrypted_report_of_libcoap_is_written() {
    let mut stage = Stage::new(Certificate::elliptic());
    for method in ["post", "put"] {
        assert_eq!(stage.code(&Request { method, ..stage.encrypted(PATH, REPORT) }), "2.01");
        stage.assert_report();
    }
    let (code, text) = stage.send(&stage.encrypted("/product1/device1/time-sync", r#"{"messageId":"m7"}"#));
    assert!(code == "2.05" && text.contains(r#""messageId":"m7""#), "{text}");
    stage.assert_nothing_more();
}

#[test]
fn a_report_of_libcoap_over_dtls_is_written_whatever_made_the_certificate_and_the_client() {
    for certificate in [Certificate::elliptic(), Certificate::rsa()] {
        let mut stage = Stage::new(certificate);
        for client in ["coap-client-openssl", "coap-client-gnutls"] {
            let token = stage.token(client, &stage.devices[0]);
            assert_eq!(stage.code(&Stage::with_token(client, &token, PATH)), "2.01");
            stage.assert_report();
        }
    }
}

#[test]
fn a_body_of_many_blocks_is_put_together() {
    let mut stage = Stage::new(Certificate::elliptic());
    let long = "x".repeat(20_000);
    let body = format!(r#"{{"data":"{long}"}}"#);
    assert_eq!(stage.code(&stage.encrypted("/product1/device1/event/long", &body)), "2.01");
    assert_eq!(stage.bridge.expect("device.event", "device1")["data"]["data"], *long);
    let client = "coap-client-openssl";
    let token = stage.token(client, &stage.devices[0]);
    let request = Stage::with_token(client, &token, "/product1/device1/event/long");
    assert_eq!(stage.code(&Request { body: body.into(), ..request }), "2.01");
    assert_eq!(stage.bridge.expect("device.event", "device1")["data"]["data"], *long);
}

#[test]
fn what_is_wrong_with_an_encrypted_request_has_the_code_of_the_table() {
    let mut stage = Stage::with(Certificate::elliptic(), |settings| settings.text("limits.packet_bytes", "4KiB"));
    stage.registry.rewrite(&[
        stage.devices[0].clone(),
        Registration::new("device3"),
        Registration::encrypting("device4").disabled(),
    ]);
    bridge::wait_for_log(&stage.bridge, &["the registry file was read again"]);
    let named = |options: &[&str]| options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
    let with = |options: &[&str]| Request { options: named(options), ..stage.encrypted(PATH, REPORT) };
    assert_eq!(stage.code(&with(&[])), "4.01");
    assert_eq!(stage.code(&with(&["2100,device9"])), "4.01");
    assert_eq!(stage.code(&with(&["2100,device3"])), "4.01");
    assert_eq!(stage.code(&with(&["2100,device4"])), "4.01");
    bridge::wait_for_log(&stage.bridge, &["secureKey has not 16 bytes", "device3"]);
    let wrong_key = cipher::encrypt(b"0123456789abcdef", REPORT.as_bytes());
    assert_eq!(stage.code(&Request { body: wrong_key, ..with(&["2100,device1"]) }), "4.01");
    assert_eq!(stage.code(&Request { body: REPORT.into(), ..with(&["2100,device1"]) }), "4.01");
    assert_eq!(stage.code(&with(&["2100,device1", "2111,00000000000000000000000000000000"])), "4.02");
    assert_eq!(stage.code(&with(&["2100,device1", "65003,x"])), "4.02");
    assert_eq!(stage.code(&stage.encrypted("/product1/device2/properties/report", REPORT)), "4.03");
    assert_eq!(stage.code(&stage.encrypted("/product2/device1/properties/report", REPORT)), "4.03");
    assert_eq!(stage.code(&Request { method: "delete", ..stage.encrypted(PATH, REPORT) }), "4.05");
    assert_eq!(
        stage.code(&Request { options: named(&["2100,device1", "12,0x3c"]), ..stage.encrypted(PATH, REPORT) }),
        "4.15"
    );
    assert_eq!(stage.code(&stage.encrypted(PATH, &"x".repeat(5000))), "4.13");
    assert_eq!(stage.code(&stage.encrypted(PATH, r#"{"properties":1}"#)), "4.00");
    stage.assert_rejected("undecodable");
    let (code, text) = stage.send(&stage.encrypted("/product1/device1/no/such/topic", REPORT));
    assert!(code == "4.04" && text.contains("4.04 devices send no message on this topic"), "{text}");
    stage.assert_rejected("unknown_topic");
    stage.assert_nothing_more();
}

#[test]
fn what_is_wrong_with_a_request_over_dtls_has_the_code_of_the_table() {
    let mut stage = Stage::with(Certificate::elliptic(), |settings| settings.text("limits.packet_bytes", "4KiB"));
    let client = "coap-client-openssl";
    let token = stage.token(client, &stage.devices[0]);
    let foreign = stage.token(client, &stage.devices[1]);
    let request = |token: &str, path| stage.code(&Stage::with_token(client, token, path));
    assert_eq!(request(&foreign, PATH), "4.01");
    assert_eq!(request("00000000000000000000000000000000", PATH), "4.01");
    assert_eq!(request("short", PATH), "4.01");
    assert_eq!(request(&token, "/product1/device2/properties/report"), "4.03");
    let without = Request { options: vec!["2100,device1".to_owned()], ..Stage::with_token(client, &token, PATH) };
    assert_eq!(stage.code(&without), "4.01");
    let payload = format!("{{\"timestamp\":\"{}\"}}", now_ms());
    let signature = "2110,00000000000000000000000000000000".to_owned();
    let options = vec!["2100,device1".to_owned(), signature];
    let wrong = Request { client, method: "post", path: "/auth", options, body: payload.into_bytes() };
    assert_eq!(stage.code(&wrong), "4.01");
    let large = Request { body: vec![b'x'; 5000], ..Stage::with_token(client, &token, PATH) };
    assert_eq!(stage.code(&large), "4.13");
    stage.assert_rejected("too_large");
    let unknown = Stage::with_token(client, &token, "/product1/device1/no/such/topic");
    let (code, text) = stage.send(&unknown);
    assert!(code == "4.04" && text.contains("4.04 devices send no message on this topic"), "{text}");
    stage.assert_rejected("unknown_topic");
    stage.assert_nothing_more();
}

#[test]
fn a_token_ends_with_its_time() {
    let stage = Stage::with(Certificate::elliptic(), |settings| settings.text("dtls.token_ttl", "1s"));
    let mut device = CoapDevice::dtls(stage.bridge.listener("dtls"));
    let token = device.token(&stage.devices[0]);
    crate::support::eventually("the token has expired", std::time::Duration::from_secs(60), || {
        let request = device.with_token(&stage.devices[0], &token, "properties/report", REPORT);
        (device.request(&request).code().to_string() == "4.01").then_some(())
    });
    assert!(stage.bridge.metric("jetlinks_bridge_coap_refused_total", &["expired_token"]) >= 1.0);
}

#[test]
fn the_lines_that_credentials_prints_can_be_pasted() {
    let mut stage = Stage::new(Certificate::elliptic());
    let config = stage.bridge.config().display().to_string();
    let (coap, dtls) = (stage.bridge.listener("coap"), stage.bridge.listener("dtls"));
    let listeners = [format!("coap.listen={coap}"), format!("dtls.listen={dtls}")];
    let arguments = ["credentials", "device1", "--config", &config, "--set", &listeners[0], "--set", &listeners[1]];
    let said = bridge::run(&arguments, "");
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<&str> = said.stdout.lines().skip_while(|line| !line.starts_with("printf ")).collect();
    let output = Command::new("sh").args(["-e", "-c", &lines.join("\n")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for _ in 0..2 {
        let envelope = stage.bridge.expect("device.properties.report", "device1");
        assert_eq!(envelope["data"]["properties"]["temperature"], 36.8);
    }
}

#[test]
fn libcoap_gets_its_token_and_the_time_in_blocks_as_small_as_it_wants() {
    let mut stage = Stage::new(Certificate::elliptic());
    let small = |mut request: Request<'static>| {
        request.options.push("23,0x00".to_owned());
        request
    };
    let time = stage.encrypted("/product1/device1/time-sync", r#"{"messageId":"m7"}"#);
    let client = "coap-client-openssl";
    let payload = format!("{{\"timestamp\":\"{}\"}}", now_ms());
    let signature = sign_token_request(payload.as_bytes(), &stage.devices[0].secure_key);
    let options = vec!["2100,device1".to_owned(), format!("2110,{}", String::from_utf8_lossy(&signature))];
    let auth = Request { client, method: "post", path: "/auth", options, body: payload.into_bytes() };
    for request in [time, auth] {
        let (code, text) = stage.send(&small(request));
        assert!(code == "2.05" && text.contains("Block2:0/M/16") && text.contains("Block2:2/_/16"), "{text}");
    }
    stage.assert_nothing_more();
}

#[test]
fn aiocoap_gets_the_time_in_blocks_as_small_as_it_wants() {
    let stage = Stage::new(Certificate::elliptic());
    for size in ["16", "32", "1024"] {
        let said = aiocoap(&stage, &stage.devices[0].secure_key, "/product1/device1/time-sync", "{}", &[size]);
        let json = said.strip_prefix("2.05 ").unwrap_or_else(|| panic!("{said}"));
        let answer: serde_json::Value = serde_json::from_str(json).unwrap();
        assert!(answer["timestamp"].as_i64().unwrap().abs_diff(now_ms()) < 60_000, "{said}");
    }
}

/// Output of a device on aiocoap about the answer to a body that is encrypted with this key.
fn aiocoap(stage: &Stage, key: &str, path: &str, json: &str, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/coap_device.py");
    let body = cipher::encrypt(cipher::key(key).unwrap(), json.as_bytes());
    let body: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    let port = stage.bridge.listener("coap").port().to_string();
    let mut command = Command::new(tool::installed("venv/bin/python"));
    let output = command.arg(&script).args([&port, "device1", path, &body]).args(more).output().unwrap();
    text(&output).trim().to_owned()
}

#[test]
fn aiocoap_reports_and_hears_of_its_mistakes() {
    let mut stage = Stage::new(Certificate::elliptic());
    let report = |key: &str| aiocoap(&stage, key, PATH, REPORT, &[]);
    assert_eq!(report(&stage.devices[0].secure_key), "2.01");
    assert_eq!(report("0123456789abcdef"), "4.01 not authenticated");
    stage.assert_report();
    stage.assert_nothing_more();
}
