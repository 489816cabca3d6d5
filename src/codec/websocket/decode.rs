//! Decodes the frames of a client, in the buffer that they were read into.

use super::head::{Failure, Head, Opcode};

/// Longest header of a client, in bytes.
const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// Result of [`Decoder::decode`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of data, which are at the front of the buffer; the rest of it is to be ignored.
    pub data_bytes: usize,
    /// Whether a pong is due, with the payload that [`Decoder::take_ping`] returns. Of several pings only the last one is
    /// answered (RFC 6455, section 5.5.3).
    pub has_ping: bool,
    /// `None` while the connection goes on. `Ok`: the client sent a close frame. `Err`: its frames are wrong, and the bridge has
    /// to close for this reason. After either nothing is decoded any more.
    pub end: Option<Result<(), Failure>>,
}

/// Decoder of the frames of one connection.
///
/// Between reads it keeps at most one header and the payload of one control frame, whatever the client sends.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a header that is not whole yet.
    partial: [u8; CLIENT_HEADER_BYTES_MAX],
    partial_bytes: usize,
    /// The frame whose payload is being read; `None` within a header.
    frame: Option<Frame>,
    /// Whether a message began and has not ended.
    is_in_message: bool,
    ping: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    mask: [u8; 4],
    /// Bytes of the payload that are still to come.
    left: u64,
}

impl Decoder {
    /// Decodes everything that was read, and moves the unmasked data to the front of it.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Decoded {
        let mut decoded = Decoded::default();
        let mut at = 0;
        while decoded.end.is_none() {
            match &mut self.frame {
                None if at == bytes.len() => break,
                None => match self.read_head(&bytes[at..], &mut decoded) {
                    Ok(used) => at += used,
                    Err(failure) => decoded.end = Some(Err(failure)),
                },
                Some(frame) => {
                    let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
                    let end = at + left.min(bytes.len() - at);
                    let part = &mut bytes[at..end];
                    unmask(part, &mut frame.mask);
                    frame.left -= part.len() as u64;
                    match frame.opcode {
                        Opcode::Binary | Opcode::Continuation => {
                            bytes.copy_within(at..end, decoded.data_bytes);
                            decoded.data_bytes += end - at;
                        }
                        Opcode::Ping => self.ping.extend_from_slice(part),
                        Opcode::Pong | Opcode::Close => {}
                    }
                    at = end;
                    if frame.left > 0 {
                        break;
                    }
                    self.finish_frame(&mut decoded);
                }
            }
        }
        decoded
    }

    /// Payload of the last ping.
    pub fn take_ping(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ping)
    }

    /// Reads on in a header; returns how many of the bytes belong to it.
    fn read_head(&mut self, bytes: &[u8], decoded: &mut Decoded) -> Result<usize, Failure> {
        let before = self.partial_bytes;
        let more = bytes.len().min(CLIENT_HEADER_BYTES_MAX - before);
        self.partial[before..before + more].copy_from_slice(&bytes[..more]);
        let Some(head) = Head::read(&self.partial[..before + more])? else {
            self.partial_bytes = before + more;
            return Ok(more);
        };
        match (head.opcode, self.is_in_message) {
            // A message begins once and ends before the next (section 5.4).
            (Opcode::Binary, true) | (Opcode::Continuation, false) => return Err(Failure::Protocol),
            (Opcode::Ping, _) => {
                self.ping = Vec::new();
                decoded.has_ping = false;
            }
            (Opcode::Binary | Opcode::Continuation | Opcode::Pong | Opcode::Close, _) => {}
        }
        self.partial_bytes = 0;
        self.frame =
            Some(Frame { opcode: head.opcode, is_final: head.is_final, mask: head.mask, left: head.payload_bytes });
        Ok(head.header_bytes - before)
    }

    fn finish_frame(&mut self, decoded: &mut Decoded) {
        let Some(frame) = self.frame.take() else { return };
        match frame.opcode {
            Opcode::Binary | Opcode::Continuation => self.is_in_message = !frame.is_final,
            Opcode::Ping => decoded.has_ping = true,
            Opcode::Pong => {}
            Opcode::Close => decoded.end = Some(Ok(())),
        }
    }
}

/// Unmasks the next bytes of a payload, and rotates the mask so that it fits the bytes behind them.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(eight) = <&mut [u8; 8]>::try_from(chunk) {
            *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
        }
    }
    let rest = chunks.into_remainder();
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a client: the first byte, the payload, and the length in its header.
    fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let mut out = Vec::new();
        out.push(first_byte);
        match payload.len() {
            0..=125 => out.push(0x80 | payload.len() as u8),
            126..=0xffff => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    /// All data, the payloads of the pongs that are due, and the end.
    type Outcome = (Vec<u8>, Vec<Vec<u8>>, Option<Result<(), Failure>>);

    /// The outcome of bytes that come in pieces of that size.
    fn outcome(bytes: &[u8], piece: usize) -> Outcome {
        let mut decoder = Decoder::default();
        let (mut data, mut pings) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let decoded = decoder.decode(&mut piece);
            data.extend_from_slice(&piece[..decoded.data_bytes]);
            if decoded.has_ping {
                pings.push(decoder.take_ping());
            }
            if decoded.end.is_some() {
                return (data, pings, decoded.end);
            }
        }
        (data, pings, None)
    }

    #[test]
    fn data_is_the_same_however_it_is_cut_into_frames_and_reads() {
        let data: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8).collect();
        let stream = [
            frame(0x82, &data[..3]),
            frame(0x02, &data[3..200]),
            frame(0x89, b"still there?"),
            frame(0x00, &[]),
            frame(0x8a, b"nobody asked"),
            frame(0x80, &data[200..210]),
            frame(0x82, &data[210..]),
        ]
        .concat();
        for piece in [1, 2, 3, 5, 7, 13, 64, 1_000, 65_536, stream.len()] {
            let (taken, pings, end) = outcome(&stream, piece);
            assert!(taken == data, "in pieces of {piece}");
            assert_eq!((pings, end), (vec![b"still there?".to_vec()], None), "in pieces of {piece}");
        }
    }

    #[test]
    fn of_several_pings_in_one_read_the_last_whole_one_is_answered() {
        let pings = [frame(0x89, b"first"), frame(0x89, b"second"), frame(0x8a, b"pong")].concat();
        assert_eq!(outcome(&pings, pings.len()).1, [b"second".to_vec()]);
        let mut decoder = Decoder::default();
        let (mut begun, mut rest) = (pings[..19].to_vec(), pings[19..].to_vec());
        assert!(!decoder.decode(&mut begun).has_ping, "the second one begins");
        assert!(decoder.decode(&mut rest).has_ping);
        assert_eq!(decoder.take_ping(), b"second");
    }

    #[test]
    fn nothing_is_taken_behind_a_close_frame() {
        let stream = [frame(0x82, b"data"), frame(0x88, &[0x03, 0xe8]), frame(0x82, b"more")].concat();
        for piece in [1, stream.len()] {
            assert_eq!(outcome(&stream, piece), (b"data".to_vec(), vec![], Some(Ok(()))));
        }
    }

    #[test]
    fn a_message_that_does_not_end_or_begin_where_it_must_is_refused() {
        let cases = [[frame(0x02, b"a"), frame(0x82, b"b")], [frame(0x82, b"a"), frame(0x80, b"b")]];
        for stream in cases.map(|frames| frames.concat()) {
            assert_eq!(outcome(&stream, 1), (b"a".to_vec(), vec![], Some(Err(Failure::Protocol))));
        }
    }

    #[test]
    fn what_came_before_a_broken_frame_is_data() {
        let stream = [frame(0x82, b"data"), vec![0xff]].concat();
        assert_eq!(outcome(&stream, stream.len()), (b"data".to_vec(), vec![], Some(Err(Failure::Protocol))));
    }

    #[test]
    fn no_bytes_make_it_panic_or_keep_more_than_a_header_and_a_ping() {
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut decoder = Decoder::default();
            for _ in 0..4 {
                let mut bytes: Vec<u8> = (0..40)
                    .map(|_| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        // Bytes that mean something, more often than others.
                        [0x82, 0x89, 0x80, 0x8a, 0x00, 0xfe, 0xff, (seed >> 40) as u8][(seed >> 60) as usize % 8]
                    })
                    .collect();
                let decoded = decoder.decode(&mut bytes);
                assert!(decoded.data_bytes <= bytes.len());
                assert!(decoder.ping.len() <= super::super::CONTROL_BYTES_MAX);
                if decoded.end.is_some() {
                    break;
                }
            }
        }
    }
}
