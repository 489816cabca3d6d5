//! The log of a connection: why its servers are not reached, what they object to, why it was lost.
//!
//! The client tries again by itself and tells little of it: a cause stands beside the server that it is about until the
//! next attempt, of a name that does not resolve it tells nothing but "DNS error", and of a lost connection nothing at
//! all. Each cause is told once, until it is another one or the connection was there in between.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{ClientError, ConnectOptions, Event, Server, ServerAddr, ServerError};

use super::tally::{ConnectionRole, ConnectionTallies};
use super::violation::Violation;

/// A connection that is not there after this time is told of, even when the client knows no cause yet.
const SILENCE: Duration = Duration::from_secs(4);

/// A connection that is lost within this time of an objection of the server was lost for that.
const BLAME: Duration = Duration::from_secs(5);

/// The same objection is not told again within this time: a server repeats it for each subject that is tried again.
const REPETITION: Duration = Duration::from_secs(30);

/// Objections that are remembered. While this many are fresh, further ones are only counted.
const OBJECTIONS_MAX: usize = 32;

/// Time without a turn after which a thread counts as having stood still, so that it did not read either. It checks its
/// connections once a second.
const STALL: Duration = Duration::from_secs(3);

/// The state that the client shows must differ for so long from what it has told: it tells of it a moment later, or, of too
/// much at once, not at all.
const UNTOLD: Duration = Duration::from_secs(2);

/// Names are looked up at most this often.
const LOOKUP_PAUSE: Duration = Duration::from_secs(2);

/// One connection's part of the log; clones speak of the same connection.
#[derive(Debug, Clone)]
pub struct ConnectionLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    role: ConnectionRole,
    tallies: ConnectionTallies,
    servers: Vec<ServerAddr>,
    /// Time without a message after which a server counts as not answering.
    silence: Duration,
    state: Mutex<State>,
    heard: Mutex<Heard>,
}

/// Bytes that came from the server, and since when no more come.
#[derive(Debug, Default)]
struct Heard {
    bytes: u64,
    since: Option<Instant>,
    /// When it was looked at last.
    looked_at: Option<Instant>,
    /// The last time that nobody looked and so nobody read: its end, and how long it was.
    stall: Option<(Instant, Duration)>,
    /// Connections that were lost in silence.
    silences: u64,
}

impl Heard {
    /// How long nobody read until now or until a moment ago, if that was long.
    fn unread(&self) -> Option<Duration> {
        let until_now = self.looked_at.map(|looked_at| looked_at.elapsed()).filter(|time| *time >= STALL);
        let before = self.stall.filter(|(end, _)| end.elapsed() < BLAME).map(|(_, time)| time);
        until_now.or(before)
    }
}

#[derive(Debug, Default)]
struct State {
    is_connected: bool,
    /// Since when the client shows another state than it has told.
    differs_since: Option<Instant>,
    /// Connections and losses so far.
    changes: u64,
    /// Causes that were logged since the connection was last there, by server.
    told: BTreeMap<String, String>,
    /// Failed attempts at each server when the connection was lost: those before are no news. `None` until it is known.
    failed_before: Option<BTreeMap<String, usize>>,
    objections: VecDeque<(Instant, String)>,
    suppressed: u64,
    /// Why the connection will be lost, as far as anybody said so.
    blamed: Option<(Instant, String)>,
    looked_up: Option<Instant>,
}

impl ConnectionLog {
    /// The log of the connection with that part to play, which is counted there.
    pub fn new(role: ConnectionRole, servers: &[ServerAddr], tallies: &ConnectionTallies) -> Self {
        Self::with_silence(role, servers, tallies, Duration::MAX)
    }

    /// As [`ConnectionLog::new`], of a connection that is lost when the server says nothing for somewhat longer than that;
    /// [`ConnectionLog::sample`] must be called at least once a second.
    pub(super) fn with_silence(
        role: ConnectionRole,
        servers: &[ServerAddr],
        tallies: &ConnectionTallies,
        silence: Duration,
    ) -> Self {
        let (servers, tallies) = (servers.to_vec(), tallies.clone());
        tallies.expect(role);
        let shared = Shared { role, tallies, servers, silence, state: Mutex::default(), heard: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Takes how many bytes the server has sent so far.
    pub(super) fn sample(&self, bytes: u64) {
        let mut heard = self.heard();
        let now = Instant::now();
        if heard.bytes != bytes || heard.since.is_none() {
            (heard.bytes, heard.since) = (bytes, Some(now));
        }
        if let Some(pause) = heard.looked_at.replace(now).map(|before| now.saturating_duration_since(before))
            && pause >= STALL
        {
            heard.stall = Some((now, pause));
        }
    }

    /// Takes the state that the client shows.
    pub(super) fn follow(&self, is_connected: bool) {
        let mut state = self.state();
        if state.is_connected == is_connected {
            state.differs_since = None;
            return;
        }
        if state.differs_since.get_or_insert_with(Instant::now).elapsed() < UNTOLD {
            return;
        }
        drop(state);
        if is_connected { self.connected() } else { self.lost() }
    }

    /// How long the server has said nothing; `None` while a server that lives need not have answered yet.
    pub(super) fn silence(&self) -> Option<Duration> {
        let silence = self.heard().since.map(|since| since.elapsed());
        silence.filter(|silence| *silence >= self.shared.silence)
    }

    /// How many connections were lost as the server did not answer any more.
    pub(super) fn silences(&self) -> u64 {
        self.heard().silences
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same options, and a look at each attempt to connect.
    pub fn attach(&self, options: ConnectOptions) -> ConnectOptions {
        let log = self.clone();
        options.reconnect_to_server_callback(move |servers, _| {
            log.look_back(&servers);
            // The client chooses.
            std::future::ready(None)
        })
    }

    /// Takes what the client tells, inside its runtime.
    pub fn hear(&self, event: &Event) {
        let role = self.shared.role.as_str();
        match event {
            Event::Connected => self.connected(),
            Event::Disconnected => self.lost(),
            Event::ServerError(error) => self.object(error),
            Event::LameDuckMode => {
                self.blame("the server leaves (lame duck mode)");
                tracing::info!(role, "the NATS server is about to leave");
            }
            // Of an attempt to connect it tells the kind alone; the cause is told before the next attempt. Not so of a
            // name: nothing is remembered of it.
            Event::ClientError(ClientError::Other(kind)) if kind.contains("DNS") => self.look_up(),
            Event::ClientError(_) | Event::SlowConsumer(_) | Event::Draining | Event::Closed => {}
        }
    }

    /// Notes why the connection will be lost.
    pub fn blame(&self, cause: &str) {
        self.state().blamed = Some((Instant::now(), cause.to_owned()));
    }

    fn connected(&self) {
        let (role, tallies) = (self.shared.role, &self.shared.tallies);
        let mut state = self.state();
        if state.changes > 0 {
            tallies.reconnected(role);
        }
        if !state.is_connected {
            tallies.connected(role);
        }
        *state = State { is_connected: true, changes: state.changes + 1, ..State::default() };
        // The silence of the connection before is none of this one.
        self.heard().since = Some(Instant::now());
        tracing::info!(role = role.as_str(), "connected to NATS");
    }

    fn lost(&self) {
        let mut state = self.state();
        if !std::mem::take(&mut state.is_connected) {
            return;
        }
        state.changes += 1;
        state.differs_since = None;
        let (role, tallies) = (self.shared.role, &self.shared.tallies);
        tallies.lost(role);
        let blamed = state.blamed.take().filter(|(since, _)| since.elapsed() < BLAME).map(|(_, cause)| cause);
        let silence = self.silence();
        let unread = {
            let mut heard = self.heard();
            heard.silences += u64::from(silence.is_some());
            heard.unread()
        };
        let cause = blamed.unwrap_or_else(|| match (unread, silence) {
            // A server closes a client that reads too slowly without a word.
            (Some(unread), _) => {
                tallies.slow_consumer(role);
                let seconds = unread.as_secs();
                format!(
                    "slow consumer: the bridge stood still and read nothing for {seconds} s, and the server closed it"
                )
            }
            (None, Some(silence)) => format!("the server did not answer for {} s", silence.as_secs()),
            (None, None) => "none was given: the server ended or closed it, as it does with a slow consumer".to_owned(),
        });
        tracing::warn!(role = role.as_str(), cause, "lost the connection to NATS");
    }

    /// Tells that there is no connection after a while, unless it is there or a cause was told.
    fn expect_connection(&self, changes: u64) {
        let log = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SILENCE).await;
            let is_news = {
                let state = log.state();
                state.changes == changes && !state.is_connected && state.told.is_empty()
            };
            if is_news {
                let servers: Vec<String> = log.shared.servers.iter().map(name).collect();
                let server = servers.join(", ");
                log.tell(&server, "no answer yet");
            }
        });
    }

    fn object(&self, error: &ServerError) {
        // The number of the subscription is another one with each attempt.
        let text = error.to_string();
        let objection = text.split(" (sid ").next().unwrap_or(&text);
        let now = Instant::now();
        if objection.contains("Slow Consumer") {
            self.shared.tallies.slow_consumer(self.shared.role);
        }
        let mut state = self.state();
        state.blamed = Some((now, objection.to_owned()));
        state.objections.retain(|(told, _)| now.saturating_duration_since(*told) < REPETITION);
        if let Some((told, _)) = state.objections.iter_mut().find(|(_, known)| known == objection) {
            // A subscription is asked for again all the time: one refusal, told once.
            if matches!(Violation::read(error), Some(Violation::Subscription(_))) {
                *told = now;
            }
            state.suppressed += 1;
            return;
        }
        if state.objections.len() >= OBJECTIONS_MAX {
            state.suppressed += 1;
            return;
        }
        state.objections.push_back((now, objection.to_owned()));
        let suppressed = std::mem::take(&mut state.suppressed);
        tracing::warn!(role = self.shared.role.as_str(), error = objection, suppressed, "NATS connection trouble");
    }

    /// Notes that the server has taken a subscription again.
    pub(super) fn restored(&self, subject: &str) {
        let quoted = format!("\"{subject}\"");
        self.state().objections.retain(|(_, objection)| !objection.contains(&quoted));
        tracing::info!(role = self.shared.role.as_str(), subject, "the NATS server takes the subscription again");
    }

    /// Before an attempt to connect: why those before it failed.
    pub(super) fn look_back(&self, servers: &[Server]) {
        let mut state = self.state();
        let failed = servers.iter().map(|server| (name(&server.addr), server.failed_attempts));
        let Some(before) = &state.failed_before else {
            state.failed_before = Some(failed.collect());
            return self.expect_connection(state.changes);
        };
        let news: Vec<(String, String)> = servers
            .iter()
            .filter_map(|server| Some((name(&server.addr), server.failed_attempts, server.last_error.clone()?)))
            .filter(|(name, failed, _)| before.get(name) != Some(failed))
            .map(|(name, _, error)| (name, error))
            .collect();
        drop(state);
        for (server, error) in news {
            self.tell(&server, &error);
        }
    }

    fn tell(&self, server: &str, error: &str) {
        let known = self.state().told.insert(server.to_owned(), error.to_owned());
        if known.as_deref() != Some(error) {
            tracing::warn!(role = self.shared.role.as_str(), server, error, "the NATS server cannot be reached");
        }
    }

    /// Looks the names of the servers up, as the client did in vain.
    fn look_up(&self) {
        let now = Instant::now();
        let mut state = self.state();
        if state.looked_up.is_some_and(|last| now.saturating_duration_since(last) < LOOKUP_PAUSE) {
            return;
        }
        state.looked_up = Some(now);
        drop(state);
        let log = self.clone();
        tokio::spawn(async move {
            for server in &log.shared.servers {
                if let Err(error) = tokio::net::lookup_host((server.host(), server.port())).await {
                    log.tell(&name(server), &error.to_string());
                }
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.state.get_mut().unwrap_or_else(PoisonError::into_inner).is_connected {
            self.tallies.lost(self.role);
        }
    }
}

/// A server without the user and the password that its URL may hold.
pub(super) fn name(server: &ServerAddr) -> String {
    format!("{}:{}", server.host(), server.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: ConnectionRole = ConnectionRole::Commands;

    fn log() -> (ConnectionLog, ConnectionTallies) {
        let tallies = ConnectionTallies::default();
        (ConnectionLog::new(ROLE, &[], &tallies), tallies)
    }

    fn counts(tallies: &ConnectionTallies) -> (Option<u64>, u64, u64) {
        let counts = tallies.of(ROLE);
        (counts.connected, counts.reconnects, counts.slow_consumer)
    }

    #[test]
    fn connections_count_by_role_while_they_are_up_and_each_time_that_they_are_made_again() {
        let (log, tallies) = log();
        assert_eq!(tallies.of(ConnectionRole::Uplink).connected, None, "nobody uses it");
        assert_eq!(counts(&tallies), (Some(0), 0, 0));
        log.hear(&Event::Connected);
        assert_eq!(counts(&tallies), (Some(1), 0, 0));
        log.hear(&Event::Disconnected);
        log.hear(&Event::Disconnected);
        assert_eq!(counts(&tallies), (Some(0), 0, 0));
        log.hear(&Event::Connected);
        // The loss between was not told.
        log.hear(&Event::Connected);
        assert_eq!(counts(&tallies), (Some(1), 2, 0));
        let other = ConnectionLog::new(ROLE, &[], &tallies);
        other.hear(&Event::Connected);
        assert_eq!(counts(&tallies), (Some(2), 2, 0));
        drop((log, other));
        assert_eq!(counts(&tallies), (Some(0), 2, 0));
    }

    #[test]
    fn a_server_that_says_slow_consumer_is_counted_as_saying_so() {
        let (log, tallies) = log();
        log.hear(&Event::Connected);
        log.hear(&Event::ServerError(ServerError::Other("Slow Consumer".to_owned())));
        log.hear(&Event::Disconnected);
        assert_eq!(counts(&tallies), (Some(0), 0, 1), "once, by what it said");
        log.hear(&Event::ServerError(ServerError::Other("Stale Connection".to_owned())));
        assert_eq!(counts(&tallies), (Some(0), 0, 1));
    }

    #[test]
    fn whoever_did_not_read_before_the_loss_was_a_slow_consumer() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).expect("the machine runs that long");
        let heard = |looked_at, stall| Heard { looked_at: Some(ago(looked_at)), stall, ..Heard::default() };
        let stall = |end: u64, seconds| Some((ago(end), Duration::from_secs(seconds)));
        assert_eq!(heard(1, None).unread(), None);
        assert_eq!(heard(9, None).unread().map(|time| time.as_secs()), Some(9));
        assert_eq!(heard(0, stall(1, 8)).unread(), Some(Duration::from_secs(8)));
        assert_eq!(heard(0, stall(60, 8)).unread(), None, "long ago");
    }
}
