//! The client of a connection as its other parts use it: that of async-nats, or the direct one of the uplink.

use std::sync::atomic::Ordering;

use async_nats::connection::State;
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::Stream;

/// A client that never gives up its connection; clones are the same client.
pub(crate) trait Client: Clone + 'static {
    /// Messages of a subscription, which ends when it is dropped.
    type Subscription: Stream<Item = Message> + Unpin + 'static;

    /// Whether the server is there.
    fn is_connected(&self) -> bool;

    /// Connections made since start.
    fn connects(&self) -> u64;

    /// Bytes received since start.
    fn received_bytes(&self) -> u64;

    /// Largest message that the server takes, headers included, in bytes.
    fn max_payload(&self) -> usize;

    /// JetStream domain of the server.
    fn domain(&self) -> Option<String>;

    /// A subject for answers that nobody else has.
    fn new_inbox(&self) -> String;

    /// Sends a message.
    ///
    /// # Errors
    /// It cannot be sent; the text says why.
    async fn publish(&self, subject: String, reply: Option<String>, payload: Bytes) -> Result<(), String>;

    /// Subscribes on this connection and on all that follow; `None` when the client has ended.
    async fn subscribe(&self, subject: String) -> Option<Self::Subscription>;

    /// Waits until the socket has taken everything; false when the connection is lost first.
    async fn flush(&self) -> bool;

    /// How many servers the client may connect to.
    async fn servers(&self) -> usize;

    /// Gives the connection up for a new one; false when the client has ended.
    async fn reconnect(&self) -> bool;
}

impl Client for async_nats::Client {
    type Subscription = Subscriber;

    fn is_connected(&self) -> bool {
        self.connection_state() == State::Connected
    }

    fn connects(&self) -> u64 {
        self.statistics().connects.load(Ordering::Relaxed)
    }

    fn received_bytes(&self) -> u64 {
        self.statistics().in_bytes.load(Ordering::Relaxed)
    }

    fn max_payload(&self) -> usize {
        async_nats::Client::max_payload(self)
    }

    fn domain(&self) -> Option<String> {
        self.server_info().domain
    }

    fn new_inbox(&self) -> String {
        async_nats::Client::new_inbox(self)
    }

    async fn publish(&self, subject: String, reply: Option<String>, payload: Bytes) -> Result<(), String> {
        let sent = match reply {
            Some(reply) => self.publish_with_reply(subject, reply, payload).await,
            None => async_nats::Client::publish(self, subject, payload).await,
        };
        sent.map_err(|error| error.to_string())
    }

    async fn subscribe(&self, subject: String) -> Option<Subscriber> {
        async_nats::Client::subscribe(self, subject).await.ok()
    }

    async fn flush(&self) -> bool {
        async_nats::Client::flush(self).await.is_ok()
    }

    async fn servers(&self) -> usize {
        self.server_pool().await.map_or(0, |servers| servers.len())
    }

    async fn reconnect(&self) -> bool {
        self.force_reconnect().await.is_ok()
    }
}
