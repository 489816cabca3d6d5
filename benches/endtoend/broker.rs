//! Brokers that the bridge is compared with.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::{Folder, Process, port, wait};

/// How long a broker may take to be ready.
const START: Duration = Duration::from_secs(30);

/// A running broker that asks for no credentials; ended when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) process: Process,
    /// Where devices connect.
    pub(crate) address: SocketAddr,
    /// Its configuration and its log.
    pub(crate) _folder: Folder,
}

impl Broker {
    /// Mosquitto, without any limit that would slow it down, and with nothing that it would do beside. `command` makes the
    /// call of a program.
    pub(crate) fn mosquitto(command: impl FnOnce(PathBuf) -> Command) -> Result<Self, String> {
        let program = mosquitto().ok_or("mosquitto is missing")?;
        let (folder, address) = (Folder::new("mosquitto"), free_address());
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n\
             max_connections -1\npersistence false\nlog_type error\n",
            address.port()
        );
        let file = folder.write("mosquitto.conf", &text);
        let mut command = command(program);
        command.arg("-c").arg(file);
        Self::start(command, folder, address)
    }

    /// Starts a broker and waits until it listens.
    pub(crate) fn start(mut command: Command, folder: Folder, address: SocketAddr) -> Result<Self, String> {
        let log = folder.path().join("broker.log");
        let mut process = Process::start(&mut command, &log);
        let is_open = wait::within(START, || match process.ended() {
            Some(_) => Some(false),
            None => port::is_open(address).then_some(true),
        });
        if is_open != Some(true) {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the broker does not start: {}", text.lines().last().unwrap_or("it says nothing")));
        }
        Ok(Self { process, address, _folder: folder })
    }
}

/// An address of loopback that nothing listens on.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port::free_port()))
}

/// Debian keeps it outside the path of ordinary users.
pub(crate) fn mosquitto() -> Option<PathBuf> {
    on_path("mosquitto", &["/usr/sbin", "/usr/local/sbin"])
}

/// A program on the path or in one of the folders `also`.
pub(crate) fn on_path(name: &str, also: &[&str]) -> Option<PathBuf> {
    let path = env::var("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(also.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
