//! The task of a connection, from its acceptance until it is closed.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::connection;
use crate::protocol::uplink::SlotId;
use crate::transport::connection_limit::{ConnectionPermit, SocketPermit};
use crate::transport::traits::TransportKind;
use crate::transport::worker::Worker;

/// The stage that a connection's task is in. Each stage has an allocation of its own, which lasts as long as it does: the
/// begin and the end of a connection take far more memory than an idle one needs. The runtime puts a future of at most 24
/// bytes into an allocation of 128, and a larger one into twice as much.
pub enum Serving {
    /// It has no session yet.
    Opening(Pin<Box<dyn Future<Output = Option<Opened>>>>),
    /// It has one; taken when that has ended.
    Driving(Option<Box<Opened>>),
    /// It is being closed.
    Ending(Pin<Box<dyn Future<Output = ()>>>),
}

const _: () = assert!(size_of::<Serving>() <= 24);

/// A connection with a session.
pub struct Opened {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// The session.
    pub session: SlotId,
    /// How its device has come.
    pub kind: TransportKind,
    /// The connection within the limit.
    pub permit: ConnectionPermit,
    /// Its socket.
    pub socket_permit: SocketPermit,
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match &mut *self {
                Self::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Some(opened) => Self::Driving(Some(Box::new(opened))),
                    None => return Poll::Ready(()),
                },
                Self::Driving(driven) => {
                    if let Some(opened) = driven {
                        ready!(connection::poll_session(&opened.worker, opened.session, cx));
                    }
                    let Some(opened) = driven.take() else { return Poll::Ready(()) };
                    Self::Ending(Box::pin(end(*opened)))
                }
                Self::Ending(ending) => return ending.as_mut().poll(cx),
            }
        }
    }
}

/// Ends a connection whose session has ended.
async fn end(opened: Opened) {
    let Opened { worker, session, kind, permit, socket_permit } = opened;
    connection::end(&worker, session, permit).await;
    drop(socket_permit);
    worker.core.borrow_mut().meter().closed(kind, true);
}
