//! One NATS connection and what it tells about itself.

mod client;
mod control;
mod credentials;
mod direct;
mod echo;
mod lasting;
mod log;
mod tally;
mod tls;
mod violation;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use self::credentials::user_expiry_secs;
use self::credentials::{Identity, UrlUser};
use self::violation::Violations;
use super::headers::unescape;
use super::{NatsError, NatsSettings};
use crate::protocol::address;
use crate::queue::pause_before;

pub(super) use self::client::Client;
pub(super) use self::control::Control;
pub(super) use self::direct::{DirectClient, Traffic};
pub(super) use self::echo::{Echo, echo_number};
pub(super) use self::lasting::{IfRefused, Listener};
pub use self::log::ConnectionLog;
pub use self::tally::{ConnectionCounts, ConnectionRole, ConnectionTallies};
pub(super) use self::violation::Violation;

/// A server that takes a connection and then says nothing is left after this time.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The client drops events when its own channel of 128 is full, so its state is also looked at this often.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The connection as its last change left it. Two different values with `connected` mean that it was lost between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LinkState {
    /// Whether the server is there.
    pub(super) connected: bool,
    /// Connections made since start.
    pub(super) connects: u64,
    /// Messages that the client dropped because a subscription was full, as far as it said so.
    pub(super) dropped: u64,
    /// Connections that were lost as the server fell silent, and may still have what was sent in its socket.
    pub(super) silences: u64,
    /// Subscriptions that the server has taken again after it had refused them.
    pub(super) restored: u64,
}

/// A connection that never gives up, and a view of its state.
pub(super) struct Connection<C: Client = async_nats::Client> {
    pub(super) client: C,
    pub(super) link: watch::Receiver<LinkState>,
    pub(super) control: Rc<Control<C>>,
    /// They end with it.
    tasks: JoinSet<()>,
}

/// Capacities that differ between the connections of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Operations that wait for the connection's task.
    pub(super) operations: usize,
    /// Messages that wait in each subscription; one more is dropped.
    pub(super) subscription: usize,
}

/// Settings that were checked.
#[derive(Clone)]
pub struct Access {
    pub(super) settings: NatsSettings,
    /// The servers to start from.
    pub servers: Vec<ServerAddr>,
    /// How to connect to them, for async-nats.
    pub options: ConnectOptions,
    identity: Identity,
}

impl Access {
    /// Checks the settings, reading the credentials file, which is read again at each connection.
    ///
    /// # Errors
    /// [`NatsError`] names the setting.
    pub fn new(settings: &NatsSettings) -> Result<Self, NatsError> {
        let (servers, user) = named_servers(settings)?;
        let prefixes = [&settings.prefix, &settings.inbox_prefix];
        if let Some(wrong) = prefixes.into_iter().find(|prefix| !address::is_subject_prefix(prefix)) {
            return Err(NatsError::Prefix(wrong.clone()));
        }
        let identity = Identity::new(settings.credentials.clone(), user);
        let options = identity
            .clone()
            .options()?
            .name(&settings.connection_name)
            .custom_inbox_prefix(&settings.inbox_prefix)
            .ping_interval(settings.ping_interval)
            .connection_timeout(CONNECT_TIMEOUT)
            .max_reconnects(None)
            .reconnect_delay_callback(pause_before);
        let options = tls::apply(options, &settings.tls)?;
        Ok(Self { settings: settings.clone(), servers, options, identity })
    }
}

/// The servers of the settings, and the user whom their URLs name.
fn named_servers(settings: &NatsSettings) -> Result<(Vec<ServerAddr>, Option<UrlUser>), NatsError> {
    if settings.servers.is_empty() {
        return Err(NatsError::NoServer);
    }
    let mut servers = Vec::with_capacity(settings.servers.len());
    for url in &settings.servers {
        servers.push(url.parse().map_err(|_| NatsError::Server(redacted(url)))?);
    }
    let user = servers.iter().find_map(user_of);
    Ok((servers.into_iter().map(without_user).collect(), user))
}

/// Opens a connection. `None` only where the client refuses what [`Access::new`] has let through.
pub(super) async fn connect(access: Access, role: ConnectionRole, capacity: Capacity) -> Option<Connection> {
    let events = Events::new(role, &access);
    let hear = events.clone();
    let options = events
        .log
        .attach(access.options.clone().retry_on_initial_connect())
        .client_capacity(capacity.operations)
        .subscription_capacity(capacity.subscription)
        .event_callback(move |event| {
            hear.hear(&event);
            std::future::ready(())
        });
    let client = match options.connect(access.servers.clone()).await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(role = role.as_str(), %error, "the NATS client refused its settings");
            return None;
        }
    };
    Some(watched(client, events, access, |_| ()))
}

/// Opens a connection whose records are written by their owner, `traffic`, which attends to violations, those apart that are
/// about lasting subscriptions.
///
/// # Panics
/// Outside a `LocalSet`.
pub(super) fn connect_direct<T: Traffic>(
    access: Access,
    role: ConnectionRole,
    traffic: Rc<T>,
    attend: impl FnMut(Violation) + 'static,
) -> Connection<DirectClient> {
    let events = Events::new(role, &access);
    let connector = direct::Connector::new(&access, events.log.clone());
    let client = DirectClient::new(&access.settings.inbox_prefix);
    let driving = direct::drive(client.clone(), connector, traffic, events.clone(), access.settings.ping_interval);
    let mut connection = watched(client, events, access, attend);
    connection.tasks.spawn_local(driving);
    connection
}

/// Watches a client, and leaves its connection where the client would not.
fn watched<C: Client>(
    client: C,
    events: Events,
    access: Access,
    attend: impl FnMut(Violation) + 'static,
) -> Connection<C> {
    let (sender, link) = watch::channel(LinkState::default());
    let control = Rc::new(Control::new(client.clone(), events.log.clone(), access));
    let mut tasks = JoinSet::new();
    tasks.spawn_local(watch_link(client.clone(), events, sender, Rc::clone(&control), attend));
    let attending = Rc::clone(&control);
    tasks.spawn_local(async move { attending.attend().await });
    Connection { client, link, control, tasks }
}

/// Connects once: a tool tells its caller at once that no server is there.
///
/// # Errors
/// Why, of each server.
pub(super) async fn connect_once(
    servers: &[ServerAddr],
    options: &ConnectOptions,
    timeout: Duration,
) -> Result<async_nats::Client, String> {
    let deadline = tokio::time::Instant::now() + timeout;
    let mut causes = Vec::with_capacity(servers.len());
    for server in servers {
        // The delay of a first attempt is for connections that are lost.
        let connecting = options.clone().reconnect_delay_callback(pause_after_the_first).connect(server.clone());
        let cause = match tokio::time::timeout_at(deadline, connecting).await {
            Ok(Ok(client)) => {
                // Once connected, any of them will do; an error means that the connection has just ended.
                let _ended = client.set_server_pool(servers).await;
                return Ok(client);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no connection in time".to_owned(),
        };
        causes.push(format!("{}: {cause}", log::name(server)));
    }
    Err(causes.join("; "))
}

fn pause_after_the_first(attempt: usize) -> Duration {
    if attempt <= 1 { Duration::ZERO } else { pause_before(attempt) }
}

/// A subject of this connection alone, on which it hears itself: what comes back proves that the server has handled
/// everything before it. Not an inbox, so that nobody has to let the bridge write to the inboxes of others.
pub(super) fn echo_subject(client: &impl Client, prefix: &str) -> String {
    let inbox = client.new_inbox();
    let unique = inbox.rsplit('.').next().unwrap_or(&inbox);
    format!("{prefix}.echo.{unique}")
}

/// Waits until the link is there; the value seen is returned.
pub(super) async fn connected(link: &mut watch::Receiver<LinkState>) -> Option<LinkState> {
    link.wait_for(|link| link.connected).await.ok().map(|link| *link)
}

/// Returns when the connection is not the one that was seen any more.
pub(super) async fn lost(link: &mut watch::Receiver<LinkState>, seen: LinkState) {
    // An error means that the watcher has ended, which nothing outlives.
    let _ = link.wait_for(|link| !link.connected || link.connects != seen.connects).await;
}

/// Where the events of a client go: to the log, and to the watcher of the connection.
#[derive(Debug, Clone)]
struct Events {
    log: ConnectionLog,
    signal: Arc<Signal>,
}

impl Events {
    fn new(role: ConnectionRole, access: &Access) -> Self {
        let settings = &access.settings;
        // The client gives a server up that has not answered three pings; one that lives answers each.
        let silence = settings.ping_interval.saturating_add(settings.ping_interval / 2);
        let log = ConnectionLog::with_silence(role, &access.servers, &settings.tallies, silence);
        Self { log, signal: Arc::default() }
    }

    fn hear(&self, event: &Event) {
        self.log.hear(event);
        self.signal.hear(event);
    }
}

/// Events that wait for the watcher.
#[derive(Debug, Default)]
struct Signal {
    wake: Notify,
    dropped: AtomicU64,
    violations: Mutex<Violations>,
}

impl Signal {
    fn hear(&self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            Event::ServerError(error) => {
                if let Some(violation) = Violation::read(error) {
                    self.violations().push(violation);
                }
            }
            _ => {}
        }
        self.wake.notify_one();
    }

    fn violations(&self) -> MutexGuard<'_, Violations> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch_link<C: Client>(
    client: C,
    Events { log, signal }: Events,
    sender: watch::Sender<LinkState>,
    control: Rc<Control<C>>,
    mut attend: impl FnMut(Violation),
) {
    loop {
        let (connected, connects) = (client.is_connected(), client.connects());
        let dropped = signal.dropped.load(Ordering::Relaxed);
        log.sample(client.received_bytes());
        log.follow(connected);
        let seen = LinkState { connected, connects, dropped, silences: log.silences(), restored: control.restored() };
        let before = *sender.borrow();
        if before.connects != seen.connects {
            control.connected();
        }
        if before != seen {
            sender.send_replace(seen);
        }
        let violations = signal.violations().take();
        for violation in violations {
            match &violation {
                Violation::Subscription(subject) if control.subscription_refused(subject) => {}
                _ => attend(violation),
            }
        }
        // Running out of time is the second way to look, not a failure.
        let _ = tokio::time::timeout(CHECK_INTERVAL, signal.wake.notified()).await;
    }
}

/// User and password of a URL, which the client itself does not look for. A user alone is a token, as for every NATS
/// client.
fn user_of(server: &ServerAddr) -> Option<UrlUser> {
    let user = unescape(server.username()?);
    Some((user, server.password().map(unescape)))
}

/// The address without user and password: the client is told them apart from it, and writes addresses into its log.
fn without_user(server: ServerAddr) -> ServerAddr {
    let mut url = server.clone().into_inner();
    // Neither can fail for an address with a host, which every one has.
    let _named = (url.set_username(""), url.set_password(None));
    ServerAddr::from_url(url).unwrap_or(server)
}

/// The URL without the user and password that it may hold.
fn redacted(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

impl NatsSettings {
    /// Checks the settings as a start does, without a connection; reads the files that a start reads.
    ///
    /// # Errors
    /// [`NatsError`] names the setting.
    pub fn check(&self) -> Result<(), NatsError> {
        Access::new(self).map(drop)
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
        Access::new(&settings).err()
    }

    #[test]
    fn the_addresses_that_the_client_gets_hold_no_secret() {
        let urls = ["nats://u:secret@a:4222", "tls://secret@b", "nats://c:4223", "u:secret@[::1]:4222"];
        let settings = NatsSettings::new(urls.map(str::to_owned).to_vec());
        let servers = Access::new(&settings).expect("good settings").servers;
        assert!(!format!("{servers:?}").contains("secret"), "{servers:?}");
        let addresses: Vec<_> = servers.iter().map(|server| (server.host().to_owned(), server.port())).collect();
        let expected = [("a", 4222), ("b", 4222), ("c", 4223), ("::1", 4222)];
        assert_eq!(addresses, expected.map(|(host, port)| (host.to_owned(), port)));
        assert!(servers[1].tls_required());
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
            assert_eq!(mistake(|s| s.inbox_prefix = prefix.to_owned()), Some(NatsError::Prefix(prefix.to_owned())));
        }
        let missing = PathBuf::from("/nonexistent/creds");
        let unreadable = NatsError::Unreadable(missing.clone(), std::io::ErrorKind::NotFound);
        assert_eq!(mistake(|s| s.credentials = Some(NatsMaterial::File(missing))), Some(unreadable));
        assert_eq!(mistake(|s| s.credentials = Some(NatsMaterial::Text("x".to_owned()))), Some(NatsError::Credentials));
    }
}
