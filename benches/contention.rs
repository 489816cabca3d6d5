//! What threads that share a structure of the replica cost each other.
//!
//! `cargo bench --bench contention`; prints nanoseconds of an operation, which a thread that is pinned to a core of its own does over
//! and over: alone, while others do the same on the same structure, and while they do it each on its own, which tells what
//! the machine shares from what the structure does. A worker does such an operation once a message or once a
//! connection, and works for microseconds between two of them, so this is the worst that sharing can cost.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints what it measures")]

#[path = "endtoend/machine.rs"]
#[expect(dead_code, reason = "nothing here takes many descriptors")]
mod machine;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::limit::Now;
use jetlinks_bridge::protocol::uplink::{DeliveryId, Inbox, Receipt, SlotId};
use jetlinks_bridge::queue::nats::NatsStats;
use jetlinks_bridge::registry::FileRegistry;
use jetlinks_bridge::replica::{Directory, Entry, WorkerMessage, WorkerSender};
use jetlinks_bridge::transport::{ConnectionLimit, SocketBounds};

use self::support::Registry;

/// Devices of a thread.
const DEVICES: usize = 5_000;

/// Time of one round; operations are counted in it.
const ROUND: Duration = Duration::from_millis(100);

/// Operations between two looks at the clock.
const BATCH: usize = 500;

/// Cost of the structures that workers share
#[derive(Debug, Parser)]
struct Options {
    /// Threads at the same time, each on a core of its own; by default 1 and all cores
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Rounds, of which the median is told
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    println!("machine: {}", machine::Machine::find());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads.is_empty() { vec![1, cores] } else { options.threads };
    let bench = Bench { threads, rounds: options.rounds };
    println!("| shared by workers | operation | touched once a | threads | ns, one for all | ns, one each |");
    println!("|---|---|---|---|---|---|");
    bench.run(("`NatsStats`", "two counters", "turn of a connection"), NatsStats::default, |stats, _, _| {
        stats.published.fetch_add(1, Ordering::Relaxed);
        stats.stored.fetch_add(1, Ordering::Relaxed);
    });
    let limit = || ConnectionLimit::new(100_000, SocketBounds::new(100_000));
    bench.run(("`ConnectionLimit`", "enter and leave", "connection"), limit, |limit, _, _| {
        black_box(limit.enter());
        limit.leave();
    });
    let ids: Vec<DeviceId> = (0..64 * DEVICES).map(|number| id(&format!("device{number}"))).collect();
    let ids = Arc::new(ids);
    let of =
        |ids: &[DeviceId], thread: usize, number: usize| ids[(thread * DEVICES + number % DEVICES) % ids.len()].clone();
    let own = Arc::clone(&ids);
    bench.run(
        ("`Directory`", "enter and remove", "connection"),
        Directory::default,
        move |directory, thread, number| {
            let device = of(&own, thread, number);
            // As a device may connect once a second, a second passes with each operation.
            let now = Now { unix_ms: number as u64 * 1_000, us: number as u64 * 1_000_000 };
            let entry = entry(thread);
            let slot = entry.slot;
            black_box(directory.enter(device.clone(), entry, now));
            black_box(directory.remove(&device, thread, slot, now.us));
        },
    );
    let filled = {
        let ids = Arc::clone(&ids);
        move || {
            let directory = Directory::default();
            for device in ids.iter().take(20_000) {
                directory.enter(device.clone(), entry(0), Now { unix_ms: 1, us: 1 });
            }
            directory
        }
    };
    let own = Arc::clone(&ids);
    bench.run(("`Directory`", "find", "command from Kafka"), filled, move |directory, thread, number| {
        black_box(directory.find(own[(thread * 7_919 + number) % 20_000].as_str()));
    });
    let (registry, _) = Registry::numbered(20_000);
    let open = || FileRegistry::open(&registry.path(), false).expect("the file was written for this");
    let own = Arc::clone(&ids);
    bench.run(("`FileRegistry`", "look-up", "connection"), open, move |registry, thread, number| {
        black_box(registry.device(own[1 + (thread * 7_919 + number) % 19_999].as_str()));
    });
    // The first thread is the one that reads.
    bench.run(("`Inbox`", "post a receipt, take all", "message of Kafka"), Inbox::new, |inbox, thread, _| {
        inbox.post_one(Receipt::Stored(DeliveryId { slot: SlotId { index: 1, generation: 1 }, sequence: 1 }));
        if thread == 0 {
            let poll = inbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut Vec::new());
            assert!(poll.is_ready(), "a receipt was posted");
        }
    });
    let mailbox = || {
        let (sender, receiver) = WorkerSender::new();
        (sender, Mutex::new(receiver))
    };
    bench.run(("`WorkerSender`", "send, take all", "takeover"), mailbox, |(sender, receiver), thread, _| {
        sender.send(WorkerMessage::Drain { per_second: 1 });
        if thread == 0 {
            let mut receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
            while receiver.try_recv().is_ok() {}
        }
    });
}

fn id(text: &str) -> DeviceId {
    DeviceId::new(text).expect("a short name")
}

fn entry(worker: usize) -> Entry {
    Entry {
        worker,
        slot: SlotId { index: worker as u32, generation: 1 },
        product: ProductId::new("product1").expect("a short name"),
        session: "01JDA0Z6W3T2V4X8Y0ABCDEFGH".into(),
        peer: "192.0.2.1:50000".into(),
        connected_ms: 1,
        since: 0,
        replaces: false,
    }
}

/// See the module.
struct Bench {
    threads: Vec<usize>,
    rounds: usize,
}

impl Bench {
    /// Prints the rows of a structure: its name, the operation and how often a worker does it. The operation gets the thread's
    /// number and how many it has done.
    fn run<S: Send + Sync>(
        &self,
        (name, operation, times): (&str, &str, &str),
        make: impl Fn() -> S,
        operate: impl Fn(&S, usize, usize) + Sync,
    ) {
        for &threads in &self.threads {
            let shared = self.median(|| {
                let one = make();
                round(&vec![&one; threads], &operate)
            });
            let apart = self.median(|| {
                let each: Vec<S> = (0..threads).map(|_| make()).collect();
                round(&each.iter().collect::<Vec<_>>(), &operate)
            });
            println!("| {name} | {operation} | {times} | {threads} | {shared:.0} | {apart:.0} |");
        }
    }

    fn median(&self, measure: impl Fn() -> f64) -> f64 {
        let mut rounds: Vec<f64> = (0..self.rounds).map(|_| measure()).collect();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }
}

/// Nanoseconds of an operation, the mean of threads that each operate on one of these.
fn round<S: Sync>(structures: &[&S], operate: &(impl Fn(&S, usize, usize) + Sync)) -> f64 {
    let barrier = &Barrier::new(structures.len());
    let sum: f64 = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (thread, &structure) in structures.iter().enumerate() {
            threads.push(scope.spawn(move || {
                pin(thread);
                barrier.wait();
                let (begin, mut done) = (Instant::now(), 0);
                while begin.elapsed() < ROUND {
                    (done..done + BATCH).for_each(|number| operate(structure, thread, number));
                    done += BATCH;
                }
                begin.elapsed().as_secs_f64() * 1e9 / done as f64
            }));
        }
        threads.into_iter().map(|thread| thread.join().expect("an operation panicked")).sum()
    });
    sum / structures.len() as f64
}

/// Keeps this thread on a core. Without `taskset` threads run where the system puts them.
fn pin(core: usize) {
    let Ok(thread) = fs::read_link("/proc/thread-self") else { return };
    let Some(id) = thread.file_name() else { return };
    let mut call = Command::new("taskset");
    call.args(["--cpu-list", "--pid", &core.to_string()]).arg(id).stdout(Stdio::null());
    drop(call.status());
}
