//! What replicas tell each other over NATS: claims, and commands for a device that another replica holds.

mod coordination;
mod requests;

pub use coordination::{Heard, NatsCoordination};
pub use requests::{NatsAnswer, NatsEnvelope, NatsRequest, NatsRequests};
