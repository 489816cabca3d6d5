//! Accepts connections of operators.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// From accepting a connection to the last byte of its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// From accepting a connection to the last byte of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after the system refused a connection, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves operators until the future is dropped; the connections end with it, or within 10 seconds.
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
        open.spawn(async move |is_heard: Arc<AtomicBool>| {
            // An operator who is slow or gone harms nobody but himself.
            let _ = timeout(EXCHANGE_TIMEOUT, exchange(stream, &admin, is_loopback, &is_heard)).await;
        });
    }
}

/// The connections that are open, oldest first. Where they are as many as may be, the oldest of which no request was
/// heard makes room, else the oldest of all: a probe sends its request at once, and whoever is only in its way does not.
#[derive(Default)]
struct Open {
    connections: VecDeque<(AbortHandle, Arc<AtomicBool>)>,
    tasks: JoinSet<()>,
}

impl Open {
    fn spawn<F>(&mut self, serve: impl FnOnce(Arc<AtomicBool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.connections.retain(|(task, _)| !task.is_finished());
        if self.connections.len() >= CONNECTIONS_MAX {
            let silent = self.connections.iter().position(|(_, is_heard)| !is_heard.load(Ordering::Relaxed));
            if let Some((task, _)) = self.connections.remove(silent.unwrap_or(0)) {
                task.abort();
            }
        }
        let is_heard = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(serve(Arc::clone(&is_heard)));
        self.connections.push_back((task, is_heard));
    }
}

async fn exchange(
    stream: TcpStream,
    admin: &Admin,
    is_loopback: bool,
    is_heard: &AtomicBool,
) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
        is_heard.store(true, Ordering::Relaxed);
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
