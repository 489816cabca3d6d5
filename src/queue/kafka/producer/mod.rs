//! The producers of records and of outcomes have this in common: their properties within the limits of their topics, the
//! meaning of errors of one record, the watch over partitions without progress.

pub(super) mod failure;
pub(super) mod limits;
mod watch;

use std::sync::Arc;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::{ClientConfig, ClientContext};

use self::limits::Limits;
pub(super) use self::watch::Watch;
use super::connection::{Causes, Subject, properties};
use super::{KafkaError, KafkaSettings};

/// The properties of the producers of one kind, which follow one another as the limits of their topics change.
pub(super) struct ProducerConfig {
    /// The properties of the producer.
    own: ClientConfig,
    /// Those of clients that only ask the brokers.
    base: ClientConfig,
    pub(super) limits: Limits,
    pub(super) watch: Arc<Watch>,
}

impl ProducerConfig {
    /// Checks the settings; nothing is known of the topics yet.
    ///
    /// # Errors
    /// [`KafkaError`] names the property.
    pub(super) fn new(
        settings: &KafkaSettings,
        subject: Subject,
        topics: &[&str],
        causes: Arc<Causes>,
    ) -> Result<Self, KafkaError> {
        let base = properties::base(settings)?;
        let own = properties::producer_from(base.clone(), settings);
        let limits = Limits::new(topics, &own);
        let watch = Arc::new(Watch::new(subject, causes, base.clone()));
        Ok(Self { own, base, limits, watch })
    }

    /// The properties of clients that ask.
    pub(super) fn base(&self) -> &ClientConfig {
        &self.base
    }

    /// Asks for the limits of the topics; whether producers have to be other ones for them. Blocks.
    pub(super) fn ask_for_limits(&mut self) -> bool {
        let before = self.limits.clone();
        self.limits.ask(&self.base);
        before != self.limits
    }

    /// Makes a producer within the limits.
    ///
    /// # Errors
    /// [`KafkaError::Client`] where librdkafka finds a contradiction or a file that it cannot use.
    pub(super) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
        &self,
        context: C,
    ) -> Result<T, KafkaError> {
        let mut config = self.own.clone();
        self.limits.apply(&mut config);
        properties::create(&config, context)
    }
}
