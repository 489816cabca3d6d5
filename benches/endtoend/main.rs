//! `make bench`: what an acknowledged message costs, beside Mosquitto on the same machine in the same minute.
//!
//! For every load and round each peer gets a fresh server and the same simulated devices. The peers take turns, and
//! every other round in reverse, so that a machine that grows busier does not favour one. Between two moments of steady
//! load the processor time of the server and the acknowledged messages are read; the ratio is taken inside a round, the
//! table shows medians over rounds, `--json` writes every round. Peers that somebody watches run beside the
//! same peer unwatched, both on one core and their devices on another: a few per cent show in no other way. With
//! `--beside` bridges run beside those of another build in the same way.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark owns the clock, the sockets and the processes that it starts"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod broker;
mod cores;
mod deployment;
mod devices;
mod growth;
mod json;
mod load;
mod machine;
mod measurement;
mod options;
mod peer;
mod plot;
mod processor;
mod scraper;
mod server;
mod table;

use std::fs;
use std::process::ExitCode;

use clap::Parser;

use self::cores::Cores;
use self::deployment::Deployment;
use self::growth::Curve;
use self::machine::Machine;
use self::measurement::{measure, measure_both, own_program};
use self::options::Options;
use self::peer::{Peer, Queues};
use self::table::Table;

fn main() -> ExitCode {
    let options = Options::parse();
    machine::raise_file_limit();
    let (mut peers, mut versions) = (Vec::new(), Vec::new());
    for peer in options.peers() {
        match peer.version() {
            Some(version) => {
                println!("{peer}: {version}");
                versions.push((peer.to_string(), version));
                peers.push(peer);
            }
            None => println!("{peer}: MISSING, left out: {}", peer.source()),
        }
    }
    let machine = Machine::find();
    println!("machine: {machine}");
    let (mut table, mut curves) = (Table::default(), Vec::new());
    if options.grow.is_empty() {
        table = compare(&options, &peers);
        println!("\n{}", table.render(&options.loads, &peers));
    } else {
        curves = grow(&options, &peers);
    }
    let is_complete = match options.grow.is_empty() {
        true => table.is_complete(&options.loads, &peers, options.rounds),
        false => !curves.is_empty() && curves.iter().all(Curve::is_complete),
    };
    let results = json::Results { options: &options, machine, versions, peers: &peers, table: &table, curves: &curves };
    if let Err(error) = write(&results) {
        println!("a file could not be written: {error}");
        return ExitCode::FAILURE;
    }
    if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures every peer under every load, round by round.
fn compare(options: &Options, peers: &[Peer]) -> Table {
    let mut queues = Queues::default();
    let mut table = Table::default();
    for round in 0..options.rounds {
        queues.renew();
        for &load in &options.loads {
            let mut turn = peers.to_vec();
            if !round.is_multiple_of(2) {
                turn.reverse();
            }
            for peer in turn.into_iter().filter(|peer| peer.takes(load)) {
                let seconds = options.seconds;
                // A watched peer is measured beside the bare one, on one core at the same time.
                let reference = match &options.beside {
                    Some(other) if peer.is_bridge() => Some((peer, other.as_path(), Cores::SHARED)),
                    _ if options.pairs && peer.is_bridge() && Peer::Mosquitto.takes(load) => {
                        Some((Peer::Mosquitto, own_program(), Cores::of_pair()))
                    }
                    _ => peer.unwatched().map(|bare| (bare, own_program(), Cores::SHARED)),
                };
                let measured = match reference {
                    None => measure(peer, load, Deployment::default(), seconds, options.half, &mut queues)
                        .map(|figures| (None, figures)),
                    Some((other, program, cores)) => {
                        measure_both([(other, program), (peer, own_program())], load, cores, seconds, &mut queues)
                            .map(|[reference, figures]| (Some(reference), figures))
                    }
                };
                match measured {
                    Ok((reference, figures)) => {
                        println!("round {}, {load}, {peer}: {figures}", round + 1);
                        if let Some(reference) = reference {
                            println!("round {}, {load}, beside it: {reference}", round + 1);
                        }
                        table.add(load, peer, round, figures, reference);
                    }
                    Err(error) => println!("round {}, {load}, {peer}: FAILED: {error}", round + 1),
                }
            }
        }
    }
    table
}

/// Measures every growth of every peer that is a bridge.
fn grow(options: &Options, peers: &[Peer]) -> Vec<Curve> {
    let mut curves = Vec::new();
    for growth in &options.grow {
        for &peer in peers.iter().filter(|peer| peer.is_bridge()) {
            let curve = growth.measure(peer, options.rounds, options.seconds, &mut |line| println!("{line}"));
            println!("\n{}", curve.table());
            curves.push(curve);
        }
    }
    curves
}

/// Writes the files that were asked for.
fn write(results: &json::Results<'_>) -> std::io::Result<()> {
    if let Some(path) = &results.options.json {
        fs::write(path, results.render())?;
    }
    let Some(folder) = &results.options.plots else { return Ok(()) };
    fs::create_dir_all(folder)?;
    results.curves.iter().try_for_each(|curve| fs::write(folder.join(curve.file_name()), curve.plot()))
}
