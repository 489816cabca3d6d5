//! Faults of what a NATS server stores messages in.

use std::time::Duration;

use crate::driver::{Fault, Servers, run};
use crate::evidence::{Stored, read_stream};
use crate::support::{Nats, Registry, Settings};

/// Bytes that the account of the bridge may store.
const ENOUGH: u32 = 1 << 30;

/// Less than is stored before any fault.
const TOO_FEW: u32 = 1 << 16;

/// A server whose only account may store so much.
pub(crate) struct Rationed(Nats);

impl Servers for Rationed {
    fn start() -> Self {
        Self(Nats::configured(&rationed(ENOUGH)))
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::nats(registry, &self.0)
    }

    fn callers(&self) -> Vec<String> {
        vec![self.0.url()]
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&[self.0.url()])
    }
}

fn rationed(bytes: u32) -> String {
    format!(
        "accounts {{ BRIDGE {{ jetstream: {{ max_file: {bytes} }}, users: [ {{ user: bridge, password: secret }} ] }} }}
        no_auth_user: bridge\n"
    )
}

#[test]
fn the_account_may_store_no_more() {
    run(&Fault::<Rationed> {
        name: "NATS: the account may store no more for 15 s (max_file, by reload)",
        lasting: Duration::from_secs(15),
        inject: |stage| stage.servers.0.reload(&rationed(TOO_FEW)),
        heal: |stage| stage.servers.0.reload(&rationed(ENOUGH)),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn the_disk_of_the_server_takes_no_more() {
    run(&Fault::<Nats> {
        name: "NATS: the disk of the server takes no more for 15 s (its writes fail), and the server is started again",
        lasting: Duration::from_secs(15),
        // Less than its stream has already.
        inject: |stage| stage.servers.limit_files(1 << 16),
        heal: |stage| stage.servers.restart(),
        sessions_stay: false,
        all_answered: false,
    });
}
