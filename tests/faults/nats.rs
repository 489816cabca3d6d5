//! Faults of three NATS servers and of their stream.

use std::time::Duration;

use serde_json::Value;

use crate::driver::{Fault, Servers, Stage, run};
use crate::evidence::{Stored, read_stream};
use crate::support::{Cluster, Leaf, Registry, Settings, eventually};

const STREAM: &str = "JETLINKS_DEVICE";

const PATIENCE: Duration = Duration::from_secs(90);

/// Three servers; the ones that a fault concerns are remembered for its end.
pub(crate) struct Three {
    cluster: Cluster,
    concerned: Vec<usize>,
}

impl Servers for Three {
    fn start() -> Self {
        // The shortest time that the server takes; it sends clients away over it.
        let lame_duck = "lame_duck_duration: 30s\nlame_duck_grace_period: 1s\n";
        Self { cluster: Cluster::configured(lame_duck), concerned: Vec::new() }
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::cluster(registry, &self.cluster)
    }

    fn callers(&self) -> Vec<String> {
        self.cluster.urls()
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&self.cluster.urls())
    }
}

impl Three {
    fn leader(&self) -> usize {
        eventually("the stream has a leader", PATIENCE, || {
            let output = self.cluster.run_cli("", &["stream", "info", STREAM, "--json"]);
            let info: Value = serde_json::from_slice(&output.stdout).ok()?;
            Some(self.cluster.member(info["cluster"]["leader"].as_str()?))
        })
    }

    /// The leader, once it is another server than that of the bridge.
    fn other_leader(&self) -> usize {
        let own = self.cluster.member_of_uplink();
        eventually("another server leads the stream", PATIENCE, || {
            let leader = self.leader();
            if leader == own {
                self.cluster.run_cli("", &["stream", "cluster", "step-down", STREAM]);
            }
            (leader != own).then_some(leader)
        })
    }

    fn nats(&self, arguments: &[&str]) {
        let output = self.cluster.run_cli("", arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Kills them; [`Three::start_again`] ends that.
    fn crash(&mut self, members: &[usize]) {
        members.iter().for_each(|&number| self.cluster.crash(number));
        self.concerned.extend(members);
    }

    fn start_again(&mut self) {
        for number in std::mem::take(&mut self.concerned) {
            self.cluster.start_again_unready(number);
        }
    }

    fn stand_still(&mut self, number: usize) {
        self.cluster.signal(number, libc::SIGSTOP);
        self.concerned.push(number);
    }

    fn go_on(&mut self) {
        for number in std::mem::take(&mut self.concerned) {
            self.cluster.signal(number, libc::SIGCONT);
        }
    }
}

fn nothing<S>(_: &mut Stage<S>) {}

#[test]
fn a_crash_of_the_leader_of_the_stream() {
    run(&Fault::<Three> {
        name: "NATS: the leader of the stream, another server than that of the bridge, is killed, and started again after 5 s",
        lasting: Duration::from_secs(5),
        inject: |stage| {
            let leader = stage.servers.other_leader();
            stage.servers.crash(&[leader]);
        },
        heal: |stage| stage.servers.start_again(),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn a_crash_of_the_server_of_the_bridge() {
    run(&Fault::<Three> {
        name: "NATS: the server that the bridge is connected to is killed, and started again after 5 s",
        lasting: Duration::from_secs(5),
        inject: |stage| {
            let own = stage.servers.cluster.member_of_uplink();
            stage.servers.crash(&[own]);
        },
        heal: |stage| stage.servers.start_again(),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn the_leader_of_the_stream_stands_still() {
    run(&Fault::<Three> {
        name: "NATS: the leader of the stream, another server than that of the bridge, stands still for 20 s (SIGSTOP)",
        lasting: Duration::from_secs(20),
        inject: |stage| {
            let leader = stage.servers.other_leader();
            stage.servers.stand_still(leader);
        },
        heal: |stage| stage.servers.go_on(),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn the_server_of_the_bridge_stands_still() {
    run(&Fault::<Three> {
        name: "NATS: the server that the bridge is connected to stands still for 20 s (SIGSTOP)",
        lasting: Duration::from_secs(20),
        inject: |stage| {
            let own = stage.servers.cluster.member_of_uplink();
            stage.servers.stand_still(own);
        },
        heal: |stage| stage.servers.go_on(),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn a_rolling_restart_of_the_servers() {
    run(&Fault::<Three> {
        name: "NATS: all three servers are restarted in turn",
        lasting: Duration::ZERO,
        inject: |stage| {
            for number in 0..3 {
                stage.servers.cluster.stop(number);
                stage.servers.cluster.start_again(number);
                stage.wait_stored(800.0);
            }
        },
        heal: nothing,
        sessions_stay: true,
        all_answered: false,
    });
}

#[test]
fn the_quorum_is_lost() {
    run(&Fault::<Three> {
        name: "NATS: two of three servers are killed, and started again after 20 s",
        lasting: Duration::from_secs(20),
        inject: |stage| {
            let own = stage.servers.cluster.member_of_uplink();
            let others: Vec<usize> = (0..3).filter(|number| *number != own).collect();
            stage.servers.crash(&others);
        },
        heal: |stage| {
            stage.servers.start_again();
            // It is back when it has a leader; the servers need seconds for that.
            stage.servers.leader();
        },
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn a_server_that_goes_in_lame_duck_mode() {
    run(&Fault::<Three> {
        name: "NATS: the server that the bridge is connected to goes in lame duck mode",
        lasting: Duration::ZERO,
        inject: |stage| {
            let own = stage.servers.cluster.member_of_uplink();
            stage.servers.cluster.signal(own, libc::SIGUSR2);
            stage.servers.cluster.wait_ended(own, PATIENCE);
            stage.servers.cluster.start_again(own);
        },
        heal: nothing,
        sessions_stay: true,
        all_answered: false,
    });
}

#[test]
fn the_stream_is_full() {
    run(&Fault::<Three> {
        name: "NATS: the stream is full for 15 s (max_msgs, discard new)",
        lasting: Duration::from_secs(15),
        inject: |stage| {
            let edit = ["stream", "edit", STREAM, "--max-msgs", "2000", "--discard", "new", "-f"];
            stage.servers.nats(&edit);
        },
        heal: |stage| stage.servers.nats(&["stream", "edit", STREAM, "--max-msgs=-1", "--discard", "old", "-f"]),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn the_stream_is_deleted() {
    run(&Fault::<Three> {
        name: "NATS: the stream is deleted",
        lasting: Duration::ZERO,
        inject: |stage| stage.keep_and(|servers| servers.nats(&["stream", "rm", STREAM, "-f"])),
        heal: nothing,
        sessions_stay: true,
        all_answered: false,
    });
}

#[test]
fn the_stream_is_sealed() {
    run(&Fault::<Three> {
        name: "NATS: the stream is sealed, and deleted after 15 s",
        lasting: Duration::from_secs(15),
        inject: |stage| stage.servers.nats(&["stream", "seal", STREAM, "-f"]),
        heal: |stage| stage.keep_and(|servers| servers.nats(&["stream", "rm", STREAM, "-f"])),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn the_subjects_of_the_stream_are_edited() {
    run(&Fault::<Three> {
        name: "NATS: the stream takes other subjects for 15 s",
        lasting: Duration::from_secs(15),
        inject: |stage| stage.servers.nats(&["stream", "edit", STREAM, "--subjects", "other.>", "-f"]),
        heal: |stage| stage.servers.nats(&["stream", "edit", STREAM, "--subjects", SUBJECTS, "-f"]),
        sessions_stay: false,
        all_answered: false,
    });
}

/// Subjects that a stream needs for the bridge.
const SUBJECTS: &str = "jetlinks.device.>,jetlinks.rejected.>,jetlinks.bridge.>";

impl Servers for Leaf {
    fn start() -> Self {
        Leaf::without_jetstream()
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::nats(registry, &self.leaf).text("nats.domain", "hub")
    }

    fn callers(&self) -> Vec<String> {
        vec![self.hub.url()]
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&[self.hub.url()])
    }
}

#[test]
fn the_hub_above_a_leaf_is_killed() {
    run(&Fault::<Leaf> {
        name: "NATS: the bridge is at a leaf node, and the hub with the stream is killed for 5 s",
        lasting: Duration::from_secs(5),
        inject: |stage| stage.servers.hub.kill9(),
        heal: |stage| stage.servers.hub.restart(),
        sessions_stay: false,
        all_answered: false,
    });
}

#[test]
fn the_leaf_is_killed() {
    run(&Fault::<Leaf> {
        name: "NATS: the bridge is at a leaf node, and that is killed for 5 s",
        lasting: Duration::from_secs(5),
        inject: |stage| stage.servers.leaf.kill9(),
        heal: |stage| stage.servers.leaf.restart(),
        sessions_stay: false,
        all_answered: false,
    });
}
