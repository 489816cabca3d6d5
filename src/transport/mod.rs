//! The device side: listeners, connections, and the workers that drive sessions.
//!
//! A [`Worker`] is one thread with its own runtime, listener, encoder and queue connection; a session never leaves it.
//! What workers share is the [`Directory`], touched when a session begins and ends.
//!
//! One batch of work looks the same everywhere: read the clock, lend the [`Core`] to the sessions concerned, write what
//! they left for their devices once each, tell the queue that the batch is over.

mod clock;
pub mod coap;
mod connects;
mod core;
pub mod dtls;
mod gate;
mod mqtt;
mod pauses;
mod port;
mod proxies;
mod room;
mod slots;
pub mod tls;
mod traffic;
mod turn;
mod worker;

pub use self::core::Core;
pub use clock::Clock;
pub use gate::{Gate, SocketBounds};
pub use mqtt::{Door, Listening, Upgrade, upgrade};
pub use pauses::Pauses;
pub use port::{Handshake, Identity, Lookup, Meter, Peers, Refused, Registry, Way};
pub use proxies::Proxies;
pub use traffic::Traffic;
pub use worker::{Drained, Settings, Worker};
