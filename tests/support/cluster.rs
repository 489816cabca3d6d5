//! Three NATS servers that share their streams.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::{Folder, Process, eventually, http, port, tool};

/// How long a server may take until it has caught up with the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a server may take to end.
const END: Duration = Duration::from_secs(15);

/// The cluster; ended when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    members: Vec<Member>,
    folder: Folder,
    routes: String,
}

#[derive(Debug)]
struct Member {
    process: Process,
    name: String,
    client_port: u16,
    http_port: u16,
    route_port: u16,
}

impl Cluster {
    /// Starts the servers and waits until each is healthy.
    pub(crate) fn start() -> Self {
        let folder = Folder::new("cluster");
        let ports: Vec<[u16; 3]> = (0..3).map(|_| [port::free_port(), port::free_port(), port::free_port()]).collect();
        let routes: Vec<String> = ports.iter().map(|ports| format!("nats://127.0.0.1:{}", ports[2])).collect();
        let routes = routes.join(",");
        let members = ports.iter().enumerate().map(|(number, &[client_port, http_port, route_port])| {
            let name = format!("n{number}");
            let process = spawn(&folder, &routes, &name, [client_port, http_port, route_port]);
            Member { process, name, client_port, http_port, route_port }
        });
        let members = members.collect();
        let cluster = Self { members, folder, routes };
        (0..3).for_each(|number| cluster.wait_healthy(number));
        cluster
    }

    /// Where clients connect.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("nats://127.0.0.1:{}", member.client_port)).collect()
    }

    /// Kills the member of that name.
    pub(crate) fn kill9(&mut self, name: &str) {
        let member = self.members.iter_mut().find(|member| member.name == name);
        member.expect("a member has that name").process.kill9();
    }

    /// Lets a member end.
    pub(crate) fn stop(&mut self, number: usize) {
        self.members[number].process.stop(END);
    }

    /// Sends a signal to a member.
    pub(crate) fn signal(&self, number: usize, signal: i32) {
        self.members[number].process.signal(signal);
    }

    /// The pages of a member: `/connz`, `/jsz` and so on.
    pub(crate) fn monitoring(&self, number: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.members[number].http_port).into()
    }

    /// Starts a member again that was stopped, and waits until it has caught up.
    pub(crate) fn start_again(&mut self, number: usize) {
        let Member { name, client_port, http_port, route_port, .. } = &self.members[number];
        let process = spawn(&self.folder, &self.routes, name, [*client_port, *http_port, *route_port]);
        self.members[number].process = process;
        self.wait_healthy(number);
    }

    fn wait_healthy(&self, number: usize) {
        let address = self.monitoring(number);
        eventually("the member is healthy", PATIENCE, || {
            http::get(address, "/healthz").is_ok_and(|answer| answer.status == 200).then_some(())
        });
    }
}

fn spawn(folder: &Folder, routes: &str, name: &str, [client, http, route]: [u16; 3]) -> Process {
    let mut command = Command::new(tool::installed("venv/bin/nats-server"));
    command.args(["-a", "127.0.0.1", "-p", &client.to_string(), "-m", &http.to_string()]);
    command.args(["-js", "-sd"]).arg(folder.path().join(name)).args(["--server_name", name]);
    command.args(["--cluster_name", "c", "--cluster", &format!("nats://127.0.0.1:{route}")]);
    command.args(["--routes", routes]);
    Process::start(&mut command, &folder.path().join(format!("{name}.log")))
}
