//! Accepts connections of operators.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::Admin;

/// Connections of one listener served at once; further ones wait.
pub const CONNECTIONS_MAX: usize = 64;

/// From accepting a connection to the last byte of its answer.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// From accepting a connection to the last byte of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Pause after the system refused a connection, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the listener; a port of 0 becomes a free one.
///
/// # Errors
/// The system's, as when the port is taken.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves operators until the future is dropped; the connections end with it, or within 10 seconds.
///
/// # Errors
/// The listener has no address; nothing was accepted then.
pub async fn serve(listener: TcpListener, admin: Admin) -> io::Result<Infallible> {
    let is_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
    let admin = Arc::new(admin);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // The semaphore is never closed.
        let permit = Arc::clone(&permits).acquire_owned().await.expect("an open semaphore");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "no connection of an operator could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            let _permit = permit;
            // An operator who is slow or gone harms nobody but himself.
            let _ = timeout(EXCHANGE_TIMEOUT, exchange(stream, &admin, is_loopback)).await;
        });
    }
}

async fn exchange(stream: TcpStream, admin: &Admin, is_loopback: bool) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move {
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
