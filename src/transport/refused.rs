//! Refused connections.

use std::fmt;

use crate::codec::mqtt::ConnectCode;
use crate::protocol::auth::{Attempt, ClockOff, Refusal};
use crate::protocol::id::ProductId;

/// Why a CONNECT got no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another protocol version.
    Version,
    /// An empty client id.
    ClientId,
    /// The identity.
    Identity(Refusal),
    /// The registry does not answer.
    RegistryAway,
    /// The queue is away.
    QueueAway,
    /// The replica is shutting down.
    Draining,
    /// Too many connections.
    ConnectionLimit,
    /// Too many wait to be served, most of them from its network.
    Crowded,
    /// The device was taken over too often recently.
    TakeoverLimit,
    /// The device connected too often recently.
    ReconnectLimit,
    /// The certificate that the client showed names another device.
    Certificate,
    /// A proxy sent no well-formed PROXY protocol header.
    ProxyHeader,
    /// TLS could not be agreed on, or the client showed no certificate that it must show.
    TlsHandshake,
    /// The request was for no WebSocket that is served.
    WebSocketHandshake,
    /// The first packet is no well-formed CONNECT.
    Malformed(FirstBytes),
    /// No whole CONNECT within the time for it.
    TimedOut,
    /// The device went away before its CONNECT was looked at.
    ConnectionLost,
}

impl Refused {
    /// The code that the device is told; `None`: the connection just closes.
    pub fn code(self) -> Option<ConnectCode> {
        match self {
            Refused::Version => Some(ConnectCode::UnacceptableProtocolVersion),
            Refused::ClientId => Some(ConnectCode::IdentifierRejected),
            Refused::Identity(_) | Refused::Certificate => Some(ConnectCode::BadUserNameOrPassword),
            Refused::RegistryAway
            | Refused::QueueAway
            | Refused::Draining
            | Refused::ConnectionLimit
            | Refused::TakeoverLimit
            | Refused::ReconnectLimit => Some(ConnectCode::ServerUnavailable),
            Refused::Crowded
            | Refused::ProxyHeader
            | Refused::TlsHandshake
            | Refused::WebSocketHandshake
            | Refused::Malformed(_)
            | Refused::TimedOut
            | Refused::ConnectionLost => None,
        }
    }

    /// Whether a connection has itself to blame for getting no session.
    pub fn is_fault(self) -> bool {
        match self {
            Refused::Version
            | Refused::ClientId
            | Refused::Identity(_)
            | Refused::Certificate
            | Refused::ProxyHeader
            | Refused::TlsHandshake
            | Refused::WebSocketHandshake
            | Refused::Malformed(_)
            | Refused::TimedOut => true,
            // Health checks of balancers leave without a word.
            Refused::ConnectionLost
            | Refused::RegistryAway
            | Refused::QueueAway
            | Refused::Draining
            | Refused::ConnectionLimit
            | Refused::Crowded
            | Refused::TakeoverLimit
            | Refused::ReconnectLimit => false,
        }
    }

    /// The reason as a sentence for people.
    fn sentence(self) -> &'static str {
        match self {
            Refused::Version => "CONNECT is of another version than MQTT 3.1 and 3.1.1, such as MQTT 5",
            Refused::ClientId => "the client id is empty: it is the device id",
            Refused::Identity(Refusal::Unknown) => "the registry knows no device with this client id",
            Refused::Identity(Refusal::Disabled) => "the device is disabled in the registry",
            Refused::Identity(Refusal::Form) => "user name or password is missing, or has not the form",
            Refused::Identity(Refusal::Stale) => "the timestamp is too far off",
            // Wrong credentials have a sentence of their own: see [`Attempt`].
            Refused::Identity(Refusal::Wrong) => "the registry changed the device while it connected",
            Refused::RegistryAway => "the registry does not answer",
            Refused::QueueAway => "the queue is away",
            Refused::Draining => "the replica shuts down",
            Refused::ConnectionLimit => "limits.connections is reached, or there are no more open files",
            Refused::Crowded => "too many connections wait to be served, most of them from its network",
            Refused::TakeoverLimit => "the device was taken over too often: two devices may have this identity",
            Refused::ReconnectLimit => "the device connected too often",
            Refused::Certificate => "the certificate that the client showed names another device",
            Refused::ProxyHeader => "a proxy of mqtt.proxy_protocol_from sent no well-formed PROXY protocol header",
            Refused::TlsHandshake => {
                "TLS could not be agreed on, or the client showed no certificate that it must show"
            }
            Refused::WebSocketHandshake => "the request is for no WebSocket that is served",
            Refused::Malformed(FirstBytes::Tls) => "the client speaks TLS, and this listener does not",
            Refused::Malformed(FirstBytes::Http) => "the client speaks HTTP, and this listener is not for WebSocket",
            Refused::Malformed(FirstBytes::Proxy) => {
                "a proxy sent a PROXY protocol header, and its address is not in mqtt.proxy_protocol_from"
            }
            Refused::Malformed(FirstBytes::Other) => "the first packet is no well-formed CONNECT",
            Refused::TimedOut => "no whole CONNECT came within mqtt.connect_timeout",
            Refused::ConnectionLost => "the client closed the connection before its CONNECT was looked at",
        }
    }
}

/// First bytes of a connection that are no CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// A handshake of TLS.
    Tls,
    /// A request of HTTP.
    Http,
    /// A header of the PROXY protocol.
    Proxy,
    /// Anything else.
    Other,
}

impl FirstBytes {
    /// Looks at what came.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x16, 3, ..] => FirstBytes::Tls,
            _ if bytes.starts_with(b"GET ") => FirstBytes::Http,
            _ if bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT") => FirstBytes::Proxy,
            _ => FirstBytes::Other,
        }
    }
}

/// A refused connection, for counters and log. Shown, it is a sentence that says what is wrong, without a secret.
#[derive(Debug)]
pub struct Refusing {
    /// The client id, as far as it was read.
    pub device: String,
    /// Product of the device, where the registry knows it.
    pub product: Option<ProductId>,
    /// The reason.
    pub reason: Refused,
    /// Its credentials, where they are the reason.
    pub attempt: Option<Box<Attempt>>,
}

impl Refusing {
    /// A connection whose device is not known.
    pub fn unnamed(reason: Refused) -> Self {
        Self { device: String::new(), product: None, reason, attempt: None }
    }

    /// Difference of the device's clock, where its timestamp is too far off.
    pub fn clock_off(&self) -> Option<ClockOff> {
        self.attempt.as_ref()?.clock_off()
    }
}

impl fmt::Display for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.attempt {
            Some(attempt) => attempt.fmt(f),
            None => f.write_str(self.reason.sentence()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_of_other_protocols_are_known() {
        for (bytes, first) in [
            (&b"\x16\x03\x01\x02\x00"[..], FirstBytes::Tls),
            (b"GET /mqtt HTTP/1.1", FirstBytes::Http),
            (b"PROXY TCP4 ", FirstBytes::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", FirstBytes::Proxy),
            (b"\x16", FirstBytes::Other),
            (b"\x30\x00", FirstBytes::Other),
            (b"", FirstBytes::Other),
        ] {
            assert_eq!(FirstBytes::of(bytes), first, "{bytes:?}");
        }
    }
}
