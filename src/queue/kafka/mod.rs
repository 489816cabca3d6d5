//! Kafka: an idempotent producer per worker, with a thread of its own that hears the deliveries; one consumer of commands
//! and one producer of outcomes per replica.

mod caller;
mod connection;
mod downlink;
mod headers;
mod inspection;
mod producer;
mod reader;
mod settings;
mod stats;
mod uplink;

pub use caller::KafkaCaller;
pub use downlink::{KafkaAnswers, KafkaCommandSettings, KafkaCommands};
pub use inspection::{TopicUse, inspect};
pub use reader::KafkaReader;
pub use settings::{KafkaError, KafkaSettings};
pub use stats::{KafkaCommandStats, KafkaStats};
pub use uplink::KafkaUplink;
