//! A device that keeps its worker as busy as it can, and another one that does what it always does.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::flood::{Beside, Flood, per_second};
use crate::support::bridge::by_build;
use crate::support::wire::dial;
use crate::support::{Bridge, Connect, Registration, Registry, Settings, Wire, packet};

/// How many packets of another device a bystander may wait for in the median, and beside an optimised bridge at worst. A turn is one of them; without
/// turns it is 61, as many tasks as the runtime polls before it looks at its sockets.
const TURNS: (u32, u32) = (6, 20);

/// Below this a packet is as short as any.
const UNREMARKABLE: Duration = Duration::from_millis(5);

/// Messages of the bystander.
const MESSAGES: u16 = 40;

/// A connection that says the same as fast as it can, until it is dropped.
struct Repeating {
    is_over: Arc<AtomicBool>,
    begin: Instant,
    written: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Repeating {
    fn start(bridge: &Bridge, device: &Registration, packet: Vec<u8>) -> Self {
        let mut stream = dial(bridge.mqtt());
        stream.write_all(&Connect::of(device).bytes()).unwrap();
        let mut accepted = [0; 4];
        stream.read_exact(&mut accepted).unwrap();
        let (is_over, mut answers) = (Arc::new(AtomicBool::new(false)), stream.try_clone().unwrap());
        let (own, begin, written) = (is_over.clone(), Instant::now(), Arc::new(AtomicUsize::new(0)));
        let counter = written.clone();
        let writing = thread::spawn(move || {
            while !own.load(Ordering::Relaxed) && stream.write_all(&packet).is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            drop(stream.shutdown(Shutdown::Both));
        });
        // A device that does not read its answers is not read.
        let reading = thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            while answers.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        Self { is_over, begin, written, threads: vec![writing, reading] }
    }

    /// Packets written in a second so far.
    fn rate(&self) -> f64 {
        self.written.load(Ordering::Relaxed) as f64 / self.begin.elapsed().as_secs_f64()
    }
}

impl Drop for Repeating {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Objects inside each other, each with `keys` members of which two have the same name.
fn nested(depth: usize, keys: usize) -> String {
    let members = |inner: &str| {
        let numbered: String = (0..keys).map(|key| format!(r#""k{key}":1,"#)).collect();
        format!(r#"{{{numbered}"k0":{inner}}}"#)
    };
    (0..depth).fold("1".to_owned(), |inner, _| members(&inner))
}

fn members(count: usize, name: &str) -> String {
    let members: Vec<String> = (0..count).map(|number| format!(r#""{name}{number}":1"#)).collect();
    format!(r#"{{"properties":{{{}}}}}"#, members.join(","))
}

/// The time from a packet to its answer, at worst of some.
fn time_alone(wire: &mut Wire, packet: &[u8], answer: u8) -> Duration {
    let once = |_| {
        let begun = Instant::now();
        wire.send(packet);
        assert_eq!(wire.next_packet().header, answer);
        begun.elapsed()
    };
    (0..5).map(once).max().unwrap().max(UNREMARKABLE)
}

#[test]
fn a_device_that_sends_the_most_laborious_packets_delays_another_by_a_few_of_them() {
    let (registry, devices) = Registry::numbered(3);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    bridge.forget_lines();
    let (bystander, busy) = (devices[0].clone(), devices[1].clone());
    let filters: Vec<String> = (0..10_000).map(|number| busy.topic(&number.to_string())).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (&filter[..], 1)).collect();
    let report = |payload: &str, qos: u8| {
        packet::publish(&busy.topic("properties/report"), payload.as_bytes(), qos, u16::from(qos))
    };
    let payloads = [
        ("23,000 keys", members(23_000, "k")),
        ("duplicates at 58 depths", format!(r#"{{"properties":{}}}"#, nested(58, 450))),
        ("14,000 escaped keys", members(14_000, r"\u006b")),
    ];
    let subscribe = packet::subscribe(1, &filters);
    let mut rows = vec![("10,000 filters", subscribe.clone(), subscribe, 0x90)];
    rows.extend(payloads.map(|(name, payload)| (name, report(&payload, 1), report(&payload, 0), packet::PUBACK)));
    let mut good = Wire::connect(bridge.mqtt(), &bystander);
    let mut late = Vec::new();
    for (name, alone, repeated, answer) in rows {
        assert!(alone.len() <= 256 * 1024, "{name}: {} bytes", alone.len());
        let mut wire = Wire::connect(bridge.mqtt(), &busy);
        let turn = time_alone(&mut wire, &alone, answer);
        wire.send(&packet::DISCONNECT);
        wire.wait_closed();
        let beside = Beside::start(bridge.mqtt(), &devices[2]);
        let flood = Repeating::start(&bridge, &busy, repeated);
        let mut times: Vec<Duration> = (1..=MESSAGES)
            .map(|id| {
                let begun = Instant::now();
                good.publish_acknowledged(&bystander.topic("tags"), r#"{"tags":{"a":1}}"#, id);
                begun.elapsed()
            })
            .collect();
        late.extend(beside.bear_one(&format!("one device, {name}"), per_second(|| flood.rate(), "packets")));
        drop(flood);
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{name}: one takes {turn:?}, the other device waits {median:?}, at worst {worst:?}");
        let worst_bound = by_build(worst, turn * TURNS.1);
        assert!(median <= turn * TURNS.0 && worst <= worst_bound, "{name}: {median:?}, {worst:?} of {turn:?}");
    }
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_device_that_connects_and_breaks_without_end_delays_no_other() {
    let (registry, devices) = Registry::numbered(2);
    let bridge = Bridge::start(&Settings::stdio(&registry).toml("limits.connect_rate", "100000"));
    let (address, connect) = (bridge.mqtt(), Connect::of(&devices[1]).bytes());
    let beside = Beside::start(address, &devices[0]);
    let flood = Flood::unbounded(move |_| {
        let mut stream = dial(address);
        stream.write_all(&connect).unwrap();
        // 0 or, once it has come too often, 3; then it is gone without a word.
        stream.read_exact(&mut [0; 4]).unwrap();
    });
    let late = beside.bear_one("one device connects and breaks", per_second(|| flood.rate(), "CONNECTs"));
    assert_eq!(late, None);
}
