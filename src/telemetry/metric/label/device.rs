//! Labels of what workers count of devices, their messages and commands.

use std::sync::LazyLock;

use super::{Label, label};
use crate::protocol::auth::Refusal;
use crate::protocol::downlink::Code;
use crate::protocol::envelope::Reason;
use crate::protocol::topic::{MessageKind, MessageType};
use crate::session::mqtt::{DropReason, Ending};

label! {
    /// How a device is connected.
    "transport" Transport {
        /// MQTT over TCP.
        Mqtt = "mqtt",
        /// MQTT over TLS.
        MqttTls = "mqtt_tls",
        /// MQTT over WebSocket.
        WebSocket = "websocket",
        /// MQTT over WebSocket over TLS.
        WebSocketTls = "websocket_tls",
        /// CoAP over UDP without DTLS: addresses that something is remembered of.
        Coap = "coap",
        /// CoAP over DTLS: sessions, and handshakes that are not finished.
        Dtls = "dtls",
    }
}

label! {
    /// Phase of a connection.
    "state" ConnectionState {
        /// The device is not authenticated yet.
        Opening = "opening",
        /// A session began. CoAP without DTLS has none, and no other state.
        Open = "open",
    }
}

label! {
    /// Kind of a TLS handshake.
    "kind" TlsHandshakeKind {
        /// With a certificate and its signature.
        Full = "full",
        /// With a ticket of an earlier connection.
        Resumed = "resumed",
    }
}

label! {
    /// End of a connection's authentication.
    "outcome" ConnectOutcome {
        /// A session began.
        Accepted = "accepted",
        /// CONNACK 0x01: a version that is not served.
        UnsupportedVersion = "unsupported_version",
        /// CONNACK 0x02: no client id.
        EmptyClientId = "empty_client_id",
        /// CONNACK 0x04: the registry does not know the device.
        UnknownDevice = "unknown_device",
        /// CONNACK 0x04: the device is disabled.
        Disabled = "disabled",
        /// CONNACK 0x04: user name or password missing, or not in the form.
        MalformedCredentials = "malformed_credentials",
        /// CONNACK 0x04: the timestamp is too far from the bridge's clock.
        StaleTimestamp = "stale_timestamp",
        /// CONNACK 0x04: secure id or signature is wrong.
        WrongCredentials = "wrong_credentials",
        /// CONNACK 0x04: the certificate that the client showed names another device.
        WrongCertificate = "wrong_certificate",
        /// CONNACK 0x03: the registry does not answer.
        RegistryAway = "registry_away",
        /// CONNACK 0x03: the queue does not acknowledge.
        QueueAway = "queue_away",
        /// CONNACK 0x03: the process ends.
        Draining = "draining",
        /// CONNACK 0x03: `limits.connections` is reached.
        ConnectionLimit = "connection_limit",
        /// Closed without an answer: too many wait to be served, most of them from its network, or it waited in vain.
        Crowded = "crowded",
        /// CONNACK 0x03: the device was taken over too often recently.
        TakeoverLimit = "takeover_limit",
        /// CONNACK 0x03: the device connected too often recently.
        ReconnectLimit = "reconnect_limit",
        /// Closed without an answer: a proxy sent no PROXY protocol header, or a broken one.
        ProxyHeader = "proxy_header",
        /// Closed: TLS could not be agreed on.
        TlsHandshake = "tls_handshake",
        /// Closed, with a status of HTTP: not a request for a WebSocket that is served.
        WebSocketHandshake = "websocket_handshake",
        /// Closed without an answer: no well-formed CONNECT, or none within `mqtt.connect_timeout`.
        Malformed = "malformed",
        /// The peer had closed before its CONNECT was looked at: nobody is asked about it.
        Gone = "gone",
    }
}

impl From<Refusal> for ConnectOutcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => ConnectOutcome::UnknownDevice,
            Refusal::Disabled => ConnectOutcome::Disabled,
            Refusal::Form => ConnectOutcome::MalformedCredentials,
            Refusal::Stale => ConnectOutcome::StaleTimestamp,
            Refusal::Wrong => ConnectOutcome::WrongCredentials,
        }
    }
}

label! {
    "cause" for Ending {
        Disconnected = "disconnected",
        ConnectionLost = "connection_lost",
        KeepAlive = "keep_alive",
        Kicked = "kicked",
        Drained = "drained",
        Age = "age",
        Shed = "shed",
        ProtocolError = "protocol_error",
        NotAcknowledged = "not_acknowledged",
        TakenOver = "taken_over",
    }
}

label! {
    /// Outcome of a command.
    "outcome" CommandOutcome {
        /// The device answered.
        Reply = "reply",
        /// The bridge answered: accepted, or delivered.
        RequestHandling = "request_handling",
        /// The device is not connected here.
        ClientOffline = "client_offline",
        /// The connection ended before the answer.
        ConnectionLost = "connection_lost",
        /// No reply in time.
        TimeOut = "time_out",
        /// The command contradicts itself, or its message id is in use.
        ParameterError = "parameter_error",
        /// The type does not go to devices.
        UnsupportedMessage = "unsupported_message",
        /// Too many commands wait.
        SystemBusy = "system_busy",
        /// The bridge failed.
        SystemError = "system_error",
        /// It could not be read.
        Unreadable = "unreadable",
        /// Its reply subject is one that the bridge does not answer to; it was not executed.
        ReplySubjectRefused = "reply_subject_refused",
        /// More came at once than may wait: it was dropped without an answer.
        Lost = "lost",
        /// Nobody waits for an outcome; it was carried out or not.
        NoCaller = "unasked",
    }
}

impl From<Option<Code>> for CommandOutcome {
    fn from(code: Option<Code>) -> Self {
        match code {
            None => CommandOutcome::Reply,
            Some(Code::RequestHandling) => CommandOutcome::RequestHandling,
            Some(Code::ClientOffline) => CommandOutcome::ClientOffline,
            Some(Code::ConnectionLost) => CommandOutcome::ConnectionLost,
            Some(Code::TimeOut) => CommandOutcome::TimeOut,
            Some(Code::ParameterError) => CommandOutcome::ParameterError,
            Some(Code::UnsupportedMessage) => CommandOutcome::UnsupportedMessage,
            Some(Code::SystemBusy) => CommandOutcome::SystemBusy,
            Some(Code::SystemError) => CommandOutcome::SystemError,
        }
    }
}

impl Label for Reason {
    const NAME: &'static str = "reason";

    fn all() -> impl Iterator<Item = Self> {
        Reason::ALL.into_iter()
    }

    fn index(self) -> usize {
        self as usize
    }

    fn text(self) -> &'static str {
        self.as_str()
    }
}

label! {
    "reason" for DropReason {
        AckTimeout = "ack_timeout",
    }
}

label! {
    /// Whether a message of a device was understood.
    "result" MessageResult {
        /// It was.
        Accepted = "accepted",
        /// It was not.
        Rejected = "rejected",
    }
}

/// The number of types that devices send before each type, and at the end the number of all of them.
static UPWARD_BEFORE: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let mut upward = 0;
    let before = MessageType::all().map(|message_type| {
        let before = upward;
        upward += usize::from(message_type.goes_up());
        before
    });
    let mut places: Vec<usize> = before.collect();
    places.push(upward);
    places
});

/// Types that devices send, with two that are none.
impl Label for MessageKind {
    const NAME: &'static str = "type";

    fn all() -> impl Iterator<Item = Self> {
        let types = MessageType::all().filter(|message_type| message_type.goes_up()).map(MessageKind::Type);
        types.chain([MessageKind::TimeSync, MessageKind::Unknown])
    }

    fn index(self) -> usize {
        let types = UPWARD_BEFORE.len() - 1;
        match self {
            MessageKind::Type(message_type) => UPWARD_BEFORE[message_type as usize],
            MessageKind::TimeSync => UPWARD_BEFORE[types],
            MessageKind::Unknown => UPWARD_BEFORE[types] + 1,
        }
    }

    fn text(self) -> &'static str {
        match self {
            MessageKind::Type(message_type) => message_type.dotted(),
            MessageKind::TimeSync => "time-sync",
            MessageKind::Unknown => "unknown",
        }
    }
}
