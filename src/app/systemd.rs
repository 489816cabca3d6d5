//! Messages to the service manager that started the process: the protocol of sd_notify(3), as systemd speaks it.
//!
//! `READY=1` once `/readyz` is 200, `WATCHDOG=1` while the loop of every worker turns, `STOPPING=1` when the drain begins. It
//! is told nothing where `NOTIFY_SOCKET` is not set. Nothing here waits for it.

use std::env;
use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use tokio::time::sleep;

use crate::telemetry::health::Health;

/// Pause between two looks whether the process is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Keep-alive messages sent within the timeout of the watchdog, so that one of them may be late.
const BEATS: u32 = 3;

/// Longest time that a worker may stand still before the watchdog hears nothing, as for `/livez`; half of the watchdog's
/// time where that is less.
const STILL_MAX: Duration = Duration::from_secs(15);

/// The service manager.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// Time after which it ends a process that says nothing.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names, if any. One that cannot be reached is logged and told nothing.
    pub fn find() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let socket = connect(&address);
            if let Err(error) = &socket {
                tracing::warn!(address = %address.display(), %error, "the service manager cannot be told anything");
            }
            socket.ok()
        });
        let number = |name| env::var_os(name)?.to_str()?.parse::<u64>().ok();
        let is_meant = env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(process::id().into());
        let watchdog_us = number("WATCHDOG_USEC").filter(|us| *us > 0 && is_meant);
        Self { socket, watchdog: watchdog_us.map(Duration::from_micros) }
    }

    /// Tells that the process is ready, and that its workers turn, until the future is dropped.
    pub async fn follow(&self, health: &Health) {
        if self.socket.is_none() {
            pending::<()>().await;
        }
        let beat = self.watchdog.map(|watchdog| watchdog / BEATS);
        let still_max = self.watchdog.map_or(STILL_MAX, |watchdog| STILL_MAX.min(watchdog / 2));
        let mut is_ready = false;
        loop {
            // One that takes no message at the moment is told with the next look.
            is_ready = is_ready || health.readiness().ready && self.send("READY=1");
            if beat.is_some() && health.turned_within(still_max) {
                self.send("WATCHDOG=1");
            }
            match beat {
                Some(beat) if is_ready => sleep(beat).await,
                Some(beat) => sleep(beat.min(POLL_INTERVAL)).await,
                None if is_ready => pending().await,
                None => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Tells that the process ends within that time.
    pub fn stopping(&self, within: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    fn send(&self, text: &str) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.send(text.as_bytes()).is_ok())
    }
}

/// A socket that sends there: a path, or behind `@` a name without one.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    socket.connect_addr(&address)?;
    Ok(socket)
}
