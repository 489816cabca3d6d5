//! The seam between sessions and the queue that commands come from.

use bytes::Bytes;

use super::command::{Command, CommandError};
use super::id::{DeviceId, ProductId};
use super::trace::TraceContext;
use super::uplink::{Availability, Token};

/// Names a command towards the queue that brought it; that queue alone knows what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Whom a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// The session whose interest brought it.
    Session(Token),
    /// Whichever session of this worker is that of the device.
    Device(DeviceId),
    /// A session that has ended, while the command was on its way.
    Ended,
}

/// What the queue of commands tells a worker.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a command, and each is moved once")]
#[derive(Debug)]
pub enum DownlinkEvent {
    /// The interest that [`Downlink::attach`] declared is in place.
    Attached(Token),
    /// All commands that were sent before the [`Downlink::fence`] of that number, and those of lower ones, are here.
    Fenced(u64),
    /// A command, or what could not be read as one.
    Command {
        /// Whom it is for.
        to: Recipient,
        /// How to answer; `None` when nobody waits for an outcome.
        ticket: Option<Ticket>,
        /// The command.
        command: Result<Command, CommandError>,
    },
    /// A command was not carried out and its caller is not told, for it wants its outcome where the bridge itself
    /// listens.
    ReplySubjectRefused,
    /// So many commands were lost on their way, more than may wait; they have no outcome.
    Lost(u64),
}

/// JetLinks' own codes of what can become of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Accepted; a reply may follow as an ordinary message.
    RequestHandling,
    /// The device is not connected here.
    ClientOffline,
    /// The connection ended before the answer, or before the command was written.
    ConnectionLost,
    /// No reply in time.
    TimeOut,
    /// The command contradicts itself, or its message id is in use.
    ParameterError,
    /// This message type does not go to devices.
    UnsupportedMessage,
    /// Too many commands wait.
    SystemBusy,
    /// The bridge failed.
    SystemError,
}

impl Code {
    const ALL: [Code; 8] = [
        Code::RequestHandling,
        Code::ClientOffline,
        Code::ConnectionLost,
        Code::TimeOut,
        Code::ParameterError,
        Code::UnsupportedMessage,
        Code::SystemBusy,
        Code::SystemError,
    ];

    /// The code with that name; `None` for a device's own.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The code as JetLinks writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::RequestHandling => "REQUEST_HANDLING",
            Code::ClientOffline => "CLIENT_OFFLINE",
            Code::ConnectionLost => "CONNECTION_LOST",
            Code::TimeOut => "TIME_OUT",
            Code::ParameterError => "PARAMETER_ERROR",
            Code::UnsupportedMessage => "UNSUPPORTED_MESSAGE",
            Code::SystemBusy => "SYSTEM_BUSY",
            Code::SystemError => "SYSTEM_ERROR",
        }
    }
}

/// What the caller gets: the device's reply or a failure, always one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Id of the device that the command was about: the key on Kafka.
    pub device: String,
    /// The command's header `correlation-id`, else its message id.
    pub correlation_id: String,
    /// The envelope, or in binary mode its `data`.
    pub payload: Bytes,
    /// Binary mode: the envelope's attributes, as in [`super::uplink::Record::attributes`].
    pub attributes: Vec<(&'static str, String)>,
    /// What goes along as the header `traceparent`: the bridge's part of the command's trace. `None` with tracing off.
    pub trace: Option<TraceContext>,
    /// The bridge's own failure code and its text; `None` when the envelope is a device's reply or says success.
    pub failure: Option<(Code, String)>,
}

/// One worker's way to the queue of commands. Used by that worker's thread alone.
pub trait Downlink {
    /// Declares interest in the commands of a device and of the children that the registry binds to it;
    /// [`DownlinkEvent::Attached`] follows once, when all of it is in place.
    fn attach(&mut self, token: Token, addresses: &[(ProductId, DeviceId)]);

    /// Withdraws the interest of that session.
    fn detach(&mut self, token: Token);

    /// Bytes that are kept of the caller until its outcome comes.
    fn held_bytes(&self, _ticket: Ticket) -> usize {
        0
    }

    /// Gives the caller its outcome. Never blocks.
    fn answer(&mut self, ticket: Ticket, outcome: Outcome);

    /// Asks for [`DownlinkEvent::Fenced`]; false when this queue cannot tell. Numbers rise. For a replica that was frozen: what comes
    /// before may be stale.
    fn fence(&mut self, _number: u64) -> bool {
        false
    }

    /// Declares the interest of a session once more: its older session on another replica has withdrawn the same one, and
    /// a server may have mixed up the two.
    fn reassert(&mut self, _token: Token) {}

    /// Whether nothing can come any more for what was detached, and every outcome is on its way.
    fn is_settled(&self) -> bool {
        true
    }

    /// Whether commands can come.
    fn availability(&self) -> Availability {
        Availability::Ok
    }

    /// Whether outcomes go where records go, as on stdout. A device's reply is then written once, as the outcome.
    fn is_uplink(&self) -> bool {
        false
    }
}
