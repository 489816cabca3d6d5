//! One connection with a session: its socket, and what is half read or half written.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::ReadBuf;

use super::input::{self, Fed, Oversize};
use super::liveness::Liveness;
use super::socket::Socket;
use crate::protocol::id::DeviceId;
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::uplink::Token;
use crate::session::mqtt::{Ending, Session};
use crate::transport::gate::Place;
use crate::transport::room::RoomPermit;
use crate::transport::turn::{TURN_BYTES, poll_again_behind_others};
use crate::transport::worker::Worker;

/// Reads of one connection before others get their turn.
const READS_PER_TURN: usize = 4;

/// Bytes that may wait for a device that does not read, a new command included; one beyond that is answered SYSTEM_BUSY.
const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// How long a connection may hold more than its free share without getting anywhere, while others wait for room, us.
const STUCK_US: u64 = 20_000_000;

/// How long the last words of a session may take to be written.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// The same for a session that was taken over: its connection closes within half a second, whatever its device does.
const TAKEN_OVER: Duration = Duration::from_millis(200);

/// How long a client may take to close its side once it was told the end.
const LINGER: Duration = Duration::from_millis(500);

/// A connection with a session.
#[derive(Debug)]
pub struct Connection {
    /// Its place in the worker.
    pub token: Token,
    /// The device.
    pub device: DeviceId,
    /// Address of the client.
    pub peer: Box<str>,
    /// What changes.
    pub state: RefCell<State>,
}

/// What changes in a connection.
#[derive(Debug)]
pub struct State {
    /// The session.
    pub session: Session,
    /// `None` once it is being closed; the session may outlive it.
    pub socket: Option<Socket>,
    /// Whether the connection is closed for good.
    pub is_closed: bool,
    /// Read and not yet taken in: an incomplete packet, or packets that a full window leaves waiting.
    pub input: Vec<u8>,
    /// What the socket did not take.
    pub output: Vec<u8>,
    /// Whether the connection's end was told to directory and queue.
    pub retired: bool,
    /// Bytes that the session had for the device so far.
    said: u64,
    /// What of `said` the system had when nothing of it waited anywhere.
    written: u64,
    oversize: Option<Oversize>,
    /// Bytes that the packet at the front of `input` needs; 0 when that is not known.
    needed: usize,
    /// What of `needed` has found room.
    reserved: usize,
    /// What of this is in [`Load::buffered_bytes`].
    charged: usize,
    /// Since when the charge is there without any progress, us.
    charged_us: Option<u64>,
    /// What of the will is in [`Load::will_bytes`].
    will_charged: usize,
    /// The room that a large will takes.
    will_room: Option<RoomPermit>,
    /// Room that it waits for.
    wanted: usize,
    /// Whether the worker has it in its list of those that are not read.
    pub is_listed: bool,
    paused: bool,
    /// Whether bytes were read that the session was not told of.
    has_news: bool,
    liveness: Liveness,
    waker: Option<Waker>,
}

impl State {
    /// A connection right after its CONNECT; `input` is what followed that packet.
    pub fn new(session: Session, socket: Socket, input: Vec<u8>) -> Self {
        Self {
            session,
            socket: Some(socket),
            is_closed: false,
            input,
            output: Vec::new(),
            retired: false,
            said: 0,
            written: 0,
            oversize: None,
            needed: 0,
            reserved: 0,
            charged: 0,
            charged_us: None,
            will_charged: 0,
            will_room: None,
            wanted: 0,
            is_listed: false,
            paused: false,
            has_news: false,
            liveness: Liveness::default(),
            waker: None,
        }
    }

    /// Writes without waiting; what the socket does not take waits in `output`. Leaves `bytes` empty.
    pub fn write(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.said += bytes.len() as u64;
        self.liveness.note_written();
        let Some(socket) = &mut self.socket else { return bytes.clear() };
        let mut written = 0;
        if self.output.is_empty() {
            // An error shows again at the next read, which ends the session.
            written = socket.try_write(bytes).unwrap_or(0);
        }
        let has_unsent = socket.has_unsent();
        self.output.extend_from_slice(&bytes[written..]);
        if has_unsent || !self.output.is_empty() {
            self.wake();
        }
        if !has_unsent {
            self.written = self.said - self.output.len() as u64;
        }
        bytes.clear();
    }

    /// Of the bytes for the device, those that the system took; TLS and WebSocket tell only when it has them all.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Lets the session know where the command ends that was just written.
    pub fn note_command(&mut self) {
        self.session.note_command_end(self.said);
    }

    /// Lets the connection's task look again.
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Lets a connection that was not read be read again.
    pub fn resume(&mut self, now: Now) {
        self.session.heard(now.us);
        self.paused = false;
        self.wake();
    }

    /// Whether the task waits for the session to take input again.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Tells the session how its device lives, as far as it does not see that itself; before each [`Session::tick`].
    ///
    /// The keep-alive does not run while the bridge does not read for reasons of its own: the session takes no input, or
    /// there is no room for it. A device that does not take what it was sent is not read either, and lives as long as
    /// bytes of it come, or go to it.
    pub fn note_life(&mut self, now: Now) {
        if self.paused {
            return self.session.heard(now.us);
        }
        let Some(socket) = &self.socket else { return };
        let is_blocked = !self.output.is_empty() || socket.has_unsent();
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
    pub fn has_room(&self, limits: &Limits, load: &Load) -> bool {
        self.wanted == 0 || load.buffered_bytes.saturating_add(self.wanted) <= limits.buffered_bytes()
    }

    /// Whether a packet of so many bytes may be added to what waits for the device. To a device that has read everything it
    /// may be larger than [`UNREAD_BYTES_MAX`]; in any case there must be room for all of it, as the device may read none.
    pub fn may_send(&self, bytes: usize, limits: &Limits, load: &Load) -> bool {
        let unread = self.output.len();
        let unread_after = unread.saturating_add(bytes);
        if unread > 0 && unread_after > UNREAD_BYTES_MAX {
            return false;
        }
        // A vector that has to grow at least doubles.
        let capacity = self.output.capacity();
        let growth = if unread_after > capacity { unread_after.max(2 * capacity) - capacity } else { 0 };
        let more = self.held_bytes_with(growth, self.reserved).saturating_sub(self.charged);
        more == 0 || load.buffered_bytes.saturating_add(more) <= limits.buffered_bytes()
    }

    /// Whether it waits for room.
    pub fn waits_for_room(&self) -> bool {
        self.paused && self.wanted > 0
    }

    /// Whether it keeps room from others without getting anywhere.
    pub fn is_stuck(&self, now: Now) -> bool {
        !self.paused && self.charged_us.is_some_and(|since_us| now.us.saturating_sub(since_us) >= STUCK_US)
    }

    /// Tells the load what the connection holds beyond its free share.
    pub fn charge(&mut self, load: &mut Load, now: Now, progress: Progress) {
        let held = self.held_bytes(self.reserved);
        if held == self.charged && held == 0 {
            self.charged_us = None;
            return;
        }
        load.buffered_bytes = (load.buffered_bytes + held).saturating_sub(self.charged);
        self.charged = held;
        match (held, progress) {
            (0, _) => self.charged_us = None,
            (_, Progress::Made) => self.charged_us = Some(now.us),
            (_, Progress::None) => self.charged_us = self.charged_us.or(Some(now.us)),
        }
    }

    /// Keeps the room of a large will, as long as the session keeps the will.
    pub fn keep_will_room(&mut self, room: Option<RoomPermit>) {
        self.will_room = room;
    }

    /// Tells the load of a large will while the session keeps it.
    pub fn charge_will(&mut self, load: &mut Load) {
        let held = will_charge(self.session.will_bytes());
        load.will_bytes = (load.will_bytes + held).saturating_sub(self.will_charged);
        self.will_charged = held;
        if held == 0 {
            self.will_room = None;
        }
    }

    fn held_bytes(&self, needed: usize) -> usize {
        self.held_bytes_with(0, needed)
    }

    /// What it holds beyond its free share, and would hold with so many bytes more.
    fn held_bytes_with(&self, more: usize, needed: usize) -> usize {
        let oversize = self.oversize.as_ref().map_or(0, Oversize::held_bytes);
        let unsent = self.socket.as_ref().map_or(0, Socket::held_bytes);
        let input = self.input.capacity().max(needed);
        (input + self.output.capacity() + more + oversize + unsent).saturating_sub(Limits::FREE_BYTES)
    }

    /// How many bytes may be read: all that the packet at the front needs are charged first, so that a packet once begun
    /// can end. `None`: there is no room, and the worker wakes the connection when there is.
    pub fn reserve(&mut self, limits: &Limits, load: &mut Load, now: Now) -> Option<usize> {
        let more = self.held_bytes(self.needed).saturating_sub(self.charged);
        if load.buffered_bytes.saturating_add(more) > limits.buffered_bytes() && more > 0 {
            self.wanted = more;
            self.paused = true;
            return None;
        }
        self.wanted = 0;
        self.reserved = self.needed;
        self.charge(load, now, Progress::None);
        // A read of this size can begin any packet, and the whole of it must find room then.
        let any = limits.packet_bytes.saturating_add(Limits::READ_BYTES);
        if load.buffered_bytes.saturating_add(any) <= limits.buffered_bytes() {
            return Some(Limits::READ_BYTES);
        }
        Some(self.needed.max(Limits::FREE_BYTES).saturating_sub(self.input.len()).clamp(1, Limits::READ_BYTES))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(())) };
        while !self.output.is_empty() {
            match ready!(socket.poll_write(cx, &self.output))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(self.output.drain(..written)),
            }
            if !socket.has_unsent() {
                self.written = self.said - self.output.len() as u64;
            }
        }
        if socket.has_unsent() {
            ready!(socket.poll_flush(cx))?;
            self.written = self.said;
        }
        // An idle connection holds no buffer.
        self.output = Vec::new();
        Poll::Ready(Ok(()))
    }
}

/// Whether a connection got on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A packet was taken in, or an answer written.
    Made,
    /// Not as far as is known.
    None,
}

/// What a will counts for.
pub fn will_charge(will_bytes: usize) -> usize {
    const FREE_BYTES: usize = 1024;
    will_bytes.saturating_sub(FREE_BYTES)
}

/// Drives the connection until its session has ended, then closes it.
pub async fn drive(worker: &Rc<Worker>, connection: &Rc<Connection>, place: Place) {
    poll_fn(|cx| poll(worker, connection, cx)).await;
    let is_taken_over = connection.state.borrow().session.ending() == Some(Ending::TakenOver);
    // Late or broken, the connection closes all the same.
    let is_flushed = is_taken_over || {
        let flushed = poll_fn(|cx| connection.state.borrow_mut().poll_flush(cx));
        matches!(tokio::time::timeout(FAREWELL, flushed).await, Ok(Ok(())))
    };
    // Whoever sees the connection closed may count on its place.
    drop(place);
    let socket = connection.state.borrow_mut().socket.take();
    // What TLS or WebSocket still holds of a session that was taken over was answered as lost: it must not arrive.
    let is_orderly = |socket: &Socket| is_flushed && !(is_taken_over && socket.has_unsent());
    if let Some(mut socket) = socket.filter(is_orderly) {
        close(&mut socket, if is_taken_over { TAKEN_OVER } else { FAREWELL }).await;
    }
    {
        let state = &mut *connection.state.borrow_mut();
        state.is_closed = true;
        (state.input, state.output, state.oversize, state.reserved) = (Vec::new(), Vec::new(), None, 0);
    }
    worker.charge(connection, Progress::None);
    worker.settle(connection);
}

/// Says the last word, then waits for the client's end, neither for long. A socket that is closed while input waits in
/// it resets the connection, and the client's system may throw away what it has not read yet: its last acknowledgements.
pub async fn close(socket: &mut Socket, farewell: Duration) {
    let closed = poll_fn(|cx| {
        ready!(socket.poll_flush(cx))?;
        socket.poll_close(cx)
    });
    if let Ok(Ok(())) = tokio::time::timeout(farewell, closed).await {
        let _late = tokio::time::timeout(LINGER, poll_fn(|cx| socket.poll_end(cx))).await;
    }
}

fn poll(worker: &Worker, connection: &Connection, cx: &mut Context<'_>) -> Poll<()> {
    let mut reads = 0;
    let mut taken_bytes = 0;
    loop {
        let had_output = {
            let state = &mut *connection.state.borrow_mut();
            state.waker = Some(cx.waker().clone());
            if state.session.ending().is_some() {
                return Poll::Ready(());
            }
            let had_output = !state.output.is_empty();
            match state.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => state.output = Vec::new(),
                // A device that does not read is not read.
                Poll::Pending => return Poll::Pending,
            }
            had_output
        };
        if had_output {
            worker.charge(connection, Progress::Made);
        }
        let waiting = take_waiting_input(worker, connection);
        taken_bytes += waiting.bytes;
        if !may_read(worker, connection) {
            return Poll::Pending;
        }
        if waiting.is_cut {
            poll_again_behind_others(cx);
            return Poll::Pending;
        }
        if connection.state.borrow().session.ending().is_some() || !connection.state.borrow().output.is_empty() {
            continue;
        }
        if reads == READS_PER_TURN || taken_bytes >= TURN_BYTES {
            poll_again_behind_others(cx);
            return Poll::Pending;
        }
        reads += 1;
        let Some(room) = worker.reserve(connection) else { return Poll::Pending };
        let read = ready!(poll_read(worker, connection, room, cx));
        taken_bytes += read.bytes;
        if read.is_cut {
            poll_again_behind_others(cx);
            return Poll::Pending;
        }
    }
}

/// What was taken in of what came.
#[derive(Debug, Clone, Copy, Default)]
struct TakenIn {
    bytes: usize,
    /// Whether there is more that must wait until others had their turn.
    is_cut: bool,
}

/// Takes in what was read before.
fn take_waiting_input(worker: &Worker, connection: &Connection) -> TakenIn {
    let mut waiting = std::mem::take(&mut connection.state.borrow_mut().input);
    if waiting.is_empty() {
        return TakenIn::default();
    }
    let fed = feed(worker, connection, &waiting);
    waiting.drain(..fed.used);
    if waiting.len() <= waiting.capacity() / 2 {
        waiting.shrink_to_fit();
    }
    connection.state.borrow_mut().input = waiting;
    worker.charge(connection, if fed.used > 0 { Progress::Made } else { Progress::None });
    TakenIn { bytes: fed.used, is_cut: fed.is_cut }
}

/// Whether the session takes input; if not, the worker wakes the connection when it does.
fn may_read(worker: &Worker, connection: &Connection) -> bool {
    let wants = {
        let state = connection.state.borrow();
        state.session.ending().is_some() || worker.wants_input(&state.session)
    };
    let was_paused = {
        let state = &mut *connection.state.borrow_mut();
        let was_paused = std::mem::replace(&mut state.paused, !wants) && state.wanted == 0;
        state.wanted = 0;
        was_paused
    };
    if !wants && !was_paused {
        worker.pause(connection);
        worker.act(connection, |state, ctx| input::answer_pings(&mut state.input, &mut state.session, ctx));
    }
    wants
}

/// Reads and takes in what was read.
fn poll_read(worker: &Worker, connection: &Connection, room: usize, cx: &mut Context<'_>) -> Poll<TakenIn> {
    let mut shared = worker.read_buffer.borrow_mut();
    let room = room.min(shared.len());
    let mut buffer = ReadBuf::new(&mut shared[..room]);
    let read = {
        let state = &mut *connection.state.borrow_mut();
        let Some(socket) = &mut state.socket else { return Poll::Ready(TakenIn::default()) };
        socket.poll_read(cx, &mut buffer)
    };
    match read {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
            let bytes = buffer.filled();
            let mut taken = TakenIn::default();
            connection.state.borrow_mut().has_news = true;
            if connection.state.borrow().input.is_empty() {
                let fed = feed(worker, connection, bytes);
                taken = TakenIn { bytes: fed.used, is_cut: fed.is_cut };
                if fed.used < bytes.len() {
                    connection.state.borrow_mut().input = bytes[fed.used..].to_vec();
                    worker.charge(connection, Progress::Made);
                }
            } else {
                let state = &mut *connection.state.borrow_mut();
                let len = state.input.len();
                // Not twice as much, as a vector that grows by itself would take.
                state.input.reserve_exact(state.needed.max(len + bytes.len()) - len);
                state.input.extend_from_slice(bytes);
            }
            Poll::Ready(taken)
        }
        // The end of the stream, or an error: the device is gone either way.
        Poll::Ready(_) => {
            worker.act(connection, |state, ctx| state.session.end(Ending::ConnectionLost, ctx));
            Poll::Ready(TakenIn::default())
        }
    }
}

fn feed(worker: &Worker, connection: &Connection, bytes: &[u8]) -> Fed {
    worker.act(connection, |state, ctx| {
        if std::mem::take(&mut state.has_news) {
            state.session.heard(ctx.now.us);
        }
        let fed = input::feed(bytes, &mut state.oversize, &mut state.session, ctx);
        state.needed = fed.needed;
        if fed.used > 0 {
            state.reserved = 0;
        }
        fed
    })
}
