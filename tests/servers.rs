//! The real servers that other tests rely on do what those tests rely on.
#![expect(clippy::disallowed_methods, reason = "a test takes the place of a server")]

#[path = "support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use support::{Folder, Kafka, Nats, Process, Stopwatch, eventually, port, stopwatch, tool};

#[test]
fn a_nats_server_that_was_killed_comes_back_with_its_streams_on_the_same_port() {
    let mut nats = Nats::start();
    let before = nats.url();
    let added = nats.run_cli(&["stream", "add", "S1", "--subjects", "s1.>", "--storage", "file", "--defaults"]);
    assert!(added.status.success(), "{added:?}");
    let sent = nats.run_cli(&["pub", "--jetstream", "s1.x", "m1"]);
    assert!(sent.status.success(), "{sent:?}");

    nats.kill9();
    assert!(!port::is_open(nats.address()));
    nats.restart();

    assert_eq!(nats.url(), before);
    let read = nats.run_cli(&["stream", "get", "S1", "1", "--json"]);
    let message: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(message["subject"], "s1.x", "{read:?}");
}

#[test]
fn a_kafka_broker_that_was_killed_comes_back_with_its_records_on_the_same_port() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    let mut kafka = Kafka::start_with_topics(&["t1"], 3);
    let before = kafka.brokers();
    let producer: BaseProducer = kafka.client().set("acks", "all").create().unwrap();
    for number in 0..100 {
        producer.send(BaseRecord::to("t1").key("device1").payload(&number.to_string())).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();

    kafka.kill9();
    kafka.restart();

    assert_eq!(kafka.brokers(), before);
    let read = kafka.run_kcat(&["-C", "-t", "t1", "-e", "-q", "-K", ":"]);
    let lines: Vec<String> = String::from_utf8_lossy(&read.stdout).lines().map(str::to_owned).collect();
    let expected: Vec<String> = (0..100).map(|number| format!("device1:{number}")).collect();
    assert_eq!(lines, expected, "{read:?}");
}

#[test]
fn a_port_that_was_handed_out_stays_for_the_servers_of_this_test() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free_port()));
    for server in 1..=2 {
        // As another test asks for a port, and as the kernel looks for one.
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(other.bind(&address.into()).is_err(), "before server {server} it is anybody's");
        drop(TcpListener::bind(address).expect("a server may have it"));
    }
}

#[test]
fn a_server_ends_with_the_value_that_started_it() {
    let nats = Nats::start();
    let (address, id) = (nats.address(), nats.process().id());
    drop(nats);
    assert!(!port::is_open(address));
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn the_servers_of_the_tours_listen_on_loopback_and_leave_nothing_behind() {
    let tools = tool::installed("venv/bin/nats-server").ancestors().nth(3).unwrap().to_owned();
    for server in ["nats", "kafka"] {
        let folder = Folder::new(server);
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        // Kafka takes the next port as well.
        let port = eventually("two ports are free", Duration::from_secs(60), || {
            let (port, next) = (port::free_port(), port::free_port());
            (next == port + 1).then_some(port)
        });
        let mut serve = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/serve"));
        serve.arg(server).arg(&tools).arg(port.to_string()).env("TMPDIR", &data);
        let mut process = Process::start(&mut serve, &folder.path().join("log"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually("the server listens", Duration::from_secs(60), || {
            assert!(process.ended().is_none(), "{server} has ended");
            port::is_open(address).then_some(())
        });
        process.signal(libc::SIGTERM);
        assert_eq!(process.exit_code(Duration::from_secs(60)), 0, "{server}");
        assert!(!port::is_open(address), "{server}");
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "{server} left files behind");
    }
}

#[test]
fn a_busy_machine_may_take_four_times_as_long_and_no_longer() {
    let second = Duration::from_secs(1);
    assert_eq!(stopwatch::counted_share(second, Duration::ZERO), 1.0);
    assert_eq!(stopwatch::counted_share(second, second / 2), 0.625);
    assert_eq!(stopwatch::counted_share(second, second), stopwatch::BUSY_SHARE);
    assert_eq!(
        stopwatch::waiting("some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull total=0\n"),
        Some(second * 3 / 2)
    );
    assert_eq!(stopwatch::stolen("cpu  1 2 3 4 5 6 7 200 0 0\ncpu0 1 2 3 4 5 6 7 200 0 0\n"), Some(second * 2));
    let watch = Stopwatch::start();
    assert!(watch.counted(second) <= second && watch.counted(second) >= second / 4);
}
