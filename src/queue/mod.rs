//! The platform side: Kafka, NATS and stdio behind the interfaces [`crate::protocol::uplink`] and
//! [`crate::protocol::downlink`].
//!
//! The folders have the same first names, each a file or a folder; a part that serves one of them alone is in its folder:
//!
//! | name | role | in |
//! |---|---|---|
//! | `uplink` | one worker's way out: records in, receipts to its inbox | all three |
//! | `downlink` | one worker's way in: commands, and the outcomes back | all three |
//! | `stats` | counters that anybody may read | NATS, Kafka |
//! | `connection` | clients of the servers: addresses, TLS, credentials, what they log | NATS, Kafka |
//! | `settings` | the parameters, plain and already checked for form, and their error | NATS, Kafka |
//! | `headers` | the headers of an envelope | NATS, Kafka |
//! | `reader` | what is stored, in stored order, for the tools | NATS, Kafka |
//! | `caller` | a command and its outcome, for the tools | NATS, Kafka |
//! | `inspection` | what is wrong with the servers, for the tools | NATS, Kafka |
//!
//! NATS alone has `replicas` (what replicas tell each other) and `stream` (JetStream), Kafka alone `producer` (rules that
//! both of its producers have), stdio alone `input` and `writer`, the two threads of the process.
//!
//! A worker is one thread with a current-thread runtime inside a `LocalSet`. Whatever is started here lives on the
//! thread that starts it, and ends when its handle is dropped.

#![expect(clippy::disallowed_methods, reason = "these modules do I/O: they read the clock and files, and open sockets")]

mod backoff;
mod call;
mod calls;
mod finding;
mod immediate_interest;
pub mod kafka;
mod last_trouble;
pub mod nats;
mod slots;
pub mod stdio;
mod stored;
mod worker_downlink;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use backoff::{backoff, pause_before};
pub use call::{Answer, CallError, envelope};
pub use calls::{CALLS_MAX, Calls};
pub use finding::{Finding, FindingResult, Findings};
pub use immediate_interest::ImmediateInterest;
pub(crate) use last_trouble::LastTrouble;
pub(crate) use slots::Slots;
pub use stored::{Position, ReadError, ReadFrom, Stored};
pub use worker_downlink::WorkerDownlink;

/// Counts one more.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
