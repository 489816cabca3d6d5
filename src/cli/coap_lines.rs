//! Lines for the command line of libcoap that speak as a device.

use std::net::SocketAddr;

use super::credentials::{quote, target};
use crate::config::Config;
use crate::protocol::address::segment;
use crate::protocol::cipher;
use crate::registry::Device;
use crate::session::coap::sign_grant;

/// Lines for the listeners that are on and that the device can use; `body` is what it reports.
pub(super) fn describe(config: &Config, device: &Device, body: &str, now_ms: u64) -> String {
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
        let signature = String::from_utf8_lossy(&sign_grant(request.as_bytes(), secure_key)).into_owned();
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
