//! Replicas behind a balancer.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Balancer, Bridge, Settings, eventually, port};

const PATIENCE: Duration = Duration::from_secs(60);

/// Replicas that coordinate, on ports that stay the same over restarts, and a balancer in front of them.
pub(crate) struct Fleet {
    settings: Vec<Settings>,
    replicas: Vec<Option<Bridge>>,
    balancer: Balancer,
}

impl Fleet {
    /// Starts `count` replicas with these settings.
    pub(crate) fn start(count: usize, settings: &Settings) -> Self {
        let free = || SocketAddr::from(([127, 0, 0, 1], port::free_port()));
        let addresses: Vec<(SocketAddr, SocketAddr)> = (0..count).map(|_| (free(), free())).collect();
        let settings: Vec<Settings> = addresses
            .iter()
            .map(|&(mqtt, admin)| {
                settings.clone().fixed(mqtt, admin).toml("mqtt.proxy_protocol_from", r#"["127.0.0.0/8"]"#)
            })
            .collect();
        let replicas = settings.iter().map(|settings| Some(Bridge::start(settings))).collect();
        let fleet = Self { settings, replicas, balancer: Balancer::start(&addresses) };
        for replica in fleet.running() {
            eventually("replicas coordinate", PATIENCE, || {
                (replica.readiness().1["coordination"] == "ok").then_some(())
            });
        }
        fleet
    }

    /// Where devices connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.balancer.address()
    }

    /// The replicas that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Bridge> {
        self.replicas.iter().flatten()
    }

    /// Takes one away, for the caller to end it.
    pub(crate) fn take(&mut self, number: usize) -> Bridge {
        self.replicas[number].take().expect("the replica runs")
    }

    /// Starts one again.
    pub(crate) fn start_again(&mut self, number: usize) {
        self.replicas[number] = Some(Bridge::start(&self.settings[number]));
    }

    /// Sum of a metric over the replicas that run.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> usize {
        self.running().map(|replica| replica.metric(name, labels)).sum::<f64>() as usize
    }

    /// Waits until there are so many sessions in all.
    pub(crate) fn wait_for_sessions(&self, count: usize) {
        eventually("every device has its session", PATIENCE, || {
            (self.metric("jetlinks_bridge_sessions", &[]) == count).then_some(())
        });
    }
}
