//! NATS: JetStream for what devices say, core NATS for commands, each over its own connection per worker; and the
//! claims by which replicas agree who holds a device, over one connection per replica.

mod acknowledgement;
mod api;
mod backlog;
mod caller;
mod connection;
mod connection_log;
mod control;
mod coordination;
mod credentials;
mod downlink;
mod echo;
mod error;
mod foreign_streams;
mod headers;
mod in_flight;
mod interests;
mod lasting;
mod line;
mod material;
mod outstanding;
mod reader;
mod registrar;
mod reply_subject;
mod requests;
mod settings;
mod stats;
mod stream;
mod subscription;
mod tickets;
mod tls;
mod uplink;
mod violation;

pub use acknowledgement::{Acknowledgement, Answerer, StreamIdentity};
pub use caller::NatsCaller;
pub use connection::options;
pub use connection_log::ConnectionLog;
pub use coordination::{Heard, NatsCoordination};
pub use downlink::NatsDownlink;
pub use error::NatsError;
pub use material::NatsMaterial;
pub use reader::NatsReader;
pub use requests::{NatsAnswer, NatsEnvelope, NatsRequest, NatsRequests};
pub use settings::{NatsSettings, NatsTlsSettings, StreamDefaults};
pub use stats::NatsStats;
pub use uplink::NatsUplink;
