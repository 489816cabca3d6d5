//! `shed`: replicas end some of their sessions, so that devices connect again and spread over all replicas.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::admin::{self, ANSWER_TIMEOUT, AdminClient};
use super::block_on;
use super::check::EXIT_CONFIGURATION;
use super::input::configuration;
use super::output::{self, Output};
use crate::config::Sources;
use crate::protocol::address;
use crate::telemetry::admin::{RATE_DEFAULT, RATE_MAX};

/// How often `--wait` asks where the sheds stand.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Lets replicas shed sessions, so that devices spread over all of them
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group(ArgGroup::new("action").required(true).args(["to", "sessions", "status", "stop"])))]
#[command(after_help = crate::cli::examples::SHED)]
pub struct ShedArgs {
    /// End sessions until each replica has so many; mean: what all have on average, and a fiftieth more
    #[arg(long, value_name = "N|mean")]
    pub to: Option<Target>,

    /// End so many sessions of each replica
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sessions: Option<u64>,

    /// Show where it stands
    #[arg(long)]
    pub status: bool,

    /// End no more sessions
    #[arg(long)]
    pub stop: bool,

    /// Sessions that each replica ends in a second
    #[arg(long, value_name = "N", default_value_t = RATE_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    pub rate: u32,

    /// Wait until all have come to their end
    #[arg(long, conflicts_with = "stop")]
    pub wait: bool,

    /// Only the replica with this id or host name; may be repeated [default: all]
    #[arg(long, value_name = "ID")]
    pub replica: Vec<String>,

    /// Only the replica that is asked: where replicas do not hear each other
    #[arg(long, conflicts_with = "replica")]
    pub this_replica: bool,

    /// A replica to ask [default: admin.listen of the configuration, whose admin.token is shown, else 127.0.0.1:9090]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,

    /// How to print; json: the object of /api/shed
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// The number of sessions that each replica has at most once its shed is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This number.
    Number(u64),
    /// The average of all replicas, and 2 % more.
    Mean,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mean" => Ok(Target::Mean),
            number => number.parse().map(Target::Number).map_err(|_| "neither a number nor mean".to_owned()),
        }
    }
}

/// Prints where the sheds stand. Exit code 1 when the bridge refuses, does not answer, or a replica has given up, 78 when
/// the configuration has mistakes.
pub fn run(args: &ShedArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Some(config) = configuration(sources, err) else { return ExitCode::from(EXIT_CONFIGURATION) };
    let client = AdminClient::new(args.address.as_ref(), &config);
    match block_on(shed(args, &client)).map_err(anyhow::Error::from).flatten() {
        Ok(report) => {
            let text = match args.output {
                Output::Text => table(&report),
                Output::Json => format!("{report}\n"),
            };
            // Nobody is left to tell when stdout is closed; the exit code still tells.
            let _ = out.write_all(output::escaped_lines(&text).as_bytes());
            if states(&report).any(|state| state == "gave_up") { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "shed: {}: {}", client.address, output::escaped(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

async fn shed(args: &ShedArgs, client: &AdminClient<'_>) -> anyhow::Result<Value> {
    let path = format!("/api/shed?{}", query(args));
    let mut report = if args.status {
        ask(client, Method::GET, &path, String::new()).await?
    } else if args.stop {
        ask(client, Method::DELETE, &path, String::new()).await?
    } else {
        ask(client, Method::POST, "/api/shed", body(args).to_string()).await?
    };
    while args.wait && states(&report).any(|state| state == "running" || state == "waiting") {
        sleep(POLL_INTERVAL).await;
        report = ask(client, Method::GET, &path, String::new()).await?;
    }
    Ok(report)
}

/// The query that names the replicas, of requests without a body.
fn query(args: &ShedArgs) -> String {
    if args.this_replica {
        return "replicas=this".to_owned();
    }
    if args.replica.is_empty() {
        return "replicas=all".to_owned();
    }
    let names = args.replica.iter().map(|name| format!("replica={}", address::segment(name)));
    names.collect::<Vec<_>>().join("&")
}

fn body(args: &ShedArgs) -> Value {
    let replicas = match (args.this_replica, args.replica.is_empty()) {
        (true, _) => json!("this"),
        (false, true) => json!("all"),
        (false, false) => json!(args.replica),
    };
    let rate = args.rate;
    // Exactly one of the two is set: `--status` and `--stop`, the others of their group, send no body.
    match (args.to, args.sessions) {
        (Some(Target::Mean), _) => json!({ "to": "mean", "rate": rate, "replicas": replicas }),
        (Some(Target::Number(to)), _) => json!({ "to": to, "rate": rate, "replicas": replicas }),
        (None, sessions) => json!({ "sessions": sessions, "rate": rate, "replicas": replicas }),
    }
}

async fn ask(client: &AdminClient<'_>, method: Method, path: &str, body: String) -> anyhow::Result<Value> {
    let answer = async { admin::json(client.ask(method, path, body).await?).await };
    timeout(ANSWER_TIMEOUT, answer).await.context("no answer")?
}

fn replicas(report: &Value) -> impl Iterator<Item = &Value> {
    report["replicas"].as_array().into_iter().flatten()
}

fn states(report: &Value) -> impl Iterator<Item = &str> {
    replicas(report).filter_map(|replica| replica["state"].as_str())
}

fn table(report: &Value) -> String {
    let text = |replica: &Value, member: &str| match &replica[member] {
        Value::String(text) => output::escaped(text).into_owned(),
        Value::Null => "-".to_owned(),
        value => value.to_string(),
    };
    let mut table = format!(
        "{:<40} {:>9} {:>8} {:>9} {:>7} {:>7} {:>6}\n",
        "replica", "sessions", "state", "to", "left", "ended", "rate"
    );
    for replica in replicas(report) {
        let [id, sessions, state, to, left, ended, rate] =
            ["replicaId", "sessions", "state", "to", "left", "ended", "rate"].map(|member| text(replica, member));
        // Writing into a text does not fail.
        let _written = writeln!(table, "{id:<40} {sessions:>9} {state:>8} {to:>9} {left:>7} {ended:>7} {rate:>6}");
    }
    for id in report["missing"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let id = output::escaped(id);
        let _written = writeln!(table, "{id:<40} did not answer");
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Action, CommandLine};
    use super::*;

    fn args(line: &[&str]) -> Result<ShedArgs, clap::error::ErrorKind> {
        let line = ["jetlinks-bridge", "shed"].iter().chain(line);
        let line = CommandLine::try_parse_from(line).map_err(|error| error.kind())?;
        let Action::Shed(args) = line.action else { panic!("{:?}", line.action) };
        Ok(args)
    }

    #[test]
    fn all_replicas_are_meant_unless_the_line_says_otherwise() {
        for (line, expected, queried) in [
            (&["--to", "mean"][..], json!({"to": "mean", "rate": 200, "replicas": "all"}), "replicas=all"),
            (
                &["--to", "7", "--rate", "500", "--this-replica"],
                json!({"to": 7, "rate": 500, "replicas": "this"}),
                "replicas=this",
            ),
            (
                &["--sessions", "9", "--replica", "a b", "--replica", "c"],
                json!({"sessions": 9, "rate": 200, "replicas": ["a b", "c"]}),
                "replica=a%20b&replica=c",
            ),
        ] {
            let args = args(line).expect("a good line");
            assert_eq!((body(&args), query(&args)), (expected, queried.to_owned()));
        }
    }

    #[test]
    fn one_thing_is_asked_for_and_no_number_is_out_of_bounds() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, ValueValidation};
        for (line, wrong) in [
            (&[][..], MissingRequiredArgument),
            (&["--to", "mean", "--sessions", "5"], ArgumentConflict),
            (&["--to", "median"], ValueValidation),
            (&["--sessions", "0"], ValueValidation),
            (&["--to", "1", "--rate", "0"], ValueValidation),
            (&["--to", "1", "--rate", "10001"], ValueValidation),
            (&["--stop", "--wait"], ArgumentConflict),
            (&["--to", "1", "--replica", "a", "--this-replica"], ArgumentConflict),
        ] {
            assert_eq!(args(line).err(), Some(wrong), "{line:?}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_replica_and_for_each_that_did_not_answer() {
        let report = json!({
            "replicas": [
                {"replicaId": "bridge-1", "sessions": 180, "state": "running", "to": 153, "rate": 200, "ended": 4, "left": 27},
                {"replicaId": "bridge-2", "sessions": 3, "state": "none", "rate": 0, "ended": 0, "left": 0},
            ],
            "missing": ["bridge-3"],
        });
        let table = table(&report);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["bridge-1", "180", "running", "153", "27", "4", "200"]);
        assert_eq!(lines[2], ["bridge-2", "3", "none", "-", "0", "0", "0"]);
        assert_eq!(lines[3], ["bridge-3", "did", "not", "answer"]);
    }
}
