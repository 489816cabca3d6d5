//! Devices that speak CoAP, as one state machine for all peers of a port.
//!
//! It does no I/O and reads no clock: a [`Context`] brings time, queue, encoder and the outbox with every call. The flow
//! of one request:
//!
//! 1. [`Endpoint::feed`]: a datagram is read. A duplicate is answered again, a block of an upload is kept, a request
//!    that no identity could make right is refused at once.
//! 2. Anything else is parked, and [`Parked`] names the device that the caller must look up.
//! 3. [`Endpoint::device`]: with what the registry says, the request is authenticated and becomes a record, or an
//!    answer. One that is longer than the device wants is held, and [`Endpoint::feed`] gives out its other blocks.
//! 4. [`Endpoint::receipt`]: the queue has the record, and the device gets its 2.01; or it has not, and gets 5.03.
//! 5. [`Endpoint::tick`], about ten times a second: empty ACKs for what takes long, answers sent again until they are
//!    acknowledged, everything whose time is over.
//!
//! After each call send what is in the [`Outbox`]. A record travels under a token whose slot has its highest bit set, so
//! a worker can tell it from those of MQTT sessions: see [`endpoint_of`].
//!
//! A device that restarts begins its message ids and tokens again, so neither of them names a request: its bytes do. An
//! answer that does not travel in an ACK has a message id of the endpoint's own, counted for each peer.

mod context;
mod demand;
mod download;
mod endpoint;
mod exchange;
mod fingerprint;
mod grant;
mod judge;
mod peer;
mod seen;
mod settings;
mod token;
mod upload;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use crate::codec::coap::Code;
pub use context::{Context, DropReason, Event, Observer, Refusal};
pub use endpoint::{Endpoint, Held, Parked, endpoint_of};
pub use fingerprint::FingerprintKey;
pub use grant::sign as sign_grant;
pub use judge::{Found, Identity};
pub use peer::{Outbox, PeerKey};
pub use settings::{Security, Settings};
pub use token::{TOKEN_BYTES, TokenError, TokenSecrets};
