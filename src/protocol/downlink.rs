//! The interface between sessions and the queue that commands come from.

use bytes::Bytes;

use super::command::{Command, CommandError};
use super::id::{DeviceId, ProductId};
use super::trace::TraceContext;
use super::uplink::{Availability, SlotId};

/// Number of a command at the queue that delivered it; only that queue knows what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Recipient of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// The session whose subscription received it.
    Session(SlotId),
    /// The session of the device in this worker, if there is one.
    Device(DeviceId),
    /// A session that ended while the command was on its way.
    Ended,
}

/// Events of the queue of commands for a worker.
#[expect(clippy::large_enum_variant, reason = "nearly every event is a command, and each is moved once")]
#[derive(Debug)]
pub enum DownlinkEvent {
    /// The interest that [`Downlink::attach`] declared is in place.
    Attached(SlotId),
    /// All commands that were sent before the [`Downlink::send_barrier`] of that number, and those of lower ones, are here.
    BarrierReached(u64),
    /// A command, or what could not be read as one.
    Command {
        /// Its recipient.
        to: Recipient,
        /// Ticket to answer with; `None` when nobody waits for an outcome.
        ticket: Option<Ticket>,
        /// The command.
        command: Result<Command, CommandError>,
    },
    /// A command was not carried out, and its caller gets no outcome: its reply subject is one that the bridge itself
    /// subscribes.
    ReplySubjectRefused,
    /// Number of commands that were lost because more came than may wait; they have no outcome.
    Lost(u64),
}

/// JetLinks' own codes for the outcome of a command.
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
    /// Every code that the bridge gives.
    pub const ALL: [Code; 8] = [
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

/// Outcome of a command for its caller: the device's reply or a failure, always one envelope.
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
    /// Header `traceparent` of the outcome: the bridge's part of the command's trace. `None` with tracing off.
    pub trace: Option<TraceContext>,
    /// The bridge's own failure code and its text; `None` when the envelope is a device's reply or says success.
    pub failure: Option<(Code, String)>,
}

/// Connection of one worker to the queue of commands. Used by that worker's thread alone.
pub trait Downlink {
    /// Declares interest in the commands of a device and of the children that the registry binds to it;
    /// [`DownlinkEvent::Attached`] follows once, when all of it is in place.
    fn attach(&mut self, session: SlotId, addresses: &[(ProductId, DeviceId)]);

    /// Withdraws the interest of that session.
    fn detach(&mut self, session: SlotId);

    /// Bytes that are kept of the caller until its outcome comes.
    fn held_bytes(&self, _ticket: Ticket) -> usize {
        0
    }

    /// Gives the caller its outcome. Never blocks.
    fn answer(&mut self, ticket: Ticket, outcome: Outcome);

    /// Asks for [`DownlinkEvent::BarrierReached`]; false when this queue does not support it. Numbers rise. For a replica that was
    /// suspended: commands that come before the event may be stale.
    fn send_barrier(&mut self, _number: u64) -> bool {
        false
    }

    /// Declares the interest of a session once more: its older session on another replica has withdrawn the same one, and
    /// a server may have mixed up the two.
    fn reassert(&mut self, _session: SlotId) {}

    /// Whether no command can come any more for detached sessions, and every outcome is on its way.
    fn is_settled(&self) -> bool {
        true
    }

    /// Whether commands can come.
    fn availability(&self) -> Availability {
        Availability::Ok
    }

    /// Whether the outcome of that ticket goes where records go, as on stdout. A device's reply is then written once, as the
    /// outcome.
    fn is_uplink(&self, _ticket: Ticket) -> bool {
        false
    }
}
