//! Settings of an endpoint.

use std::sync::Arc;

use super::{FingerprintKey, TokenSecrets};

/// Authentication of requests.
#[derive(Debug, Clone)]
pub enum Security {
    /// The body is encrypted with the device's key.
    Aes,
    /// DTLS hides the traffic; a token that `/auth` gives out names the device.
    Dtls {
        /// Secrets that sign tokens; the same for every worker and replica.
        secrets: Arc<TokenSecrets>,
        /// Validity of a token, in seconds.
        token_ttl_secs: u64,
    },
}

/// Settings of an endpoint. They bound its memory; [`Settings::new`] says how much that is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of the endpoint in its worker, below 127.
    pub number: u8,
    /// Authentication of requests.
    pub security: Security,
    /// Oldest timestamp of a body that is taken, against replays; `None`: any. A body without one is always taken.
    pub max_age_ms: Option<u64>,
    /// Whether messages of the type `direct` are taken in whose body is encrypted with the device's key. They are any
    /// bytes, so of 256 that somebody makes up without the key about one has the right padding and is taken.
    pub takes_direct: bool,
    /// Requests that may be open at once; at most 2^24.
    pub exchanges: usize,
    /// Requests of one peer that may be open at once.
    pub exchanges_per_peer: usize,
    /// Requests whose answers are remembered, for duplicates.
    pub remembered: usize,
    /// Answers remembered for one peer.
    pub remembered_per_peer: usize,
    /// Blocks that are remembered, so that a late duplicate of one does not become a part of the next body.
    pub blocks_remembered: usize,
    /// Blocks remembered for one peer: those of the largest body.
    pub blocks_remembered_per_peer: usize,
    /// Bodies that may be half received.
    pub uploads: usize,
    /// Bodies of one peer that may be half received.
    pub uploads_per_peer: usize,
    /// Answers in blocks that may be held until their clients have fetched them.
    pub downloads: usize,
    /// Answers in blocks of one peer that may be held.
    pub downloads_per_peer: usize,
    /// Bytes of all answers in blocks that are held. A single one may be longer.
    pub download_bytes: usize,
    /// Bytes of open uploads, and again as many of requests whose device is being looked up: both are not authenticated.
    /// Never less than one body needs.
    pub unproven_bytes: usize,
    /// Key of the fingerprints that tell duplicates from other requests, and seed of the jitter of retransmissions.
    pub key: FingerprintKey,
}

impl Settings {
    /// Settings with the default bounds. Worst case of memory: 6 MiB of open requests without their records (those
    /// count as [`Load::held_bytes`](crate::protocol::limit::Load)); 39 MiB of remembered answers when each is of another
    /// peer, 16 MiB when they are of few; 4 MiB of remembered blocks; twice 8 MiB of what is
    /// unproven; 1 MiB of answers in blocks.
    pub fn new(number: u8, security: Security, key: FingerprintKey) -> Self {
        Self {
            number,
            security,
            max_age_ms: None,
            takes_direct: false,
            exchanges: 16_384,
            exchanges_per_peer: 64,
            remembered: 131_072,
            remembered_per_peer: 128,
            blocks_remembered: 16_384,
            blocks_remembered_per_peer: 256,
            uploads: 1024,
            uploads_per_peer: 2,
            downloads: 1024,
            downloads_per_peer: 2,
            download_bytes: 1 << 20,
            unproven_bytes: 8 << 20,
            key,
        }
    }
}
