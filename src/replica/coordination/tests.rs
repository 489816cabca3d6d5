use super::*;
use crate::protocol::id::ProductId;
use crate::protocol::uplink::SlotId;
use crate::replica::{Entered, Entry};

const NOW: Now = Now { unix_ms: 1_700_000_000_000, us: 5_000_000 };

fn later(us: u64) -> Now {
    Now { unix_ms: NOW.unix_ms + us / 1000, us: NOW.us + us }
}

fn device(number: u32) -> DeviceId {
    DeviceId::new(&format!("device{number}")).expect("a valid id")
}

fn slot(number: u32) -> SlotId {
    SlotId { index: number, generation: 0 }
}

/// One replica with its sessions.
struct Replica {
    directory: Arc<Directory>,
    coordination: Coordination,
}

impl Replica {
    fn new(id: &str) -> Self {
        let directory = Arc::new(Directory::default());
        Self { coordination: Coordination::new(id, directory.clone()), directory }
    }

    /// Begins a session of that device on worker 3, and says so.
    fn connect(&mut self, number: u32, session: &str, now: Now) {
        let entry = Entry {
            worker: 3,
            slot: slot(number),
            product: ProductId::new("product1").expect("a valid id"),
            session: session.into(),
            peer: "".into(),
            connected_ms: 0,
            since: 0,
            replaces: false,
        };
        assert_eq!(self.directory.enter(device(number), entry, now), Entered::Fresh);
        self.say(ClaimKind::Begun, number, session, now);
    }

    fn say(&mut self, kind: ClaimKind, number: u32, session: &str, now: Now) {
        let event = ClusterEvent::Claim { kind, device: device(number), session: session.into() };
        self.coordination.handle_event(event, now);
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.coordination.poll_output()).collect()
    }

    /// The claims among the outputs: word and session.
    fn claims(&mut self) -> Vec<(ClaimKind, String)> {
        let claim = |output| match output {
            Output::Publish(claim) => Some((claim.kind, claim.session.into())),
            _ => None,
        };
        self.outputs().into_iter().filter_map(claim).collect()
    }
}

/// Lets two replicas hear each other until neither says more: all outputs but the claims, each with its replica.
fn settle(replicas: &mut [Replica; 2], now: Now) -> Vec<(usize, Output)> {
    let mut rest = Vec::new();
    let mut is_quiet = false;
    while !is_quiet {
        is_quiet = true;
        for at in 0..2 {
            for output in replicas[at].outputs() {
                match output {
                    Output::Publish(claim) => {
                        is_quiet = false;
                        replicas.iter_mut().for_each(|replica| replica.coordination.handle_claim(&claim, now));
                    }
                    other => rest.push((at, other)),
                }
            }
        }
    }
    rest
}

#[test]
fn a_device_that_moves_is_ended_where_it_was_once_the_newer_session_has_said_that_it_lives() {
    let mut replicas = [Replica::new("replica1"), Replica::new("replica2")];
    replicas[0].connect(1, "older", NOW);
    assert_eq!(settle(&mut replicas, NOW), []);
    replicas[1].connect(1, "newer", later(1_000_000));
    let rest = settle(&mut replicas, later(1_000_000));
    let expected = [
        (0, Output::Report(Report::Asked)),
        (1, Output::WorkerMessage(3, WorkerMessage::Replaces(slot(1)))),
        (0, Output::Report(Report::Yielded)),
        (0, Output::WorkerMessage(3, WorkerMessage::End(slot(1), Ending::TakenOver))),
        (1, Output::WorkerMessage(3, WorkerMessage::Reassert(slot(1)))),
    ];
    assert_eq!(rest, expected);
    assert!(replicas[0].directory.is_empty() && replicas[1].directory.len() == 1);
}

#[test]
fn an_older_session_that_is_claimed_late_hears_of_the_newer_one() {
    let mut replicas = [Replica::new("replica1"), Replica::new("replica2")];
    replicas[0].connect(1, "older", NOW);
    let held_back = replicas[0].outputs();
    replicas[1].connect(1, "newer", later(1_000_000));
    replicas[1].outputs();
    let [Output::Publish(claim)] = &held_back[..] else { panic!("{held_back:?}") };
    replicas[1].coordination.handle_claim(claim, later(1_000_001));
    assert_eq!(replicas[1].coordination.outputs[0], Output::Report(Report::Insisted));
    let rest = settle(&mut replicas, later(1_000_002));
    assert!(rest.contains(&(0, Output::WorkerMessage(3, WorkerMessage::End(slot(1), Ending::TakenOver)))), "{rest:?}");
}

#[test]
fn a_claim_of_the_replica_itself_has_no_effect() {
    let mut replica = Replica::new("replica1");
    replica.connect(1, "s1", NOW);
    let outputs = replica.outputs();
    let [Output::Publish(claim)] = &outputs[..] else { panic!("{outputs:?}") };
    replica.coordination.handle_claim(claim, NOW);
    assert_eq!(replica.outputs(), []);
}

#[test]
fn a_session_that_has_ended_is_not_claimed() {
    let mut replica = Replica::new("replica1");
    for kind in [ClaimKind::Begun, ClaimKind::Held, ClaimKind::Lives] {
        replica.say(kind, 1, "ended", NOW);
    }
    replica.say(ClaimKind::Ended, 1, "ended", NOW);
    assert_eq!(replica.claims(), [(ClaimKind::Ended, "ended".to_owned())]);
}

#[test]
fn every_session_is_claimed_anew_a_batch_a_tick_when_the_channel_is_back() {
    let mut replica = Replica::new("replica1");
    for number in 0..1_200 {
        replica.connect(number, &format!("s{number}"), NOW);
    }
    replica.outputs();
    assert!(!replica.coordination.wants_tick());
    replica.coordination.handle_connected(NOW);
    assert_eq!(replica.outputs()[0], Output::Report(Report::Connected));
    let ended = |replica: &Replica, number| replica.directory.remove(&device(number), 3, slot(number), NOW.us);
    ended(&replica, 7);
    let mut batches = Vec::new();
    while replica.coordination.wants_tick() {
        replica.coordination.handle_tick(NOW);
        let claims = replica.claims();
        assert!(claims.iter().all(|(kind, session)| *kind == ClaimKind::Held && session != "s7"));
        batches.push(claims.len());
    }
    assert_eq!((batches.len(), batches.iter().sum::<usize>()), (3, 1_199), "{batches:?}");
    replica.coordination.handle_connected(NOW);
    replica.coordination.handle_disconnected(NOW);
    assert!(!replica.coordination.wants_tick());
    assert!(replica.outputs().ends_with(&[Output::Report(Report::Disconnected)]));
}

#[test]
fn late_presence_that_may_not_have_been_heard_is_told_again_when_the_channel_is_back() {
    let mut replica = Replica::new("replica1");
    replica.say(ClaimKind::Late, 1, "before", NOW);
    replica.coordination.handle_connected(NOW);
    replica.coordination.handle_tick(NOW);
    let late = |session: &str| (ClaimKind::Late, session.to_owned());
    assert_eq!(replica.claims(), [late("before"), (ClaimKind::Time, String::new()), late("before")]);
    replica.say(ClaimKind::Late, 1, "told", NOW);
    replica.coordination.handle_disconnected(later(1_000_000));
    replica.outputs();
    replica.coordination.handle_connected(later(900_000_000));
    replica.coordination.handle_tick(later(900_000_000));
    assert_eq!(replica.claims(), [(ClaimKind::Time, String::new()), late("before"), late("told")]);
    replica.coordination.handle_connected(later(961_000_000));
    assert!(!replica.coordination.wants_tick(), "it was heard");
}

#[test]
fn a_replica_whose_clock_is_behind_hears_the_time() {
    let mut replica = Replica::new("replica1");
    let mut other = Replica::new("replica2");
    let behind = Now { unix_ms: NOW.unix_ms - 10_000, us: 0 };
    for (now, expected) in [(behind, vec![(ClaimKind::Time, String::new())]), (NOW, vec![])] {
        other.coordination.handle_connected(now);
        for output in other.outputs() {
            if let Output::Publish(claim) = output {
                replica.coordination.handle_claim(&claim, NOW);
            }
        }
        assert_eq!(replica.claims(), expected);
    }
}

#[test]
fn a_barrier_counts_once_and_only_for_the_last_suspension_of_its_worker() {
    let mut barriers = Barriers::default();
    let (first, other) = (barriers.send(0), barriers.send(1));
    assert_eq!(barriers.take(first), Some(0));
    let second = barriers.send(0);
    assert_eq!(barriers.take(first), None, "its time is over now, after another suspension has ended");
    assert_eq!((barriers.take(second), barriers.take(second)), (Some(0), None));
    let (overtaken, third) = (barriers.send(0), barriers.send(0));
    assert_eq!((barriers.take(overtaken), barriers.take(third), barriers.take(other)), (None, Some(0), Some(1)));
}

#[test]
fn a_worker_that_catches_up_waits_for_the_answers_to_what_was_asked_meanwhile() {
    let mut replicas = [Replica::new("replica1"), Replica::new("replica2")];
    replicas[0].connect(1, "older", NOW);
    replicas[1].connect(1, "newer", later(1_000_000));
    let claims = replicas[1].outputs();
    let [Output::Publish(claim)] = &claims[..] else { panic!("{claims:?}") };
    replicas[0].outputs();
    replicas[0].coordination.handle_event(ClusterEvent::AwaitBarrier { worker: 3 }, later(2_000_000));
    assert_eq!(replicas[0].outputs(), [Output::SendBarrier(1)]);
    replicas[0].coordination.handle_claim(claim, later(3_000_000));
    replicas[0].outputs();
    replicas[0].coordination.handle_barrier(1);
    let settled_us = later(3_000_000).us + PATIENCE_US;
    assert_eq!(replicas[0].outputs(), [Output::WorkerMessage(3, WorkerMessage::BarrierReached { settled_us })]);
    replicas[0].coordination.handle_barrier(1);
    assert_eq!(replicas[0].outputs(), []);
}

#[test]
fn operators_hear_once_of_each_reason_why_a_message_does_not_count() {
    let mut replica = Replica::new("replica1");
    let mut is_first = |error| {
        replica.coordination.handle_ignored(error);
        match &replica.outputs()[..] {
            [Output::Report(Report::Ignored { error: told, is_first })] if *told == error => *is_first,
            other => panic!("{other:?}"),
        }
    };
    let all = [ClaimError::Malformed, ClaimError::Unsigned, ClaimError::WrongSignature];
    assert_eq!(all.map(&mut is_first), [true; 3]);
    assert_eq!(all.map(&mut is_first), [false; 3]);
}

/// The claims that these replicas publish.
fn published(replicas: &mut [Replica]) -> Vec<Claim> {
    let outputs = replicas.iter_mut().flat_map(Replica::outputs);
    let claim = |output| match output {
        Output::Publish(claim) => Some(claim),
        _ => None,
    };
    outputs.filter_map(claim).collect()
}

#[test]
fn replicas_that_settle_together_publish_no_more_claims_than_each_of_them_hears() {
    const SESSIONS: usize = 1_200;
    for (count, ticks) in [(1, 3), (2, 3), (6, 8), (16, 20)] {
        let mut replicas: Vec<Replica> = (0..count).map(|number| Replica::new(&format!("replica{number}"))).collect();
        for (at, replica) in replicas.iter_mut().enumerate() {
            for number in 0..SESSIONS {
                replica.connect((at * SESSIONS + number) as u32, &format!("session{at}-{number}"), NOW);
            }
            replica.outputs();
        }
        // All are connected at the same moment, and hear each other say so.
        replicas.iter_mut().for_each(|replica| replica.coordination.handle_connected(NOW));
        let mut claims = published(&mut replicas);
        let mut claimed = 0;
        for tick in 0..ticks {
            assert!(replicas.iter().all(|replica| replica.coordination.wants_tick()), "{count} at {tick}");
            for claim in claims {
                replicas.iter_mut().for_each(|replica| replica.coordination.handle_claim(&claim, NOW));
            }
            replicas.iter_mut().for_each(|replica| replica.coordination.handle_tick(NOW));
            claims = published(&mut replicas);
            assert!(claims.len() <= CLAIMS_PER_TICK_OF_ALL, "{count}: {} at {tick}", claims.len());
            claimed += claims.len();
        }
        assert_eq!(claimed, count * SESSIONS, "{count}");
        assert!(!replicas.iter().any(|replica| replica.coordination.wants_tick()), "{count}");
    }
}
