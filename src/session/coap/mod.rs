//! Devices that speak CoAP, as one state machine for all peers of a port.
//!
//! It does no I/O and reads no clock: every call passes a [`Context`] with time, queue, encoder and the outbox. The flow of
//! one request:
//!
//! 1. [`Endpoint::feed`]: a datagram is read. A duplicate is answered again, a block of an upload is kept, and a request
//!    that is wrong for any device is refused at once.
//! 2. Any other request is parked, and [`Parked`] names the device that the caller must look up.
//! 3. [`Endpoint::device`]: with the registry's answer the request is authenticated and becomes a record, or an answer. An
//!    answer that is longer than the device wants is held, and [`Endpoint::feed`] sends its other blocks.
//! 4. [`Endpoint::receipt`]: the device gets 2.01 if the queue has the record, else 5.03.
//! 5. [`Endpoint::tick`], about ten times a second: empty ACKs for requests that take long, retransmission of separate
//!    responses, all other deadlines.
//!
//! After each call send the datagrams of the [`Outbox`]. The delivery id of a record has the highest bit of its slot's index
//! set, so a worker can tell it from those of MQTT sessions: see [`endpoint_of`].
//!
//! A device that restarts uses its message ids and tokens again, so requests are told apart by their bytes. An answer
//! outside of an ACK has a message id of the endpoint's own, counted for each peer.

mod context;
mod dedup;
mod download;
mod endpoint;
mod exchange;
mod fingerprint;
mod handle;
mod peer;
mod request;
mod settings;
mod token;
mod token_request;
mod upload;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use crate::codec::coap::Code;
pub use context::{Context, DropReason, Event, Observer, Refusal, Refused};
pub use endpoint::{Endpoint, Held, Parked, endpoint_of};
pub use fingerprint::FingerprintKey;
pub use peer::{Outbox, PeerKey};
pub use settings::{Security, Settings};
pub use token::{TOKEN_BYTES, TokenError, TokenSecrets};
pub use token_request::sign as sign_token_request;
