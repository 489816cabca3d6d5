//! Messages to the service manager; the tests play it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::support::bridge::command;
use crate::support::{Bridge, Folder, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Time of the watchdog, us.
const WATCHDOG_US: &str = "600000";

/// A worker's loop stands still longer than the watchdog waits, and twice as long.
const STILL_SECS: [f64; 2] = [2.0, 4.0];

/// All messages that have come.
fn taken(socket: &UnixDatagram) -> Vec<String> {
    let mut bytes = [0; 4096];
    let next = || socket.recv(&mut bytes).ok().map(|read| String::from_utf8(bytes[..read].to_vec()).unwrap());
    std::iter::from_fn(next).collect()
}

/// Waits for a message that begins so; those before it.
fn wait_for(socket: &UnixDatagram, start: &str) -> (Vec<String>, String) {
    let mut before = Vec::new();
    eventually(&format!("{start} comes"), PATIENCE, || {
        let mut messages = taken(socket).into_iter();
        for message in messages.by_ref() {
            if message.starts_with(start) {
                return Some((std::mem::take(&mut before), message));
            }
            before.push(message);
        }
        None
    })
}

fn bound(folder: &Folder) -> UnixDatagram {
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn tick_age(bridge: &Bridge) -> f64 {
    bridge.metric("jetlinks_bridge_worker_tick_age_seconds", &[r#"worker="0""#])
}

#[test]
fn the_service_manager_is_told_of_readiness_of_turning_workers_and_of_the_end() {
    let folder = Folder::new("notify");
    let socket = bound(&folder);
    let (registry, _) = Registry::numbered(1);
    let mut call = command();
    call.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", WATCHDOG_US);
    let mut bridge = Bridge::start_by(call, &Settings::stdio(&registry).toml("runtime.workers", "1"));
    wait_for(&socket, "READY=1");
    wait_for(&socket, "WATCHDOG=1");
    let stopped = bridge.process().stop_thread("worker-0");
    eventually("the worker stands still", PATIENCE, || (tick_age(&bridge) > STILL_SECS[0]).then_some(()));
    taken(&socket);
    eventually("it stands still for longer", PATIENCE, || (tick_age(&bridge) > STILL_SECS[1]).then_some(()));
    assert_eq!(taken(&socket), Vec::<String>::new(), "the watchdog must not hear of a worker that stands still");
    drop(stopped);
    wait_for(&socket, "WATCHDOG=1");
    bridge.signal(libc::SIGTERM);
    let (_, stopping) = wait_for(&socket, "STOPPING=1");
    let us = stopping.strip_prefix("STOPPING=1\nEXTEND_TIMEOUT_USEC=").and_then(|us| us.parse::<u64>().ok());
    // drain.timeout and what the last outcomes, spans and lines take.
    assert!(us.is_some_and(|us| (20_000_000..=26_000_000).contains(&us)), "{stopping}");
    assert_eq!(bridge.exit_code(), 0);
}

#[test]
fn a_bridge_that_is_not_ready_does_not_say_so_while_its_watchdog_hears_it() {
    let folder = Folder::new("notify");
    let socket = bound(&folder);
    let (registry, _) = Registry::numbered(1);
    let away =
        Settings::stdio(&registry).text("uplink.queue", "nats").toml("nats.servers", r#"["nats://127.0.0.1:1"]"#);
    let mut call = command();
    call.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", WATCHDOG_US);
    let bridge = Bridge::start_unready_by(call, &away);
    let mut messages = Vec::new();
    eventually("it lives", PATIENCE, || {
        messages.extend(taken(&socket));
        (messages.len() >= 5).then_some(())
    });
    assert_eq!(bridge.readiness().0, 503);
    assert!(messages.iter().all(|message| message == "WATCHDOG=1"), "{messages:?}");
}

#[test]
fn the_socket_may_have_a_name_without_a_path_and_the_watchdog_of_another_process_hears_nothing() {
    let name = format!("jetlinks-bridge-notify-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (registry, _) = Registry::numbered(1);
    let mut call = command();
    call.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", WATCHDOG_US).env("WATCHDOG_PID", "1");
    let mut bridge = Bridge::start_by(call, &Settings::stdio(&registry));
    assert_eq!(wait_for(&socket, "READY=1").0, Vec::<String>::new());
    bridge.signal(libc::SIGTERM);
    assert_eq!(wait_for(&socket, "STOPPING=1").0, Vec::<String>::new());
    assert_eq!(bridge.exit_code(), 0);
}

#[test]
fn a_service_manager_that_is_not_there_keeps_no_bridge_from_starting() {
    let (registry, _) = Registry::numbered(1);
    let mut call = command();
    call.env("NOTIFY_SOCKET", "/nowhere/notify").env("WATCHDOG_USEC", WATCHDOG_US);
    let mut bridge = Bridge::start_by(call, &Settings::stdio(&registry));
    assert!(bridge.log().contains("the service manager cannot be told anything"), "{}", bridge.log());
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 0);
}
