//! Claims of replicas: one subject that every replica publishes and subscribes, and that no stream stores.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::operator;
use crate::protocol::secret::Secret;
use crate::queue::nats::connection::{
    self, Access, Capacity, Connection, ConnectionRole, IfRefused, LinkState, Listener,
};
use crate::queue::nats::{NatsError, NatsSettings};
use crate::replica::claim::{Claim, ClaimError, ClaimSecrets};
use crate::replica::request::{Asked, Respond};
use crate::replica::{ChannelEvent, ClaimChannel};

/// Operations that wait for the connection's task.
const OPERATIONS: usize = 4096;

/// Claims that wait in the subscription; one more is dropped, and every session is claimed anew.
const CLAIMS: usize = 65_536;

/// A barrier comes back by itself after this time: whoever waits for it must not wait for ever.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);

/// The claims on one connection; lives on the thread that starts it, inside a `LocalSet`.
pub struct NatsClaims {
    connection: Connection,
    subject: String,
    secrets: Option<ClaimSecrets>,
    echo: String,
    /// The connection of the last [`ChannelEvent::Connected`], while it is there.
    seen: Option<LinkState>,
    claims: Listener,
    barriers: mpsc::UnboundedReceiver<u64>,
    heard: mpsc::UnboundedSender<u64>,
}

impl NatsClaims {
    /// Connects; a server that is away is waited for.
    ///
    /// # Errors
    /// [`NatsError`] when the settings cannot be used.
    pub async fn start(settings: &NatsSettings) -> Result<Self, NatsError> {
        let capacity = Capacity { operations: OPERATIONS, subscription: CLAIMS };
        let connection = connection::connect(Access::new(settings)?, ConnectionRole::Coordination, capacity);
        let connection = connection.await.ok_or(NatsError::NoServer)?;
        let subject = format!("{}.claim", settings.prefix);
        let echo = connection::echo_subject(&connection.client, &settings.prefix);
        let claims = listen(&connection, subject.clone()).await?;
        let (heard, barriers) = mpsc::unbounded_channel();
        let mut echoes = listen(&connection, echo.clone()).await?;
        let sender = heard.clone();
        tokio::task::spawn_local(async move {
            while let Some(message) = echoes.next().await {
                if sender.send(connection::echo_number(&message)).is_err() {
                    return;
                }
            }
        });
        let bytes = |secret: &Secret| secret.expose().as_bytes().to_vec();
        let mut secrets = settings.claim_secrets.iter().map(bytes);
        let secrets = secrets.next().map(|current| ClaimSecrets::new(&current, secrets.next().as_deref()));
        Ok(Self { connection, subject, secrets, echo, seen: None, claims, barriers, heard })
    }

    /// Exchanges requests of operators with other replicas on the same connection, for as long as it lasts. Those of this
    /// replica come by `asked`.
    ///
    /// # Errors
    /// [`NatsError::NoServer`] when the client has ended.
    pub async fn exchange_requests(
        &self,
        prefix: &str,
        replica_id: &str,
        asked: mpsc::Receiver<Asked>,
        respond: Arc<dyn Respond>,
        ignored: impl Fn(ClaimError) + 'static,
    ) -> Result<(), NatsError> {
        let subject = format!("{prefix}.replica");
        operator::start(&self.connection, (subject, self.secrets.clone()), replica_id, asked, respond, ignored).await
    }

    fn is_connected(&self) -> bool {
        self.connection.link.borrow().connected
    }

    /// The event that follows from a change of the connection since the last one.
    fn follow_link(&mut self) -> Option<ChannelEvent> {
        let link = *self.connection.link.borrow_and_update();
        match self.seen {
            Some(seen) if !link.connected || link.connects != seen.connects => {
                self.seen = None;
                Some(ChannelEvent::Disconnected)
            }
            Some(seen) if (link.dropped, link.restored) != (seen.dropped, seen.restored) => {
                self.seen = Some(link);
                Some(ChannelEvent::Connected)
            }
            None if link.connected => {
                self.seen = Some(link);
                Some(ChannelEvent::Connected)
            }
            _ => None,
        }
    }
}

impl ClaimChannel for NatsClaims {
    async fn next(&mut self) -> Option<ChannelEvent> {
        loop {
            if let Some(event) = self.follow_link() {
                return Some(event);
            }
            tokio::select! {
                biased;
                changed = self.connection.link.changed() => changed.ok()?,
                message = self.claims.next() => {
                    let message = message?;
                    // A consumer of a stream delivers to any subject, whoever made it; a message keeps the one under
                    // which it was stored.
                    let claim = if *message.subject == *self.subject {
                        Claim::decode(&message.payload, self.secrets.as_ref())
                    } else {
                        Err(ClaimError::Malformed)
                    };
                    return Some(claim.map_or_else(ChannelEvent::Ignored, ChannelEvent::Claim));
                }
                // Behind the claims: those that came before a barrier are handled before it.
                Some(number) = self.barriers.recv() => return Some(ChannelEvent::Barrier(number)),
            }
        }
    }

    async fn publish(&self, claim: &Claim) {
        if self.is_connected() {
            let text = claim.encode(self.secrets.as_ref());
            let _away = self.connection.client.publish(self.subject.clone(), text.into()).await;
        }
    }

    async fn send_barrier(&self, number: u64) {
        if self.is_connected() {
            let _away = self.connection.client.publish(self.echo.clone(), number.to_be_bytes().to_vec().into()).await;
        }
        let late = self.heard.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(BARRIER_TIMEOUT).await;
            // Nobody listens at the end of the process.
            let _ended = late.send(number);
        });
    }
}

async fn listen(connection: &Connection, subject: String) -> Result<Listener, NatsError> {
    connection.control.listen(subject, IfRefused::Leave).await.ok_or(NatsError::NoServer)
}
