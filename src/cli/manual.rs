//! `manual`: the manual pages, one a subcommand, written from the same words as `--help`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use super::CommandLine;

/// Writes the manual pages into a folder
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(after_help = crate::cli::examples::MANUAL)]
pub struct ManualArgs {
    /// A folder that exists; man -l FOLDER/jetlinks-bridge.1 shows the first page
    pub folder: PathBuf,
}

/// Writes `jetlinks-bridge.1` and one page for each subcommand. Exit code 1 when a file cannot be written.
pub fn run(args: &ManualArgs, err: &mut dyn Write) -> ExitCode {
    match clap_mangen::generate_to(CommandLine::command(), &args.folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed as well.
            let _ = writeln!(err, "jetlinks-bridge: {}: {error}", args.folder.display());
            ExitCode::FAILURE
        }
    }
}
