//! Three NATS servers that share their streams.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::{Folder, Process, eventually, http, port, tool};

/// How long a server may take until it has caught up with the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a server may take to end.
const END: Duration = Duration::from_secs(60);

/// The cluster; ended when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    members: Vec<Member>,
    folder: Folder,
    routes: String,
}

/// How a server writes that it has taken a changed configuration.
const RELOADED: &str = "Reloaded server configuration";

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
        Self::configured("")
    }

    /// As [`Cluster::start`], with a configuration that [`Cluster::reload`] can change.
    pub(crate) fn configured(configuration: &str) -> Self {
        let folder = Folder::new("cluster");
        let ports: Vec<[u16; 3]> = (0..3).map(|_| [port::free_port(), port::free_port(), port::free_port()]).collect();
        let routes: Vec<String> = ports.iter().map(|ports| format!("nats://127.0.0.1:{}", ports[2])).collect();
        let routes = routes.join(",");
        let members = ports.iter().enumerate().map(|(number, &[client_port, http_port, route_port])| {
            let name = format!("n{number}");
            write(&folder, &routes, &name, route_port, configuration);
            let process = spawn(&folder, &name, [client_port, http_port]);
            Member { process, name, client_port, http_port, route_port }
        });
        let members = members.collect();
        let cluster = Self { members, folder, routes };
        (0..3).for_each(|number| cluster.wait_healthy(number));
        cluster
    }

    /// Gives all members another configuration, and waits until they have it.
    pub(crate) fn reload(&self, configuration: &str) {
        let reloads = |member: &Member| self.log(&member.name).matches(RELOADED).count();
        let before: Vec<usize> = self.members.iter().map(reloads).collect();
        for Member { process, name, route_port, .. } in &self.members {
            write(&self.folder, &self.routes, name, *route_port, configuration);
            process.signal(libc::SIGHUP);
        }
        eventually("the members take the configuration", PATIENCE, || {
            self.members.iter().zip(&before).all(|(member, before)| reloads(member) > *before).then_some(())
        });
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Where clients connect.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.urls_of("")
    }

    /// As [`Cluster::urls`], with a user as `name:password@`.
    pub(crate) fn urls_of(&self, user: &str) -> Vec<String> {
        self.members.iter().map(|member| format!("nats://{user}127.0.0.1:{}", member.client_port)).collect()
    }

    /// Runs the `nats` command line with these arguments to its end, as a user or as nobody.
    pub(crate) fn run_cli(&self, user: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(tool::installed("bin/nats"));
        // A person's own contexts must not lead the tests elsewhere.
        command.env("XDG_CONFIG_HOME", self.folder.path()).env("HOME", self.folder.path());
        command.arg("--server").arg(self.urls_of(user).join(",")).args(arguments);
        command.output().expect("the nats command line starts")
    }

    /// The member of that name.
    pub(crate) fn member(&self, name: &str) -> usize {
        self.members.iter().position(|member| member.name == name).expect("a member has that name")
    }

    /// A page of a member, as JSON.
    pub(crate) fn page(&self, number: usize, path: &str) -> Value {
        let page = http::get(self.monitoring(number), path).expect("the member has its pages").body;
        serde_json::from_str(&page).expect("the page is JSON")
    }

    /// The member that has the connection for messages: the one that says most.
    pub(crate) fn member_of_uplink(&self) -> usize {
        let most = |number: &usize| {
            let connections = self.page(*number, "/connz")["connections"].clone();
            let said = |connection: &Value| connection["in_msgs"].as_u64().unwrap_or_default();
            connections.as_array().into_iter().flatten().map(said).max()
        };
        (0..self.members.len()).max_by_key(most).expect("there are members")
    }

    /// Where clients of one member connect.
    pub(crate) fn client(&self, number: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.members[number].client_port).into()
    }

    /// Kills the member of that name.
    pub(crate) fn kill9(&mut self, name: &str) {
        let member = self.members.iter_mut().find(|member| member.name == name);
        member.expect("a member has that name").process.kill9();
    }

    /// Kills a member as a crash would.
    pub(crate) fn crash(&mut self, number: usize) {
        self.members[number].process.kill9();
    }

    /// Waits until a member has ended by itself.
    pub(crate) fn wait_ended(&mut self, number: usize, deadline: Duration) {
        self.members[number].process.wait(deadline);
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
        self.start_again_unready(number);
        self.wait_healthy(number);
    }

    /// As [`Cluster::start_again`], without waiting.
    pub(crate) fn start_again_unready(&mut self, number: usize) {
        let Member { name, client_port, http_port, .. } = &self.members[number];
        let process = spawn(&self.folder, name, [*client_port, *http_port]);
        self.members[number].process = process;
    }

    fn wait_healthy(&self, number: usize) {
        let address = self.monitoring(number);
        eventually("the member is healthy", PATIENCE, || {
            http::get(address, "/healthz").is_ok_and(|answer| answer.status == 200).then_some(())
        });
    }
}

/// Writes the configuration of a member; a reload wants its name and its cluster there.
fn write(folder: &Folder, routes: &str, name: &str, route_port: u16, configuration: &str) {
    let cluster = format!("cluster {{ name: c, listen: \"127.0.0.1:{route_port}\", routes: [{routes}] }}\n");
    folder.write(&format!("{name}.conf"), &format!("server_name: {name}\n{cluster}{configuration}"));
}

fn spawn(folder: &Folder, name: &str, [client, http]: [u16; 2]) -> Process {
    let mut command = Command::new(tool::installed("venv/bin/nats-server"));
    command.args(["-a", "127.0.0.1", "-p", &client.to_string(), "-m", &http.to_string()]);
    command.args(["-js", "-sd"]).arg(folder.path().join(name));
    command.arg("-c").arg(folder.path().join(format!("{name}.conf")));
    Process::start(&mut command, &folder.path().join(format!("{name}.log")))
}
