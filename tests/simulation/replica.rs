//! One replica: its workers and its part in the agreement with others, called with one thing at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use jetlinks_bridge::codec::mqtt::{self, ConnectCode, Packet, encode};
use jetlinks_bridge::protocol::auth::{self, Expected};
use jetlinks_bridge::protocol::command::MessageIds;
use jetlinks_bridge::protocol::downlink::DownlinkEvent;
use jetlinks_bridge::protocol::envelope::{Encoder, Mode};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::limit::{Limits, Load, Now};
use jetlinks_bridge::protocol::network::Network;
use jetlinks_bridge::protocol::uplink::{Addressing, Availability, Receipt, Report, SlotId};
use jetlinks_bridge::replica::claim::Claim;
use jetlinks_bridge::replica::{ClusterEvent, Coordination, Directory, Output as Agreed, WorkerMessage, WorkerSender};
use jetlinks_bridge::session::identity::Identity;
use jetlinks_bridge::session::mqtt::{BoundChild, Ending, SpareBuffers, StoredWill};
use jetlinks_bridge::transport::{
    ByteStream, Connect, ConnectionLimit, CoreSettings, DrainProgress, Environment, HeartbeatSettings, Refused,
    ReplicaHandle, SocketBounds, TransportKind, WorkerCore,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::callers::Server;
use crate::device::{CHILD, CHILD_PRODUCT, GATEWAY, PRODUCT, SECURE_ID, SECURE_KEY};
use crate::node::Links;
use crate::registry::Everything;
use crate::schedule::S;
use crate::store::HEARTBEAT_US;
use crate::uplink::Client;

/// How long a session waits for its interest in commands.
const ATTACH_US: u64 = 2 * S;

/// How long a CONNECT may take.
const CONNECT_US: u64 = 10 * S;

/// Bytes that a device's side takes before it has read them.
const UNREAD_MAX: usize = 512;

/// Bytes for a device, or the end of its connection.
#[derive(Debug)]
pub(crate) enum Output {
    /// Bytes for that wire.
    Send(usize, Vec<u8>),
    /// That wire is closed.
    Close(usize),
}

/// Messages of a replica to the others.
#[derive(Debug)]
pub(crate) enum Said {
    /// A claim.
    Claim(Claim),
    /// A barrier behind all claims, which is to come back.
    Barrier(u64),
}

/// Byte stream of a connection.
struct Pipe(Rc<RefCell<Vec<u8>>>);

impl ByteStream for Pipe {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let unread = &mut *self.0.borrow_mut();
        let taken = bytes.len().min(UNREAD_MAX.saturating_sub(unread.len()));
        unread.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }
}

/// How far a connection is.
enum Stage {
    /// Its CONNECT is not whole yet, and must be at that time.
    Opening(u64),
    /// Its session begins when its interest is in place, or at that time.
    Starting(SlotId, u64),
    /// It has a session.
    Serving(SlotId),
}

struct Connection {
    stage: Stage,
    /// Arrived, and not read yet.
    arrived: Vec<u8>,
    /// The device has closed, or the connection is broken.
    has_ended: bool,
    /// Written, and not on its way yet.
    written: Rc<RefCell<Vec<u8>>>,
}

/// One worker of a replica.
struct Worker {
    core: WorkerCore<Pipe>,
    messages: UnboundedReceiver<WorkerMessage>,
    connections: BTreeMap<usize, Connection>,
}

/// See the module.
pub(crate) struct Replica {
    workers: Vec<Worker>,
    coordination: Coordination,
    cluster_events: UnboundedReceiver<ClusterEvent>,
    worker_senders: Arc<[WorkerSender]>,
    connection_limit: Arc<ConnectionLimit>,
    outputs: Vec<Output>,
    said: Vec<Said>,
}

impl Replica {
    /// A replica with a worker for each connection to the queue.
    pub(crate) fn new(id: &str, seed: u64, links: &[Links], limits: Limits) -> Self {
        let directory = Arc::new(Directory::default());
        let connection_limit = Arc::new(ConnectionLimit::new(1000, SocketBounds::new(1000)));
        let (worker_senders, receivers): (Vec<_>, Vec<_>) = links.iter().map(|_| WorkerSender::new()).unzip();
        let worker_senders: Arc<[WorkerSender]> = worker_senders.into();
        let (sender, cluster_events) = unbounded_channel();
        let workers = links.iter().zip(receivers).enumerate().map(|(index, (links_of_it, messages))| {
            let number = u128::from(seed) << 64 | index as u128;
            let environment = Environment {
                limits,
                load: Load::default(),
                encoder: Encoder::new(Mode::Structured, Addressing::Key, id.to_owned(), number | 1 << 32),
                uplink: Box::new(Client(links_of_it.records.clone())),
                downlink: Box::new(Server(links_of_it.downlink_state.clone())),
                registry: Arc::new(Everything),
                meter: Box::new(()),
                latest: Now { unix_ms: 0, us: 0 },
                message_ids: MessageIds::new(seed % 100, index, links.len()),
                spare_buffers: SpareBuffers::default(),
            };
            let replica = ReplicaHandle {
                index,
                directory: directory.clone(),
                connection_limit: connection_limit.clone(),
                worker_senders: worker_senders.clone(),
                cluster_events: Some(sender.clone()),
            };
            let settings = CoreSettings {
                heartbeat: HeartbeatSettings { period_us: HEARTBEAT_US, is_periodic: index == 0 },
                drain_timeout_us: 20 * S,
                // A run ends when nothing happens any more.
                session_age_max_us: None,
                seed: number | 1 << 33,
            };
            let core = WorkerCore::new(&settings, environment, replica, Vec::new());
            Worker { core, messages, connections: BTreeMap::new() }
        });
        Self {
            workers: workers.collect(),
            coordination: Coordination::new(id, directory.clone()),
            cluster_events,
            worker_senders: worker_senders.clone(),
            connection_limit: connection_limit.clone(),
            outputs: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Bytes for devices, in order.
    pub(crate) fn take_outputs(&mut self) -> Vec<Output> {
        for worker in &mut self.workers {
            for (wire, connection) in &worker.connections {
                let bytes = std::mem::take(&mut *connection.written.borrow_mut());
                if !bytes.is_empty() {
                    self.outputs.push(Output::Send(*wire, bytes));
                }
            }
        }
        std::mem::take(&mut self.outputs)
    }

    /// Messages for other replicas, in order.
    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// Whether its parts have something to tell each other.
    pub(crate) fn has_messages(&self) -> bool {
        !self.cluster_events.is_empty() || self.workers.iter().any(|worker| !worker.messages.is_empty())
    }

    /// Records and bytes that its sessions hold.
    pub(crate) fn loads(&self) -> impl Iterator<Item = Load> {
        self.workers.iter().map(|worker| worker.core.environment().load)
    }

    /// Its sessions that live: device and session.
    pub(crate) fn sessions(&mut self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for Worker { core, .. } in &mut self.workers {
            for session in core.sessions().collect::<Vec<_>>() {
                if let Some(session) = core.connection(session).map(|state| &state.session)
                    && session.ending().is_none()
                {
                    found.push((session.device().to_string(), session.id().to_owned()));
                }
            }
        }
        found
    }

    /// Whether nothing is left of its connections and sessions.
    pub(crate) fn is_empty(&self) -> bool {
        self.workers.iter().all(|worker| worker.connections.is_empty() && worker.core.sessions().next().is_none())
    }

    /// A connection was accepted by a worker.
    pub(crate) fn accept(&mut self, worker: usize, wire: usize, now: Now) {
        let stage = Stage::Opening(now.us + CONNECT_US);
        let connection = Connection { stage, arrived: Vec::new(), has_ended: false, written: Rc::default() };
        self.workers[worker].connections.insert(wire, connection);
    }

    /// Bytes of a device have arrived.
    pub(crate) fn receive(&mut self, worker: usize, wire: usize, bytes: &[u8], now: Now) {
        if let Some(connection) = self.workers[worker].connections.get_mut(&wire) {
            connection.arrived.extend_from_slice(bytes);
            self.serve(worker, now);
        }
    }

    /// A connection is broken, or its device has closed it.
    pub(crate) fn lose(&mut self, worker: usize, wire: usize, now: Now) {
        if let Some(connection) = self.workers[worker].connections.get_mut(&wire) {
            connection.has_ended = true;
            self.serve(worker, now);
        }
    }

    /// The queue has answers, or news of itself.
    pub(crate) fn take_receipts(&mut self, worker: usize, mut receipts: Vec<Receipt>, report: Report, now: Now) {
        self.workers[worker].core.receipts(now, &mut receipts, report);
        self.serve(worker, now);
    }

    /// Something came from the server of commands.
    pub(crate) fn command(&mut self, worker: usize, event: DownlinkEvent, now: Now) {
        self.workers[worker].core.command_events(now, &mut std::iter::once(event));
        self.serve(worker, now);
    }

    /// Looks at every deadline.
    pub(crate) fn tick(&mut self, worker: usize, now: Now) {
        self.workers[worker].core.tick(now);
        self.serve(worker, now);
        if worker == 0 && self.coordination.wants_tick() {
            self.coordination.handle_tick(now);
            self.agree();
        }
    }

    /// Another replica claims a device.
    pub(crate) fn hear(&mut self, claim: &Claim, now: Now) {
        self.coordination.handle_claim(claim, now);
        self.agree();
    }

    /// The server is there, or it is not.
    pub(crate) fn reach(&mut self, is_there: bool, now: Now) {
        if is_there {
            self.coordination.handle_connected(now);
        } else {
            self.coordination.handle_disconnected(now);
        }
        self.agree();
    }

    /// A barrier has come back.
    pub(crate) fn pass(&mut self, number: u64) {
        self.coordination.handle_barrier(number);
        self.agree();
    }

    /// Its parts take what they were told.
    pub(crate) fn read_messages(&mut self, now: Now) {
        while let Ok(event) = self.cluster_events.try_recv() {
            self.coordination.handle_event(event, now);
        }
        self.agree();
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            while let Ok(message) = worker.messages.try_recv() {
                worker.core.message(now, message);
            }
            self.serve(index, now);
        }
    }

    /// Begins to shut down.
    pub(crate) fn drain(&mut self, per_second: u64) {
        self.connection_limit.drain();
        self.worker_senders.iter().for_each(|sender| sender.send(WorkerMessage::Drain { per_second }));
    }

    /// Goes on to shut down. What it gives is how many records were not acknowledged, once it is over.
    pub(crate) fn drain_step(&mut self, now: Now) -> Option<usize> {
        let mut unacknowledged = Some(0);
        for index in 0..self.workers.len() {
            match self.workers[index].core.drain_step(now) {
                DrainProgress::Over(drained) => {
                    unacknowledged = unacknowledged.map(|sum| sum + drained.unacknowledged);
                }
                DrainProgress::Continues { .. } => unacknowledged = None,
            }
            self.serve(index, now);
        }
        unacknowledged
    }

    fn agree(&mut self) {
        while let Some(output) = self.coordination.poll_output() {
            match output {
                Agreed::Publish(claim) => self.said.push(Said::Claim(claim)),
                Agreed::SendBarrier(number) => self.said.push(Said::Barrier(number)),
                Agreed::WorkerMessage(worker, message) => self.worker_senders[worker].send(message),
                Agreed::Report(_) => {}
            }
        }
    }

    /// Does what the tasks of connections do: reads, writes, begins sessions and closes.
    fn serve(&mut self, worker: usize, now: Now) {
        let draining = self.connection_limit.is_draining();
        let Worker { core, connections, .. } = &mut self.workers[worker];
        let outputs = &mut self.outputs;
        connections.retain(|wire, connection| {
            if let Stage::Opening(until_us) = connection.stage {
                match open(core, connection, until_us, draining, now) {
                    Ok(stage) => connection.stage = stage,
                    Err(answer) => {
                        if let Some(code) = answer {
                            outputs.push(Output::Send(*wire, encode::connack(code).to_vec()));
                        }
                        outputs.push(Output::Close(*wire));
                        return false;
                    }
                }
            }
            if let Stage::Starting(session, until_us) = connection.stage {
                let is_ready = core.poll_attached(session, Waker::noop()).is_ready() || now.us >= until_us;
                if !is_ready {
                    return true;
                }
                connection.stage = Stage::Serving(session);
                if !core.begin(now, session, TransportKind::Tcp, Pipe(connection.written.clone()), Vec::new()) {
                    outputs.push(Output::Close(*wire));
                    return false;
                }
            }
            let Stage::Serving(session) = connection.stage else { return true };
            let stays = drive(core, session, connection, now);
            if !stays {
                let bytes = std::mem::take(&mut *connection.written.borrow_mut());
                outputs.extend((!bytes.is_empty()).then_some(Output::Send(*wire, bytes)));
                outputs.push(Output::Close(*wire));
                core.closed(now, session);
            }
            stays
        });
    }
}

/// Reads a CONNECT and asks for a session. The errors are what the device is told.
fn open(
    core: &mut WorkerCore<Pipe>,
    connection: &mut Connection,
    until_us: u64,
    draining: bool,
    now: Now,
) -> Result<Stage, Option<ConnectCode>> {
    let bytes = &connection.arrived;
    let frame = mqtt::frame(bytes).expect("devices send packets");
    let Some(frame) = frame.filter(|frame| frame.total_bytes() <= bytes.len()) else {
        return if connection.has_ended || now.us >= until_us { Err(None) } else { Ok(Stage::Opening(until_us)) };
    };
    let end = frame.total_bytes();
    let Ok(Packet::Connect(packet)) = mqtt::decode_connect(frame.first_byte, &bytes[frame.header_bytes..end]) else {
        panic!("devices send CONNECT first");
    };
    if draining || core.queue(now) != Availability::Ok {
        return Err(Some(ConnectCode::ServerUnavailable));
    }
    let expected = Expected { secure_id: SECURE_ID, secure_key: SECURE_KEY, enabled: true };
    let credentials = packet.credentials;
    auth::verify(credentials.username, credentials.password, Some(&expected), now.unix_ms).expect("devices are known");
    let child = || BoundChild {
        id: DeviceId::new(CHILD).expect("an id"),
        product: ProductId::new(CHILD_PRODUCT).expect("an id"),
    };
    let connect = Connect {
        device: DeviceId::new(packet.client_id).expect("an id"),
        identity: Identity {
            product: ProductId::new(PRODUCT).expect("an id"),
            secure_id: SECURE_ID.into(),
            secure_key: SECURE_KEY.into(),
            enabled: true,
            children: (packet.client_id == GATEWAY).then(child).into_iter().collect(),
        },
        version: packet.version,
        keep_alive_secs: packet.keep_alive_secs,
        will: packet.will.map(|will| StoredWill { topic: will.topic.into(), payload: will.payload.into() }),
        network: Network::of([192, 0, 2, 1].into()),
        peer: "192.0.2.1:40000".into(),
    };
    let claimed = core.claim(now, connect).map_err(Refused::code)?;
    connection.arrived.drain(..end);
    Ok(Stage::Starting(claimed, now.us + ATTACH_US))
}

/// Reads and writes as long as there is something to do; false once the connection is to be closed.
fn drive(core: &mut WorkerCore<Pipe>, session: SlotId, connection: &mut Connection, now: Now) -> bool {
    loop {
        let Some(state) = core.connection(session) else { return false };
        let ending = state.session.ending();
        if ending != Some(Ending::TakenOver) {
            flush(state, connection);
        }
        if ending.is_some() {
            return false;
        }
        if !state.output.unsent.is_empty() {
            // A device that does not read is not read.
            return true;
        }
        core.charge(session, jetlinks_bridge::transport::Progress::Made);
        let waiting = core.take_waiting(|| now, session);
        if !core.may_read(|| now, session) {
            return true;
        }
        let goes_on = waiting.is_cut
            || core
                .connection(session)
                .is_none_or(|state| state.session.ending().is_some() || !state.output.unsent.is_empty());
        if goes_on {
            continue;
        }
        if connection.arrived.is_empty() {
            if !connection.has_ended {
                return true;
            }
            core.lost(now, session);
            continue;
        }
        let Some(room) = core.reserve(session) else { return true };
        let read: Vec<u8> = connection.arrived.drain(..room.min(connection.arrived.len())).collect();
        core.received(|| now, session, &read);
    }
}

fn flush(state: &mut jetlinks_bridge::transport::State<Pipe>, connection: &Connection) {
    let written = &mut *connection.written.borrow_mut();
    let taken = state.output.unsent.len().min(UNREAD_MAX.saturating_sub(written.len()));
    written.extend(state.output.unsent.drain(..taken));
    if state.output.unsent.is_empty() {
        state.output.note_written();
    }
}
