//! `credentials`: user name, password and tokens of a device for the next five minutes, and command lines that use them.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde_json::json;

use super::check::EXIT_CONFIGURATION;
use super::lookup::{self, LookupError};
use super::output::Output;
use crate::config::{self, Config, Mistakes, Sources};
use crate::protocol::address::segment;
use crate::protocol::auth::{self, TIMESTAMP_WINDOW_MS};
use crate::protocol::cipher;
use crate::registry::Device;
use crate::session::coap::sign_token_request;

/// Prints user name and password of a device for now, and commands that speak as the device
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(after_help = crate::cli::examples::CREDENTIALS)]
pub struct CredentialsArgs {
    /// Id of the device, as in the registry
    pub device: String,

    /// How to print; json: one object with clientId, username and password
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Prints what the device would say in CONNECT at `now_ms` (ms since 1970) and exits 0; exits 78 when the configuration
/// has mistakes, 1 when the device cannot connect.
pub fn run(
    args: &CredentialsArgs,
    sources: &Sources,
    now_ms: u64,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    match answer(args, sources, now_ms) {
        Ok(text) => {
            // Nobody is left to tell when stdout is closed.
            let _ = out.write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let (code, text) = match failure {
                Failure::Configuration(mistakes) => (EXIT_CONFIGURATION, mistakes.to_string()),
                Failure::Registry(text) => (EXIT_CONFIGURATION, text),
                Failure::Device(text) => (1, text),
            };
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "{text}");
            ExitCode::from(code)
        }
    }
}

enum Failure {
    Configuration(Mistakes),
    Registry(String),
    Device(String),
}

fn answer(args: &CredentialsArgs, sources: &Sources, now_ms: u64) -> Result<String, Failure> {
    let config = config::load(sources).map_err(Failure::Configuration)?.config;
    let device = lookup::find(&config, &args.device).map_err(|error| match error {
        LookupError::Registry(text) => Failure::Registry(text),
        error => Failure::Device(format!("{}: {error}", args.device)),
    })?;
    let (username, password) = sign(&device, now_ms).map_err(Failure::Device)?;
    Ok(match args.output {
        Output::Json => {
            format!("{}\n", json!({ "clientId": args.device, "username": username, "password": password }))
        }
        Output::Text => describe(&config, &device, &username, &password, now_ms),
    })
}

fn sign(device: &Device, now_ms: u64) -> Result<(String, String), String> {
    let Some(credentials) = &device.credentials else {
        let gateway = device.gateway.as_ref().map_or(String::new(), |gateway| format!("; it speaks through {gateway}"));
        return Err(format!("{} has no secret{gateway}", device.id));
    };
    if !device.enabled {
        return Err(format!("{} is disabled: it would be refused", device.id));
    }
    let username = format!("{}|{now_ms}", credentials.secure_id);
    let password = auth::sign(&username, credentials.secure_key.expose());
    Ok((username, String::from_utf8_lossy(&password).into_owned()))
}

fn describe(config: &Config, device: &Device, username: &str, password: &str, now_ms: u64) -> String {
    let minutes = TIMESTAMP_WINDOW_MS / 60_000;
    let mut text = format!(
        "client id  {}\nuser name  {username}\npassword   {password}\n\nvalid for {minutes} minutes from now\n",
        device.id
    );
    let body = r#"{"properties":{"temperature":36.8}}"#;
    let topic = format!("/{}/{}/properties/report", device.product, device.id);
    let mut publish = |address: SocketAddr, tls: &str| {
        let (host, port) = target(address);
        text.push_str(&format!(
            "\nmosquitto_pub -V mqttv311 -h {host} -p {port}{tls} -i {} -u {} -P {password} -q 1 -t {} -m {}\n",
            quote(device.id.as_str()),
            quote(username),
            quote(&topic),
            quote(body),
        ));
    };
    if let Some(address) = config.mqtt.listen.first() {
        publish(*address, "");
    }
    if let Some(address) = config.mqtt.tls.listen.first() {
        publish(*address, " --tls-use-os-certs");
        text.push_str("(with --cafile FILE instead, when the authority is your own)\n");
    }
    text.push_str(&describe_coap(config, device, body, now_ms));
    text
}

/// Lines for the command line of libcoap that speak as the device, for the listeners that are on and that it can use; `body` is
/// what it reports.
fn describe_coap(config: &Config, device: &Device, body: &str, now_ms: u64) -> String {
    let mut text = String::new();
    let Some(credentials) = &device.credentials else { return text };
    let secure_key = credentials.secure_key.expose();
    let option = format!("-m post -O {}", quote(&format!("2100,{}", device.id)));
    let path = format!("{}/{}/properties/report", segment(device.product.as_str()), segment(device.id.as_str()));
    if let (Some(address), Some(key)) = (config.coap.listen.first(), cipher::key(secure_key)) {
        text.push_str(&format!(
            "\nprintf %s {} | openssl enc -aes-128-ecb -K {} |\n  coap-client-notls {option} -f - coap://{}/{path}\n",
            quote(body),
            hex(key),
            authority(*address),
        ));
    }
    if let Some(address) = config.dtls.listen.first() {
        let request = format!("{{\"timestamp\":\"{now_ms}\"}}");
        let signature = String::from_utf8_lossy(&sign_token_request(request.as_bytes(), secure_key)).into_owned();
        let client = format!("coap-client-openssl -n {option}");
        let server = authority(*address);
        text.push_str(&format!(
            "\ntoken=$({client} -O 2110,{signature} -e {} coaps://{server}/auth | sed 's/.*:\"//; s/\".*//')\n\
             {client} -O 2111,$token -e {} coaps://{server}/{path}\n",
            quote(&request),
            quote(body),
        ));
    }
    text
}

fn authority(address: SocketAddr) -> String {
    let (host, port) = target(address);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Address at which a client on this machine finds a listener.
fn target(address: SocketAddr) -> (String, u16) {
    let host = if address.ip().is_unspecified() { "localhost".to_owned() } else { address.ip().to_string() };
    (host, address.port())
}

/// A text as one word of a POSIX shell.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | ',');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_600_000_000_000;

    fn credentials(device: &str, output: Output) -> (String, String, String) {
        let file = format!("registry.file.path={}/config/devices.toml", env!("CARGO_MANIFEST_DIR"));
        let sources = Sources { settings: vec![file], ..Sources::default() };
        let args = CredentialsArgs { device: device.to_owned(), output };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &sources, NOW_MS, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (format!("{code:?}"), text(out), text(err))
    }

    #[test]
    fn the_credentials_are_those_that_the_bridge_accepts() {
        let (_, out, _) = credentials("device1", Output::Json);
        let said: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((said["clientId"].as_str(), out.lines().count()), (Some("device1"), 1));
        let (username, password) = (said["username"].as_str().unwrap(), said["password"].as_str().unwrap());
        let expected = auth::Expected { secure_id: "test", secure_key: "testtesttesttest", enabled: true };
        assert_eq!(auth::verify(Some(username), Some(password.as_bytes()), Some(&expected), NOW_MS), Ok(()));
    }

    #[test]
    fn the_text_has_a_command_that_can_be_pasted() {
        let (_, out, _) = credentials("device1", Output::Text);
        let command = "mosquitto_pub -V mqttv311 -h 127.0.0.1 -p 1883 -i device1 -u 'test|1600000000000' -P \
                       13426ba310b035960c32cdd9f7c6aa5c -q 1 -t /product1/device1/properties/report -m \
                       '{\"properties\":{\"temperature\":36.8}}'";
        assert!(out.lines().any(|line| line == command), "{out}");
        assert!(out.contains("valid for 5 minutes"), "{out}");
    }

    #[test]
    fn the_text_has_a_command_for_tls_when_that_is_served() {
        let file = format!("registry.file.path={}/config/devices.toml", env!("CARGO_MANIFEST_DIR"));
        let tls = ["mqtt.tls.listen=0.0.0.0:8883", "mqtt.tls.certificate=a.pem", "mqtt.tls.private_key=b.pem"];
        let settings = tls.iter().map(|text| (*text).to_owned()).chain([file, "mqtt.listen=".to_owned()]).collect();
        let sources = Sources { settings, ..Sources::default() };
        let args = CredentialsArgs { device: "device1".to_owned(), output: Output::Text };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        run(&args, &sources, NOW_MS, &mut out, &mut err);
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = out.lines().filter(|line| line.starts_with("mosquitto_pub ")).collect();
        let begin = "mosquitto_pub -V mqttv311 -h localhost -p 8883 --tls-use-os-certs -i device1 ";
        assert!(lines.len() == 1 && lines[0].starts_with(begin), "{out}");
    }

    #[test]
    fn the_text_has_commands_for_each_listener_of_coap() {
        let file = format!("registry.file.path={}/config/devices.toml", env!("CARGO_MANIFEST_DIR"));
        let settings = [&file, "dtls.listen=127.0.0.1:5684", "dtls.certificate=a.pem", "dtls.private_key=b.pem"];
        let settings = settings.iter().map(|text| (*text).to_owned()).collect();
        let sources = Sources { settings, ..Sources::default() };
        let args = CredentialsArgs { device: "device1".to_owned(), output: Output::Text };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        run(&args, &sources, NOW_MS, &mut out, &mut err);
        let out = String::from_utf8(out).unwrap();
        for line in [
            "printf %s '{\"properties\":{\"temperature\":36.8}}' | openssl enc -aes-128-ecb -K \
             74657374746573747465737474657374 |",
            "  coap-client-notls -m post -O 2100,device1 -f - \
             coap://127.0.0.1:5683/product1/device1/properties/report",
            "token=$(coap-client-openssl -n -m post -O 2100,device1 -O 2110,SIGNATURE -e \
             '{\"timestamp\":\"1600000000000\"}' coaps://127.0.0.1:5684/auth | sed 's/.*:\"//; s/\".*//')",
            "coap-client-openssl -n -m post -O 2100,device1 -O 2111,$token -e \
             '{\"properties\":{\"temperature\":36.8}}' coaps://127.0.0.1:5684/product1/device1/properties/report",
        ] {
            let line = line.replace("SIGNATURE", "412dafd1a1d868a00e6248f8ed71b180");
            assert!(out.lines().any(|other| other == line), "{line}\n{out}");
        }
    }

    #[test]
    fn devices_that_could_not_connect_have_no_credentials() {
        let failure = format!("{:?}", ExitCode::from(1));
        for (device, reason) in
            [("device9", "not in "), ("child1", "has no secret; it speaks through gw1"), ("device2", "is disabled")]
        {
            let (code, out, err) = credentials(device, Output::Text);
            assert_eq!((code, out.as_str()), (failure.clone(), ""), "{device}");
            assert!(err.contains(reason), "{err}");
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!([quote("a-b/c"), quote("a|b"), quote("it's"), quote("")], ["a-b/c", "'a|b'", r"'it'\''s'", "''"]);
    }
}
