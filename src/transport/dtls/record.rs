//! Records of DTLS 1.2, and the fragments of handshake messages in them, as far as they can be read without keys
//! (RFC 6347 sections 4.1 and 4.2.2).

/// Bytes of a record's header.
pub(super) const RECORD_BYTES: usize = 13;

/// Bytes in front of each fragment of a handshake message.
pub(super) const FRAGMENT_BYTES: usize = 12;

/// First byte of every version of DTLS.
pub(super) const DTLS: u8 = 0xfe;

/// Content type of ChangeCipherSpec.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;

/// Content type of alerts.
pub(super) const ALERT: u8 = 21;

/// Content type of handshake messages.
pub(super) const HANDSHAKE: u8 = 22;

/// Content type of messages of the application.
pub(super) const APPLICATION_DATA: u8 = 23;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) content: u8,
    pub(super) version: [u8; 2],
    /// 0 until ChangeCipherSpec; what follows it is encrypted.
    pub(super) epoch: u16,
    /// Number within the epoch, 48 bits.
    pub(super) sequence: u64,
    pub(super) body: &'a [u8],
    /// With its header.
    pub(super) whole: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes the first record off a datagram; what follows it comes second. `None` when there is no whole one.
    pub(super) fn read(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head = datagram.first_chunk::<RECORD_BYTES>()?;
        let [content, DTLS, minor, e0, e1, s0, s1, s2, s3, s4, s5, high, low] = *head else { return None };
        let body_bytes = usize::from(u16::from_be_bytes([high, low]));
        let (whole, rest) = datagram.split_at_checked(RECORD_BYTES + body_bytes)?;
        let epoch = u16::from_be_bytes([e0, e1]);
        let sequence = u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]);
        Some((Self { content, version: [DTLS, minor], epoch, sequence, body: &whole[RECORD_BYTES..], whole }, rest))
    }
}

/// A part of a handshake message, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Length of the whole message.
    pub(super) message_bytes: usize,
    /// Number of the message in its handshake.
    pub(super) sequence: u16,
    /// Where this part begins.
    pub(super) offset: usize,
    /// Length of this part.
    pub(super) bytes: usize,
}

impl Fragment {
    /// Takes the first fragment off the body of a record that is not encrypted; what follows it comes second. `None` when
    /// there is no whole one, or one that reaches beyond the end of its message.
    pub(super) fn read(body: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = body.split_first_chunk::<FRAGMENT_BYTES>()?;
        let [_, l0, l1, l2, s0, s1, o0, o1, o2, b0, b1, b2] = *head;
        let number = |high, middle, low| usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let sequence = u16::from_be_bytes([s0, s1]);
        let (message_bytes, offset, bytes) = (number(l0, l1, l2), number(o0, o1, o2), number(b0, b1, b2));
        let (_, rest) = rest.split_at_checked(bytes)?;
        (offset + bytes <= message_bytes).then_some((Self { message_bytes, sequence, offset, bytes }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: &[u8] = &[
        22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 7, 0, 14, // a record of 14 bytes
        16, 0, 1, 2, 0, 3, 0, 1, 0, 0, 0, 2, 8, 9, // two bytes of message 3, which has 258
        20, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 8, 0, 1, 1,
    ];

    #[test]
    fn records_and_fragments_are_read_one_after_the_other() {
        let (first, rest) = Record::read(DATAGRAM).expect("a record");
        assert_eq!((first.content, first.epoch, first.body.len(), first.whole.len()), (HANDSHAKE, 0, 14, 27));
        let (fragment, behind) = Fragment::read(first.body).expect("a fragment");
        assert_eq!(fragment, Fragment { message_bytes: 258, sequence: 3, offset: 256, bytes: 2 });
        assert!(behind.is_empty());
        let (second, rest) = Record::read(rest).expect("a record");
        assert_eq!((second.content, second.epoch, second.body), (CHANGE_CIPHER_SPEC, 1, &[1][..]));
        assert_eq!((first.sequence, second.sequence), (7, 8));
        assert!(rest.is_empty() && Record::read(rest).is_none());
    }

    #[test]
    fn nothing_that_is_cut_or_reaches_beyond_its_end_is_read() {
        for end in 0..27 {
            assert_eq!(Record::read(&DATAGRAM[..end]), None, "cut at {end}");
        }
        let body = &DATAGRAM[13..27];
        for end in 0..body.len() {
            assert_eq!(Fragment::read(&body[..end]), None, "cut at {end}");
        }
        let mut beyond = body.to_vec();
        beyond[8] = 1;
        assert_eq!(Fragment::read(&beyond), None);
    }
}
