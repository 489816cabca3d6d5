//! One connection with a session: bytes half read or half written, and the memory that they count for.

use std::task::Waker;

use super::input::Oversize;
use super::liveness::Liveness;
use crate::protocol::id::DeviceId;
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::uplink::SlotId;
use crate::session::mqtt::{Context, Session};
use crate::transport::environment::Environment;
use crate::transport::room::RoomPermit;
use crate::transport::socket::ByteStream;

/// Bytes that may wait for a device that does not read, a new command included; one beyond that is answered SYSTEM_BUSY.
const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// How long a connection may hold more than its free share without getting anywhere, while others wait for room, us.
const STUCK_US: u64 = 20_000_000;

/// A connection with a session. `S` is the stream that it writes to.
#[derive(Debug)]
pub struct Connection<S> {
    /// Its slot in the worker.
    pub slot: SlotId,
    /// The device.
    pub device: DeviceId,
    /// Address of the client.
    pub peer: Box<str>,
    /// When the session is ended for its age, us of the worker's clock.
    pub age_end_us: u64,
    /// The rest, which changes.
    pub state: State<S>,
}

/// The part of a connection that changes.
#[derive(Debug)]
pub struct State<S> {
    /// The session.
    pub session: Session,
    /// `None` once it is being closed; the session may outlive it.
    pub socket: Option<S>,
    /// Whether the connection is closed for good.
    pub is_closed: bool,
    /// Whether the connection's end was told to directory and queue.
    pub is_retired: bool,
    /// Bytes from the device.
    pub input: Input,
    /// Bytes for the device.
    pub output: Output,
    charge: Charge,
    pause: Pause,
    liveness: Liveness,
    waker: Option<Waker>,
}

/// Bytes that were read and not yet taken in.
#[derive(Debug, Default)]
pub struct Input {
    /// An incomplete packet, or packets that a full window leaves waiting.
    pub bytes: Vec<u8>,
    /// The packet that is being thrown away.
    pub oversize: Option<Box<Oversize>>,
    /// Bytes that the packet at the front of `bytes` needs; 0 when that is not known.
    pub needed: usize,
    /// Whether bytes were read that the session was not told of.
    pub has_news: bool,
}

/// Bytes for the device that the socket did not take.
#[derive(Debug, Default)]
pub struct Output {
    /// The bytes.
    pub unsent: Vec<u8>,
    /// Bytes that the session had for the device so far.
    produced: u64,
    /// The part of `produced` that the system had when nothing of it waited anywhere.
    written: u64,
}

impl Output {
    /// Notes that the system has all but `unsent`.
    pub fn note_written(&mut self) {
        self.written = self.produced - self.unsent.len() as u64;
    }
}

/// Memory that a connection counts for in the worker's [`Load`].
#[derive(Debug, Default)]
struct Charge {
    /// Part of [`Input::needed`] for which room was found.
    reserved: usize,
    /// Part in [`Load::buffered_bytes`].
    buffered: usize,
    /// Since when `buffered` is there without any progress, us.
    since_us: Option<u64>,
    /// Part in [`Load::will_bytes`].
    will: usize,
    /// The permit of a large will.
    will_room: Option<Box<RoomPermit>>,
}

/// Why and whether a connection is not read.
#[derive(Debug, Default)]
struct Pause {
    /// Whether its task waits for the session to take input again.
    is_paused: bool,
    /// Room that it waits for.
    wanted: usize,
    /// Whether the worker has it in its list of those that are not read.
    is_listed: bool,
}

impl<S: ByteStream> Connection<S> {
    /// Runs `act` with a context for the session, then writes the bytes that it left for the device.
    pub fn act<R>(
        &mut self,
        environment: &mut Environment,
        send: &mut Vec<u8>,
        now: Now,
        act: impl FnOnce(&mut State<S>, &mut Context<'_>) -> R,
    ) -> R {
        let Self { device, peer, state, .. } = self;
        let result = environment.with(now, device.as_str(), peer, send, |ctx| act(state, ctx));
        state.write(send);
        // One large command must not cost its size for ever.
        send.shrink_to(Limits::READ_BYTES);
        if !state.output.unsent.is_empty() {
            state.charge(&mut environment.load, now, Progress::None);
        }
        result
    }
}

impl<S: ByteStream> State<S> {
    /// A connection right after its CONNECT; `input` is what followed that packet.
    pub fn new(session: Session, socket: S, input: Vec<u8>) -> Self {
        Self {
            session,
            socket: Some(socket),
            is_closed: false,
            is_retired: false,
            input: Input { bytes: input, ..Input::default() },
            output: Output::default(),
            charge: Charge::default(),
            pause: Pause::default(),
            liveness: Liveness::default(),
            waker: None,
        }
    }

    /// Writes without waiting; bytes that the socket does not take wait in `output`. Leaves `bytes` empty.
    pub fn write(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.output.produced += bytes.len() as u64;
        self.liveness.note_written();
        let Some(socket) = &mut self.socket else { return bytes.clear() };
        let mut written = 0;
        if self.output.unsent.is_empty() {
            // An error shows again at the next read, which ends the session.
            written = socket.try_write(bytes).unwrap_or(0);
        }
        let has_unsent = socket.has_unsent();
        self.output.unsent.extend_from_slice(&bytes[written..]);
        if has_unsent || !self.output.unsent.is_empty() {
            self.wake();
        }
        if !has_unsent {
            self.output.note_written();
        }
        bytes.clear();
    }

    /// Of the bytes for the device, those that the system took; TLS and WebSocket tell only when it has them all.
    pub fn written(&self) -> u64 {
        self.output.written
    }

    /// Lets the session know where the command ends that was just written.
    pub fn note_command(&mut self) {
        self.session.note_command_end(self.output.produced);
    }

    /// Keeps the waker of the connection's task.
    pub fn set_waker(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(own) => own.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    /// Lets the connection's task look again.
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Forgets all bytes: the connection is closed.
    pub fn close(&mut self) {
        self.is_closed = true;
        (self.input.bytes, self.output.unsent, self.input.oversize) = (Vec::new(), Vec::new(), None);
        self.charge.reserved = 0;
    }

    /// Whether the session takes the next packet. If not, the connection is paused; `Some` tells that it just was.
    pub fn look_at_session(&mut self, limits: &Limits, load: &Load) -> Readiness {
        let wants = self.session.ending().is_some() || self.session.wants_input(limits, load);
        let was_paused = std::mem::replace(&mut self.pause.is_paused, !wants) && self.pause.wanted == 0;
        self.pause.wanted = 0;
        match (wants, was_paused) {
            (true, _) => Readiness::Readable,
            (false, true) => Readiness::Paused,
            (false, false) => Readiness::JustPaused,
        }
    }

    /// Lets a connection that was not read be read again, if its session takes input and there is the room that it waits
    /// for; whether it is to stay in the list of those that are not read.
    pub fn stays_paused(&mut self, limits: &Limits, load: &Load, now: Now) -> bool {
        if self.session.ending().is_some() || !self.pause.is_paused {
            self.pause.is_listed = false;
            return false;
        }
        if !self.session.wants_input(limits, load) || !self.has_room(limits, load) {
            return true;
        }
        self.pause.is_listed = false;
        self.session.heard(now.us);
        self.pause.is_paused = false;
        self.wake();
        false
    }

    /// Notes that the worker has it in its list of those that are not read; false: it had it already.
    pub fn note_listed(&mut self) -> bool {
        !std::mem::replace(&mut self.pause.is_listed, true)
    }

    /// Tells the session how its device lives, as far as it does not see that itself; before each [`Session::tick`].
    ///
    /// The keep-alive does not run while the bridge does not read for reasons of its own: the session takes no input, or
    /// there is no room for it. A device that does not take what it was sent is not read either, and lives as long as
    /// bytes of it come, or go to it.
    pub fn note_life(&mut self, now: Now) {
        if self.pause.is_paused {
            return self.session.heard(now.us);
        }
        let Some(socket) = &self.socket else { return };
        let is_blocked = !self.output.unsent.is_empty() || socket.has_unsent();
        // A look costs a system call, so it is taken where something depends on it.
        let owes_life = self.liveness.owes_bytes() && self.session.is_silent(now);
        if !is_blocked && !owes_life {
            return;
        }
        let lived_us = socket.counters().and_then(|counters| self.liveness.look(counters, is_blocked, now.us));
        if let Some(lived_us) = lived_us {
            self.session.heard(lived_us);
        }
    }

    /// Whether there is the room that it waits for, if it waits for any.
    fn has_room(&self, limits: &Limits, load: &Load) -> bool {
        let wanted = self.pause.wanted;
        wanted == 0 || load.buffered_bytes.saturating_add(wanted) <= limits.buffered_bytes()
    }

    /// Whether a packet of so many bytes may be added to what waits for the device. To a device that has read everything it
    /// may be larger than 256 KiB; in any case there must be room for all of it, as the device may read none.
    pub fn may_send(&self, bytes: usize, limits: &Limits, load: &Load) -> bool {
        let unread = self.output.unsent.len();
        let unread_after = unread.saturating_add(bytes);
        if unread > 0 && unread_after > UNREAD_BYTES_MAX {
            return false;
        }
        // A vector that has to grow at least doubles.
        let capacity = self.output.unsent.capacity();
        let growth = if unread_after > capacity { unread_after.max(2 * capacity) - capacity } else { 0 };
        let more = self.held_bytes_with(growth, self.charge.reserved).saturating_sub(self.charge.buffered);
        more == 0 || load.buffered_bytes.saturating_add(more) <= limits.buffered_bytes()
    }

    /// Whether it waits for room.
    pub fn waits_for_room(&self) -> bool {
        self.pause.is_paused && self.pause.wanted > 0
    }

    /// Whether it keeps room from others without getting anywhere.
    pub fn is_stuck(&self, now: Now) -> bool {
        let since_us = self.charge.since_us;
        !self.pause.is_paused && since_us.is_some_and(|since_us| now.us.saturating_sub(since_us) >= STUCK_US)
    }

    /// Tells the load what the connection holds beyond its free share.
    pub fn charge(&mut self, load: &mut Load, now: Now, progress: Progress) {
        let held = self.held_bytes(self.charge.reserved);
        let charge = &mut self.charge;
        if held == charge.buffered && held == 0 {
            charge.since_us = None;
            return;
        }
        load.buffered_bytes = (load.buffered_bytes + held).saturating_sub(charge.buffered);
        charge.buffered = held;
        match (held, progress) {
            (0, _) => charge.since_us = None,
            (_, Progress::Made) => charge.since_us = Some(now.us),
            (_, Progress::None) => charge.since_us = charge.since_us.or(Some(now.us)),
        }
    }

    /// Keeps the room of a large will, as long as the session keeps the will.
    pub fn keep_will_room(&mut self, room: Option<RoomPermit>) {
        self.charge.will_room = room.map(Box::new);
    }

    /// Tells the load of a large will while the session keeps it.
    pub fn charge_will(&mut self, load: &mut Load) {
        let held = will_charge(self.session.will_bytes());
        load.will_bytes = (load.will_bytes + held).saturating_sub(self.charge.will);
        self.charge.will = held;
        if held == 0 {
            self.charge.will_room = None;
        }
    }

    fn held_bytes(&self, needed: usize) -> usize {
        self.held_bytes_with(0, needed)
    }

    /// Bytes that it holds beyond its free share, and would hold with so many bytes more.
    fn held_bytes_with(&self, more: usize, needed: usize) -> usize {
        let oversize = self.input.oversize.as_ref().map_or(0, |oversize| oversize.held_bytes());
        let unsent = self.socket.as_ref().map_or(0, S::held_bytes);
        let input = self.input.bytes.capacity().max(needed);
        (input + self.output.unsent.capacity() + more + oversize + unsent).saturating_sub(Limits::FREE_BYTES)
    }

    /// Number of bytes that may be read: all that the packet at the front needs are charged first, so that a packet once
    /// begun can end. `None`: there is no room, and the worker wakes the connection when there is.
    pub fn reserve(&mut self, limits: &Limits, load: &mut Load, now: Now) -> Option<usize> {
        let needed = self.input.needed;
        let more = self.held_bytes(needed).saturating_sub(self.charge.buffered);
        if load.buffered_bytes.saturating_add(more) > limits.buffered_bytes() && more > 0 {
            self.pause.wanted = more;
            self.pause.is_paused = true;
            return None;
        }
        self.pause.wanted = 0;
        self.charge.reserved = needed;
        self.charge(load, now, Progress::None);
        // A read of this size can begin any packet, and the whole of it must find room then.
        let any = limits.packet_bytes.saturating_add(Limits::READ_BYTES);
        if load.buffered_bytes.saturating_add(any) <= limits.buffered_bytes() {
            return Some(Limits::READ_BYTES);
        }
        Some(needed.max(Limits::FREE_BYTES).saturating_sub(self.input.bytes.len()).clamp(1, Limits::READ_BYTES))
    }

    /// Notes that packets were taken in: the next one has no room reserved yet.
    pub fn release_reserved(&mut self) {
        self.charge.reserved = 0;
    }
}

/// Whether a connection may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It may.
    Readable,
    /// It may not, as before.
    Paused,
    /// It may not from now on.
    JustPaused,
}

/// Whether a connection got on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A packet was taken in, or an answer written.
    Made,
    /// Not as far as is known.
    None,
}

/// Bytes that a will counts for.
pub fn will_charge(will_bytes: usize) -> usize {
    const FREE_BYTES: usize = 1024;
    will_bytes.saturating_sub(FREE_BYTES)
}
