//! One thread's worth of sessions.
//!
//! Four tasks share the worker besides those of the connections: receipts of the queue, commands, letters from the
//! rest of the replica, and the tick that looks at deadlines.

mod commands;
mod drain;
mod early;
mod fences;
mod receipts;
mod replicas;

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::early::EarlyCommands;
use self::fences::Fences;
use super::coap::{self, Port, Ports};
use super::connects::Connects;
use super::core::Core;
use super::gate::Gate;
use super::mqtt::connection::{Connection, Progress, State};
use super::mqtt::{Listening, listener};
use super::pauses::Pauses;
use super::port::Way;
use super::proxies::Proxies;
use super::room::SharedRoom;
use super::slots::Slots;
use super::traffic::Traffic;
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::limit::{Limits, Now};
use crate::protocol::ulid::UlidGenerator;
use crate::protocol::uplink::{Availability, Handover, Inbox, Token};
use crate::replica::Directory;
use crate::replica::Freeze;
use crate::replica::claim::Word;
use crate::replica::{Mail, Mailbox, Notice};
use crate::session::mqtt::{Context, Ending, Pending, Session};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// A gap between two ticks above this is time in which no connection was read: the process stood still, or the worker was
/// busy with one of them, us.
const STALL_US: u64 = 200_000;

/// Ticks in which every session is looked at once.
const TICKS_PER_ROUND: usize = 10;

/// Bytes that CONNECTs above the free share may take together while their senders are unknown, half of it those of one
/// network; further ones wait.
const OPENING_BYTES: usize = 2 * 1024 * 1024;

/// A connection that found no room shows again within this time, us.
const CROWDED_US: u64 = 3_000_000;

/// Without any receipt for this long, with records held, the queue counts as away.
const SILENCE_US: u64 = 5_000_000;

/// How long a CONNECT waits until its interest in commands is in place; then the session begins without.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is looked whether something has come to its end.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// What a worker is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which of the replica's workers it is.
    pub index: usize,
    /// How long a connection may take to send its CONNECT.
    pub connect_timeout: Duration,
    /// CONNECTs a second of this worker.
    pub connects_per_second: u64,
    /// Who says in front of a connection whose it is.
    pub proxies: Proxies,
    /// How long the drain may go on after its last batch.
    pub drain_timeout: Duration,
    /// Children of one gateway that come and go with it; further ones are left out.
    pub children_max: usize,
    /// How often this worker writes that the replica lives; one worker of a replica does.
    pub heartbeat: Option<Duration>,
}

/// A session that begins once its interest in commands is in place.
#[derive(Debug)]
pub(super) struct Attaching {
    /// Told when it is; taken then.
    pub(super) in_place: Option<oneshot::Sender<()>>,
    /// How it is to end at once.
    ending: Option<Ending>,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Records that the queue had not acknowledged when the time was over; 0: all went well.
    pub unacknowledged: usize,
}

/// See the module.
pub struct Worker {
    pub(super) settings: Settings,
    pub(super) core: RefCell<Core>,
    pub(super) slots: RefCell<Slots<Rc<Connection>>>,
    pub(super) directory: Arc<Directory>,
    pub(super) gate: Arc<Gate>,
    pub(super) mailboxes: Arc<[Mailbox]>,
    ports: OnceCell<Ports>,
    pub(super) notices: Option<mpsc::UnboundedSender<Notice>>,
    /// Shared by the worker's connections: a read is taken in before the next one begins.
    pub(super) read_buffer: RefCell<Vec<u8>>,
    send_buffer: RefCell<Vec<u8>>,
    session_ids: RefCell<UlidGenerator>,
    /// Who goes on to its CONNECT, and when.
    pub(super) connects: Connects,
    /// Room for CONNECTs that are larger than usual: nobody knows yet who sends them.
    pub(super) opening: SharedRoom,
    /// Room for wills that are larger than usual. They stay, so they get half of what else comes and goes.
    pub(super) wills: SharedRoom,
    pub(super) attaching: RefCell<HashMap<Token, Attaching>>,
    /// Commands of sessions that are about to begin.
    early: RefCell<HashMap<Token, EarlyCommands>>,
    paused: RefCell<Vec<Token>>,
    pauses: Cell<Pauses>,
    /// Bytes of MQTT, by way.
    traffic: [Rc<Traffic>; Way::ALL.len()],
    pub(super) deadlines: RefCell<BinaryHeap<Reverse<(u64, u64)>>>,
    pub(super) orphans: RefCell<Vec<Pending>>,
    pub(super) availability: Cell<Availability>,
    progress_us: Cell<u64>,
    next_beat_us: Cell<u64>,
    /// When a connection last found no room for what it wants to say.
    crowded_us: Cell<u64>,
    pub(super) freeze: RefCell<Freeze>,
    fences: RefCell<Fences>,
}

impl Worker {
    /// A worker around its core; `notices` is there when replicas coordinate, `seed` is random.
    pub fn new(
        settings: Settings,
        core: Core,
        directory: Arc<Directory>,
        gate: Arc<Gate>,
        mailboxes: Arc<[Mailbox]>,
        notices: Option<mpsc::UnboundedSender<Notice>>,
        seed: u128,
    ) -> Rc<Self> {
        Rc::new(Self {
            connects: Connects::new(settings.connects_per_second, settings.connect_timeout, core.clock),
            opening: SharedRoom::new(core.limits.packet_bytes.saturating_mul(3).max(OPENING_BYTES)),
            wills: SharedRoom::new(core.limits.buffered_bytes() / 2),
            settings,
            core: RefCell::new(core),
            slots: RefCell::new(Slots::new()),
            directory,
            gate,
            mailboxes,
            ports: OnceCell::new(),
            notices,
            read_buffer: RefCell::new(vec![0; Limits::READ_BYTES]),
            send_buffer: RefCell::new(Vec::new()),
            session_ids: RefCell::new(UlidGenerator::new(seed)),
            attaching: RefCell::new(HashMap::new()),
            early: RefCell::new(HashMap::new()),
            paused: RefCell::new(Vec::new()),
            pauses: Cell::default(),
            traffic: Default::default(),
            deadlines: RefCell::new(BinaryHeap::new()),
            orphans: RefCell::new(Vec::new()),
            availability: Cell::new(Availability::Starting),
            progress_us: Cell::new(0),
            next_beat_us: Cell::new(0),
            crowded_us: Cell::new(0),
            freeze: RefCell::default(),
            fences: RefCell::default(),
        })
    }

    /// Serves until a letter says to drain, and the drain has ended. Inside a `LocalSet`; `ports` are those of CoAP.
    pub async fn run(
        self: Rc<Self>,
        listeners: Vec<Listening>,
        ports: Ports,
        inbox: Arc<Inbox>,
        commands: mpsc::Receiver<DownlinkEvent>,
        mut letters: mpsc::UnboundedReceiver<Mail>,
    ) -> Drained {
        let accepting: Vec<_> =
            listeners.into_iter().map(|listener| spawn_local(listener::accept(self.clone(), listener))).collect();
        let mut tasks = vec![
            spawn_local(self.clone().take_receipts(inbox)),
            spawn_local(self.clone().take_commands(commands)),
            spawn_local(self.clone().tick()),
            spawn_local(self.clone().serve_connects()),
        ];
        let ports = self.ports.get_or_init(|| ports);
        tasks.extend(ports.iter().map(|port| spawn_local(coap::serve(self.clone(), port.clone()))));
        let mut drained = None;
        let own_tasks = &mut tasks;
        let mut panicked = std::pin::pin!(poll_fn(move |cx| first_panic(own_tasks, cx)));
        loop {
            let letter = tokio::select! {
                letter = letters.recv() => letter,
                // Without any of them devices would wait for ever; the thread ends, and the process with it.
                panic = &mut panicked => std::panic::resume_unwind(panic),
            };
            let Some(letter) = letter else { break };
            match letter {
                Mail::Drain { per_second } => {
                    accepting.iter().for_each(JoinHandle::abort);
                    let draining = self.clone().drain(per_second);
                    drained = Some(self.drain_reading(draining, &mut letters).await);
                    break;
                }
                other => self.read_letter(other),
            }
        }
        drained.unwrap_or(Drained { unacknowledged: 0 })
    }

    /// Runs `act` on a connection with everything that a session needs, then writes what it left for the device.
    pub(super) fn act<R>(&self, connection: &Connection, act: impl FnOnce(&mut State, &mut Context<'_>) -> R) -> R {
        let now = self.core.borrow_mut().now();
        let result = self.act_at(now, connection, act);
        self.core.borrow_mut().uplink.flush();
        result
    }

    pub(super) fn act_at<R>(
        &self,
        now: Now,
        connection: &Connection,
        act: impl FnOnce(&mut State, &mut Context<'_>) -> R,
    ) -> R {
        let send = &mut *self.send_buffer.borrow_mut();
        let result = {
            let state = &mut *connection.state.borrow_mut();
            let core = &mut *self.core.borrow_mut();
            let device = connection.device.as_str();
            let result = core.with(now, device, &connection.peer, send, |ctx| act(state, ctx));
            state.write(send);
            // One large command must not cost its size for ever.
            send.shrink_to(Limits::READ_BYTES);
            if !state.output.is_empty() {
                state.charge(&mut core.load, now, Progress::None);
            }
            result
        };
        self.settle(connection);
        result
    }

    /// Does what presence that came late and the end of a session ask for.
    pub(super) fn settle(&self, connection: &Connection) {
        let state = &mut *connection.state.borrow_mut();
        if let Some(late) = state.session.take_late_presence() {
            self.tell_late(connection, state.session.id(), late);
        }
        let Some(ending) = state.session.ending() else { return };
        if !state.retired {
            state.retired = true;
            state.charge_will(&mut self.core.borrow_mut().load);
            let pending = state.session.take_pending();
            if ending == Ending::TakenOver {
                self.adopt(pending, state);
            }
            let now_us = self.core.borrow().latest.us;
            let (device, token) = (&connection.device, connection.token);
            if let Some(session) = self.directory.remove(device, self.settings.index, token, now_us) {
                self.say(Word::Ended, device, &session);
            }
            self.core.borrow_mut().downlink.detach(token);
            state.wake();
        }
        if state.is_closed && state.session.is_finished() {
            self.slots.borrow_mut().release(connection.token);
        }
    }

    /// Ends a session of this worker, if it is still there; one that is about to begin ends as soon as it has.
    pub(super) fn end(&self, token: Token, ending: Ending) {
        if let Some(connection) = self.find(token) {
            self.act(&connection, |state, ctx| state.session.end(ending, ctx));
        } else if let Some(attaching) = self.attaching.borrow_mut().get_mut(&token) {
            attaching.ending.get_or_insert(ending);
        }
    }

    fn read_letter(&self, letter: Mail) {
        match letter {
            Mail::End(token, ending) => self.end(token, ending),
            Mail::Announce(token) => {
                if let Some(connection) = self.find(token) {
                    self.act(&connection, |state, ctx| state.session.announce(&connection.peer, ctx));
                }
            }
            Mail::Replaces(token) => {
                if let Some(connection) = self.find(token) {
                    connection.state.borrow_mut().session.replaces_another();
                }
            }
            Mail::Reassert(token) if self.find(token).is_some() => self.core.borrow_mut().downlink.reassert(token),
            Mail::CaughtUp { settled_us } => self.freeze.borrow_mut().claims_are_here(settled_us),
            Mail::Reassert(_) | Mail::Drain { .. } => {}
        }
    }

    /// Declares interest in the device's commands and waits until it is in place. What it gives is how the session was
    /// told to end meanwhile.
    pub(super) async fn attach(&self, token: Token, addresses: &[(ProductId, DeviceId)]) -> Option<Ending> {
        let (sender, attached) = oneshot::channel();
        self.attaching.borrow_mut().insert(token, Attaching { in_place: Some(sender), ending: None });
        self.core.borrow_mut().downlink.attach(token, addresses);
        if timeout(ATTACH_TIMEOUT, attached).await.is_err() {
            let device = addresses.first().map_or("", |(_, device)| device.as_str());
            tracing::warn!(device, "the interest in a device's commands is not in place yet");
        }
        self.attaching.borrow_mut().remove(&token).and_then(|attaching| attaching.ending)
    }

    /// Its ports of CoAP.
    pub(super) fn ports(&self) -> &[Rc<Port>] {
        self.ports.get().map_or(&[], Vec::as_slice)
    }

    /// The state of the queue: away also when it is connected and acknowledges nothing.
    pub(super) fn queue(&self) -> Availability {
        let core = self.core.borrow();
        let silent = core.clock.now().us.saturating_sub(self.progress_us.get()) > SILENCE_US;
        match self.availability.get() {
            Availability::Ok if core.load.held_records > 0 && silent => Availability::Away,
            availability => availability,
        }
    }

    /// Whether a session takes the next packet.
    pub(super) fn wants_input(&self, session: &Session) -> bool {
        let core = self.core.borrow();
        session.wants_input(&core.limits, &core.load)
    }

    /// Remembers a connection that is not read; it is woken when its session takes input again.
    pub(super) fn pause(&self, connection: &Connection) {
        let now_us = self.core.borrow().latest.us;
        self.pause_at(now_us, connection);
    }

    fn pause_at(&self, now_us: u64, connection: &Connection) {
        if !std::mem::replace(&mut connection.state.borrow_mut().is_listed, true) {
            self.paused.borrow_mut().push(connection.token);
            self.note_pauses(now_us);
        }
    }

    fn note_pauses(&self, now_us: u64) {
        let mut pauses = self.pauses.get();
        pauses.set(self.paused.borrow().len(), now_us);
        self.pauses.set(pauses);
    }

    /// Counts the bytes of MQTT on that way.
    pub(super) fn traffic(&self, way: Way) -> &Rc<Traffic> {
        &self.traffic[way as usize]
    }

    /// Tells the load what the connection holds beyond its free share.
    pub(super) fn charge(&self, connection: &Connection, progress: Progress) {
        let core = &mut *self.core.borrow_mut();
        connection.state.borrow_mut().charge(&mut core.load, core.latest, progress);
    }

    /// How many bytes the connection may read; `None`: it is woken when there is room.
    pub(super) fn reserve(&self, connection: &Connection) -> Option<usize> {
        let core = &mut *self.core.borrow_mut();
        let room = connection.state.borrow_mut().reserve(&core.limits, &mut core.load, core.latest);
        if room.is_none() {
            self.crowded_us.set(core.latest.us);
            self.pause_at(core.latest.us, connection);
        }
        room
    }

    /// A new session's id.
    pub(super) fn session_id(&self, now: Now) -> String {
        self.session_ids.borrow_mut().generate(now.unix_ms).to_string()
    }

    pub(super) fn find(&self, token: Token) -> Option<Rc<Connection>> {
        self.slots.borrow().find(token).cloned()
    }

    pub(super) fn connections(&self) -> Vec<Rc<Connection>> {
        self.slots.borrow().iter().cloned().collect()
    }

    /// Wakes the connections that are not read although their sessions take input again.
    fn resume(&self) {
        let mut paused = std::mem::take(&mut *self.paused.borrow_mut());
        paused.retain(|&token| {
            let Some(connection) = self.find(token) else { return false };
            let state = &mut *connection.state.borrow_mut();
            if state.session.ending().is_some() || !state.is_paused() {
                state.is_listed = false;
                return false;
            }
            let wants = {
                let core = self.core.borrow();
                state.session.wants_input(&core.limits, &core.load) && state.has_room(&core.limits, &core.load)
            };
            if wants {
                state.is_listed = false;
                state.resume(self.core.borrow().latest);
            }
            !wants
        });
        {
            let mut meanwhile = self.paused.borrow_mut();
            paused.append(&mut meanwhile);
            *meanwhile = paused;
        }
        self.note_pauses(self.core.borrow().latest.us);
    }

    /// A context outside of any session.
    pub(super) fn with_context(&self, now: Now, act: impl FnOnce(&mut Context<'_>)) {
        let mut nothing = Vec::new();
        self.core.borrow_mut().with(now, "", "", &mut nothing, act);
    }

    async fn serve_connects(self: Rc<Self>) {
        self.connects.serve().await;
    }

    async fn tick(self: Rc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0;
        let mut ticked_us = self.core.borrow_mut().now().us;
        loop {
            ticks.tick().await;
            let now = self.core.borrow_mut().now();
            let gap_us = now.us.saturating_sub(std::mem::replace(&mut ticked_us, now.us));
            if gap_us > STALL_US {
                let unread_us = gap_us - STALL_US;
                self.connections()
                    .iter()
                    .for_each(|connection| connection.state.borrow_mut().session.excuse(unread_us, now));
            }
            self.look_for_freeze(now);
            self.freeze.borrow_mut().tick(now.us);
            self.expire_commands(now);
            turn = (turn + 1) % TICKS_PER_ROUND;
            let is_taking = self.availability.get() == Availability::Ok;
            let places = self.slots.borrow().places();
            for place in (turn..places).step_by(TICKS_PER_ROUND) {
                let connection = self.slots.borrow().at(place).cloned();
                if let Some(connection) = connection {
                    let is_crowded = now.us.saturating_sub(self.crowded_us.get()) < CROWDED_US;
                    self.act_at(now, &connection, |state, ctx| {
                        state.note_life(now);
                        if state.waits_for_room() {
                            self.crowded_us.set(now.us);
                        } else if is_crowded && state.is_stuck(now) {
                            state.session.end(Ending::ConnectionLost, ctx);
                        }
                        if is_taking {
                            state.session.retry(ctx);
                        }
                        state.session.tick(ctx);
                    });
                }
            }
            self.tick_ports(now);
            self.resume();
            self.beat(now);
            let queue = self.queue();
            let core = &mut *self.core.borrow_mut();
            if core.load.held_records == 0 {
                self.progress_us.set(now.us);
            }
            core.meter.load(&core.load, queue, core.downlink.availability());
            for way in Way::ALL {
                core.meter.mqtt_traffic(way, self.traffic(way));
            }
            core.meter.pauses(self.pauses.get());
            core.uplink.flush();
        }
    }

    /// Writes that the replica lives, when it is time; a beat that the queue does not take is tried again a tick later.
    fn beat(&self, now: Now) {
        let is_due = self.settings.heartbeat.is_some() && now.us >= self.next_beat_us.get();
        if is_due && self.availability.get() == Availability::Ok {
            self.write_heartbeat(now);
        }
    }

    /// Writes that the replica lives: because it is time, or because the queue asks for a record that proves that it
    /// stores any.
    fn write_heartbeat(&self, now: Now) {
        let core = &mut *self.core.borrow_mut();
        let record = core.encoder.replica(self.directory.len() as u64);
        if core.uplink.publish(Token::NOBODY, &record) == Handover::Taken {
            let period = self.settings.heartbeat.unwrap_or_default();
            self.next_beat_us.set(now.us + u64::try_from(period.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Waits for the first task that panics; what it panicked with.
fn first_panic(tasks: &mut Vec<JoinHandle<()>>, cx: &mut task::Context<'_>) -> Poll<Box<dyn std::any::Any + Send>> {
    let mut first = None;
    tasks.retain_mut(|task| match Pin::new(task).poll(cx) {
        Poll::Pending => true,
        Poll::Ready(ended) => {
            first = first.take().or(ended.err().and_then(|error| error.try_into_panic().ok()));
            false
        }
    });
    first.map_or(Poll::Pending, Poll::Ready)
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("index", &self.settings.index).finish_non_exhaustive()
    }
}
