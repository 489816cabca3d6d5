//! Kafka: an idempotent producer per worker, with a thread of its own that hears the deliveries; one consumer of commands
//! and one producer of outcomes per replica.

mod caller;
mod causes;
mod client;
mod commands;
mod downlink;
mod error;
mod headers;
mod limits;
mod peek;
mod poller;
mod progress;
mod properties;
mod reader;
mod settings;
mod stats;
mod topics;
mod unreadable;
mod uplink;
mod verdict;
mod watch;

pub use caller::KafkaCaller;
pub use commands::{KafkaCommandSettings, KafkaCommandStats, KafkaCommands};
pub use downlink::{KafkaAnswers, KafkaDownlink};
pub use error::KafkaError;
pub use reader::KafkaReader;
pub use settings::KafkaSettings;
pub use stats::KafkaStats;
pub use uplink::KafkaUplink;
