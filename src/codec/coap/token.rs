//! What ties an answer to its request.

use std::fmt;

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
