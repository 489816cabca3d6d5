//! Simulated devices that send reports and answer commands, and their ledger.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::bridge::{Finished, command, run};
use super::{Folder, Process, Registry};

/// How long outstanding acknowledgements may take at the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Devices that send at QoS 1 until they are told to stop, connect again when they lose their connection, and write down
/// what was acknowledged.
pub(crate) struct Load {
    process: Process,
    folder: Folder,
}

impl Load {
    /// Starts the first `devices` of the registry, each with `rate` messages a second; 0 is as fast as it goes.
    pub(crate) fn start(address: SocketAddr, registry: &Registry, devices: usize, rate: f64) -> Self {
        Self::start_with(address, registry, devices, rate, &[])
    }

    /// As [`Load::start`], with further arguments of `simulate`.
    pub(crate) fn start_with(
        address: SocketAddr,
        registry: &Registry,
        devices: usize,
        rate: f64,
        arguments: &[&str],
    ) -> Self {
        let folder = Folder::new("load");
        let log = folder.path().join("load.log");
        let mut call = command();
        call.args(["simulate", "--quiet", "--output", "json", "--address", &address.to_string()])
            .args(["--registry", &registry.path().display().to_string()])
            .args(["--devices", &devices.to_string(), "--rate", &rate.to_string(), "--qos", "1", "--window", "20"])
            .args(arguments)
            .arg("--ledger")
            .arg(folder.path().join("ledger"))
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("summary.json")).expect("the folder takes files"))
            .stderr(File::create(&log).expect("the folder takes files"));
        Self { process: Process::spawn(&mut call, Some(&log)), folder }
    }

    /// Lets outstanding acknowledgements come, and ends; the summary.
    pub(crate) fn finish(&mut self) -> Value {
        self.process.signal(libc::SIGINT);
        assert_eq!(self.process.exit_code(PATIENCE), 0);
        let summary = fs::read_to_string(self.folder.path().join("summary.json")).expect("there is a summary");
        serde_json::from_str(&summary).unwrap_or_else(|error| panic!("{error}: {summary}"))
    }

    /// Runs `verify` for that configuration, whatever comes out of it.
    pub(crate) fn run_verify(&self, config: &Path) -> Finished {
        self.run_verify_with(config, &[])
    }

    /// The verdict on envelopes that were read from the queue, one a line, whatever it is.
    pub(crate) fn verdict(&self, config: &Path, envelopes: &Path) -> Value {
        let ledger = self.folder.path().join("ledger");
        let [config, ledger, envelopes] = [config, &ledger, envelopes].map(|path| path.display().to_string());
        let arguments = ["verify", "--config", &config, "--ledger", &ledger, "--envelopes", &envelopes];
        let finished = run(&[&arguments[..], &["--output", "json"]].concat(), "");
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }

    fn run_verify_with(&self, config: &Path, arguments: &[&str]) -> Finished {
        let (config, ledger) = (config.display().to_string(), self.folder.path().join("ledger").display().to_string());
        let call = ["verify", "--config", &config, "--ledger", &ledger, "--output", "json"];
        run(&[&call[..], arguments].concat(), "")
    }

    /// Compares what was acknowledged with what the queue of that configuration holds, in the order of last copies: that
    /// holds wherever a test does not say otherwise, and what the bridge promises holds with it. The verdict.
    ///
    /// # Panics
    /// When something is lost or out of order.
    pub(crate) fn verify(&self, config: &Path) -> Value {
        Self::judge(self.run_verify_with(config, &["--last-copies"]))
    }

    /// As [`Load::verify`], for no more than what the bridge promises.
    pub(crate) fn verify_promise(&self, config: &Path) -> Value {
        Self::judge(self.run_verify(config))
    }

    fn judge(finished: Finished) -> Value {
        let verdict: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"));
        assert_eq!((&verdict["lost"], &verdict["out_of_order"]), (&Value::from(0), &Value::from(0)), "{verdict}");
        assert!(verdict["acknowledged"].as_u64().is_some_and(|count| count > 0), "{verdict}");
        assert_eq!(finished.code, 0, "{finished:?}");
        verdict
    }
}
