//! Parameters of the commands from Kafka.

use std::sync::Arc;
use std::time::Duration;

use crate::queue::kafka::KafkaSettings;
use crate::replica::HandOverSettings;

/// Parameters of the consumer of commands and of the producer of outcomes.
#[derive(Clone)]
pub struct KafkaCommandSettings {
    /// How to reach Kafka. Its rejected topic takes what cannot be read as a command; its uplink topic is not used.
    pub kafka: KafkaSettings,
    /// Topic of the commands; `jetlinks.command` by default.
    pub command_topic: String,
    /// Topic of the outcomes; `jetlinks.reply` by default.
    pub reply_topic: String,
    /// Consumer group that the replicas share when they hand commands over; `jetlinks-bridge` by default.
    pub group: String,
    /// Older records get TIME_OUT and are not sent; 60 s by default.
    pub max_age: Duration,
    /// How long a reply is waited for, unless the command says otherwise; 10 s by default.
    pub timeout: Duration,
    /// The longest that a command may ask for; 10 min by default.
    pub timeout_max: Duration,
    /// How to reach the replica that holds a device. `None`: every replica reads every command and keeps to its own
    /// devices.
    pub hand_over: Option<Arc<dyn HandOverSettings>>,
}

impl KafkaCommandSettings {
    /// Settings with every default of the contract.
    pub fn new(kafka: KafkaSettings, hand_over: Option<Arc<dyn HandOverSettings>>) -> Self {
        Self {
            kafka,
            command_topic: "jetlinks.command".to_owned(),
            reply_topic: "jetlinks.reply".to_owned(),
            group: "jetlinks-bridge".to_owned(),
            max_age: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            timeout_max: Duration::from_secs(600),
            hand_over,
        }
    }
}
