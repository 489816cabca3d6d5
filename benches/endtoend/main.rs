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

mod curve;
mod json;
mod load;
mod machine;
mod measurement;
mod options;
mod peer;
mod processor;
mod scraper;
mod table;

use std::fs;
use std::process::ExitCode;

use clap::Parser;

use self::machine::Machine;
use self::measurement::{measure, measure_both, own_program};
use self::options::Options;
use self::peer::Queues;
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
            None => println!("{peer}: MISSING, left out; `make tools` installs it"),
        }
    }
    let machine = Machine::find();
    println!("machine: {machine}");
    let mut queues = Queues::default();
    let mut table = Table::default();
    for round in 0..options.rounds {
        queues.renew();
        for &load in &options.loads {
            let mut turn = peers.clone();
            if !round.is_multiple_of(2) {
                turn.reverse();
            }
            for peer in turn.into_iter().filter(|peer| peer.takes(load)) {
                // A watched peer is measured beside the bare one, on one core at the same time.
                let reference = match &options.beside {
                    Some(other) if peer.is_bridge() => Some((peer, other.as_path())),
                    _ => peer.unwatched().map(|bare| (bare, own_program())),
                };
                let measured = match reference {
                    None => {
                        measure(peer, load, options.seconds, options.half, &mut queues).map(|figures| (None, figures))
                    }
                    Some(reference) => {
                        measure_both([reference, (peer, own_program())], load, options.seconds, &mut queues)
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
    println!("\n{}", table.render(&options.loads, &peers));
    let results = json::Results { options: &options, machine, versions, peers: &peers, table: &table };
    let written = [
        options.json.as_ref().map(|path| fs::write(path, results.render())),
        options.curve.as_ref().map(|path| fs::write(path, curve::draw(&results))),
    ];
    if let Some(error) = written.into_iter().flatten().find_map(Result::err) {
        println!("a file could not be written: {error}");
        return ExitCode::FAILURE;
    }
    if table.is_complete(&options.loads, &peers, options.rounds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
