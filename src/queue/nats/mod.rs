//! NATS: JetStream for what devices say, core NATS for commands, each over its own connection per worker; and the
//! claims by which replicas agree who holds a device, over one connection per replica.

mod caller;
mod connection;
mod downlink;
mod headers;
mod inspection;
mod local_queue;
mod reader;
mod replicas;
mod settings;
mod stats;
mod stream;
mod uplink;
mod wire;

pub use caller::NatsCaller;
pub use connection::{Access, ConnectionCounts, ConnectionLog, ConnectionRole, ConnectionTallies, user_expiry_secs};
pub use downlink::NatsDownlink;
pub use inspection::{NatsUse, inspect};
pub use reader::NatsReader;
pub use replicas::NatsClaims;
pub use settings::{NatsError, NatsMaterial, NatsSettings, NatsTlsSettings, StreamDefaults};
pub use stats::NatsStats;
pub use uplink::{Acknowledgement, Answerer, NatsUplink, StreamIdentity};
pub use wire::{Delivery, LINE_BYTES_MAX, MESSAGE_BYTES_MAX, ServerOp, WireError, parse};
