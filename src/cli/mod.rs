//! The subcommands.

mod admin;
pub mod check;
pub mod credentials;
pub mod devices;
pub mod envelope;
mod examples;
pub mod explain;
pub mod health;
pub mod input;
pub mod lookup;
pub mod manual;
pub mod output;
pub mod run;
pub mod schema;
pub mod send;
pub mod shed;
pub mod simulate;
pub mod tail;
pub mod trace;
pub mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use self::check::CheckArgs;
use self::credentials::CredentialsArgs;
use self::devices::DevicesArgs;
use self::explain::ExplainArgs;
use self::health::HealthArgs;
use self::input::SourceArgs;
use self::manual::ManualArgs;
use self::run::RunArgs;
use self::schema::SchemaArgs;
use self::send::SendArgs;
use self::shed::ShedArgs;
use self::simulate::SimulateArgs;
use self::tail::TailArgs;
use self::trace::TraceArgs;
use self::verify::VerifyArgs;

/// Bridges devices that speak the JetLinks official protocol to Kafka, NATS or stdout
#[derive(Debug, Parser)]
#[command(name = "jetlinks-bridge", version)]
pub struct CommandLine {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub action: Action,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run the bridge
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// Check the configuration and print it as resolved
    Check(CheckArgs),
    /// Print a script that lets a shell complete commands and arguments
    Completions(CompletionsArgs),
    /// Print user name and password of a device, valid for five minutes
    Credentials(CredentialsArgs),
    /// List and change the devices in the registry of NATS KV
    Devices(DevicesArgs),
    /// Show what becomes of a message or of a command
    Explain(ExplainArgs),
    /// Check that a running bridge is alive
    Health(HealthArgs),
    /// Write the manual pages into a folder
    Manual(ManualArgs),
    /// Print JSON Schemas of what the bridge writes and reads, an AsyncAPI and an OpenAPI document
    Schema(SchemaArgs),
    /// Send a command to a device and print its outcome
    Send(SendArgs),
    /// Let replicas shed sessions, so that devices spread over all of them
    Shed(ShedArgs),
    /// Simulate devices
    Simulate(Box<SimulateArgs>),
    /// Print envelopes as they are stored
    Tail(TailArgs),
    /// Show what happens to a device, while it happens
    Trace(TraceArgs),
    /// Compare a ledger of simulated devices with the queue
    Verify(VerifyArgs),
}

/// Prints a script that lets a shell complete commands and arguments
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(after_help = examples::COMPLETIONS)]
pub struct CompletionsArgs {
    /// The shell; source <(jetlinks-bridge completions bash)
    #[arg(value_parser = PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>()))]
    pub shell: Shell,
}

/// Prints the script to `out`. Exit code 1 when nobody takes it.
pub fn print_completions(args: &CompletionsArgs, out: &mut dyn Write) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "jetlinks-bridge", &mut script);
    if out.write_all(&script).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs I/O of a subcommand to its end, on this thread.
fn block_on<F: Future>(work: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_a_script_with_every_subcommand() {
        let command = CommandLine::command();
        for shell in ["bash", "zsh", "fish"] {
            let line = CommandLine::try_parse_from(["jetlinks-bridge", "completions", shell]).expect("a shell");
            let Action::Completions(args) = line.action else { panic!("{:?}", line.action) };
            let mut script = Vec::new();
            assert_eq!(format!("{:?}", print_completions(&args, &mut script)), format!("{:?}", ExitCode::SUCCESS));
            let script = String::from_utf8(script).expect("a script is text");
            let missing: Vec<_> = command.get_subcommands().filter(|one| !script.contains(one.get_name())).collect();
            assert!(missing.is_empty(), "{shell}: {missing:?}");
        }
        assert!(CommandLine::try_parse_from(["jetlinks-bridge", "completions", "powershell"]).is_err());
    }

    #[test]
    fn the_help_of_output_says_what_the_json_of_that_subcommand_holds() {
        let mut command = CommandLine::command();
        command.build();
        let devices = command.find_subcommand("devices").expect("there is one");
        let of = |command: &clap::Command| {
            let output = command.get_arguments().find(|argument| argument.get_id() == "output")?;
            let shapes = output.get_possible_values();
            let shapes = shapes.iter().filter_map(|shape| Some(shape.get_help()?.to_string()));
            assert_eq!(shapes.collect::<Vec<_>>(), ["For people", "For programs"], "{}", command.get_name());
            Some((command.get_name().to_owned(), output.get_help()?.to_string().contains("json")))
        };
        let told: Vec<_> = command.get_subcommands().chain(devices.get_subcommands()).filter_map(of).collect();
        let expected =
            ["run", "check", "credentials", "explain", "shed", "simulate", "trace", "verify", "ls", "get", "export"];
        assert_eq!(told, expected.map(|name| (name.to_owned(), true)));
    }
}
