//! Accepts connections of operators.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::answer::Admin;

/// Connections of one listener at once. One more takes the place of an older one, so that nobody waits.
pub const CONNECTIONS_MAX: usize = 64;

/// Time from accepting a connection to the last byte of its answer; an answer that goes on has a bound of its own.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time from accepting a connection to the last byte of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after the system refused a connection, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves operators until the future is dropped; the connections end with it.
///
/// # Errors
/// The listener has no address; nothing was accepted then.
pub async fn serve(listener: TcpListener, admin: Admin) -> io::Result<Infallible> {
    let is_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    let admin = Arc::new(admin);
    let mut open = Open::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "no connection of an operator could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let admin = Arc::clone(&admin);
        open.spawn(async move |progress: Arc<Progress>| {
            let exchange = exchange(stream, &admin, is_loopback, &progress);
            bounded(EXCHANGE_TIMEOUT, &progress, exchange).await;
        });
    }
}

/// How far an exchange is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether the head of its request is there.
    is_heard: AtomicBool,
    /// How much longer it may take, once its answer goes on.
    longest: OnceLock<Duration>,
}

impl Progress {
    /// Lets the exchange take `longest` more. Only the first call counts.
    pub(super) fn goes_on(&self, longest: Duration) {
        let _ = self.longest.set(longest);
    }

    /// Whether the connection makes room for others, and how willingly: smaller numbers first.
    fn rank(&self) -> Option<u8> {
        self.longest.get().is_none().then(|| u8::from(self.is_heard.load(Ordering::Relaxed)))
    }
}

/// Ends an exchange after `limit`, or later by what its answer may go on: an operator who is slow or gone harms nobody but
/// himself.
async fn bounded(limit: Duration, progress: &Progress, exchange: impl Future) {
    let mut exchange = pin!(exchange);
    if timeout(limit, &mut exchange).await.is_err()
        && let Some(longest) = progress.longest.get()
    {
        let _ = timeout(*longest, exchange).await;
    }
}

/// The connections that are open, oldest first. Where they are as many as may be, the oldest of which no request was
/// heard makes room, else the oldest of all: a probe sends its request at once, and whoever is only in its way does not.
/// Answers that go on stay; they are fewer than the connections ([`STREAMS_MAX`](super::STREAMS_MAX)).
#[derive(Default)]
struct Open {
    connections: VecDeque<(AbortHandle, Arc<Progress>)>,
    tasks: JoinSet<()>,
}

impl Open {
    fn spawn<F>(&mut self, serve: impl FnOnce(Arc<Progress>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.connections.retain(|(task, _)| !task.is_finished());
        if self.connections.len() >= CONNECTIONS_MAX {
            let ranks = self.connections.iter().enumerate();
            let ranks = ranks.filter_map(|(index, (_, progress))| Some((progress.rank()?, index)));
            if let Some((task, _)) = ranks.min().and_then(|(_, index)| self.connections.remove(index)) {
                task.abort();
            }
        }
        let progress = Arc::new(Progress::default());
        let task = self.tasks.spawn(serve(Arc::clone(&progress)));
        self.connections.push_back((task, progress));
    }
}

async fn exchange(
    stream: TcpStream,
    admin: &Admin,
    is_loopback: bool,
    progress: &Arc<Progress>,
) -> Result<(), hyper::Error> {
    let service = service_fn(|mut request: Request<Incoming>| async move {
        progress.is_heard.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Arc::clone(progress));
        Ok::<_, Infallible>(admin.answer(request, is_loopback).await)
    });
    http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::super::STREAMS_MAX;
    use super::*;

    #[tokio::test]
    async fn an_answer_that_goes_on_outlives_the_time_of_an_exchange_and_no_other_does() {
        let progress = Progress::default();
        bounded(Duration::ZERO, &progress, pending::<()>()).await;
        progress.goes_on(Duration::MAX);
        let mut is_whole = false;
        let exchange = async {
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            for _ in 0..3 {
                pace.tick().await;
            }
            is_whole = true;
        };
        bounded(Duration::ZERO, &progress, exchange).await;
        assert!(is_whole);
    }

    #[tokio::test]
    async fn answers_that_go_on_stay_and_leave_room_for_others() {
        let mut open = Open::default();
        let mut begin = |is_live: bool| {
            let mut progress = None;
            open.spawn(|of: Arc<Progress>| {
                progress = Some(of);
                pending()
            });
            let progress = progress.expect("spawned");
            if is_live {
                progress.goes_on(Duration::MAX);
            }
            Arc::downgrade(&progress)
        };
        let live: Vec<_> = (0..STREAMS_MAX).map(|_| begin(true)).collect();
        for _ in 0..3 * CONNECTIONS_MAX {
            begin(false);
        }
        assert!(live.iter().all(|progress| progress.strong_count() > 0));
        assert_eq!(open.connections.len(), CONNECTIONS_MAX);
    }
}
