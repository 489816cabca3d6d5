//! Answers that leave in blocks (RFC 7959, Block2).
//!
//! An answer that is longer than the block that the client asks for is kept, and its first block is sent; the client asks
//! for the others. The answer cannot be made a second time: the time goes on, and a request for a token is signed for one
//! use. Only authenticated devices get here. When a bound is reached, the oldest answer is dropped; its client gets 4.08
//! and begins again.

use std::collections::HashMap;

use super::PeerKey;
use super::fingerprint::Fingerprint;
use crate::codec::coap::Block;
use crate::protocol::id::DeviceId;

/// Time in which an answer in blocks can be fetched, us: as long as a client waits for one block (MAX_TRANSMIT_WAIT, RFC 7252
/// section 4.8.2).
const DOWNLOAD_US: u64 = 93_000_000;

/// Size exponent of the largest blocks, for clients that do not say what they want.
pub(super) const SIZE_EXPONENT_MAX: u8 = 6;

/// Key of a held answer: the options that a client repeats with each request for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DownloadKey {
    /// Option 2100.
    pub(super) device: DeviceId,
    /// The path.
    pub(super) topic: String,
}

/// Result of a request for a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The block and its bytes.
    Block(Block, Vec<u8>),
    /// The answer has no such block; 4.00.
    OutOfRange,
    /// There is no such answer, or not any more; 4.08.
    Unknown,
}

#[derive(Debug)]
struct Download {
    key: DownloadKey,
    /// Fingerprint of the request that it answers.
    request: Fingerprint,
    body: Vec<u8>,
    /// Whether its last block was sent.
    is_finished: bool,
    begun_us: u64,
}

impl Download {
    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.body.capacity() + self.key.topic.capacity()
    }
}

/// Answers that leave in blocks.
#[derive(Debug)]
pub(super) struct Downloads {
    open: HashMap<PeerKey, Vec<Download>>,
    len: usize,
    held_bytes: usize,
    count_max: usize,
    per_peer_max: usize,
    bytes_max: usize,
}

impl Downloads {
    pub(super) fn new(count_max: usize, per_peer_max: usize, bytes_max: usize) -> Self {
        Self { open: HashMap::new(), len: 0, held_bytes: 0, count_max, per_peer_max, bytes_max }
    }

    /// Number of answers that are held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the answers that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Keeps the answer to a request and returns its first block. When the same request came before and its answer is still
    /// being fetched, the earlier answer stays: the client may have its first block, and the others must match it.
    pub(super) fn begin(
        &mut self,
        peer: PeerKey,
        request: Fingerprint,
        key: DownloadKey,
        body: Vec<u8>,
        size_exponent: u8,
        now_us: u64,
    ) -> Fetched {
        let first = Block { number: 0, more: false, size_exponent };
        let known = self.open.get(&peer).into_iter().flatten().find(|download| download.key == key);
        if !known.is_some_and(|known| known.request == request && !known.is_finished) {
            self.drop_of(peer, |download| download.key == key);
            let download = Download { key: key.clone(), request, body, is_finished: false, begun_us: now_us };
            self.make_room(peer, download.held_bytes());
            self.len += 1;
            self.held_bytes += download.held_bytes();
            self.open.entry(peer).or_default().push(download);
        }
        self.fetch(peer, &key, first)
    }

    /// Returns a block of an answer, in the size that the client asks for.
    pub(super) fn fetch(&mut self, peer: PeerKey, key: &DownloadKey, wanted: Block) -> Fetched {
        let of_peer = self.open.get_mut(&peer).into_iter().flatten();
        let Some(download) = of_peer.into_iter().find(|download| download.key == *key) else {
            return Fetched::Unknown;
        };
        let (offset, length) = (wanted.offset(), download.body.len());
        if offset >= length {
            return Fetched::OutOfRange;
        }
        let end = length.min(offset + wanted.bytes());
        download.is_finished |= end == length;
        Fetched::Block(Block { more: end < length, ..wanted }, download.body[offset..end].to_vec())
    }

    /// Drops answers that were held for [`DOWNLOAD_US`], fetched or not.
    pub(super) fn expire(&mut self, now_us: u64) {
        if self.len > 0 {
            let peers: Vec<PeerKey> = self.open.keys().copied().collect();
            peers.into_iter().for_each(|peer| self.drop_of(peer, |one| one.begun_us + DOWNLOAD_US <= now_us));
        }
    }

    /// Drops the answers to a peer.
    pub(super) fn forget(&mut self, peer: PeerKey) {
        self.drop_of(peer, |_| true);
    }

    /// Makes room for `bytes`; a single answer always fits.
    fn make_room(&mut self, peer: PeerKey, bytes: usize) {
        if self.open.get(&peer).is_some_and(|of_peer| of_peer.len() >= self.per_peer_max) {
            self.drop_oldest(|other| other == peer);
        }
        while self.len > 0 && (self.len >= self.count_max || self.held_bytes + bytes > self.bytes_max) {
            self.drop_oldest(|_| true);
        }
    }

    fn drop_oldest(&mut self, among: impl Fn(PeerKey) -> bool) {
        let all = self.open.iter().filter(|(peer, _)| among(**peer));
        let begun = all.flat_map(|(peer, of_peer)| of_peer.iter().map(|download| (download.begun_us, *peer)));
        if let Some((begun_us, peer)) = begun.min_by_key(|(begun_us, _)| *begun_us) {
            self.drop_of(peer, |download| download.begun_us == begun_us);
        }
    }

    fn drop_of(&mut self, peer: PeerKey, is_meant: impl Fn(&Download) -> bool) {
        let Some(of_peer) = self.open.get_mut(&peer) else { return };
        of_peer.retain(|download| {
            let keep = !is_meant(download);
            if !keep {
                self.len -= 1;
                self.held_bytes -= download.held_bytes();
            }
            keep
        });
        if of_peer.is_empty() {
            self.open.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"0123456789abcdef0123456789ABCDEF!";

    fn key(topic: &str) -> DownloadKey {
        DownloadKey { device: DeviceId::new("device1").expect("valid"), topic: topic.to_owned() }
    }

    fn begin(downloads: &mut Downloads, peer: u64, request: Fingerprint, topic: &str, body: &[u8]) -> Fetched {
        downloads.begin(PeerKey::Session(peer), request, key(topic), body.to_vec(), 0, request)
    }

    fn fetch(downloads: &mut Downloads, peer: u64, topic: &str, number: u32, size_exponent: u8) -> Fetched {
        let wanted = Block { number, more: false, size_exponent };
        downloads.fetch(PeerKey::Session(peer), &key(topic), wanted)
    }

    fn block(number: u32, more: bool, size_exponent: u8, bytes: &[u8]) -> Fetched {
        Fetched::Block(Block { number, more, size_exponent }, bytes.to_vec())
    }

    #[test]
    fn an_answer_is_fetched_block_by_block_in_the_size_that_is_wanted() {
        let mut downloads = Downloads::new(10, 2, 10_000);
        assert_eq!(begin(&mut downloads, 1, 1, "/auth", BODY), block(0, true, 0, &BODY[..16]));
        for _ in 0..2 {
            assert_eq!(fetch(&mut downloads, 1, "/auth", 1, 0), block(1, true, 0, &BODY[16..32]));
            assert_eq!(fetch(&mut downloads, 1, "/auth", 2, 0), block(2, false, 0, b"!"));
        }
        assert_eq!(fetch(&mut downloads, 1, "/auth", 1, 1), block(1, false, 1, b"!"));
        assert_eq!(fetch(&mut downloads, 1, "/auth", 3, 0), Fetched::OutOfRange);
        assert_eq!(fetch(&mut downloads, 1, "/auth", Block::NUMBER_MAX, 6), Fetched::OutOfRange);
        assert_eq!(fetch(&mut downloads, 1, "/time-sync", 1, 0), Fetched::Unknown);
        assert_eq!(fetch(&mut downloads, 2, "/auth", 1, 0), Fetched::Unknown);
    }

    #[test]
    fn a_repeated_request_gets_the_answer_that_is_being_fetched_and_any_other_a_new_one() {
        let mut downloads = Downloads::new(10, 2, 10_000);
        let newer = &[b'n'; 33];
        begin(&mut downloads, 1, 1, "/auth", BODY);
        assert_eq!(begin(&mut downloads, 1, 1, "/auth", newer), block(0, true, 0, &BODY[..16]));
        fetch(&mut downloads, 1, "/auth", 2, 0);
        assert_eq!(begin(&mut downloads, 1, 1, "/auth", newer), block(0, true, 0, &newer[..16]), "it was fetched");
        assert_eq!(begin(&mut downloads, 1, 2, "/auth", BODY), block(0, true, 0, &BODY[..16]), "another request");
        assert_eq!(downloads.len(), 1);
    }

    #[test]
    fn number_and_bytes_are_bounded_and_the_oldest_make_room() {
        let mut downloads = Downloads::new(4, 2, 2000);
        for peer in 0..100 {
            for topic in ["/a", "/b", "/c"] {
                begin(&mut downloads, peer, peer, topic, &[0; 100]);
                assert!(downloads.len() <= 4 && downloads.held_bytes() <= 2000);
            }
            assert_eq!(fetch(&mut downloads, peer, "/a", 1, 0), Fetched::Unknown, "three of one peer");
            assert_ne!(fetch(&mut downloads, peer, "/c", 1, 0), Fetched::Unknown);
        }
        begin(&mut downloads, 1, 100, "/a", &[0; 5000]);
        assert_eq!(downloads.len(), 1, "a long answer finds room");
        assert_ne!(fetch(&mut downloads, 1, "/a", 1, 0), Fetched::Unknown);
        downloads.expire(100 + DOWNLOAD_US - 1);
        assert_eq!(downloads.len(), 1);
        downloads.expire(100 + DOWNLOAD_US);
        assert_eq!((downloads.len(), downloads.held_bytes(), downloads.open.len()), (0, 0, 0));
    }

    #[test]
    fn a_peer_that_is_gone_holds_no_answer() {
        let mut downloads = Downloads::new(4, 2, 2000);
        begin(&mut downloads, 1, 1, "/a", BODY);
        downloads.forget(PeerKey::Session(1));
        assert_eq!((downloads.len(), downloads.held_bytes()), (0, 0));
    }
}
