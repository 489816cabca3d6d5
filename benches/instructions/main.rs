//! `make bench-gate`: instructions of the hot path, which are the same however busy the machine is.
//!
//! Each kind of work runs in a process of its own under `valgrind --tool=callgrind`, which counts the instructions between
//! the begin and the end of its steps; start-up, warm-up and exit do not count. Ids, times, seeds and bytes are the same
//! in every run, and there is no socket, no thread and no clock. The result is compared with `baseline.toml` beside this
//! file, and 2 % more is a failure.
//!
//! Another compiler, C library or architecture makes other instructions, so the baseline names its own and counts with no
//! other: then nothing is compared, which is a failure, too.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads its environment and starts processes")]

mod baseline;
mod callgrind;
mod flame;
mod parts;
mod profile;
mod rig;
mod workloads;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use self::baseline::{Baseline, Toolchain};
use self::workloads::{KINDS, Kind};

/// A result is a failure from this share on above its baseline.
const TOLERANCE: f64 = 0.02;

/// Counts the instructions of the hot path
#[derive(Debug, Parser)]
struct Options {
    /// Writes the result as the new baseline instead of comparing it with the old one
    #[arg(long)]
    write: bool,

    /// Prints which parts of the bridge the instructions belong to, as a table in Markdown
    #[arg(long)]
    parts: bool,

    /// Draws a flame graph of each kind of work into a folder
    #[arg(long, value_name = "FOLDER")]
    flame: Option<PathBuf>,

    /// Does the work of that kind, with its files in FOLDER; for callgrind
    #[arg(long, hide = true, num_args = 2, value_names = ["KIND", "FOLDER"])]
    work: Vec<String>,

    /// Flag that cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let [kind, folder] = &options.work[..] {
        let Some(kind) = KINDS.into_iter().find(|known| known.name == kind) else {
            eprintln!("no kind of work is called {kind}");
            return ExitCode::FAILURE;
        };
        workloads::run(kind, Path::new(folder), callgrind::counted);
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-gate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<ExitCode, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let toolchain = Toolchain::of_this_build()?;
    let path = baseline_path();
    let baseline = if options.write { None } else { Some(Baseline::read(&path)?) };
    println!("{toolchain}");
    let mut found = BTreeMap::new();
    for kind in KINDS {
        found.insert(kind.name.to_owned(), callgrind::instructions(kind, &folder)?);
    }
    if options.parts {
        print_parts(&folder)?;
    }
    if let Some(drawings) = &options.flame {
        draw(&folder, drawings)?;
    }
    let Some(baseline) = baseline else {
        print_table(&found, &BTreeMap::new());
        Baseline { toolchain, instructions: found }.write(&path)?;
        println!("written to {}", path.display());
        return Ok(ExitCode::SUCCESS);
    };
    let other = baseline.toolchain.difference(&toolchain);
    let is_worse =
        print_table(&found, if other.is_none() { &baseline.instructions } else { const { &BTreeMap::new() } });
    if let Some(other) = other {
        return Err(format!(
            "nothing is compared: {other}. `make bench-gate BASELINE=write` writes a baseline of this one; do so on the \
             commit before yours, then compare yours with it."
        ));
    }
    if !is_worse.is_empty() {
        return Err(format!(
            "{} takes 2 % more instructions than before, or has no baseline. Where that is worth it, \
             `make bench-gate BASELINE=write`, and say why in the commit.",
            is_worse.join(", ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the table of parts, in per cent of the instructions of each kind of work.
fn print_parts(folder: &Path) -> Result<(), String> {
    let mut columns = Vec::new();
    for kind in KINDS {
        columns.push(parts::shares(&callgrind::profile(kind, folder)?));
    }
    println!("\n| part | {} |", KINDS.map(|kind| kind.name).join(" | "));
    println!("|---|{}", "---|".repeat(KINDS.len()));
    for part in parts::names() {
        let shares = columns.iter().map(|shares| {
            let total: u64 = shares.values().sum();
            shares.get(part).copied().unwrap_or_default() as f64 / total.max(1) as f64 * 100.0
        });
        let shares: Vec<f64> = shares.collect();
        if shares.iter().any(|share| *share >= 0.5) {
            let cells: Vec<String> = shares.iter().map(|share| format!("{share:.0} %")).collect();
            println!("| {part} | {} |", cells.join(" | "));
        }
    }
    Ok(())
}

fn draw(folder: &Path, drawings: &Path) -> Result<(), String> {
    std::fs::create_dir_all(drawings).map_err(|error| format!("{}: {error}", drawings.display()))?;
    for kind in KINDS {
        let profile = callgrind::profile(kind, folder)?;
        let root =
            profile.find(callgrind::COUNTED.trim_end_matches('*')).ok_or("the profile has no counted function")?;
        let messages = (kind.steps * kind.messages) as u64;
        let each = profile.functions[root].cost() / messages;
        let title = format!("{}: {}; {each} instructions", kind.name, kind.about);
        let path = drawings.join(format!("instructions-{}.svg", kind.name));
        let svg = flame::draw(&profile, root, &title, messages);
        std::fs::write(&path, svg).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("flame graphs are in {}", drawings.display());
    Ok(())
}

/// At run time, not at build time: a build folder may be shared between checkouts.
fn baseline_path() -> PathBuf {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    PathBuf::from(root).join("benches/instructions/baseline.toml")
}

/// Prints the table. What it gives are the kinds that take too much, or whose baseline is missing though there are others.
fn print_table(found: &BTreeMap<String, u64>, baseline: &BTreeMap<String, u64>) -> Vec<&'static str> {
    println!("\n{:<16} {:>26} {:>10} {:>11}", "workload", "instructions per message", "baseline", "difference");
    let mut is_worse = Vec::new();
    for Kind { name, about, .. } in KINDS {
        let count = found.get(name).copied().unwrap_or_default();
        let before = baseline.get(name).copied();
        let difference = before.map(|before| count as f64 / before as f64 - 1.0);
        let is_too_much = match difference {
            Some(difference) => difference >= TOLERANCE,
            None => !baseline.is_empty(),
        };
        if is_too_much {
            is_worse.push(name);
        }
        println!(
            "{name:<16} {count:>26} {:>10} {:>11}  {}{about}",
            before.map_or_else(|| "-".to_owned(), |before| before.to_string()),
            difference.map_or_else(|| "-".to_owned(), |difference| format!("{:+.2} %", difference * 100.0)),
            if is_too_much { "TOO MUCH: " } else { "" },
        );
    }
    println!();
    if baseline
        .iter()
        .any(|(name, &before)| found.get(name).is_some_and(|&count| (count as f64) < before as f64 * (1.0 - TOLERANCE)))
    {
        println!("Some take 2 % less than before: `make bench-gate BASELINE=write` keeps it so.");
    }
    is_worse
}
