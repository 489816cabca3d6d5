//! Sections `mqtt`, `mqtt.tls`, `mqtt.websocket` and `mqtt.websocket_tls`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::material::Material;
use super::reader::Reader;
use super::secret_list::SecretList;
use super::section::section;
use super::url;

section! {
    /// Listeners for MQTT.
    MqttConfig checked by Self::check {
        /// Plain TCP; empty is off.
        listen: Vec<SocketAddr> = listen("0.0.0.0:1883"),
        /// Time from accepting a connection to its whole CONNECT.
        connect_timeout: Duration = duration("10s"),
        /// Longest silence of a device that asks for keep-alive 0.
        keep_alive_max: Duration = duration("20m"),
        /// Networks whose PROXY protocol headers are trusted; empty is none.
        proxy_protocol_from: Vec<Network> = list(r#"a list of networks, such as ["10.0.0.0/8"]"#, Network::parse),
        /// TLS over TCP.
        tls: MqttTlsConfig = section(),
        /// WebSocket over TCP.
        websocket: WebSocketConfig = section(),
        /// WebSocket over TLS, with the certificate of `tls`.
        websocket_tls: WebSocketConfig = section(),
    }
}

section! {
    /// MQTT over TLS.
    MqttTlsConfig {
        /// Addresses; empty is off.
        listen: Vec<SocketAddr> = listen(""),
        /// Certificate chain of the server.
        certificate: Option<Material> = material(),
        /// Private key of the certificate.
        private_key: Option<Material> = material(),
        /// Authority that signs certificates of devices; when set, each device must show one.
        client_ca: Option<Material> = material(),
        /// Secrets of session tickets; the first one is for new tickets, the others are still accepted. Empty, the default:
        /// no session is resumed.
        ticket_key: SecretList = secret_list(3),
    }
}

section! {
    /// MQTT over WebSocket.
    WebSocketConfig {
        /// Addresses; empty is off.
        listen: Vec<SocketAddr> = listen(""),
        /// Path of the request.
        path: String = checked(
            "/mqtt",
            "a path that begins with /",
            |text| text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || matches!(c, '?' | '#')),
        ),
        /// Origins whose pages may connect, in lower case; empty is all, the default.
        origins: Vec<String> = list(r#"a list of origins, such as ["https://console.example.com"]"#, origin),
    }
}

impl MqttConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        let tls = &self.tls;
        let listener = [("mqtt.tls.listen", &tls.listen), ("mqtt.websocket_tls.listen", &self.websocket_tls.listen)]
            .into_iter()
            .find_map(|(key, listen)| (!listen.is_empty()).then_some(key));
        reader.needs_both(
            [("mqtt.tls.certificate", tls.certificate.is_some()), ("mqtt.tls.private_key", tls.private_key.is_some())],
            listener,
        );
    }
}

/// An origin as browsers write it (RFC 6454, section 6.2): a scheme, a host, and a port that is not the scheme's own.
fn origin(text: &str) -> Option<String> {
    let (scheme, host) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (is_scheme && url::is_host(host)).then(|| text.to_lowercase())
}

/// A network such as `10.0.0.0/8`; a bare address is the network of that address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Takes an address with an optional `/prefix`. `None`: not such a text.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?))).map(Self)
    }

    /// Whether the address lies in the network. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "11.0.0.1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"));
    }

    #[test]
    fn prefixes_beyond_the_address_and_names_are_refused() {
        for text in ["10.0.0.0/33", "::/129", "localhost", "10.0.0.0/", "10.0.0/8", ""] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
