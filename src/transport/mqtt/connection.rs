//! The task of an MQTT connection after CONNACK: it reads and writes the socket on behalf of the session.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;

use crate::protocol::uplink::SlotId;
use crate::session::mqtt::Ending;
use crate::transport::connection_limit::ConnectionPermit;
use crate::transport::socket::{ByteStream as _, Socket};
use crate::transport::turn::{TURN_BYTES, poll_again_behind_others};
use crate::transport::worker::{Progress, State, TakenIn, Worker, WorkerCore};

/// Number of reads of one connection before the other connections are polled.
const READS_PER_TURN: usize = 4;

/// Timeout for writing the last packets of a session, and for closing our side of the connection.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Timeout for closing our side after a takeover. The device sees the end of its old connection within half a second,
/// whether it reads or not.
const TAKEOVER_CLOSE: Duration = Duration::from_millis(200);

/// Timeout for the client to close its side after we have closed ours.
const LINGER: Duration = Duration::from_millis(500);

/// Closes the connection of a session that has ended.
pub async fn end(worker: &Worker, session: SlotId, permit: ConnectionPermit) {
    let is_taken_over = worker.core.borrow().ending(session) == Some(Ending::TakenOver);
    // The connection is closed even if this flush fails or takes too long.
    let is_flushed = is_taken_over || {
        let flushed = poll_fn(|cx| match worker.core.borrow_mut().connection(session) {
            Some(state) => poll_flush(state, cx),
            None => Poll::Ready(Ok(())),
        });
        matches!(tokio::time::timeout(FAREWELL, flushed).await, Ok(Ok(())))
    };
    // Returned before the socket closes: a client that sees the close may connect again at once, within the limit.
    drop(permit);
    let socket = worker.core.borrow_mut().connection(session).and_then(|state| state.socket.take());
    // After a takeover the commands that TLS or WebSocket still buffers were answered as lost. They must not reach the
    // device, so the socket is dropped without a flush.
    let may_flush = |socket: &Socket| is_flushed && !(is_taken_over && socket.has_unsent());
    if let Some(mut socket) = socket.filter(may_flush) {
        close(&mut socket, if is_taken_over { TAKEOVER_CLOSE } else { FAREWELL }).await;
    }
    worker.core.borrow_mut().closed(worker.clock.now(), session);
}

/// Flushes the socket and closes our side within `timeout`, then waits up to half a second until the client closes its
/// side. Without that wait, input that nobody has read makes the system reset the connection. The client's system may
/// then discard bytes that the client has not read, its last acknowledgements among them.
pub async fn close(socket: &mut Socket, timeout: Duration) {
    let closed = poll_fn(|cx| {
        ready!(socket.poll_flush(cx))?;
        socket.poll_close(cx)
    });
    if let Ok(Ok(())) = tokio::time::timeout(timeout, closed).await {
        let _late = tokio::time::timeout(LINGER, poll_fn(|cx| socket.poll_end(cx))).await;
    }
}

/// Reads packets for the session and writes its answers. Ready once the session has ended.
pub fn poll_session(worker: &Worker, session: SlotId, cx: &mut Context<'_>) -> Poll<()> {
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
            // The next read fails, too, and ends the session.
            Poll::Ready(Err(_)) => state.output.unsent = Vec::new(),
            // No input is read from a device that does not read its output.
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

/// Reads at most `room` bytes from the socket and gives them to the session.
fn poll_read(
    worker: &Worker,
    core: &mut WorkerCore<Socket>,
    session: SlotId,
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

/// Writes the unsent bytes, and flushes those that TLS or WebSocket buffers.
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
