//! Changes of a registry over the network.

use std::time::Duration;

use super::RecordError;
use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Availability;

/// A change of a registry over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Records were read and are in force.
    Devices {
        /// Devices that are known.
        known: usize,
        /// Devices whose sessions must end: removed, disabled, re-keyed, of another product or gateway.
        ended: Vec<DeviceId>,
    },
    /// A record cannot be read: its device gets no session, and one that is there goes on.
    Unreadable {
        /// Where the record is: the key in the bucket, the id of the device.
        record: String,
        /// The mistakes, without any value of the record.
        mistakes: Vec<RecordError>,
    },
    /// The number of known devices has changed, and nothing else.
    Known(usize),
    /// The registry was asked for one device.
    Asked {
        /// The answer.
        outcome: Asked,
        /// Time until the answer.
        took: Duration,
    },
    /// The registry answers, or does not.
    Availability(Availability),
}

/// Answer of a registry that was asked for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Its record.
    Found,
    /// There is no such device.
    Unknown,
    /// A record with mistakes, or something else than a record.
    Unreadable,
    /// A refusal of this id.
    Refused,
    /// No answer, or a failure.
    Failed,
}
