//! Phases of a session, and the causes of its end.

use crate::protocol::envelope::Cause;

/// Cause of the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// DISCONNECT.
    Disconnected,
    /// The connection broke.
    ConnectionLost,
    /// Silence beyond the keep-alive.
    KeepAlive,
    /// An operator, a command or the registry ended it.
    Kicked,
    /// The replica shuts down.
    Drained,
    /// It was there for longer than `limits.session_age_max` allows.
    Age,
    /// An operator sheds sessions of this replica.
    Shed,
    /// The device broke the protocol.
    ProtocolError,
    /// The queue did not acknowledge in time.
    NotAcknowledged,
    /// A newer session of the same device took over. There is no `offline`, as the device is connected; but where the
    /// `online` of this session may be stored behind that of the newer one, an `offline` follows, which counts only if the
    /// newer session has ended since.
    TakenOver,
}

impl Ending {
    /// The cause that `offline` names; `None` where there is no `offline`.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Ending::Disconnected => Some(Cause::Disconnected),
            Ending::ConnectionLost => Some(Cause::ConnectionLost),
            Ending::KeepAlive => Some(Cause::KeepAlive),
            Ending::Kicked => Some(Cause::Kicked),
            // Each is the bridge's doing: the device is to connect again, to whichever replica.
            Ending::Drained | Ending::Age | Ending::Shed => Some(Cause::Drained),
            Ending::ProtocolError => Some(Cause::ProtocolError),
            Ending::NotAcknowledged => Some(Cause::NotAcknowledged),
            Ending::TakenOver => None,
        }
    }

    /// Whether the will is published: not when the device, an operator or the bridge ended the session on purpose.
    pub(super) fn publishes_will(self) -> bool {
        matches!(self, Ending::ConnectionLost | Ending::KeepAlive | Ending::ProtocolError | Ending::NotAcknowledged)
    }
}

/// Phase of a session. It only moves on, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Packets are taken in and commands are written.
    Serving,
    /// No packet is taken in and no command is written; the session ends for that reason once everything is acknowledged.
    Draining(Ending),
    /// Nothing is written to the device; records on their way to the queue still get there.
    Ended(Ending),
}
