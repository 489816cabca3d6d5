//! Drives the socket of a connection with a session.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;

use crate::protocol::uplink::DeliveryId;
use crate::session::mqtt::Ending;
use crate::transport::connection_limit::ConnectionPermit;
use crate::transport::socket::{ByteStream as _, Socket};
use crate::transport::turn::{TURN_BYTES, poll_again_behind_others};
use crate::transport::worker::{Progress, State, TakenIn, Worker, WorkerCore};

/// Reads of one connection before others get their turn.
const READS_PER_TURN: usize = 4;

/// How long the last words of a session may take to be written.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// The same for a session that was taken over: its connection closes within half a second, whatever its device does.
const TAKEN_OVER: Duration = Duration::from_millis(200);

/// How long a client may take to close its side once it was told the end.
const LINGER: Duration = Duration::from_millis(500);

/// Drives the connection until its session has ended, then closes it.
pub async fn drive(worker: &Rc<Worker>, session: DeliveryId, permit: ConnectionPermit) {
    poll_fn(|cx| poll(worker, session, cx)).await;
    let is_taken_over = worker.core.borrow().ending(session) == Some(Ending::TakenOver);
    // Late or broken, the connection closes all the same.
    let is_flushed = is_taken_over || {
        let flushed = poll_fn(|cx| match worker.core.borrow_mut().connection(session) {
            Some(state) => poll_flush(state, cx),
            None => Poll::Ready(Ok(())),
        });
        matches!(tokio::time::timeout(FAREWELL, flushed).await, Ok(Ok(())))
    };
    // Whoever sees the connection closed may count on its room.
    drop(permit);
    let socket = worker.core.borrow_mut().connection(session).and_then(|state| state.socket.take());
    // What TLS or WebSocket still holds of a session that was taken over was answered as lost: it must not arrive.
    let is_orderly = |socket: &Socket| is_flushed && !(is_taken_over && socket.has_unsent());
    if let Some(mut socket) = socket.filter(is_orderly) {
        close(&mut socket, if is_taken_over { TAKEN_OVER } else { FAREWELL }).await;
    }
    worker.core.borrow_mut().closed(worker.clock.now(), session);
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

fn poll(worker: &Worker, session: DeliveryId, cx: &mut Context<'_>) -> Poll<()> {
    let core = &mut *worker.core.borrow_mut();
    let now = || worker.clock.now();
    let mut reads = 0;
    let mut taken_bytes = 0;
    loop {
        let Some(state) = core.connection(session) else { return Poll::Ready(()) };
        state.set_waker(cx.waker());
        if state.session.ending().is_some() {
            return Poll::Ready(());
        }
        let had_output = !state.output.unsent.is_empty();
        match poll_flush(state, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => state.output.unsent = Vec::new(),
            // A device that does not read is not read.
            Poll::Pending => return Poll::Pending,
        }
        if had_output {
            core.charge(session, Progress::Made);
        }
        let waiting = core.take_waiting(now, session);
        taken_bytes += waiting.bytes;
        if !core.may_read(now, session) {
            return Poll::Pending;
        }
        if waiting.is_cut {
            poll_again_behind_others(cx);
            return Poll::Pending;
        }
        let Some(state) = core.connection(session) else { return Poll::Ready(()) };
        if state.session.ending().is_some() || !state.output.unsent.is_empty() {
            continue;
        }
        if reads == READS_PER_TURN || taken_bytes >= TURN_BYTES {
            poll_again_behind_others(cx);
            return Poll::Pending;
        }
        reads += 1;
        let Some(room) = core.reserve(session) else { return Poll::Pending };
        let read = ready!(poll_read(worker, core, session, room, cx));
        taken_bytes += read.bytes;
        if read.is_cut {
            poll_again_behind_others(cx);
            return Poll::Pending;
        }
    }
}

/// Reads and takes in what was read.
fn poll_read(
    worker: &Worker,
    core: &mut WorkerCore<Socket>,
    session: DeliveryId,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<TakenIn> {
    let mut shared = worker.read_buffer.borrow_mut();
    let room = room.min(shared.len());
    let mut buffer = ReadBuf::new(&mut shared[..room]);
    let socket = core.connection(session).and_then(|state| state.socket.as_mut());
    let Some(socket) = socket else { return Poll::Ready(TakenIn::default()) };
    match socket.poll_read(cx, &mut buffer) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
            Poll::Ready(core.received(|| worker.clock.now(), session, buffer.filled()))
        }
        // The end of the stream, or an error: the device is gone either way.
        Poll::Ready(_) => {
            core.lost(worker.clock.now(), session);
            Poll::Ready(TakenIn::default())
        }
    }
}

/// Writes what the socket did not take before.
fn poll_flush(state: &mut State<Socket>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let State { socket: Some(socket), output, .. } = state else { return Poll::Ready(Ok(())) };
    while !output.unsent.is_empty() {
        match ready!(socket.poll_write(cx, &output.unsent))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => drop(output.unsent.drain(..written)),
        }
        if !socket.has_unsent() {
            output.note_written();
        }
    }
    if socket.has_unsent() {
        ready!(socket.poll_flush(cx))?;
        output.note_written();
    }
    // An idle connection holds no buffer.
    output.unsent = Vec::new();
    Poll::Ready(Ok(()))
}
