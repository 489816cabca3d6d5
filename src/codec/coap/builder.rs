//! A message to be sent.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};

use super::{Code, Kind, MessageToken};

/// Longest value of an option that the format can carry.
const VALUE_BYTES_MAX: usize = 65_804;

/// A message in the making.
///
/// ```
/// use jetlinks_bridge::codec::coap::{Code, MessageBuilder, Kind, MessageToken, option};
///
/// let busy = MessageBuilder::new(Kind::Acknowledgement, Code::SERVICE_UNAVAILABLE, 7, MessageToken::default());
/// assert_eq!(busy.uint(option::MAX_AGE, 5).encode(), [0x60, 0xa3, 0, 7, 0xd1, 1, 5]);
/// ```
#[derive(Debug, Clone)]
pub struct MessageBuilder {
    packet: Packet,
}

impl MessageBuilder {
    /// A message without options and payload.
    pub fn new(kind: Kind, code: Code, id: u16, token: MessageToken) -> Self {
        let mut packet = Packet::new();
        packet.header.set_type(match kind {
            Kind::Confirmable => MessageType::Confirmable,
            Kind::NonConfirmable => MessageType::NonConfirmable,
            Kind::Acknowledgement => MessageType::Acknowledgement,
            Kind::Reset => MessageType::Reset,
        });
        packet.header.code = MessageClass::from(code.to_byte());
        packet.header.message_id = id;
        packet.set_token(token.as_bytes().to_vec());
        Self { packet }
    }

    /// Adds a value of an option; one longer than the format can carry (65,804 bytes) is left out.
    #[must_use]
    pub fn option(mut self, number: u16, value: &[u8]) -> Self {
        if value.len() <= VALUE_BYTES_MAX {
            self.packet.add_option(CoapOption::from(number), value.to_vec());
        }
        self
    }

    /// Adds a number as the value of an option, in as few bytes as it needs.
    #[must_use]
    pub fn uint(self, number: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let zeros = value.leading_zeros() as usize / 8;
        self.option(number, &bytes[zeros..])
    }

    /// Adds the segments of a path; the leading `/` may be missing.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        path.split('/').fold(self, |draft, segment| draft.option(super::option::URI_PATH, segment.as_bytes()))
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.packet.payload = payload.to_vec();
        self
    }

    /// The datagram. That it fits into one is the caller's to see to.
    pub fn encode(&self) -> Vec<u8> {
        // Without a limit on the length there is nothing that can fail.
        self.packet.to_bytes_unlimited().unwrap_or_default()
    }
}

/// An empty message: ACK, RST, or as CON a ping.
pub fn empty(kind: Kind, id: u16) -> [u8; 4] {
    let kind = match kind {
        Kind::Confirmable => 0x40,
        Kind::NonConfirmable => 0x50,
        Kind::Acknowledgement => 0x60,
        Kind::Reset => 0x70,
    };
    let [high, low] = id.to_be_bytes();
    [kind, 0, high, low]
}

#[cfg(test)]
mod tests {
    use super::super::{decode, option};
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_need() {
        for (number, bytes) in [(0, 0), (1, 1), (255, 1), (256, 2), (70_000, 3), (u32::MAX, 4)] {
            let draft = MessageBuilder::new(Kind::Confirmable, Code::POST, 1, MessageToken::default());
            let message = decode(&draft.uint(option::SIZE1, number).encode()).expect("well formed");
            assert_eq!(message.value(option::SIZE1).map(<[u8]>::len), Some(bytes));
            assert_eq!(message.uint(option::SIZE1), Some(number));
        }
    }

    #[test]
    fn an_empty_message_is_its_header() {
        for kind in [Kind::Confirmable, Kind::Acknowledgement, Kind::Reset] {
            let message = decode(&empty(kind, 0xabcd)).expect("well formed");
            assert_eq!((message.kind(), message.code(), message.id()), (kind, Code::EMPTY, 0xabcd));
        }
    }
}
