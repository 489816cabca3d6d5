//! Request bodies that arrive in blocks (RFC 7959, Block1).
//!
//! Uploads have limits of their own, as their senders are not authenticated. When a limit is reached, the network with the
//! most uploads loses one: the upload that has gone longest without a new block. Its client gets 4.08 and starts again.
//! Without DTLS a sender can forge its address, and so appear as many networks.
//!
//! A received block can equal an earlier one, byte for byte, for one of three reasons:
//!
//! - It is a duplicate: of a block of the open upload, or of the last block of a body that was answered.
//! - It is a late block of an earlier body, and must not become a part of the open upload.
//! - The device has restarted and uses the same message ids and tokens again. The block belongs to its new body, which has
//!   the same bytes there.
//!
//! A restart is detected when a message id and token come again with other bytes. If none was detected, the block counts as
//! late, and the client gets 4.08 and starts again: a body that nobody has sent must never be assembled.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use super::PeerKey;
use super::request::Part;
use crate::codec::coap::Block;
use crate::protocol::network::Network;

/// MAX_TRANSMIT_WAIT (RFC 7252 section 4.8.2), us: the client abandons its upload when it gets no response for this long.
const UPLOAD_IDLE_US: u64 = 93_000_000;

/// Result of a received block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The block belongs to the upload of that number; 2.31.
    Continue(u32),
    /// The body is complete. The number is that of its upload, 0 for a body of one block.
    Complete(u32, Vec<u8>),
    /// The block does not fit: blocks before it are missing, or its bytes differ from the first copy; 4.08.
    Gap,
    /// The body is longer than the limit; 4.13.
    TooLarge,
    /// The payload is longer than the block size, or shorter although more blocks follow; 4.00.
    WrongLength,
}

/// One block of one peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceivedBlock<'a> {
    /// The sender.
    pub(super) peer: PeerKey,
    /// Its Block1 option and the key of its body.
    pub(super) part: Part,
    /// Its bytes.
    pub(super) bytes: &'a [u8],
    /// Earlier use of its message id and token.
    pub(super) earlier: Earlier,
}

/// Earlier use of a request's message id and token by the same peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// None.
    Nothing,
    /// The same bytes.
    Same {
        /// Number of the upload that they were a block of.
        upload: u32,
        /// Whether the peer has restarted since.
        restarted: bool,
    },
    /// Other bytes: the peer has restarted.
    Other,
}

/// Meaning of a block that came before, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    /// A duplicate of a block of the open upload; 2.31 is sent again.
    Held,
    /// A duplicate of the last block of a body that was answered; the answer is sent again.
    Answered,
    /// A block of the body that is being sent now. [`Uploads::take`] must be called.
    Part,
    /// Probably a late block of an earlier body; 4.08.
    Late,
}

/// Origin of the blocks of an upload, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// The first block was new. A block that equals one from before the upload is late.
    Plain,
    /// All blocks equal blocks of one earlier upload, which is closed. This upload has the number of that one.
    Repeated,
    /// The peer has restarted. A block that equals one from before the upload may belong to it.
    Restarted,
}

#[derive(Debug)]
struct Upload {
    number: u32,
    body: Vec<u8>,
    history: History,
    /// Time of the last new block.
    heard_us: u64,
    totals: Rc<Cell<Totals>>,
}

/// Owner of uploads that are counted together. Each DTLS session is counted alone, as handshakes are limited by network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Network(Network),
    Session(PeerKey),
}

impl Owner {
    fn of(peer: PeerKey) -> Self {
        match peer {
            PeerKey::Address(address) => Self::Network(Network::of(address.ip())),
            session @ PeerKey::Session(_) => Self::Session(session),
        }
    }
}

/// Number and bytes of the uploads of one owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    uploads: usize,
    bytes: usize,
}

impl Upload {
    /// Whether the body has the bytes of the block at the offset of the block.
    fn contains(&self, received: &ReceivedBlock<'_>) -> bool {
        let offset = received.part.block.offset();
        self.body.get(offset..offset + received.bytes.len()) == Some(received.bytes)
    }
}

/// Open uploads.
#[derive(Debug)]
pub(super) struct Uploads {
    open: HashMap<(PeerKey, [u8; 32]), Upload>,
    /// Totals of the owners that have uploads.
    owners: HashMap<Owner, Rc<Cell<Totals>>>,
    held_bytes: usize,
    /// Number of the newest upload.
    last_number: u32,
    count_max: usize,
    per_peer_max: usize,
    bytes_max: usize,
}

impl Uploads {
    pub(super) fn new(count_max: usize, per_peer_max: usize, bytes_max: usize) -> Self {
        Self {
            open: HashMap::new(),
            owners: HashMap::new(),
            held_bytes: 0,
            last_number: 0,
            count_max,
            per_peer_max,
            bytes_max,
        }
    }

    /// Number of open uploads.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Bytes of the open uploads, by capacity.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Meaning of a block that came before, byte for byte. Changes nothing.
    pub(super) fn repetition(&self, received: &ReceivedBlock<'_>) -> Repetition {
        let Earlier::Same { upload: upload_number, restarted } = received.earlier else { return Repetition::Part };
        let Block { number: block_number, more, .. } = received.part.block;
        match self.open.get(&(received.peer, received.part.key)) {
            Some(upload) if more && upload.contains(received) => Repetition::Held,
            Some(upload) if block_number > 0 && received.part.block.offset() == upload.body.len() => {
                match upload.history {
                    History::Restarted => Repetition::Part,
                    History::Repeated if upload.number != upload_number => Repetition::Late,
                    History::Repeated if more => Repetition::Part,
                    History::Repeated => Repetition::Answered,
                    // The offset fits, but the block may be a late one of another body.
                    History::Plain => Repetition::Late,
                }
            }
            // No body is open that a late block could become a part of.
            None if block_number == 0 && more => Repetition::Part,
            None if !more && !restarted => Repetition::Answered,
            // The block is a whole body, which was answered.
            _ if !more && block_number == 0 => Repetition::Answered,
            _ => Repetition::Late,
        }
    }

    /// Adds a block to its upload. `body_bytes_max` is the limit for the body.
    pub(super) fn take(&mut self, received: &ReceivedBlock<'_>, body_bytes_max: usize, now_us: u64) -> Step {
        let Part { block, key, announced_bytes } = received.part;
        let (key, Block { number: block_number, more, .. }) = ((received.peer, key), block);
        if received.bytes.len() > block.bytes() || (more && received.bytes.len() < block.bytes()) {
            return Step::WrongLength;
        }
        if block_number == 0 {
            self.drop_upload(&key);
            if announced_bytes.is_some_and(|bytes| bytes as usize > body_bytes_max) {
                return Step::TooLarge;
            }
        } else if !self.open.contains_key(&key) {
            return Step::Gap;
        }
        let (offset, end) = (block.offset(), block.offset() + received.bytes.len());
        if end > body_bytes_max {
            self.drop_upload(&key);
            return Step::TooLarge;
        }
        if block_number == 0 {
            if !more {
                return Step::Complete(0, received.bytes.to_vec());
            }
            self.make_room(received.peer);
            let (number, history) = match received.earlier {
                Earlier::Nothing => (self.next_number(), History::Plain),
                Earlier::Same { upload, .. } => (upload, History::Repeated),
                Earlier::Other => (self.next_number(), History::Restarted),
            };
            let totals = self.owners.entry(Owner::of(received.peer)).or_default().clone();
            totals.update(|totals| Totals { uploads: totals.uploads + 1, ..totals });
            self.open.insert(key, Upload { number, body: Vec::new(), history, heard_us: now_us, totals });
        }
        // Needed when this block shows that the body is another one than the upload's number stands for.
        let next_number = self.next_number();
        let Some(upload) = self.open.get_mut(&key) else { return Step::Gap };
        let restarts = received.earlier == Earlier::Other;
        match offset.cmp(&upload.body.len()) {
            // A duplicate: the client has not received the 2.31 for it.
            Ordering::Less if more && upload.contains(received) => return Step::Continue(upload.number),
            // The new body begins like the old one and differs from here on.
            Ordering::Less if restarts => {
                upload.body.truncate(offset);
                upload.number = next_number;
            }
            // The blocks so far may all be late ones: nothing shows that the client has started this body.
            Ordering::Equal if upload.history == History::Repeated && received.earlier == Earlier::Nothing => {
                return Step::Gap;
            }
            Ordering::Equal if upload.history == History::Repeated && restarts => upload.number = next_number,
            Ordering::Equal => {}
            Ordering::Less | Ordering::Greater => return Step::Gap,
        }
        if restarts {
            upload.history = History::Restarted;
        }
        let capacity_before = upload.body.capacity();
        upload.body.extend_from_slice(received.bytes);
        upload.heard_us = now_us;
        let growth = upload.body.capacity() - capacity_before;
        self.held_bytes += growth;
        upload.totals.update(|totals| Totals { bytes: totals.bytes + growth, ..totals });
        let number = upload.number;
        if !more {
            return Step::Complete(number, self.drop_upload(&key));
        }
        while self.held_bytes > self.bytes_max.max(2 * body_bytes_max) && self.drop_other(key) {}
        Step::Continue(number)
    }

    /// Drops uploads without a new block for [`UPLOAD_IDLE_US`].
    pub(super) fn expire(&mut self, now_us: u64) {
        let is_over = |upload: &Upload| upload.heard_us + UPLOAD_IDLE_US <= now_us;
        let over: Vec<_> = self.open.iter().filter(|(_, upload)| is_over(upload)).map(|(key, _)| *key).collect();
        over.iter().for_each(|key| drop(self.drop_upload(key)));
    }

    /// Drops the uploads of a peer.
    pub(super) fn forget(&mut self, peer: PeerKey) {
        while self.drop_oldest(|(other, _), _| *other == peer) {}
    }

    /// The number of a new upload, never 0. Numbers are used again after 2^32 uploads.
    fn next_number(&mut self) -> u32 {
        self.last_number = self.last_number.checked_add(1).unwrap_or(1);
        self.last_number
    }

    /// Drops an upload when the limit of the peer or the limit of all uploads is reached.
    fn make_room(&mut self, peer: PeerKey) {
        let own = self.open.keys().filter(|(other, _)| *other == peer).count();
        if own >= self.per_peer_max {
            self.drop_oldest(|(other, _), _| *other == peer);
        } else if self.open.len() >= self.count_max {
            let most = self.owners.values().map(|totals| totals.get().uploads).max();
            self.drop_oldest(|_, totals| Some(totals.uploads) == most);
        }
    }

    /// Drops an upload other than that of `key`, if possible of the owner with the most bytes. False when there is no other.
    fn drop_other(&mut self, key: (PeerKey, [u8; 32])) -> bool {
        let most = self.owners.values().map(|totals| totals.get().bytes).max();
        self.drop_oldest(|other, totals| *other != key && Some(totals.bytes) == most)
            || self.drop_oldest(|other, _| *other != key)
    }

    /// Drops the upload that has gone longest without a new block, of those that `matches` selects. False when there is none.
    fn drop_oldest(&mut self, matches: impl Fn(&(PeerKey, [u8; 32]), Totals) -> bool) -> bool {
        let candidates = self.open.iter().filter(|(key, upload)| matches(key, upload.totals.get()));
        let oldest = candidates.min_by_key(|(_, upload)| upload.heard_us);
        let Some(key) = oldest.map(|(key, _)| *key) else { return false };
        self.drop_upload(&key);
        true
    }

    fn drop_upload(&mut self, key: &(PeerKey, [u8; 32])) -> Vec<u8> {
        let Some(Upload { body, totals, .. }) = self.open.remove(key) else { return Vec::new() };
        self.held_bytes -= body.capacity();
        totals.update(|totals| Totals { uploads: totals.uploads - 1, bytes: totals.bytes - body.capacity() });
        if totals.get().uploads == 0 {
            self.owners.remove(&Owner::of(key.0));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100;

    fn uploads() -> Uploads {
        Uploads::new(4, 2, 400)
    }

    fn received(peer: u64, key: u8, number: u32, more: bool, bytes: &[u8]) -> ReceivedBlock<'_> {
        let block = Block { number, more, size_exponent: 0 };
        let part = Part { block, key: [key; 32], announced_bytes: None };
        ReceivedBlock { peer: PeerKey::Session(peer), part, bytes, earlier: Earlier::Nothing }
    }

    fn take(uploads: &mut Uploads, number: u32, more: bool, bytes: &[u8]) -> Step {
        take_after(uploads, Earlier::Nothing, number, more, bytes)
    }

    /// Adds a block, and sets the upload's number in the result to 0.
    fn take_after(uploads: &mut Uploads, earlier: Earlier, number: u32, more: bool, bytes: &[u8]) -> Step {
        match uploads.take(&ReceivedBlock { earlier, ..received(1, 1, number, more, bytes) }, MAX, 0) {
            Step::Continue(_) => CONTINUE,
            Step::Complete(_, body) => Step::Complete(0, body),
            step => step,
        }
    }

    /// Meaning of a block that equals one of upload 1.
    fn repetition(uploads: &Uploads, number: u32, more: bool, bytes: &[u8]) -> Repetition {
        uploads.repetition(&ReceivedBlock { earlier: SAME, ..received(1, 1, number, more, bytes) })
    }

    fn complete(body: Vec<u8>) -> Step {
        Step::Complete(0, body)
    }

    const CONTINUE: Step = Step::Continue(0);
    const SAME: Earlier = Earlier::Same { upload: 1, restarted: false };

    const A: &[u8] = &[b'a'; 16];
    const B: &[u8] = &[b'b'; 16];
    const C: &[u8] = &[b'c'; 16];

    #[test]
    fn blocks_become_a_body_and_repeated_ones_change_nothing() {
        let mut uploads = uploads();
        assert_eq!(take(&mut uploads, 0, true, A), CONTINUE);
        assert_eq!(take(&mut uploads, 1, true, B), CONTINUE);
        assert_eq!(take(&mut uploads, 1, true, B), CONTINUE);
        assert_eq!(take(&mut uploads, 2, false, b"c"), complete([A, B, b"c"].concat()));
        assert_eq!((uploads.len(), uploads.held_bytes()), (0, 0));
    }

    #[test]
    fn a_first_block_begins_again() {
        let mut uploads = uploads();
        take(&mut uploads, 0, true, A);
        take(&mut uploads, 1, true, B);
        assert_eq!(take(&mut uploads, 0, true, C), CONTINUE);
        assert_eq!(take(&mut uploads, 1, false, b"d"), complete([C, b"d"].concat()));
    }

    #[test]
    fn a_missing_block_is_never_filled_with_zeros() {
        let mut uploads = uploads();
        assert_eq!(take(&mut uploads, 1, true, &[0; 16]), Step::Gap);
        take(&mut uploads, 0, true, A);
        assert_eq!(take(&mut uploads, 2, false, b"c"), Step::Gap);
        assert_eq!(take(&mut uploads, 1, false, b"b"), complete([A, b"b"].concat()));
        assert_eq!(take(&mut uploads, 1, false, b"b"), Step::Gap, "a body was delivered twice");
    }

    #[test]
    fn a_block_with_other_bytes_than_the_one_that_is_held_is_refused() {
        let mut uploads = uploads();
        for (number, bytes) in [(0, A), (1, B)] {
            take(&mut uploads, number, true, bytes);
        }
        assert_eq!(take(&mut uploads, 1, true, C), Step::Gap);
        assert_eq!(take(&mut uploads, 1, false, C), Step::Gap);
        assert_eq!(take(&mut uploads, 2, false, C), complete([A, B, C].concat()));
    }

    #[test]
    fn a_peer_that_restarted_goes_on_from_the_first_block_that_differs() {
        let mut uploads = uploads();
        for (number, bytes) in [(0, A), (1, B), (2, C)] {
            take(&mut uploads, number, true, bytes);
        }
        assert_eq!(repetition(&uploads, 0, true, A), Repetition::Held);
        assert_eq!(take_after(&mut uploads, Earlier::Other, 1, true, C), CONTINUE);
        assert_eq!(repetition(&uploads, 2, true, C), Repetition::Part);
        assert_eq!(take_after(&mut uploads, SAME, 2, true, C), CONTINUE);
        assert_eq!(take(&mut uploads, 3, false, b"d"), complete([A, C, C, b"d"].concat()));
        assert_eq!(uploads.held_bytes(), 0);
    }

    #[test]
    fn a_first_block_with_other_bytes_begins_a_body_that_may_have_blocks_of_the_old_one() {
        let mut uploads = uploads();
        for (number, bytes) in [(0, A), (1, B)] {
            take(&mut uploads, number, true, bytes);
        }
        assert_eq!(take_after(&mut uploads, Earlier::Other, 0, true, C), CONTINUE);
        assert_eq!(repetition(&uploads, 0, true, A), Repetition::Late);
        assert_eq!(repetition(&uploads, 1, true, B), Repetition::Part);
        assert_eq!(take_after(&mut uploads, SAME, 1, true, B), CONTINUE);
        assert_eq!(repetition(&uploads, 2, false, b"c"), Repetition::Part);
        assert_eq!(take_after(&mut uploads, SAME, 2, false, b"c"), complete([C, B, b"c"].concat()));
    }

    #[test]
    fn late_blocks_of_an_earlier_body_become_no_part_of_the_next_one() {
        let mut uploads = uploads();
        for (number, bytes) in [(0, C), (1, C)] {
            take(&mut uploads, number, true, bytes);
        }
        let late = [(0, true, A), (1, true, B), (2, true, B), (2, false, &b"c"[..])];
        for (number, more, bytes) in late {
            assert_eq!(repetition(&uploads, number, more, bytes), Repetition::Late, "{number}");
        }
        assert_eq!(repetition(&uploads, 3, false, b"d"), Repetition::Late);
        assert_eq!(repetition(&uploads, 0, false, b"d"), Repetition::Answered);
        assert_eq!(take(&mut uploads, 2, false, b"d"), complete([C, C, b"d"].concat()));
        assert_eq!(repetition(&uploads, 1, true, C), Repetition::Late);
        assert_eq!(repetition(&uploads, 2, false, b"d"), Repetition::Answered);
        let mut end = received(1, 1, 3, false, b"d");
        end.earlier = Earlier::Same { upload: 1, restarted: true };
        assert_eq!(uploads.repetition(&end), Repetition::Late, "the peer has begun another body since");
    }

    #[test]
    fn a_body_that_comes_again_whole_is_answered_again_and_one_that_ends_otherwise_is_another() {
        for last in [&b"c"[..], b"d"] {
            let mut uploads = uploads();
            for (number, bytes) in [(0, A), (1, B)] {
                assert_eq!(repetition(&uploads, number, true, bytes), Repetition::Part);
                assert_eq!(take_after(&mut uploads, SAME, number, true, bytes), CONTINUE);
            }
            assert_eq!(repetition(&uploads, 2, false, b"c"), Repetition::Answered);
            assert_eq!(take(&mut uploads, 2, false, last), Step::Gap, "its client did not begin this body");
            let whole = complete([A, B, last].concat());
            assert_eq!(take_after(&mut uploads, Earlier::Other, 2, false, last), whole);
        }
    }

    #[test]
    fn blocks_of_two_earlier_bodies_are_no_repetition_of_one() {
        let mut uploads = uploads();
        assert_eq!(take_after(&mut uploads, SAME, 0, true, A), CONTINUE);
        for (more, bytes) in [(true, B), (false, b"c")] {
            let mut other = received(1, 1, 1, more, bytes);
            other.earlier = Earlier::Same { upload: 2, restarted: false };
            assert_eq!(uploads.repetition(&other), Repetition::Late);
        }
    }

    #[test]
    fn a_body_has_another_number_from_where_a_restart_shows() {
        let mut uploads = uploads();
        let number = |uploads: &mut Uploads, earlier, number, more, bytes| match uploads.take(
            &ReceivedBlock { earlier, ..received(1, 1, number, more, bytes) },
            MAX,
            0,
        ) {
            Step::Continue(number) | Step::Complete(number, _) => number,
            step => panic!("{step:?}"),
        };
        assert_eq!(number(&mut uploads, Earlier::Nothing, 0, true, A), 1);
        assert_eq!(number(&mut uploads, Earlier::Nothing, 1, true, B), 1);
        let restarted = number(&mut uploads, Earlier::Other, 1, true, C);
        assert_ne!(restarted, 1);
        assert_eq!(number(&mut uploads, Earlier::Other, 2, true, C), restarted);
        assert_eq!(number(&mut uploads, Earlier::Nothing, 3, false, b"d"), restarted);
        assert_eq!(number(&mut uploads, SAME, 0, true, A), 1, "it repeats the first one");
        let another = number(&mut uploads, Earlier::Other, 1, true, B);
        assert!(![1, restarted].contains(&another), "it repeats no more");
        assert_eq!(number(&mut uploads, Earlier::Nothing, 0, false, A), 0);
    }

    #[test]
    fn a_client_may_go_on_in_smaller_blocks() {
        let mut uploads = uploads();
        let mut large = received(1, 1, 0, true, &[7; 32]);
        large.part.block.size_exponent = 1;
        assert_eq!(uploads.take(&large, MAX, 0), Step::Continue(1));
        assert_eq!(take(&mut uploads, 2, false, &[7; 16]), complete(vec![7; 48]));
    }

    #[test]
    fn blocks_shorter_or_longer_than_they_say_are_refused() {
        assert_eq!(take(&mut uploads(), 0, true, &[0; 15]), Step::WrongLength);
        assert_eq!(take(&mut uploads(), 0, false, &[0; 17]), Step::WrongLength);
    }

    #[test]
    fn a_body_over_the_limit_is_refused_as_soon_as_it_shows() {
        let mut uploads = uploads();
        let mut announced = received(1, 1, 0, true, &[0; 16]);
        announced.part.announced_bytes = Some(101);
        assert_eq!(uploads.take(&announced, MAX, 0), Step::TooLarge);
        for number in 0..6 {
            assert_eq!(take(&mut uploads, number, true, &[0; 16]), CONTINUE);
        }
        assert_eq!(take(&mut uploads, 6, false, &[0; 5]), Step::TooLarge);
        assert_eq!((uploads.len(), uploads.held_bytes()), (0, 0));
        announced.part.block = Block { number: Block::NUMBER_MAX, more: false, size_exponent: 6 };
        assert_eq!(uploads.take(&announced, MAX, 0), Step::Gap);
    }

    #[test]
    fn number_and_bytes_are_bounded_and_the_silent_make_room() {
        let mut uploads = uploads();
        for peer in 0..100 {
            for key in 0..3 {
                uploads.take(&received(peer, key, 0, true, &[0; 16]), MAX, peer * 10 + u64::from(key));
            }
            assert!(uploads.len() <= 4);
        }
        assert_eq!(uploads.take(&received(99, 2, 1, true, &[0; 16]), MAX, 2000), Step::Continue(599));
        assert_eq!(uploads.take(&received(99, 0, 1, true, &[0; 16]), MAX, 2000), Step::Gap, "three of one peer");
        for round in 1..6 {
            for (peer, key) in [(98, 1), (98, 2), (99, 1), (99, 2)] {
                uploads.take(&received(peer, key, round, true, &[0; 16]), MAX, 3000);
                assert!(uploads.held_bytes() <= 400);
            }
        }
        uploads.expire(3000 + UPLOAD_IDLE_US);
        assert_eq!((uploads.len(), uploads.held_bytes()), (0, 0));
        assert!(uploads.owners.is_empty());
    }

    #[test]
    fn a_network_with_many_uploads_makes_room_before_one_with_few() {
        let from = |host: u8, port: u16, number: u32| {
            let mut received = received(0, 1, number, true, A);
            received.peer = PeerKey::Address(([10, 0, 0, host], port).into());
            received
        };
        let mut uploads = Uploads::new(4, 2, usize::MAX);
        assert!(matches!(uploads.take(&from(2, 1, 0), MAX, 0), Step::Continue(_)));
        for port in 1..100 {
            assert!(matches!(uploads.take(&from(1, port, 0), MAX, u64::from(port)), Step::Continue(_)));
        }
        assert!(matches!(uploads.take(&from(2, 1, 1), MAX, 100), Step::Continue(_)), "it is the oldest");
        // By bytes: the upload that gets the block is never dropped. Of the others, the network with the most bytes loses.
        let mut uploads = Uploads::new(100, 2, 200);
        assert!(matches!(uploads.take(&from(2, 1, 0), 16, 0), Step::Continue(_)));
        for port in 1..50 {
            assert!(matches!(uploads.take(&from(1, port, 0), 16, u64::from(port)), Step::Continue(_)));
        }
        assert!(uploads.held_bytes() <= 200 && uploads.open.contains_key(&(from(2, 1, 0).peer, [1; 32])));
    }
}
