//! The frames of WebSocket (RFC 6455, section 5), as far as MQTT needs them: binary data, and the three control frames.
//!
//! A server of MQTT has no use for messages: packets begin and end where they like in the stream of payloads
//! (MQTT-6.0.0-1, MQTT-6.0.0-2), so a payload is passed on as it arrives and a frame of any length costs no memory.

mod decode;
mod head;

pub use decode::{Decoded, Decoder};
pub use head::{Failure, Head, Opcode};

/// Longest header that a server writes, in bytes: it masks nothing (RFC 6455, section 5.1).
pub const HEADER_BYTES_MAX: usize = 10;

/// Longest payload of a control frame, in bytes (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Status of a connection that ends in good order (RFC 6455, section 7.4.1).
pub const NORMAL_CLOSURE: u16 = 1000;

/// The header of a whole, unmasked frame, and how many bytes of the array it has.
pub fn header(opcode: Opcode, payload_bytes: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = 0x80 | opcode as u8;
    // The range of each arm keeps the number within its type.
    let bytes = match payload_bytes {
        0..=125 => {
            header[1] = payload_bytes as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    (header, bytes)
}

/// Appends a whole frame.
pub fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let (header, header_bytes) = header(opcode, payload.len());
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_takes_the_shortest_form_of_its_length() {
        let shown = |payload_bytes| {
            let (header, bytes) = header(Opcode::Binary, payload_bytes);
            header[..bytes].to_vec()
        };
        assert_eq!(shown(0), [0x82, 0]);
        assert_eq!(shown(125), [0x82, 125]);
        assert_eq!(shown(126), [0x82, 126, 0, 126]);
        assert_eq!(shown(0xffff), [0x82, 126, 0xff, 0xff]);
        assert_eq!(shown(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_frame_is_its_header_and_its_payload() {
        let mut out = Vec::new();
        write_frame(Opcode::Close, &NORMAL_CLOSURE.to_be_bytes(), &mut out);
        assert_eq!(out, [0x88, 2, 0x03, 0xe8]);
    }
}
