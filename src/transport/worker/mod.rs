//! One thread's worth of sessions.
//!
//! [`WorkerCore`] decides everything, without I/O. A [`Worker`] does the I/O around it: it reads the clock, waits, and
//! moves bytes. Four tasks share it besides those of the connections: receipts of the queue, commands, messages from the
//! rest of the replica, and the tick that looks at deadlines.

mod age;
mod coap_port;
mod connection;
mod core;
mod deadlines;
mod drain;
mod heartbeat;
mod input;
mod liveness;
mod paused;
mod queue_health;
mod replica;
mod starting;
mod suspension;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

pub use self::coap_port::CoapPort;
pub use self::connection::{Progress, State};
pub use self::core::{CoreSettings, DrainProgress, TakenIn, WorkerCore};
pub use self::drain::Drained;
pub use self::heartbeat::HeartbeatSettings;
pub use self::replica::ReplicaHandle;
pub use self::starting::Connect;
use super::clock::Clock;
use super::connection_limit::ConnectionLimit;
use super::connects::Connects;
use super::proxies::Proxies;
use super::room::SharedRoom;
use super::socket::Socket;
use super::traffic::Traffic;
use super::traits::TransportKind;
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::id::DeviceId;
use crate::protocol::limit::Limits;
use crate::protocol::uplink::{Availability, Inbox, SlotId};
use crate::replica::WorkerMessage;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Bytes that CONNECTs above the free share may take together while their senders are unknown, half of it those of one
/// network; further ones wait.
const OPENING_BYTES: usize = 2 * 1024 * 1024;

/// How long a CONNECT waits until its interest in commands is in place; then the session begins without.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(2);

/// Commands taken in at once.
const COMMANDS_PER_TURN: usize = 256;

/// Parameters of a worker's listeners.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a connection may take to send its CONNECT.
    pub connect_timeout: Duration,
    /// CONNECTs a second of this worker.
    pub connects_per_second: u64,
    /// Balancers that tell the address of the client in front of a connection.
    pub proxies: Proxies,
    /// Children of one gateway that come and go with it; further ones are left out.
    pub children_max: usize,
}

/// The I/O of one worker around its [`WorkerCore`].
pub struct Worker {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) connection_limit: Arc<ConnectionLimit>,
    pub(super) core: RefCell<WorkerCore<Socket>>,
    /// Sockets of CoAP; that with number `n` is at place `n`.
    pub(super) datagrams: Vec<UdpSocket>,
    /// Shared by the worker's connections: a read is taken in before the next one begins.
    pub(super) read_buffer: RefCell<Vec<u8>>,
    /// The order in which connections go on to their CONNECT.
    pub(super) connects: Connects,
    /// Room for CONNECTs that are larger than usual: nobody knows yet who sends them.
    pub(super) opening: SharedRoom,
    /// Bytes of MQTT, by transport.
    traffic: [Rc<Traffic>; TransportKind::ALL.len()],
}

impl Worker {
    /// A worker around its core, with the sockets of the core's ports.
    pub fn new(settings: Settings, core: WorkerCore<Socket>, clock: Clock, datagrams: Vec<UdpSocket>) -> Rc<Self> {
        let packet_bytes = core.environment().limits.packet_bytes;
        Rc::new(Self {
            connects: Connects::new(settings.connects_per_second, settings.connect_timeout, clock),
            opening: SharedRoom::new(packet_bytes.saturating_mul(3).max(OPENING_BYTES)),
            settings,
            clock,
            connection_limit: core.replica().connection_limit.clone(),
            core: RefCell::new(core),
            datagrams,
            read_buffer: RefCell::new(vec![0; Limits::READ_BYTES]),
            traffic: Default::default(),
        })
    }

    /// Waits until a session's interest in commands is in place, but not for ever.
    pub(super) async fn attach(&self, session: SlotId, device: &DeviceId) {
        let attached = poll_fn(|cx| self.core.borrow_mut().poll_attached(session, cx.waker()));
        if timeout(ATTACH_TIMEOUT, attached).await.is_err() {
            let device = device.as_str();
            tracing::warn!(device, "the interest in a device's commands is not in place yet");
        }
    }

    /// The state of the queue.
    pub(super) fn queue(&self) -> Availability {
        self.core.borrow().queue(self.clock.now())
    }

    /// Counts the bytes of MQTT on that transport.
    pub(super) fn traffic(&self, kind: TransportKind) -> &Rc<Traffic> {
        &self.traffic[kind as usize]
    }

    /// Sends the datagrams that were left to be sent by a port. What its socket does not take is lost.
    pub(super) fn send_datagrams(&self, number: usize) {
        let Some(socket) = self.datagrams.get(number) else { return };
        let send = |address, datagram: &[u8]| socket.try_send_to(datagram, address).unwrap_or(0);
        self.core.borrow_mut().send_datagrams(number, send);
    }

    fn send_all_datagrams(&self) {
        (0..self.datagrams.len()).for_each(|number| self.send_datagrams(number));
    }

    /// Takes answers of the queue.
    pub(super) async fn take_receipts(self: Rc<Self>, inbox: Arc<Inbox>) {
        let mut receipts = Vec::new();
        loop {
            let report = poll_fn(|cx| inbox.poll_take(cx, &mut receipts)).await;
            self.core.borrow_mut().receipts(self.clock.now(), &mut receipts, report);
            self.send_all_datagrams();
        }
    }

    /// Takes commands, and the other events of their queue.
    pub(super) async fn take_commands(self: Rc<Self>, mut commands: mpsc::Receiver<DownlinkEvent>) {
        let mut events = Vec::new();
        while commands.recv_many(&mut events, COMMANDS_PER_TURN).await > 0 {
            let mut events = events.drain(..);
            while events.len() > 0 {
                self.core.borrow_mut().command_events(self.clock.now(), &mut events);
                if events.len() > 0 {
                    yield_now().await;
                }
            }
            if !commands.is_empty() {
                // A receiver that always finds more takes some hundred batches before its task is made to wait.
                yield_now().await;
            }
        }
    }

    /// Lets connections go on to their CONNECT.
    pub(super) async fn serve_connects(self: Rc<Self>) {
        self.connects.serve().await;
    }

    /// Looks at deadlines.
    pub(super) async fn tick(self: Rc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            {
                let core = &mut *self.core.borrow_mut();
                core.tick(self.clock.now());
                core.meter().waiting(self.connects.waiting());
                for kind in TransportKind::ALL {
                    core.meter().mqtt_traffic(kind, self.traffic(kind));
                }
            }
            self.send_all_datagrams();
        }
    }

    /// Takes a message other than [`WorkerMessage::Drain`].
    pub(super) fn take_message(&self, message: WorkerMessage) {
        self.core.borrow_mut().message(self.clock.now(), message);
    }

    /// Drains until that is over.
    pub(super) async fn drain(&self, per_second: u64) -> Drained {
        self.core.borrow_mut().message(self.clock.now(), WorkerMessage::Drain { per_second });
        loop {
            let now = self.clock.now();
            let progress = self.core.borrow_mut().drain_step(now);
            match progress {
                DrainProgress::Continues { at_us } => sleep(Duration::from_micros(at_us.saturating_sub(now.us))).await,
                DrainProgress::Over(drained) => {
                    self.send_all_datagrams();
                    return drained;
                }
            }
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("core", &self.core).finish_non_exhaustive()
    }
}
