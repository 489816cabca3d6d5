//! A TCP balancer in front of replicas.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::{Folder, Process, port, tool, wait};

/// How long a start may take.
const START: Duration = Duration::from_secs(60);

/// How often another port is tried when somebody else was faster.
const ATTEMPTS: usize = 5;

/// A haproxy in TCP mode that asks `/readyz` of each replica five times a second; ended when dropped.
#[derive(Debug)]
pub(crate) struct Balancer {
    _process: Process,
    address: SocketAddr,
    _folder: Folder,
}

impl Balancer {
    /// Starts it in front of replicas, each with its MQTT and its admin address; it tells them the client's address in a
    /// PROXY protocol header of version 2.
    pub(crate) fn start(replicas: &[(SocketAddr, SocketAddr)]) -> Self {
        for _ in 0..ATTEMPTS {
            let address = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
            let folder = Folder::new("balancer");
            let config = folder.write("haproxy.cfg", &render(address, replicas));
            let mut command = Command::new(tool::system("haproxy"));
            command.arg("-db").arg("-f").arg(config);
            let mut process = Process::start(&mut command, &folder.path().join("haproxy.log"));
            let started = wait::within(START, || match process.ended() {
                Some(_) => Some(false),
                None => port::is_open(address).then_some(true),
            });
            if started == Some(true) {
                return Self { _process: process, address, _folder: folder };
            }
        }
        panic!("haproxy does not start");
    }

    /// Where devices connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn render(address: SocketAddr, replicas: &[(SocketAddr, SocketAddr)]) -> String {
    let mut config = format!(
        "defaults\n    mode tcp\n    timeout connect 1s\n    timeout client 1h\n    timeout server 1h\n    retries 3\n    \
         option redispatch 1\n\
         frontend devices\n    bind {address}\n    default_backend replicas\n\
         backend replicas\n    balance roundrobin\n    option httpchk GET /readyz\n    \
         default-server inter 200ms fall 1 rise 1\n"
    );
    for (number, (mqtt, admin)) in replicas.iter().enumerate() {
        let _ = writeln!(config, "    server replica{number} {mqtt} check port {} send-proxy-v2", admin.port());
    }
    config
}
