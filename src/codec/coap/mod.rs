//! CoAP messages (RFC 7252) and their blocks (RFC 7959), from datagrams and back.
//!
//! [`decode`] is strict where the format has traps: version, token length, empty messages, a payload marker without a
//! payload. No function panics on any input, and a message never takes more memory than a small multiple of its
//! datagram, however many options it claims.

mod block;
mod builder;
mod code;
mod decode;
pub mod option;

use std::fmt;

use coap_lite::{CoapOption, Packet};

pub use block::{Block, ReservedSize};
pub use builder::{MessageBuilder, empty};
pub use code::Code;
pub use decode::{Malformed, OPTIONS_MAX, decode};

/// The token of a message: up to 8 bytes that the client chose (RFC 7252 section 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MessageToken {
    length: u8,
    bytes: [u8; 8],
}

impl MessageToken {
    /// A token of these bytes; `None` when there are more than 8.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut token = Self { length: u8::try_from(bytes.len()).ok()?, bytes: [0; 8] };
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(token)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for MessageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Type of a message in the message layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// CON: sent again until it is acknowledged.
    Confirmable,
    /// NON: sent once.
    NonConfirmable,
    /// ACK.
    Acknowledgement,
    /// RST.
    Reset,
}

/// A segment of the path is no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is no UTF-8")]
pub struct NotText;

/// A message that [`decode`] found well formed.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    kind: Kind,
    code: Code,
    id: u16,
    token: MessageToken,
    packet: Packet,
}

impl Message {
    /// CON, NON, ACK or RST.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Its message id: unique for its sender for some minutes.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Its token.
    pub fn token(&self) -> MessageToken {
        self.token
    }

    /// Its payload; empty when there is none.
    pub fn payload(&self) -> &[u8] {
        &self.packet.payload
    }

    /// Moves the payload out.
    pub fn take_payload(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.packet.payload)
    }

    /// Each option with its values, by number, repeated ones in their order.
    pub fn options(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.packet.options().flat_map(|(number, values)| values.iter().map(|value| (*number, value.as_slice())))
    }

    /// The values of an option.
    pub fn values(&self, number: u16) -> impl Iterator<Item = &[u8]> {
        self.packet.get_option(CoapOption::from(number)).into_iter().flatten().map(Vec::as_slice)
    }

    /// The first value of an option.
    pub fn value(&self, number: u16) -> Option<&[u8]> {
        self.values(number).next()
    }

    /// The first value of an option as a number; `None` when it is absent or longer than 4 bytes.
    pub fn uint(&self, number: u16) -> Option<u32> {
        let value = self.value(number).filter(|value| value.len() <= 4)?;
        Some(value.iter().fold(0, |uint, byte| uint << 8 | u32::from(*byte)))
    }

    /// The segments of the path joined with `/`, with one in front unless the first segment is empty. A segment is one level
    /// (RFC 7252 section 6.5): a `/` in one is written as `%2F`, and joins or parts nothing.
    ///
    /// # Errors
    /// [`NotText`]: no segment is ever left out.
    pub fn path(&self) -> Result<String, NotText> {
        let mut path = String::new();
        for (index, segment) in self.values(option::URI_PATH).enumerate() {
            if index > 0 {
                path.push('/');
            }
            let segment = std::str::from_utf8(segment).map_err(|_| NotText)?;
            for (index, part) in segment.split('/').enumerate() {
                if index > 0 {
                    path.push_str("%2F");
                }
                path.push_str(part);
            }
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_at_most_8_bytes_and_its_length_counts() {
        assert_eq!(MessageToken::new(&[1; 8]).as_ref().map(MessageToken::as_bytes), Some(&[1; 8][..]));
        assert_eq!(MessageToken::new(&[1; 9]), None);
        assert_ne!(MessageToken::new(&[0]), MessageToken::new(&[]));
    }
}
