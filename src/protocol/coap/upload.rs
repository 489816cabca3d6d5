//! Bodies that arrive in blocks (RFC 7959, Block1).
//!
//! Nobody has vouched for them: they are kept apart from what the queue is owed, under bounds of their own. When a bound
//! is reached, the upload that has been silent longest makes room; its client is told 4.08 and begins again.
//!
//! A late duplicate of a block would begin an upload anew or, worse, become a part of the next body: whoever calls keeps
//! duplicates away.

use std::collections::HashMap;

use super::PeerKey;
use super::timing::UPLOAD_IDLE_US;
use crate::codec::coap::Block;

/// What a block led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is kept; 2.31.
    Continue,
    /// It was the last; the body.
    Complete(Vec<u8>),
    /// Blocks before it are missing; 4.08.
    Gap,
    /// The body is over the limit; 4.13.
    TooLarge,
    /// It is not as long as it says; 4.00.
    Misfit,
}

/// One block of one peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    /// Who sends it.
    pub(super) peer: PeerKey,
    /// Which upload of the peer it belongs to.
    pub(super) key: [u8; 32],
    /// Its place.
    pub(super) block: Block,
    /// Its bytes.
    pub(super) bytes: &'a [u8],
    /// What the whole body will have, as far as the client says.
    pub(super) announced_bytes: Option<u32>,
}

#[derive(Debug)]
struct Upload {
    body: Vec<u8>,
    heard_us: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Uploads {
    open: HashMap<(PeerKey, [u8; 32]), Upload>,
    held_bytes: usize,
    count_max: usize,
    per_peer_max: usize,
    bytes_max: usize,
}

impl Uploads {
    pub(super) fn new(count_max: usize, per_peer_max: usize, bytes_max: usize) -> Self {
        Self { open: HashMap::new(), held_bytes: 0, count_max, per_peer_max, bytes_max }
    }

    /// Bodies that are half received.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Their bytes, with what is reserved for them.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes a block in; `body_bytes_max` is the longest body.
    pub(super) fn take(&mut self, piece: &Piece<'_>, body_bytes_max: usize, now_us: u64) -> Step {
        let key = (piece.peer, piece.key);
        let Block { number, more, .. } = piece.block;
        if piece.bytes.len() > piece.block.bytes() || (more && piece.bytes.len() < piece.block.bytes()) {
            return Step::Misfit;
        }
        if number == 0 {
            self.drop_upload(&key);
            if piece.announced_bytes.is_some_and(|bytes| bytes as usize > body_bytes_max) {
                return Step::TooLarge;
            }
        } else if !self.open.contains_key(&key) {
            return Step::Gap;
        }
        let (offset, end) = (piece.block.offset(), piece.block.offset() + piece.bytes.len());
        if end > body_bytes_max {
            self.drop_upload(&key);
            return Step::TooLarge;
        }
        if number == 0 {
            if !more {
                return Step::Complete(piece.bytes.to_vec());
            }
            self.make_room(piece.peer);
        }
        let upload = self.open.entry(key).or_insert(Upload { body: Vec::new(), heard_us: now_us });
        if end <= upload.body.len() && more {
            // The client did not see 2.31 for it.
            return Step::Continue;
        }
        if offset != upload.body.len() {
            return Step::Gap;
        }
        let before = upload.body.capacity();
        upload.body.extend_from_slice(piece.bytes);
        upload.heard_us = now_us;
        self.held_bytes += upload.body.capacity() - before;
        if !more {
            return Step::Complete(self.drop_upload(&key));
        }
        while self.held_bytes > self.bytes_max.max(2 * body_bytes_max) && self.drop_oldest(|other| *other != key) {}
        Step::Continue
    }

    /// Forgets uploads that were silent for too long.
    pub(super) fn expire(&mut self, now_us: u64) {
        let held_bytes = &mut self.held_bytes;
        self.open.retain(|_, upload| {
            let keep = upload.heard_us + UPLOAD_IDLE_US > now_us;
            if !keep {
                *held_bytes -= upload.body.capacity();
            }
            keep
        });
    }

    /// Forgets the uploads of a peer.
    pub(super) fn forget(&mut self, peer: PeerKey) {
        while self.drop_oldest(|(other, _)| *other == peer) {}
    }

    fn make_room(&mut self, peer: PeerKey) {
        let own = self.open.keys().filter(|(other, _)| *other == peer).count();
        if own >= self.per_peer_max {
            self.drop_oldest(|(other, _)| *other == peer);
        } else if self.open.len() >= self.count_max {
            self.drop_oldest(|_| true);
        }
    }

    fn drop_oldest(&mut self, among: impl Fn(&(PeerKey, [u8; 32])) -> bool) -> bool {
        let oldest = self.open.iter().filter(|(key, _)| among(key)).min_by_key(|(_, upload)| upload.heard_us);
        let Some(key) = oldest.map(|(key, _)| *key) else { return false };
        self.drop_upload(&key);
        true
    }

    fn drop_upload(&mut self, key: &(PeerKey, [u8; 32])) -> Vec<u8> {
        let body = self.open.remove(key).map(|upload| upload.body).unwrap_or_default();
        self.held_bytes -= body.capacity();
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

    fn piece(peer: u64, key: u8, number: u32, more: bool, bytes: &[u8]) -> Piece<'_> {
        let block = Block { number, more, size_exponent: 0 };
        Piece { peer: PeerKey::Session(peer), key: [key; 32], block, bytes, announced_bytes: None }
    }

    fn take(uploads: &mut Uploads, number: u32, more: bool, bytes: &[u8]) -> Step {
        uploads.take(&piece(1, 1, number, more, bytes), MAX, 0)
    }

    #[test]
    fn blocks_become_a_body_and_repeated_ones_change_nothing() {
        let mut uploads = uploads();
        assert_eq!(take(&mut uploads, 0, true, &[b'a'; 16]), Step::Continue);
        assert_eq!(take(&mut uploads, 1, true, &[b'b'; 16]), Step::Continue);
        assert_eq!(take(&mut uploads, 1, true, &[b'b'; 16]), Step::Continue);
        let body = [[b'a'; 16], [b'b'; 16]].concat();
        assert_eq!(take(&mut uploads, 2, false, b"c"), Step::Complete([&body[..], b"c"].concat()));
        assert_eq!((uploads.len(), uploads.held_bytes()), (0, 0));
    }

    #[test]
    fn a_first_block_begins_again() {
        let mut uploads = uploads();
        take(&mut uploads, 0, true, &[b'a'; 16]);
        take(&mut uploads, 1, true, &[b'b'; 16]);
        assert_eq!(take(&mut uploads, 0, true, &[b'c'; 16]), Step::Continue);
        assert_eq!(take(&mut uploads, 1, false, b"d"), Step::Complete([&[b'c'; 16][..], b"d"].concat()));
    }

    #[test]
    fn a_missing_block_is_never_filled_with_zeros() {
        let mut uploads = uploads();
        assert_eq!(take(&mut uploads, 1, true, &[0; 16]), Step::Gap);
        take(&mut uploads, 0, true, &[b'a'; 16]);
        assert_eq!(take(&mut uploads, 2, false, b"c"), Step::Gap);
        assert_eq!(take(&mut uploads, 1, false, b"b"), Step::Complete([&[b'a'; 16][..], b"b"].concat()));
        assert_eq!(take(&mut uploads, 1, false, b"b"), Step::Gap, "a body was delivered twice");
    }

    #[test]
    fn a_client_may_go_on_in_smaller_blocks() {
        let mut uploads = uploads();
        let large =
            Piece { block: Block { number: 0, more: true, size_exponent: 1 }, ..piece(1, 1, 0, true, &[7; 32]) };
        assert_eq!(uploads.take(&large, MAX, 0), Step::Continue);
        assert_eq!(take(&mut uploads, 2, false, &[7; 16]), Step::Complete(vec![7; 48]));
    }

    #[test]
    fn blocks_shorter_or_longer_than_they_say_are_refused() {
        assert_eq!(take(&mut uploads(), 0, true, &[0; 15]), Step::Misfit);
        assert_eq!(take(&mut uploads(), 0, false, &[0; 17]), Step::Misfit);
    }

    #[test]
    fn a_body_over_the_limit_is_refused_as_soon_as_it_shows() {
        let mut uploads = uploads();
        let announced = Piece { announced_bytes: Some(101), ..piece(1, 1, 0, true, &[0; 16]) };
        assert_eq!(uploads.take(&announced, MAX, 0), Step::TooLarge);
        for number in 0..6 {
            assert_eq!(take(&mut uploads, number, true, &[0; 16]), Step::Continue);
        }
        assert_eq!(take(&mut uploads, 6, false, &[0; 5]), Step::TooLarge);
        assert_eq!((uploads.len(), uploads.held_bytes()), (0, 0));
        let far = Piece { block: Block { number: Block::NUMBER_MAX, more: false, size_exponent: 6 }, ..announced };
        assert_eq!(uploads.take(&far, MAX, 0), Step::Gap);
    }

    #[test]
    fn number_and_bytes_are_bounded_and_the_silent_make_room() {
        let mut uploads = uploads();
        for peer in 0..100 {
            for key in 0..3 {
                uploads.take(&piece(peer, key, 0, true, &[0; 16]), MAX, peer * 10 + u64::from(key));
            }
            assert!(uploads.len() <= 4);
        }
        assert_eq!(uploads.take(&piece(99, 2, 1, true, &[0; 16]), MAX, 2000), Step::Continue);
        assert_eq!(uploads.take(&piece(99, 0, 1, true, &[0; 16]), MAX, 2000), Step::Gap, "three of one peer");
        for round in 1..6 {
            for (peer, key) in [(98, 1), (98, 2), (99, 1), (99, 2)] {
                uploads.take(&piece(peer, key, round, true, &[0; 16]), MAX, 3000);
                assert!(uploads.held_bytes() <= 400);
            }
        }
        uploads.expire(3000 + UPLOAD_IDLE_US);
        assert_eq!((uploads.len(), uploads.held_bytes()), (0, 0));
    }
}
