//! Takes datagrams in.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use tokio::task::{spawn_local, yield_now};

use super::Port;
use super::port::State;
use crate::protocol::limit::Now;
use crate::protocol::network::{Network, Protocol, Source};
use crate::protocol::uplink::Availability;
use crate::session::coap::{Found, Identity, Parked, PeerKey};
use crate::transport::core::Core;
use crate::transport::port::Lookup;
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

/// What a look-up ends in, with the request that waits for it.
type Answered = (Parked, Lookup);

/// A look-up under way.
type Looking = Pin<Box<dyn Future<Output = Answered>>>;

/// Serves until the future is dropped.
pub async fn serve(worker: Rc<Worker>, port: Rc<Port>) {
    loop {
        let taken = match port.socket.readable().await {
            Ok(()) => take_turn(&worker, &port),
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
fn take_turn(worker: &Rc<Worker>, port: &Rc<Port>) -> io::Result<()> {
    let queue = worker.queue();
    // Requests whose devices are to be looked up, and for whom.
    let mut parked: Vec<(Parked, Source)> = Vec::new();
    // An error of the socket is told at the end: requests that came before it are answered.
    let mut outcome = Ok(());
    let now = {
        let core = &mut *worker.core.borrow_mut();
        let now = core.now();
        let state = &mut *port.state.borrow_mut();
        let buffer = &mut *worker.read_buffer.borrow_mut();
        let parked_bytes = state.endpoint.parked_bytes();
        for number in 1..=DATAGRAMS_PER_TURN {
            match port.socket.try_recv_from(buffer) {
                Ok((bytes, from)) => {
                    port.traffic.note_received(bytes);
                    state.take(core, now, queue, from, &buffer[..bytes], &mut parked);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            // Bodies are looked at after the last datagram.
            let is_full = state.endpoint.parked_bytes() >= parked_bytes + TURN_BYTES;
            let is_late = number % DATAGRAMS_PER_LOOK == 0 && core.clock.now().us >= now.us + TURN_US;
            if is_full || is_late {
                break;
            }
        }
        now
    };
    let looking = parked.into_iter().map(|(parked, source)| look_up(worker, parked, source));
    let looked_up: Vec<Answered> = looking.filter_map(|looking| finish_at_once(looking, worker, port)).collect();
    answer(worker, port, now, queue, &looked_up);
    outcome
}

impl State {
    fn take(
        &mut self,
        core: &mut Core,
        now: Now,
        queue: Availability,
        from: SocketAddr,
        datagram: &[u8],
        parked: &mut Vec<(Parked, Source)>,
    ) {
        let network = Network::of(from.ip());
        // The sessions are moved out, so that what they decrypt can be lent to the endpoint.
        let Some(mut sessions) = self.sessions.take() else {
            let (peer, source) = (PeerKey::Address(from), Source { protocol: Protocol::Coap, network });
            let begun = self.with(core, now, queue, |endpoint, ctx| endpoint.feed(peer, datagram, ctx));
            parked.extend(begun.map(|parked| (parked, source)));
            return;
        };
        let source = Source { protocol: Protocol::Dtls, network };
        sessions.feed(now, from, datagram);
        self.with(core, now, queue, |endpoint, ctx| {
            for (peer, plain) in sessions.received().iter() {
                parked.extend(endpoint.feed(peer, plain, ctx).map(|parked| (parked, source)));
            }
            for peer in sessions.take_ended() {
                endpoint.forget(peer, ctx);
            }
        });
        sessions.clear_received();
        self.sessions = Some(sessions);
    }
}

fn look_up(worker: &Worker, parked: Parked, source: Source) -> Looking {
    let registry = worker.core.borrow().registry.clone();
    Box::pin(async move {
        let lookup = registry.device(parked.device.as_str(), source).await;
        (parked, lookup)
    })
}

/// What a registry says that need not ask anybody; for any other a task waits.
fn finish_at_once(mut looking: Looking, worker: &Rc<Worker>, port: &Rc<Port>) -> Option<Answered> {
    match looking.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(found) => Some(found),
        Poll::Pending => {
            let (worker, port) = (worker.clone(), port.clone());
            // A registry always answers in the end, and each parked request was given its place by the endpoint.
            spawn_local(async move {
                let found = looking.await;
                let now = worker.core.borrow_mut().now();
                answer(&worker, &port, now, worker.queue(), &[found]);
            });
            None
        }
    }
}

/// Goes on with requests whose devices were looked up, and sends what is to be said.
fn answer(worker: &Worker, port: &Port, now: Now, queue: Availability, looked_up: &[Answered]) {
    let core = &mut *worker.core.borrow_mut();
    {
        let state = &mut *port.state.borrow_mut();
        for (parked, lookup) in looked_up {
            let found = match lookup {
                Lookup::Found(identity) => Found::Device(Identity {
                    product: &identity.product,
                    secure_key: &identity.secure_key,
                    enabled: identity.enabled,
                }),
                Lookup::Unknown => Found::Unknown,
                Lookup::Away => Found::Away,
            };
            state.with(core, now, queue, |endpoint, ctx| endpoint.device(parked, found, ctx));
        }
    }
    port.send(core);
    core.uplink.flush();
}
