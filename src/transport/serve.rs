//! The tasks of a worker, from its listeners to the end of its drain.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};

use super::coap;
use super::mqtt::{Listening, listener};
use super::worker::{Drained, Worker};
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::uplink::Inbox;
use crate::replica::WorkerMessage;

/// Channels by which the rest of the replica reaches a worker.
pub struct Channels {
    /// Answers of the queue.
    pub inbox: Arc<Inbox>,
    /// Commands.
    pub commands: mpsc::Receiver<DownlinkEvent>,
    /// Letters.
    pub messages: mpsc::UnboundedReceiver<WorkerMessage>,
}

/// Serves until [`WorkerMessage::Drain`] and the end of the drain. Inside a `LocalSet`.
pub async fn serve(worker: Rc<Worker>, listeners: Vec<Listening>, channels: Channels) -> Drained {
    let Channels { inbox, commands, mut messages } = channels;
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| spawn_local(listener::accept(worker.clone(), listener))).collect();
    let mut tasks = vec![
        spawn_local(worker.clone().take_receipts(inbox)),
        spawn_local(worker.clone().take_commands(commands)),
        spawn_local(worker.clone().tick()),
        spawn_local(worker.clone().serve_connects()),
    ];
    tasks.extend((0..worker.datagrams.len()).map(|number| spawn_local(coap::serve(worker.clone(), number))));
    let mut panicked = std::pin::pin!(poll_fn(move |cx| first_panic(&mut tasks, cx)));
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            // Without any of them devices would wait for ever; the thread ends, and the process with it.
            panic = &mut panicked => std::panic::resume_unwind(panic),
        };
        match message {
            None => return Drained { unacknowledged: 0 },
            Some(WorkerMessage::Drain { per_second }) => {
                accepting.iter().for_each(JoinHandle::abort);
                return drain(&worker, per_second, &mut messages).await;
            }
            Some(other) => worker.take_message(other),
        }
    }
}

/// Drains while messages are still read: takeovers by other replicas and kicks go on.
async fn drain(worker: &Worker, per_second: u64, messages: &mut mpsc::UnboundedReceiver<WorkerMessage>) -> Drained {
    let mut draining = std::pin::pin!(worker.drain(per_second));
    loop {
        tokio::select! {
            drained = &mut draining => return drained,
            Some(message) = messages.recv() => match message {
                WorkerMessage::Drain { .. } => {}
                other => worker.take_message(other),
            },
        }
    }
}

/// Waits for the first task that panics; what it panicked with.
fn first_panic(tasks: &mut Vec<JoinHandle<()>>, cx: &mut Context<'_>) -> Poll<Box<dyn std::any::Any + Send>> {
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
