//! One NATS connection and what it tells about itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, Server, ServerAddr};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::credentials::{self, UrlUser};
use super::headers::unescape;
use super::{NatsError, NatsSettings, tls};
use crate::queue::{Backoff, Throttle};

/// A server that takes a connection and then says nothing is left after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The client drops events when its own channel of 128 is full, so its state is also looked at this often.
const GLANCE: Duration = Duration::from_secs(1);

/// The connection as its last change left it. Two different values with `connected` mean that it was lost between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Link {
    /// Whether the server is there.
    pub(super) connected: bool,
    /// Connections made since start.
    pub(super) connects: u64,
    /// Messages that the client dropped because a subscription was full, as far as it said so.
    pub(super) dropped: u64,
}

/// A connection that never gives up, and a view of its state.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) link: watch::Receiver<Link>,
    watcher: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// What differs between the connections of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Operations that wait for the connection's task.
    pub(super) operations: usize,
    /// Messages that wait in each subscription; one more is dropped.
    pub(super) subscription: usize,
}

/// Checks the settings, reading the credentials file: the servers to start from, and how to connect to them. The file is
/// read again at each connection.
///
/// # Errors
/// [`NatsError`] names the setting.
pub fn options(settings: &NatsSettings) -> Result<(Vec<ServerAddr>, ConnectOptions), NatsError> {
    if settings.servers.is_empty() {
        return Err(NatsError::NoServer);
    }
    let mut servers = Vec::with_capacity(settings.servers.len());
    for url in &settings.servers {
        servers.push(url.parse().map_err(|_| NatsError::Server(redacted(url)))?);
    }
    if !is_prefix(&settings.prefix) {
        return Err(NatsError::Prefix(settings.prefix.clone()));
    }
    let user = servers.iter().find_map(user_of);
    let options = match (&settings.credentials, user) {
        (Some(credentials), user) => credentials::options(credentials, user)?,
        (None, Some((user, Some(password)))) => ConnectOptions::with_user_and_password(user, password),
        (None, Some((token, None))) => ConnectOptions::with_token(token),
        (None, None) => ConnectOptions::new(),
    };
    let options = options
        .name(&settings.connection_name)
        .ping_interval(settings.ping_interval)
        .connection_timeout(CONNECT_TIMEOUT)
        .max_reconnects(None)
        .reconnect_delay_callback(Backoff::pause_before);
    let options = tls::apply(options, &settings.tls)?;
    Ok((servers, options))
}

/// Opens a connection. `None` only where the client refuses what [`options`] has let through.
pub(super) async fn connect(
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    capacity: Capacity,
    role: &'static str,
) -> Option<Connection> {
    let signal = Arc::new(Signal::new(role));
    let (heard, tried) = (Arc::clone(&signal), Arc::clone(&signal));
    let options = options
        .retry_on_initial_connect()
        .reconnect_to_server_callback(move |servers, _| {
            tried.look_back(&servers);
            // The client chooses.
            std::future::ready(None)
        })
        .client_capacity(capacity.operations)
        .subscription_capacity(capacity.subscription)
        .event_callback(move |event| {
            heard.hear(&event);
            std::future::ready(())
        });
    let client = match options.connect(servers).await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(role, %error, "the NATS client refused its settings");
            return None;
        }
    };
    let (sender, link) = watch::channel(Link::default());
    let watcher = tokio::task::spawn_local(watch_link(client.clone(), signal, sender, role));
    Some(Connection { client, link, watcher })
}

/// A subject of this connection alone, on which it hears itself: what comes back proves that the server has handled
/// everything before it. Not an inbox, so that nobody has to let the bridge write to the inboxes of others.
pub(super) fn echo_subject(client: &Client, prefix: &str) -> String {
    let inbox = client.new_inbox();
    let unique = inbox.rsplit('.').next().unwrap_or(&inbox);
    format!("{prefix}.echo.{unique}")
}

/// Waits until the link is there; the value seen is returned.
pub(super) async fn connected(link: &mut watch::Receiver<Link>) -> Option<Link> {
    link.wait_for(|link| link.connected).await.ok().map(|link| *link)
}

/// Returns when the connection is not the one that was seen any more.
pub(super) async fn lost(link: &mut watch::Receiver<Link>, seen: Link) {
    // An error means that the watcher has ended, which nothing outlives.
    let _ = link.wait_for(|link| !link.connected || link.connects != seen.connects).await;
}

/// What the client says from its own task.
struct Signal {
    wake: Notify,
    role: &'static str,
    state: Mutex<Heard>,
}

struct Heard {
    dropped: u64,
    complaints: Throttle,
    failures: Throttle,
}

impl Signal {
    fn new(role: &'static str) -> Self {
        let throttle = || Throttle::new(Duration::from_secs(30));
        let state = Mutex::new(Heard { dropped: 0, complaints: throttle(), failures: throttle() });
        Self { wake: Notify::new(), role, state }
    }

    fn hear(&self, event: &Event) {
        let role = self.role;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::SlowConsumer(_) => state.dropped += 1,
            Event::LameDuckMode => tracing::info!(role, "the NATS server is about to leave"),
            Event::ServerError(_) => {
                if let Some(suppressed) = state.complaints.pass(Instant::now()) {
                    tracing::warn!(role, error = %event, suppressed, "NATS connection trouble");
                }
            }
            // Of an attempt to connect it tells the kind alone; the cause is told before the next attempt.
            Event::ClientError(_) => {}
            Event::Connected | Event::Disconnected | Event::Draining | Event::Closed => {}
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Before an attempt to connect: why those before it failed.
    fn look_back(&self, servers: &[Server]) {
        let failed = servers.iter().find_map(|server| Some((server, server.last_error.as_deref()?)));
        let Some((server, error)) = failed else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = state.failures.pass(Instant::now()) {
            let server = format!("{}:{}", server.addr.host(), server.addr.port());
            tracing::warn!(role = self.role, server, error, suppressed, "the NATS server is not reached");
        }
    }

    fn dropped(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

async fn watch_link(client: Client, signal: Arc<Signal>, sender: watch::Sender<Link>, role: &'static str) {
    let statistics = client.statistics();
    loop {
        let connected = client.connection_state() == State::Connected;
        let connects = statistics.connects.load(std::sync::atomic::Ordering::Relaxed);
        let seen = Link { connected, connects, dropped: signal.dropped() };
        let before = *sender.borrow();
        if before != seen {
            if seen.connects != before.connects {
                tracing::info!(role, "connected to NATS");
            }
            if before.connected && !seen.connected {
                tracing::warn!(role, "lost the connection to NATS");
            }
            sender.send_replace(seen);
        }
        // Running out of time is the second way to look, not a failure.
        let _ = tokio::time::timeout(GLANCE, signal.wake.notified()).await;
    }
}

/// User and password of a URL, which the client itself does not look for. A user alone is a token, as for every NATS
/// client.
fn user_of(server: &ServerAddr) -> Option<UrlUser> {
    let user = unescape(server.username()?);
    Some((user, server.password().map(unescape)))
}

fn is_prefix(prefix: &str) -> bool {
    prefix.split('.').all(|token| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>'))
    }) && !prefix.starts_with('$')
}

/// The URL without the user and password that it may hold.
fn redacted(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::queue::nats::NatsMaterial;

    fn mistake(change: impl FnOnce(&mut NatsSettings)) -> Option<NatsError> {
        let mut settings = NatsSettings::new(vec!["nats://127.0.0.1:4222".to_owned()]);
        change(&mut settings);
        options(&settings).err()
    }

    #[test]
    fn every_mistake_in_the_settings_is_told_apart() {
        assert_eq!(mistake(|_| ()), None);
        assert_eq!(mistake(|s| s.servers.clear()), Some(NatsError::NoServer));
        assert_eq!(
            mistake(|s| s.servers = vec!["nats://u:secret@host:port".to_owned()]),
            Some(NatsError::Server("…@host:port".to_owned()))
        );
        for prefix in ["", "a..b", "a.", "a.*", ">", "a b", "$JS"] {
            assert_eq!(mistake(|s| s.prefix = prefix.to_owned()), Some(NatsError::Prefix(prefix.to_owned())));
        }
        let missing = PathBuf::from("/nonexistent/creds");
        let unreadable = NatsError::Unreadable(missing.clone(), std::io::ErrorKind::NotFound);
        assert_eq!(mistake(|s| s.credentials = Some(NatsMaterial::File(missing))), Some(unreadable));
        assert_eq!(mistake(|s| s.credentials = Some(NatsMaterial::Text("x".to_owned()))), Some(NatsError::Credentials));
    }
}
