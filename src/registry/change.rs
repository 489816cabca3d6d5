//! What a registry tells whoever runs it.

use std::time::Duration;

use super::RecordError;
use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Availability;

/// News of a registry over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Records were read and are in force.
    Devices {
        /// Devices that are known.
        known: usize,
        /// Whose sessions must end: removed, disabled, re-keyed, of another product or gateway.
        ended: Vec<DeviceId>,
    },
    /// A record cannot be read: its device gets no session, and one that is there goes on.
    Unreadable {
        /// Where the record is: the key in the bucket, the id of the device.
        record: String,
        /// What is wrong with it; no value of the record.
        mistakes: Vec<RecordError>,
    },
    /// So many devices are known; nothing else changed.
    Known(usize),
    /// The registry was asked for one device.
    Asked {
        /// What it said.
        outcome: Asked,
        /// How long that took.
        took: Duration,
    },
    /// The registry answers, or does not.
    Availability(Availability),
}

/// What a registry said that was asked for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Here is its record.
    Found,
    /// There is no such device.
    Unknown,
    /// A record with mistakes, or something that is none.
    Unreadable,
    /// Nothing of this id.
    Refused,
    /// Nothing.
    Failed,
}
