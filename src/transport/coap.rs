//! CoAP over UDP, bare or below DTLS: the UDP sockets of a worker.
//!
//! The task of a port takes datagrams in, asks the registry for the devices that they name, and sends what the endpoint
//! left. Receipts of the queue and the tick reach the endpoint through the worker.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::task::{spawn_local, yield_now};

use crate::protocol::limit::Now;
use crate::protocol::network::Source;
use crate::session::coap::Parked;
use crate::session::identity::Lookup;
use crate::transport::turn::TURN_BYTES;
use crate::transport::worker::Worker;

/// Datagrams of one port before others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// Datagrams after which it is looked how long the turn took: a step of a handshake costs as much as hundreds of requests.
const DATAGRAMS_PER_LOOK: usize = 8;

/// Time after which a turn takes no further datagram, us.
const TURN_US: u64 = 1_000;

/// Pause after the system refused to read: asking again at once does not help it.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// The answer to a look-up, with the request that waits for it.
type Answered = (Parked, Lookup);

/// A look-up under way.
type Looking = Pin<Box<dyn Future<Output = Answered>>>;

/// Serves the port of that number until the future is dropped.
pub async fn serve(worker: Rc<Worker>, number: usize) {
    let Some(socket) = worker.datagrams.get(number) else { return };
    loop {
        let taken = match socket.readable().await {
            Ok(()) => take_turn(&worker, number),
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => yield_now().await,
            Err(error) => {
                tracing::warn!(%error, "datagrams cannot be read");
                tokio::time::sleep(READ_PAUSE).await;
            }
        }
    }
}

/// Takes in what is there, then does for the whole batch what can be done at once.
fn take_turn(worker: &Rc<Worker>, number: usize) -> io::Result<()> {
    let Some(socket) = worker.datagrams.get(number) else { return Ok(()) };
    // Requests whose devices are to be looked up, and for whom.
    let mut parked: Vec<(Parked, Source)> = Vec::new();
    // An error of the socket is told at the end: requests that came before it are answered.
    let mut outcome = Ok(());
    let now = worker.clock.now();
    {
        let core = &mut *worker.core.borrow_mut();
        let queue = core.begin_datagrams(now);
        let buffer = &mut *worker.read_buffer.borrow_mut();
        let parked_bytes = core.parked_bytes(number);
        for taken in 1..=DATAGRAMS_PER_TURN {
            match socket.try_recv_from(buffer) {
                Ok((bytes, from)) => core.datagram(queue, number, from, &buffer[..bytes], &mut parked),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            // Bodies are looked at after the last datagram.
            let is_full = core.parked_bytes(number) >= parked_bytes + TURN_BYTES;
            let is_late = taken % DATAGRAMS_PER_LOOK == 0 && worker.clock.now().us >= now.us + TURN_US;
            if is_full || is_late {
                break;
            }
        }
    }
    let looking = parked.into_iter().map(|(parked, source)| look_up(worker, parked, source));
    let looked_up: Vec<Answered> = looking.filter_map(|looking| finish_at_once(looking, worker, number)).collect();
    answer(worker, number, now, &looked_up);
    outcome
}

fn look_up(worker: &Worker, parked: Parked, source: Source) -> Looking {
    let registry = worker.core.borrow().environment().registry.clone();
    Box::pin(async move {
        let lookup = registry.device(parked.device.as_str(), source).await;
        (parked, lookup)
    })
}

/// The answer of a registry that need not ask anybody; for any other a task waits.
fn finish_at_once(mut looking: Looking, worker: &Rc<Worker>, number: usize) -> Option<Answered> {
    match looking.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(found) => Some(found),
        Poll::Pending => {
            let worker = worker.clone();
            // A registry always answers in the end, and each parked request was given its place by the endpoint.
            spawn_local(async move {
                let found = looking.await;
                answer(&worker, number, worker.clock.now(), &[found]);
            });
            None
        }
    }
}

/// Goes on with requests whose devices were looked up, and sends what is to be said.
fn answer(worker: &Worker, number: usize, now: Now, looked_up: &[Answered]) {
    worker.core.borrow_mut().looked_up(now, number, looked_up);
    worker.send_datagrams(number);
    worker.core.borrow_mut().flush();
}
