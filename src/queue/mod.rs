//! The platform side: Kafka, NATS and stdio behind the seams [`crate::protocol::uplink`] and
//! [`crate::protocol::downlink`].
//!
//! Every queue folder has the same files in the same roles:
//!
//! | file | role |
//! |---|---|
//! | `settings` | the parameters, plain and already checked for form |
//! | `error` | why a queue cannot be started with its settings |
//! | `stats` | counters that anybody may read |
//! | `uplink` | one worker's way out: records in, receipts to its inbox |
//! | `downlink` | one worker's way in: commands, and the outcomes back |
//! | `reader` | what is stored, in stored order, for the tools |
//! | `caller` | a command and its outcome, for the tools |
//!
//! A worker is one thread with a current-thread runtime inside a `LocalSet`. Whatever is started here lives on the
//! thread that starts it, and ends when its handle is dropped.

#![expect(clippy::disallowed_methods, reason = "the shell reads the clock and files, and opens sockets")]

mod backoff;
mod call;
pub mod kafka;
pub mod nats;
pub mod stdio;
mod stored;
mod throttle;

pub(crate) use backoff::Backoff;
pub use call::{Answer, CallError};
pub use stored::{Place, ReadError, ReadFrom, Stored};
pub(crate) use throttle::Throttle;
