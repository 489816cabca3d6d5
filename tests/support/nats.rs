//! A NATS server of its own for a test.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use super::{Folder, Process, http, port, process, tool, wait};

/// How long a start may take. It takes a tenth of a second on an idle machine.
const START: Duration = Duration::from_secs(60);

/// How often another port is tried when somebody else was faster.
const ATTEMPTS: usize = 5;

/// A nats-server with JetStream on loopback; ended when dropped.
#[derive(Debug)]
pub(crate) struct Nats {
    process: Process,
    port: u16,
    http_port: u16,
    arguments: Vec<String>,
    folder: Folder,
}

/// Name of its log there.
const LOG: &str = "server.log";

/// Name of the configuration file in the server's folder.
const CONFIGURATION: &str = "server.conf";

/// How a server writes that it has taken a changed configuration.
const RELOADED: &str = "Reloaded server configuration";

impl Nats {
    /// Starts a server and waits until JetStream works.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Nats::start`], with further arguments of nats-server.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::launch(&[&["-js"], arguments].concat(), None)
    }

    /// As [`Nats::start`], with a configuration that [`Nats::reload`] can change.
    pub(crate) fn configured(configuration: &str) -> Self {
        Self::launch(&["-js"], Some(configuration))
    }

    /// As [`Nats::configured`], without JetStream.
    pub(crate) fn without_jetstream(configuration: &str) -> Self {
        Self::launch(&[], Some(configuration))
    }

    fn launch(arguments: &[&str], configuration: Option<&str>) -> Self {
        for _ in 0..ATTEMPTS {
            let folder = Folder::new("nats");
            let mut arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
            if let Some(configuration) = configuration {
                let file = folder.write(CONFIGURATION, configuration);
                arguments.extend(["-c".to_owned(), file.display().to_string()]);
            }
            let (port, http_port) = (port::free_port(), port::free_port());
            let process = spawn(&folder, port, http_port, &arguments);
            let mut nats = Self { process, port, http_port, arguments, folder };
            if nats.is_ready_in_time() {
                return nats;
            }
        }
        panic!("nats-server does not start");
    }

    /// Gives a server that was started by [`Nats::configured`] another configuration, and waits until it has it.
    pub(crate) fn reload(&self, configuration: &str) {
        let before = self.reloads();
        self.folder.write(CONFIGURATION, configuration);
        self.process.signal(libc::SIGHUP);
        wait::eventually("the server takes the configuration", START, || (self.reloads() > before).then_some(()));
    }

    fn reloads(&self) -> usize {
        self.log().matches(RELOADED).count()
    }

    /// Log of the server.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default()
    }

    /// Where clients connect, as `nats://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The server's own pages: `/varz`, `/connz`, `/jsz` and so on.
    pub(crate) fn monitoring(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http_port))
    }

    /// Subscriptions that the server knows, those of other members of its cluster included.
    pub(crate) fn subscriptions(&self) -> u64 {
        let page = http::get(self.monitoring(), "/subsz").expect("the server has its pages").body;
        let page: serde_json::Value = serde_json::from_str(&page).expect("the page is JSON");
        page["num_subscriptions"].as_u64().unwrap_or_default()
    }

    /// Requests to the API of JetStream that the server has answered so far.
    pub(crate) fn api_requests(&self) -> u64 {
        let page = http::get(self.monitoring(), "/jsz").expect("the server has its pages").body;
        let page: serde_json::Value = serde_json::from_str(&page).expect("the page is JSON");
        page["api"]["total"].as_u64().unwrap_or_default()
    }

    /// The server's process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Lets every write fail that would make a file longer than that, as on a full disk, until [`Nats::restart`].
    pub(crate) fn limit_files(&self, bytes: u64) {
        self.process.limit_file_bytes(bytes);
    }

    /// Kills the server as a crash would. Its port and its data stay reserved for [`Nats::restart`].
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts the server again on the same port and data, and waits until it works; a running one is killed first.
    pub(crate) fn restart(&mut self) {
        self.process.kill9();
        self.process = spawn(&self.folder, self.port, self.http_port, &self.arguments);
        assert!(self.is_ready_in_time(), "nats-server does not start again");
    }

    /// A call of the `nats` command line against this server, to be completed and run by the caller.
    pub(crate) fn cli(&self) -> Command {
        let mut command = Command::new(tool::installed("bin/nats"));
        // A person's own contexts must not lead the tests elsewhere.
        command.env("XDG_CONFIG_HOME", self.folder.path()).env("HOME", self.folder.path());
        command.arg("--server").arg(self.url());
        command
    }

    /// Runs the `nats` command line with these arguments to its end.
    pub(crate) fn run_cli(&self, arguments: &[&str]) -> Output {
        self.cli().args(arguments).output().expect("the nats command line starts")
    }

    /// Whether the server is ready by the deadline; false at once when it ended, as it does when a port is taken.
    fn is_ready_in_time(&mut self) -> bool {
        let address = self.monitoring();
        let process = &mut self.process;
        wait::within(START, || match process.ended() {
            Some(_) => Some(false),
            None => http::get(address, "/healthz").is_ok_and(|answer| answer.status == 200).then_some(true),
        })
        .unwrap_or(false)
    }
}

fn spawn(folder: &Folder, port: u16, http_port: u16, arguments: &[String]) -> Process {
    let mut command = Command::new(tool::installed("venv/bin/nats-server"));
    process::survive_file_limit(&mut command);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &http_port.to_string()]);
    command.arg("-sd").arg(folder.path().join("data")).args(arguments);
    Process::start(&mut command, &folder.path().join(LOG))
}
