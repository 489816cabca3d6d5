//! The device side: listeners, connections, and the workers that drive sessions.
//!
//! A [`Worker`] is one thread with its own runtime, listener, encoder and queue connection; a session never leaves it.
//! Workers share the [`Directory`](crate::replica::Directory), touched when a session begins and ends.
//!
//! One batch of work looks the same everywhere: read the clock, lend the [`Environment`] to the sessions concerned, write
//! what they left for their devices once each, tell the queue that the batch is over. All of that is [`WorkerCore`], which
//! neither reads the clock nor knows a socket.

mod bucket;
mod clock;
mod coap;
mod connection_limit;
mod connects;
pub mod dtls;
mod environment;
mod mqtt;
mod proxies;
mod refused;
mod room;
mod serve;
mod socket;
pub mod tls;
mod traffic;
mod traits;
mod turn;
mod worker;

pub use clock::Clock;
pub use connection_limit::{ConnectionLimit, SocketBounds};
pub use environment::Environment;
pub use mqtt::{ListenerProtocol, Listening, Upgrade, upgrade};
pub use proxies::Proxies;
pub use refused::{FirstBytes, Refused, Refusing};
pub use serve::{Channels, serve};
pub use socket::{ByteStream, Counters};
pub use traffic::Traffic;
pub use traits::{Handshake, Meter, Pauses, Peers, Registry, TransportKind};
pub use worker::{
    CoapPort, Connect, CoreSettings, DrainProgress, Drained, HeartbeatSettings, Progress, ReplicaHandle, Settings,
    State, TakenIn, Worker, WorkerCore,
};
