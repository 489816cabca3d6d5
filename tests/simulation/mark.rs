//! The mark of a message, by which its copies are known wherever they turn up.

use std::fmt;

/// Stands before and behind the mark, in a topic.
const EDGE: char = '~';

/// Which message of which device, and the connection that it was sent on: each sending is a copy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// Index of the device.
    pub(crate) device: usize,
    /// Number of the message, in the order in which the device sent them, from 1.
    pub(crate) number: usize,
    /// Number of the device's connection, from 1.
    pub(crate) connection: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{EDGE}{}-{}-{}{EDGE}", self.device, self.number, self.connection)
    }
}

impl Mark {
    /// The first mark in an envelope.
    pub(crate) fn find(envelope: &str) -> Option<Self> {
        let mut numbers = envelope.split(EDGE).nth(1)?.split('-');
        let device = numbers.next()?.parse().ok()?;
        let number = numbers.next()?.parse().ok()?;
        let connection = numbers.next()?.parse().ok()?;
        Some(Self { device, number, connection })
    }
}

/// The value of an attribute of an envelope: one that is text without escapes, as those of the bridge are.
pub(crate) fn attribute<'a>(envelope: &'a str, name: &str) -> &'a str {
    let key = format!(r#""{name}":""#);
    let value = envelope.split_once(key.as_str()).map_or("", |(_, rest)| rest);
    value.split_once('"').map_or("", |(value, _)| value)
}
