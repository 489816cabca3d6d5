//! Claims of replicas: one subject that every replica speaks and listens on, and that no stream stores.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};

use crate::protocol::secret::Secret;
use crate::queue::nats::connection::{self, Capacity, Connection, IfRefused, Link, Listener};
use crate::queue::nats::{NatsError, NatsSettings};
use crate::replica::claim::{Claim, ClaimError, ClaimSecrets};

/// Operations that wait for the connection's task.
const OPERATIONS: usize = 4096;

/// Claims that wait to be heard; one more is dropped, and everything is settled anew.
const CLAIMS: usize = 65_536;

/// How long the proof that everything was heard may take; then the server is as good as away.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// What a replica hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A claim; its own come back, too.
    Claim(Claim),
    /// Something that is no claim that counts.
    Ignored(ClaimError),
    /// The server is there, again or for the first time: everything held must be claimed, for claims were missed.
    Connected,
    /// The server is away.
    Away,
    /// Everything that was sent before [`NatsCoordination::prove`] with this number was heard.
    Proved(u64),
}

/// One replica's part in the coordination; lives on the thread that starts it, inside a `LocalSet`.
#[derive(Debug)]
pub struct NatsCoordination {
    connection: Connection,
    subject: String,
    secrets: Option<ClaimSecrets>,
    echo: String,
    seen: Option<Link>,
    claims: Listener,
    proofs: mpsc::UnboundedReceiver<u64>,
    prover: mpsc::UnboundedSender<u64>,
}

impl NatsCoordination {
    /// Connects; a server that is away is waited for.
    ///
    /// # Errors
    /// [`NatsError`] when the settings cannot be used.
    pub async fn start(settings: &NatsSettings) -> Result<Self, NatsError> {
        let (servers, options) = connection::options(settings)?;
        let capacity = Capacity { operations: OPERATIONS, subscription: CLAIMS };
        let connection = connection::connect(servers, options, capacity, "coordination", settings.ping_interval);
        let connection = connection.await.ok_or(NatsError::NoServer)?;
        let subject = format!("{}.claim", settings.prefix);
        let echo = connection::echo_subject(&connection.client, &settings.prefix);
        let claims = listen(&connection, subject.clone()).await?;
        let (prover, proofs) = mpsc::unbounded_channel();
        let mut echoes = listen(&connection, echo.clone()).await?;
        let heard = prover.clone();
        tokio::task::spawn_local(async move {
            while let Some(message) = echoes.next().await {
                let number = message.payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                if heard.send(number).is_err() {
                    return;
                }
            }
        });
        let bytes = |secret: &Secret| secret.expose().as_bytes().to_vec();
        let mut secrets = settings.claim_secrets.iter().map(bytes);
        let secrets = secrets.next().map(|current| ClaimSecrets::new(&current, secrets.next().as_deref()));
        Ok(Self { connection, subject, secrets, echo, seen: None, claims, proofs, prover })
    }

    /// Whether the server is there.
    pub fn is_connected(&self) -> bool {
        self.connection.link.borrow().connected
    }

    /// Waits for the next thing to hear; `None` when the client has ended. Safe to drop.
    pub async fn hear(&mut self) -> Option<Heard> {
        loop {
            let link = *self.connection.link.borrow_and_update();
            match self.seen {
                Some(seen) if !link.connected || link.connects != seen.connects => {
                    self.seen = None;
                    return Some(Heard::Away);
                }
                Some(seen) if (link.dropped, link.restored) != (seen.dropped, seen.restored) => {
                    self.seen = Some(link);
                    return Some(Heard::Connected);
                }
                None if link.connected => {
                    self.seen = Some(link);
                    return Some(Heard::Connected);
                }
                _ => {}
            }
            tokio::select! {
                biased;
                changed = changed(&mut self.connection.link) => {
                    changed?;
                }
                message = self.claims.next() => {
                    let claim = Claim::decode(&message?.payload, self.secrets.as_ref());
                    return Some(claim.map_or_else(Heard::Ignored, Heard::Claim));
                }
                // Behind the claims: what was proved to be sent before must be heard before.
                Some(number) = self.proofs.recv() => return Some(Heard::Proved(number)),
            }
        }
    }

    /// Says a claim; lost while the server is away, which [`Heard::Connected`] makes good.
    pub async fn say(&self, claim: &Claim) {
        if self.is_connected() {
            let _away =
                self.connection.client.publish(self.subject.clone(), claim.encode(self.secrets.as_ref()).into()).await;
        }
    }

    /// Asks for the proof that all claims until now were heard. A server that does not answer in time proves nothing, so
    /// the number comes back by itself: whoever waits must not wait for ever.
    pub async fn prove(&self, number: u64) {
        let late = self.prover.clone();
        if self.is_connected() {
            let _away = self.connection.client.publish(self.echo.clone(), number.to_be_bytes().to_vec().into()).await;
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(PROOF_TIMEOUT).await;
            // Nobody listens at the end of the process.
            let _ended = late.send(number);
        });
    }
}

async fn listen(connection: &Connection, subject: String) -> Result<Listener, NatsError> {
    connection.control.listen(subject, IfRefused::Leave).await.ok_or(NatsError::NoServer)
}

async fn changed(link: &mut watch::Receiver<Link>) -> Option<()> {
    link.changed().await.ok()
}
