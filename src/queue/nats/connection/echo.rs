//! A connection that hears itself: what comes back proves that the server has handled everything that was sent before.

use std::cell::Cell;
use std::rc::Rc;

use async_nats::Message;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::Connection;
use super::client::Client;
use super::lasting::{IfRefused, Listener};

/// The echo of one connection.
pub(crate) struct Echo<C: Client> {
    client: C,
    subject: String,
    sent: Cell<u64>,
    heard: Rc<Cell<u64>>,
    listener: JoinHandle<()>,
}

impl<C: Client> Drop for Echo<C> {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl<C: Client> Echo<C> {
    /// Listens, on the calling thread. `None` when the client has ended.
    pub(crate) async fn start(connection: &Connection<C>, prefix: &str) -> Option<Self> {
        let client = &connection.client;
        let subject = super::echo_subject(client, prefix);
        // Without it a server that lives is taken for one that hangs, and no more.
        let echoes = connection.control.listen(subject.clone(), IfRefused::Stay).await?;
        let heard = Rc::new(Cell::new(0));
        let listener = tokio::task::spawn_local(listen(echoes, Rc::clone(&heard)));
        Some(Self { client: client.clone(), subject, sent: Cell::new(0), heard, listener })
    }

    /// Says something. The client's line must have room, or this waits for it.
    pub(crate) async fn call(&self) {
        self.sent.set(self.sent.get() + 1);
        let number = self.sent.get().to_be_bytes().to_vec();
        // An error means that the client has ended.
        let _ended = self.client.publish(self.subject.clone(), None, number.into()).await;
    }

    /// Whether all that was said has come back.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.get() == self.sent.get()
    }
}

/// The number that a connection has sent to itself.
pub(crate) fn echo_number(message: &Message) -> u64 {
    message.payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

async fn listen<C: Client>(mut echoes: Listener<C>, heard: Rc<Cell<u64>>) {
    while let Some(message) = echoes.next().await {
        heard.set(echo_number(&message));
    }
}
