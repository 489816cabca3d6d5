//! One worker without sockets, threads or clock: bytes of devices go in, and what it writes is counted.
//!
//! Registry and meter are those of the process. The queue takes every record and stores it when it is told to.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jetlinks_bridge::app::registry_and_meter;
use jetlinks_bridge::codec::mqtt::{self, Packet};
use jetlinks_bridge::protocol::auth::{self, Expected};
use jetlinks_bridge::protocol::command::MessageIds;
use jetlinks_bridge::protocol::downlink::{Downlink, DownlinkEvent, Outcome, Ticket};
use jetlinks_bridge::protocol::envelope::{Encoder, Mode};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::limit::{Limits, Load, Now};
use jetlinks_bridge::protocol::network::{Network, Protocol, Source};
use jetlinks_bridge::protocol::uplink::{
    Addressing, Availability, DeliveryId, Handover, Receipt, Record, Report, SlotId, Uplink,
};
use jetlinks_bridge::registry::{self, FileRegistry};
use jetlinks_bridge::replica::{ClusterEvent, Coordination, Directory, Output, WorkerMessage, WorkerSender};
use jetlinks_bridge::session::identity::Lookup;
use jetlinks_bridge::session::mqtt::SpareBuffers;
use jetlinks_bridge::transport::{
    ByteStream, Connect, ConnectionLimit, CoreSettings, Environment, HeartbeatSettings, Registry, ReplicaHandle,
    SocketBounds, TransportKind, WorkerCore,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Start of the clock.
const START: Now = Now { unix_ms: 1_795_338_000_000, us: 1_000_000 };

/// State of the queue after each batch.
const REPORT: Report = Report { availability: Availability::Ok, epoch: 1, wants_heartbeat: false };

/// The other side of the worker: the queue of records, and that of commands.
#[derive(Default)]
struct Queues {
    /// Records that are taken and not stored.
    taken: Vec<(DeliveryId, Record)>,
    /// Sessions whose interest in commands is declared.
    attached: Vec<SlotId>,
    /// Outcomes without a failure.
    succeeded: usize,
}

struct QueueEnd(Rc<RefCell<Queues>>);

impl Uplink for QueueEnd {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        self.0.borrow_mut().taken.push((id, record.clone()));
        Handover::Taken
    }

    fn flush(&mut self) {}
}

impl Downlink for QueueEnd {
    fn attach(&mut self, session: SlotId, _: &[(ProductId, DeviceId)]) {
        self.0.borrow_mut().attached.push(session);
    }

    fn detach(&mut self, _: SlotId) {}

    fn answer(&mut self, _: Ticket, outcome: Outcome) {
        self.0.borrow_mut().succeeded += usize::from(outcome.failure.is_none());
    }
}

/// A connection: the bytes that the device got.
#[derive(Clone, Default)]
pub(crate) struct Pipe(Rc<RefCell<Vec<u8>>>);

impl ByteStream for Pipe {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Pipe {
    /// Number of bytes that the device got since the last call.
    pub(crate) fn take(&self) -> usize {
        let mut bytes = self.0.borrow_mut();
        let count = bytes.len();
        bytes.clear();
        count
    }
}

/// The part that speaks with other replicas.
struct Cluster {
    coordination: Coordination,
    events: UnboundedReceiver<ClusterEvent>,
    claims: usize,
}

/// See the module.
pub(crate) struct Rig {
    core: WorkerCore<Pipe>,
    queues: Rc<RefCell<Queues>>,
    registry: Arc<dyn Registry>,
    cluster: Option<Cluster>,
    receipts: Vec<Receipt>,
    now: Now,
    _messages: UnboundedReceiver<WorkerMessage>,
}

impl Rig {
    /// A worker whose registry is that file; with `speaks_with_others` every session is claimed.
    pub(crate) fn new(devices: &Path, speaks_with_others: bool) -> Self {
        let queues = Rc::new(RefCell::new(Queues::default()));
        let file = FileRegistry::open(devices, false).expect("the file was written for this");
        let connection_limit = Arc::new(ConnectionLimit::new(100_000, SocketBounds::new(100_000)));
        let (registry, meter) = registry_and_meter(registry::Registry::File(Arc::new(file)), connection_limit.clone());
        let environment = Environment {
            limits: limits(),
            load: Load::default(),
            encoder: Encoder::new(
                Mode::Structured,
                Addressing::Subject("jetlinks".to_owned()),
                "replica1".to_owned(),
                7,
            ),
            uplink: Box::new(QueueEnd(queues.clone())),
            downlink: Box::new(QueueEnd(queues.clone())),
            registry: registry.clone(),
            meter,
            latest: START,
            message_ids: MessageIds::new(1024, 0, 1),
            spare_buffers: SpareBuffers::default(),
        };
        let directory = Arc::new(Directory::default());
        let (sender, events) = unbounded_channel();
        let (worker_sender, messages) = WorkerSender::new();
        let replica = ReplicaHandle {
            index: 0,
            directory: directory.clone(),
            connection_limit,
            worker_senders: [worker_sender].into(),
            cluster_events: speaks_with_others.then_some(sender),
        };
        let settings = CoreSettings {
            heartbeat: HeartbeatSettings { period_us: 30_000_000, is_periodic: false },
            drain_timeout_us: 10_000_000,
            session_age_max_us: None,
            seed: 7,
        };
        let mut core = WorkerCore::new(&settings, environment, replica, Vec::new());
        core.receipts(START, &mut Vec::new(), REPORT);
        let cluster = speaks_with_others.then(|| {
            let mut coordination = Coordination::new("replica1", directory);
            coordination.handle_connected(START);
            while coordination.poll_output().is_some() {}
            Cluster { coordination, events, claims: 0 }
        });
        Self { core, queues, registry, cluster, receipts: Vec::new(), now: START, _messages: messages }
    }

    /// The clock.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// Lets a millisecond pass.
    pub(crate) fn pass(&mut self) {
        self.now = Now { unix_ms: self.now.unix_ms + 1, us: self.now.us + 1_000 };
    }

    /// Takes a CONNECT to its session, in the steps of the listener: decoded, looked up, its sign checked, claimed, begun.
    pub(crate) fn connect(&mut self, bytes: &[u8], pipe: Pipe) -> SlotId {
        let frame = mqtt::frame(bytes).ok().flatten().expect("a whole packet");
        let decoded = mqtt::decode_connect(frame.first_byte, &bytes[frame.header_bytes..frame.total_bytes()]);
        let Ok(Packet::Connect(packet)) = decoded else { panic!("it is a CONNECT") };
        let network = Network::of([192, 0, 2, 1].into());
        let looked_up = {
            let mut lookup = pin!(self.registry.device(packet.client_id, Source { protocol: Protocol::Mqtt, network }));
            lookup.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        let Poll::Ready(Lookup::Found(identity)) = looked_up else { panic!("the registry knows it at once") };
        let credentials = packet.credentials;
        let expected =
            Expected { secure_id: &identity.secure_id, secure_key: &identity.secure_key, enabled: identity.enabled };
        auth::verify(credentials.username, credentials.password, Some(&expected), self.now.unix_ms)
            .expect("its sign is right");
        let connect = Connect {
            device: DeviceId::new(packet.client_id).expect("a valid id"),
            identity,
            version: packet.version,
            keep_alive_secs: packet.keep_alive_secs,
            will: None,
            network,
            peer: "192.0.2.1:40000".into(),
        };
        let session = self.core.claim(self.now, connect).map_err(|_| ()).expect("it may have a session");
        let attached = self.queues.borrow_mut().attached.pop().expect("its interest is declared");
        self.event(DownlinkEvent::Attached(attached));
        assert!(self.core.poll_attached(session, Waker::noop()).is_ready());
        assert!(self.core.begin(self.now, session, TransportKind::Tcp, pipe, Vec::new()));
        session
    }

    /// Takes bytes of a device, in the steps of its connection.
    pub(crate) fn receive(&mut self, session: SlotId, bytes: &[u8]) {
        let now = self.now;
        self.core.take_waiting(|| now, session);
        assert!(self.core.may_read(|| now, session));
        assert!(self.core.reserve(session).is_some_and(|room| room >= bytes.len()));
        self.core.received(|| now, session, bytes);
    }

    /// Takes an event of the queue of commands.
    pub(crate) fn event(&mut self, event: DownlinkEvent) {
        self.core.command_events(self.now, &mut [event].into_iter());
    }

    /// Stores all records that were taken, in one batch; their number.
    pub(crate) fn store(&mut self) -> usize {
        let mut queues = self.queues.borrow_mut();
        self.receipts.extend(queues.taken.drain(..).map(|(id, _)| Receipt::Stored(id)));
        drop(queues);
        let count = self.receipts.len();
        self.core.receipts(self.now, &mut self.receipts, REPORT);
        count
    }

    /// Lets the part that speaks with other replicas publish what workers have told it; the number of claims so far.
    pub(crate) fn claims(&mut self) -> usize {
        let Some(Cluster { coordination, events, claims }) = &mut self.cluster else { return 0 };
        while let Ok(event) = events.try_recv() {
            coordination.handle_event(event, self.now);
            while let Some(output) = coordination.poll_output() {
                *claims += usize::from(matches!(output, Output::Publish(_)));
            }
        }
        *claims
    }

    /// Outcomes of commands so far that are no failures.
    pub(crate) fn succeeded(&self) -> usize {
        self.queues.borrow().succeeded
    }
}

/// Those of a configuration that sets none.
fn limits() -> Limits {
    Limits {
        packet_bytes: 256 * 1024,
        inflight_per_connection: 64,
        inflight_bytes: 256 * 1024 * 1024,
        ack_timeout_us: 10_000_000,
        keep_alive_max_us: 1_200_000_000,
        command_timeout_ms: 10_000,
        command_timeout_max_ms: 600_000,
        commands_per_device: 64,
        commands: 65_536,
    }
}
