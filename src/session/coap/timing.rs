//! Times of the message layer (RFC 7252 section 4.8), in us.

const SECOND: u64 = 1_000_000;

/// How long an answer may be thought about before the request gets an empty ACK. Below the 2 s after which clients send
/// it again.
pub(super) const ACK_DELAY_US: u64 = SECOND;

/// ACK_TIMEOUT: an answer of its own is sent again after this, at least; at most half as much later.
pub(super) const ACK_TIMEOUT_US: u64 = 2 * SECOND;

/// MAX_RETRANSMIT: how often it is sent again, each time after twice the time before.
pub(super) const RETRANSMISSIONS_MAX: u8 = 4;

/// EXCHANGE_LIFETIME: after this nothing of a message is on its way any more, so its id may name another.
pub(super) const EXCHANGE_LIFETIME_US: u64 = 247 * SECOND;

/// MAX_TRANSMIT_WAIT: a client that has lost this long gives a block up.
pub(super) const UPLOAD_IDLE_US: u64 = 93 * SECOND;

/// How long an answer in blocks can be fetched: as long as a client waits for one block.
pub(super) const DOWNLOAD_US: u64 = 93 * SECOND;

/// Max-Age of 5.03, in seconds: when the device may try again.
pub(super) const RETRY_SECS: u32 = 5;
