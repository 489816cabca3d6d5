//! Leaving a connection that the client itself would keep.
//!
//! A client stays with a server until its pings fail or the server closes. Three things it never notices: a server that
//! takes bytes and does not answer for the stream, a subscription that the server has refused, and a limit of the server
//! that has changed since the connection was made. One it notices late: that the address behind the server's name is
//! another one by now, or that the network has forgotten the connection, so that a new one would do.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Access;
use super::client::Client;
use super::lasting::{IfRefused, LastingSubscriptions, Listener};
use super::log::ConnectionLog;

/// A connection is left at most this often.
const LEAVE_EVERY: Duration = Duration::from_secs(30);

/// Limits are asked for at most this often: one device that sends too much must not cost a connection each time.
const LIMITS_PAUSE: Duration = Duration::from_secs(10);

/// The socket must take what waits for it within this time. Where it takes nothing any more, the client hears nobody
/// until its pings fail; over TLS it would even wait for the socket without them.
const FLUSH: Duration = Duration::from_millis(500);

/// How often the connection is checked: whether it is time to leave, or to subscribe again.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a new connection may take that only looks whether the server answers, and with which limits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The operations of a connection's owners on it.
pub(crate) struct Control<C: Client = async_nats::Client> {
    client: C,
    log: ConnectionLog,
    access: Access,
    left: Cell<Option<Instant>>,
    /// When it is to be left, as a subscription was refused.
    leaves_at: Cell<Option<Instant>>,
    limits_seen: Cell<Option<Instant>>,
    doubts: Notify,
    subscriptions: LastingSubscriptions<C>,
}

impl<C: Client> Control<C> {
    pub(crate) fn new(client: C, log: ConnectionLog, access: Access) -> Self {
        let (left, leaves_at, limits_seen) = (Cell::new(None), Cell::new(None), Cell::new(None));
        Self {
            client,
            log,
            access,
            left,
            leaves_at,
            limits_seen,
            doubts: Notify::new(),
            subscriptions: LastingSubscriptions::default(),
        }
    }

    /// Connects once more, to look at the server.
    async fn probe(&self) -> Result<async_nats::Client, String> {
        super::connect_once(&self.access.servers, &self.access.options, PROBE_TIMEOUT).await
    }

    /// Leaves the connection for another one, to any of the servers, unless it is not there or was left lately; whether
    /// it does.
    pub(crate) async fn leave(&self, cause: &str) -> bool {
        let is_late = self.left.get().is_none_or(|left| left.elapsed() >= LEAVE_EVERY);
        if !is_late || !self.client.is_connected() {
            return false;
        }
        if !matches!(tokio::time::timeout(FLUSH, self.client.flush()).await, Ok(true)) {
            return false;
        }
        self.left.set(Some(Instant::now()));
        self.log.blame(&format!("the bridge left it: {cause}"));
        self.client.reconnect().await
    }

    /// Whether the client knows another server than the present one: of the settings, or from what the server has told.
    pub(crate) async fn knows_others(&self) -> bool {
        matches!(tokio::time::timeout(FLUSH, self.client.servers()).await, Ok(2..))
    }

    /// Subscribes for as long as the client lives; what the server refuses is asked for again. `None` when the client has
    /// ended.
    pub(crate) async fn listen(&self, subject: String, if_refused: IfRefused) -> Option<Listener<C>> {
        self.subscriptions.listen(&self.client, subject, if_refused).await
    }

    /// Notes that the server has refused a subscription; whether it is one of [`Control::listen`]. The connection is not
    /// left at once: who has taken the right away needs time to give it back, and until then everything else goes on.
    pub(crate) fn subscription_refused(&self, subject: &str) -> bool {
        let Some(if_refused) = self.subscriptions.refused(subject) else { return false };
        if if_refused == IfRefused::Leave && self.leaves_at.get().is_none() {
            self.leaves_at.set(Some(Instant::now() + LEAVE_EVERY));
        }
        true
    }

    /// How often the server has taken a subscription again that it had refused.
    pub(crate) fn restored(&self) -> u64 {
        self.subscriptions.restored()
    }

    async fn attend_subscriptions(&self) {
        if !self.client.is_connected() {
            return;
        }
        for subject in self.subscriptions.attend(&self.client).await {
            self.log.restored(&subject);
        }
        if !self.subscriptions.lacks_any() {
            self.leaves_at.set(None);
        }
    }

    async fn leave_when_due(&self) {
        if self.leaves_at.get().is_some_and(|due| Instant::now() >= due)
            && self.leave("a subscription was refused").await
        {
            self.leaves_at.set(None);
        }
    }

    /// How long the server has been silent, where one that lives would have answered.
    fn silence(&self) -> Option<Duration> {
        self.log.sample(self.client.received_bytes());
        self.log.silence()
    }

    /// Leaves a connection without an answer when a new one has one. Where that hangs, too, as all do while a server stands
    /// still, the present one goes on when the server wakes, and nobody has to send again.
    async fn leave_when_silent(&self) {
        if !self.client.is_connected() || self.silence().is_none() {
            return;
        }
        if self.probe().await.is_err() {
            return;
        }
        // What wakes with the server needs a moment to show it.
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Some(silence) = self.silence() {
            let seconds = silence.as_secs();
            self.leave(&format!("the server did not answer for {seconds} s, and answers a new connection")).await;
        }
    }

    /// Notes that the connection was made anew, with the limits of this moment.
    pub(crate) fn connected(&self) {
        self.limits_seen.set(Some(Instant::now()));
        self.leaves_at.set(None);
        self.subscriptions.connected();
    }

    /// Whether the limits of the connection are known to be those of the server, or were lately.
    pub(crate) fn knows_limits(&self) -> bool {
        self.limits_seen.get().is_some_and(|seen| seen.elapsed() < LIMITS_PAUSE)
    }

    /// Asks for a look at the limits: a message was too large for them.
    pub(crate) fn doubt_limits(&self) {
        if !self.knows_limits() {
            self.doubts.notify_one();
        }
    }

    /// Leaves the connection when it is time to.
    ///
    /// Limits that somebody doubts are asked for by a connection of its own: a server tells a client its limits when it
    /// connects and never again. Where they have grown the connection is left for one that knows them.
    pub(crate) async fn attend(&self) {
        loop {
            tokio::select! {
                () = self.doubts.notified() => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {
                    self.attend_subscriptions().await;
                    self.leave_when_due().await;
                    self.leave_when_silent().await;
                    continue;
                }
            }
            if self.knows_limits() {
                continue;
            }
            let probed = self.probe().await;
            // Without an answer what is known counts.
            self.limits_seen.set(Some(Instant::now()));
            match probed {
                Ok(client) if client.max_payload() > self.client.max_payload() => {
                    self.leave("the server takes larger messages by now").await;
                }
                Ok(_) => {}
                Err(cause) => tracing::debug!(cause, "the limits of the NATS server are not known"),
            }
        }
    }
}
