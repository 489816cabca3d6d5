//! From bytes to what may happen to a session.

use jetlinks_bridge::codec::mqtt::Qos;
use jetlinks_bridge::session::mqtt::Ending;

/// Topics and payloads that a device publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A message.
    Event,
    /// A message that cannot be decoded.
    Broken,
    /// A topic that carries no message.
    Unknown,
    /// A packet too large to be read.
    TooLarge,
    /// A question for the time: it owes the queue nothing.
    TimeSync,
    /// The topic of another device: the session ends.
    Foreign,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The device publishes.
    Publish(Qos, Form),
    /// The device sends a QoS 2 message again, that of this index among the open ones.
    Repeat(u8),
    /// The device releases a QoS 2 message.
    Release(u8),
    /// The device pings.
    Ping,
    /// The device subscribes to everything of its own.
    Subscribe(Qos),
    /// The device gives its subscription up.
    Unsubscribe,
    /// The device acknowledges a command that it was sent.
    Puback(u8),
    /// The device answers a command that it was sent.
    Reply(u8),
    /// A command comes; the bits say which.
    Command(u8),
    /// The queue stores so many of the records that it took.
    Store(u8),
    /// The queue stores a record and its receipt is lost.
    StoreSilently,
    /// The queue does not store a record and says so.
    Lose,
    /// The receipt of this index arrives.
    Deliver(u8),
    /// The queue goes away, with what it took or without.
    Away(bool),
    /// The queue takes records again.
    Back,
    /// So many tenths of a second pass.
    Pass(u8),
    /// The replica shuts down.
    Drain,
    /// Somebody ends the session.
    End(Ending),
}

/// Reads operations until the bytes are used up.
#[derive(Debug)]
pub struct Operations<'a>(pub &'a [u8]);

impl Operations<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn qos(&mut self) -> Qos {
        Qos::from_bits(self.byte() % 3).unwrap_or(Qos::AtLeastOnce)
    }
}

impl Iterator for Operations<'_> {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.byte() % 32 {
            0..6 => Operation::Publish(self.qos(), Form::Event),
            6 => Operation::Publish(self.qos(), Form::Broken),
            7 => Operation::Publish(self.qos(), Form::Unknown),
            8 => Operation::Publish(self.qos(), Form::TooLarge),
            9 => Operation::Publish(self.qos(), Form::TimeSync),
            10 => Operation::Repeat(self.byte()),
            11 => Operation::Release(self.byte()),
            12 => Operation::Ping,
            13 => Operation::Subscribe(self.qos()),
            14 => Operation::Unsubscribe,
            15 => Operation::Puback(self.byte()),
            16 => Operation::Reply(self.byte()),
            17 | 18 => Operation::Command(self.byte()),
            19 | 20 => Operation::Store(self.byte()),
            21 => Operation::StoreSilently,
            22 => Operation::Lose,
            23..27 => Operation::Deliver(self.byte()),
            27 => Operation::Away(self.byte() & 1 == 1),
            28 => Operation::Back,
            29 => Operation::Pass(self.byte()),
            // What ends the session is rarer than a byte allows, or most inputs would be short.
            30 => match self.byte() {
                0..8 => Operation::Drain,
                8..16 => Operation::Publish(Qos::AtLeastOnce, Form::Foreign),
                16..24 => Operation::End(Ending::Disconnected),
                24..32 => Operation::End(Ending::ConnectionLost),
                32..40 => Operation::End(Ending::Kicked),
                40..48 => Operation::End(Ending::TakenOver),
                _ => Operation::Back,
            },
            _ => Operation::Store(u8::MAX),
        })
    }
}
