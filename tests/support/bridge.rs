//! The real bridge.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Folder, Process, Settings, Stopwatch, eventually, http, wait};

/// How long anything may take that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log's file in the folder of the bridge.
const LOG: &str = "bridge.log";

/// A running bridge; killed when dropped.
#[derive(Debug)]
pub(crate) struct Bridge {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    lines: Option<Receiver<String>>,
    /// Where the admin page is, if the log does not tell.
    admin: Option<SocketAddr>,
    folder: Folder,
    since_start: Stopwatch,
}

/// How a run of the bridge ended that was waited for.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code.
    pub(crate) code: i32,
    /// All of stdout.
    pub(crate) stdout: String,
    /// All of stderr.
    pub(crate) stderr: String,
}

impl Bridge {
    /// Starts the bridge and waits until it is ready.
    pub(crate) fn start(settings: &Settings) -> Self {
        Self::start_unready(settings).until_ready()
    }

    /// As [`Bridge::start`], with a soft and a hard limit of open files.
    pub(crate) fn start_with_files(settings: &Settings, soft: u32, hard: u32) -> Self {
        Self::start_by(with_files(soft, hard), settings)
    }

    /// As [`Bridge::start`], by a call that has more than [`command`].
    pub(crate) fn start_by(command: Command, settings: &Settings) -> Self {
        let mut bridge = Self::spawn_by(command, settings, &[]);
        bridge.read_lines();
        bridge.until_ready()
    }

    pub(crate) fn until_ready(self) -> Self {
        let mut bridge = self;
        eventually("the bridge is ready", PATIENCE, || {
            bridge.assert_runs();
            http::get(bridge.admin(), "/readyz").ok().filter(|answer| answer.status == 200)
        });
        bridge
    }

    /// Starts the bridge and waits only until it tells where its admin page is, for queues that are away.
    pub(crate) fn start_unready(settings: &Settings) -> Self {
        Self::start_unready_by(command(), settings)
    }

    /// As [`Bridge::start_unready`], by a call that has more than [`command`].
    pub(crate) fn start_unready_by(command: Command, settings: &Settings) -> Self {
        let mut bridge = Self::spawn_by(command, settings, &[]);
        bridge.read_lines();
        eventually("the admin page is bound", PATIENCE, || {
            bridge.assert_runs();
            bridge.find_listener("admin")
        });
        bridge
    }

    /// Starts the bridge with further arguments and waits for nothing; its stdout is not read until
    /// [`Bridge::read_lines`].
    pub(crate) fn spawn(settings: &Settings, arguments: &[&str]) -> Self {
        Self::spawn_by(command(), settings, arguments)
    }

    /// Starts the bridge with its log there and waits until it is ready. Its listeners are on these ports, as nobody
    /// can read where they are.
    pub(crate) fn start_logging_to(log: Stdio, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Self {
        let settings = settings.clone().fixed(mqtt, admin);
        let mut bridge = Self::spawn_in(Folder::new("bridge"), command(), log, &settings, &[]);
        bridge.admin = Some(admin);
        bridge.read_lines();
        bridge.until_ready()
    }

    fn spawn_by(command: Command, settings: &Settings, arguments: &[&str]) -> Self {
        let folder = Folder::new("bridge");
        let errors = fs::File::create(folder.path().join(LOG)).expect("the folder takes files");
        Self::spawn_in(folder, command, errors.into(), settings, arguments)
    }

    fn spawn_in(folder: Folder, mut command: Command, errors: Stdio, settings: &Settings, arguments: &[&str]) -> Self {
        let config = folder.write("bridge.toml", &settings.render());
        command.arg("run").arg("--config").arg(config).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut process = Process::spawn(&mut command, Some(&folder.path().join(LOG)));
        let (stdin, stdout) = (process.take_stdin(), process.take_stdout());
        Self { process, stdin, stdout, lines: None, admin: None, folder, since_start: Stopwatch::start() }
    }

    /// Begins to read stdout, in a thread of its own.
    pub(crate) fn read_lines(&mut self) {
        let stdout = self.stdout.take().expect("stdout is read once");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        self.lines = Some(receiver);
    }

    /// Reads stdout on and keeps nothing of it, for floods of which nobody reads what is written.
    pub(crate) fn forget_lines(&mut self) {
        let lines = self.lines.take().expect("stdout is being read");
        thread::spawn(move || lines.into_iter().for_each(drop));
    }

    /// Takes stdout away, for a test that decides itself when it is read.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.stdout.take().expect("stdout is read once")
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs since the process was started.
    pub(crate) fn since_start(&self) -> &Stopwatch {
        &self.since_start
    }

    /// Where MQTT devices connect.
    pub(crate) fn mqtt(&self) -> SocketAddr {
        self.listener("mqtt")
    }

    /// Where the admin page is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.unwrap_or_else(|| self.listener("admin"))
    }

    /// The bound address of a listener, as the log tells it.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        eventually(&format!("listener {name} is bound"), PATIENCE, || self.find_listener(name))
    }

    fn find_listener(&self, name: &str) -> Option<SocketAddr> {
        let log = self.log();
        let address = log.lines().find_map(|line| match serde_json::from_str::<Value>(line) {
            Ok(line) => {
                let is_meant = line["message"] == "listening" && line["listener"] == name;
                line["address"].as_str().filter(|_| is_meant).map(str::to_owned)
            }
            Err(_) => {
                // Text fields stand in quotes or not, as the log's format has it.
                let line = line.replace('"', "");
                let rest = line.split_once(&format!("listening listener={name} "))?.1;
                rest.split("address=").nth(1)?.split_whitespace().next().map(str::to_owned)
            }
        })?;
        Some(address.parse().unwrap_or_else(|error| panic!("{error}: {address}")))
    }

    /// The sessions that it has, by their devices.
    pub(crate) fn sessions(&self) -> HashMap<String, String> {
        let page = http::get(self.admin(), "/api/sessions?limit=1000").expect("the admin page answers").body;
        let page: Value = serde_json::from_str(&page).expect("the page is JSON");
        let of = |session: &Value, member: &str| session[member].as_str().unwrap_or_default().to_owned();
        let sessions = page["sessions"].as_array().expect("the page lists sessions").iter();
        sessions.map(|session| (of(session, "deviceId"), of(session, "sessionId"))).collect()
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("bridge.toml")
    }

    /// Log until now.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join(LOG)
    }

    /// The next line of stdout, without its end; `None` when stdout is at its end.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        let lines = self.lines.as_ref().expect("stdout is being read");
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line on stdout within {PATIENCE:?}"),
        }
    }

    /// The next envelope on stdout.
    pub(crate) fn next_envelope(&mut self) -> Value {
        let line = self.next_line().expect("the bridge runs");
        parse(&line)
    }

    /// The next envelope, which must be of this type (without `org.jetlinks.`) and about this device.
    pub(crate) fn expect(&mut self, kind: &str, device: &str) -> Value {
        let envelope = self.next_envelope();
        assert_eq!(envelope["type"], format!("org.jetlinks.{kind}"), "{envelope}");
        assert_eq!(envelope["deviceid"], device, "{envelope}");
        envelope
    }

    /// The rest of stdout, to its end.
    pub(crate) fn remaining_envelopes(&mut self) -> Vec<Value> {
        let mut envelopes = Vec::new();
        while let Some(line) = self.next_line() {
            envelopes.push(parse(&line));
        }
        envelopes
    }

    /// Types one line.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the bridge reads its stdin");
    }

    /// Ends its stdin.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Waits for the end and tells the exit code.
    pub(crate) fn exit_code(&mut self) -> i32 {
        self.process.exit_code(PATIENCE)
    }

    /// Status of `/readyz` and its JSON.
    pub(crate) fn readiness(&self) -> (u16, Value) {
        let answer = http::get(self.admin(), "/readyz").expect("the admin page answers");
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    /// Sum over all labels of a metric's samples whose line holds every one of `labels`; 0 when there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = http::get(self.admin(), "/metrics").expect("the admin page answers").body;
        let is_meant = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        page.lines().filter(is_meant).filter_map(value).sum()
    }

    fn assert_runs(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("the bridge ended with {status}:\n{}", self.log());
        }
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The optimised bridge that stands in for the one built with the tests: `TEST_BRIDGE=path cargo test`.
pub(crate) fn optimised() -> Option<OsString> {
    std::env::var_os("TEST_BRIDGE").filter(|path| !path.is_empty())
}

/// The second where an optimised bridge is tested, and else the first, which a debug build can bear.
pub(crate) fn by_build<T>(debug: T, optimised_one: T) -> T {
    if optimised().is_some() { optimised_one } else { debug }
}

/// A call of the bridge without anything of this process' own settings, to be completed by the caller.
pub(crate) fn command() -> Command {
    let mut command = Command::new(optimised().unwrap_or_else(|| env!("CARGO_BIN_EXE_jetlinks-bridge").into()));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("JETLINKS_BRIDGE")) {
        command.env_remove(name);
    }
    command
}

/// As [`command`], with a soft and a hard limit of open files.
pub(crate) fn with_files(soft: u32, hard: u32) -> Command {
    let bridge = command();
    let script = format!(r#"ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$@""#);
    let mut limited = Command::new("sh");
    limited.args(["-c", &script, "sh"]).arg(bridge.get_program());
    for (name, value) in bridge.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// Runs a subcommand to its end with that text as its input.
///
/// # Panics
/// When it does not end in time.
pub(crate) fn run(arguments: &[&str], input: &str) -> Finished {
    let mut call = command();
    call.args(arguments);
    run_command(&mut call, input, PATIENCE)
}

/// As [`run`], for a call with an environment of its own and another deadline.
pub(crate) fn run_command(call: &mut Command, input: &str, deadline: Duration) -> Finished {
    call.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(call, None);
    let stdout = collect(process.take_stdout().expect("stdout is piped"));
    let stderr = collect(process.take_stderr().expect("stderr is piped"));
    let mut stdin = process.take_stdin().expect("stdin is piped");
    // A run that ends without reading its input is a fine one.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let end = Instant::now() + deadline;
    let code = process.exit_code(deadline);
    let left = || end.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
    let text = |receiver: Receiver<String>| receiver.recv_timeout(left()).expect("the streams end with the process");
    Finished { code, stdout: text(stdout), stderr: text(stderr) }
}

fn collect(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receiver
}

/// Waits until a log line of the bridge holds all of these texts.
pub(crate) fn wait_for_log(bridge: &Bridge, texts: &[&str]) -> String {
    let found = wait::within(PATIENCE, || {
        bridge.log().lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned)
    });
    found.unwrap_or_else(|| panic!("no log line with {texts:?} in:\n{}", bridge.log()))
}
