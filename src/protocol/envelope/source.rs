//! Whose envelope it is.

/// The connected device that an envelope comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// Product of the connected device, as its topics name it.
    pub product: &'a str,
    /// The connected device.
    pub device: &'a str,
    /// The session's ULID as text; `None` for CoAP.
    pub session: Option<&'a str>,
    /// The registry's product of the device that the message is about; `None` when it is that of the topic or unknown.
    pub about_product: Option<&'a str>,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The device said DISCONNECT.
    Disconnected,
    /// The connection broke.
    ConnectionLost,
    /// The device was silent for too long.
    KeepAlive,
    /// An operator or the registry ended it, or a command did.
    Kicked,
    /// The bridge is shutting down.
    Drained,
    /// The device broke the protocol.
    ProtocolError,
    /// The queue did not acknowledge in time.
    NotAcknowledged,
    /// A newer session took the device over, and the `online` of this one may stand behind that of the newer one.
    SupersededByPolicy,
}

impl Cause {
    /// The cause as `data.headers.cause` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Disconnected => "disconnected",
            Cause::ConnectionLost => "connection_lost",
            Cause::KeepAlive => "keep_alive",
            Cause::Kicked => "kicked",
            Cause::Drained => "drained",
            Cause::ProtocolError => "protocol_error",
            Cause::NotAcknowledged => "not_acknowledged",
            Cause::SupersededByPolicy => "superseded_by_policy",
        }
    }
}
