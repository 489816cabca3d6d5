//! The header of a frame from a client.

use super::CONTROL_BYTES_MAX;

/// Type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// It goes on with the message before it.
    Continuation = 0x0,
    /// It begins a message of bytes.
    Binary = 0x2,
    /// It ends the connection.
    Close = 0x8,
    /// It wants a pong.
    Ping = 0x9,
    /// It answers a ping, or nobody.
    Pong = 0xa,
}

impl Opcode {
    /// Whether it may stand between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// Error of a client's frame, which ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It breaks RFC 6455.
    Protocol,
    /// It holds text, which MQTT does not take (MQTT-6.0.0-1).
    Text,
}

impl Failure {
    /// The status that the client is told (RFC 6455, section 7.4.1).
    pub fn status(self) -> u16 {
        match self {
            Failure::Protocol => 1002,
            Failure::Text => 1003,
        }
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Type of the frame.
    pub opcode: Opcode,
    /// Whether the message ends with it.
    pub is_final: bool,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// Masking key, applied to each four bytes of the payload.
    pub mask: [u8; 4],
    /// Bytes of the header itself.
    pub header_bytes: usize,
}

impl Head {
    /// Reads the header at the front of `bytes`; `None`: it is not whole yet.
    ///
    /// # Errors
    /// [`Failure`] as soon as a byte shows it.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let is_final = first & 0x80 != 0;
        // No extension was agreed on that gives the reserved bits a meaning (section 5.2).
        if first & 0x70 != 0 {
            return Err(Failure::Protocol);
        }
        let opcode = match first & 0x0f {
            0x0 => Opcode::Continuation,
            0x1 => return Err(Failure::Text),
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return Err(Failure::Protocol),
        };
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        // A client masks every frame (section 5.1).
        if second & 0x80 == 0 {
            return Err(Failure::Protocol);
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!is_final || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(Failure::Protocol);
        }
        let (payload_bytes, mask_at) = match short {
            126 => {
                let Some(length) = bytes.get(2..4) else { return Ok(None) };
                (u64::from(u16::from_be_bytes([length[0], length[1]])), 4)
            }
            127 => {
                let Some(length) = bytes[2..].first_chunk::<8>() else { return Ok(None) };
                (u64::from_be_bytes(*length), 10)
            }
            _ => (u64::from(short), 2),
        };
        // The shortest form only, and never above 63 bits (section 5.2).
        let least = [0, 126, 0x1_0000][usize::from(short == 126) + 2 * usize::from(short == 127)];
        if payload_bytes < least || payload_bytes > u64::MAX >> 1 {
            return Err(Failure::Protocol);
        }
        let Some(mask) = bytes.get(mask_at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        Ok(Some(Self { opcode, is_final, payload_bytes, mask: *mask, header_bytes: mask_at + 4 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Head>, Failure> {
        let whole = Head::read(bytes);
        for end in 0..bytes.len() {
            let part = Head::read(&bytes[..end]);
            assert!(part == Ok(None) || part == whole, "{end} of {bytes:?}: {part:?}, whole {whole:?}");
        }
        whole
    }

    #[test]
    fn a_header_is_read_in_each_of_its_three_lengths() {
        let head = |payload_bytes, header_bytes| Head {
            opcode: Opcode::Binary,
            is_final: true,
            payload_bytes,
            mask: [1, 2, 3, 4],
            header_bytes,
        };
        assert_eq!(read(&[0x82, 0x80 | 5, 1, 2, 3, 4]), Ok(Some(head(5, 6))));
        assert_eq!(read(&[0x82, 0x80 | 126, 1, 0, 1, 2, 3, 4]), Ok(Some(head(256, 8))));
        assert_eq!(read(&[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]), Ok(Some(head(65_536, 14))));
    }

    #[test]
    fn what_rfc_6455_forbids_is_refused() {
        let mask = [0, 0, 0, 0];
        let cases: &[(&str, &[u8])] = &[
            ("not masked", &[0x82, 5]),
            ("a reserved bit", &[0xc2, 0x80]),
            ("a reserved opcode", &[0x83, 0x80]),
            ("a reserved control opcode", &[0x8b, 0x80]),
            ("a ping in parts", &[0x09, 0x80]),
            ("a ping over 125 bytes", &[0x89, 0xfe, 0, 126]),
            ("a length in the wrong form", &[0x82, 0xfe, 0, 125]),
            ("a longer length in the wrong form", &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            ("a length of 64 bits", &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (name, bytes) in cases {
            assert_eq!(read(&[bytes, &mask[..]].concat()), Err(Failure::Protocol), "{name}");
        }
        assert_eq!(read(&[0x81, 0x80, 0, 0, 0, 0]), Err(Failure::Text));
    }
}
