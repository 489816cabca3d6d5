//! Replicas that share the commands of a real Kafka: offsets, partitions that move, outages, the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use jetlinks_bridge::protocol::downlink::{DownlinkEvent, Outcome};
use serde_json::Value;

use super::kafka_stage::{Caller, Given, Replica, answers, committed, kafka, outcome, read, settings, until_committed};
use super::support::Nats;
use super::support::registry::now_ms;
use super::worker::{self, PATIENCE};

#[test]
fn an_offset_is_committed_when_everything_before_it_is_answered() {
    let (kafka, nats) = (kafka(1), Nats::start());
    worker::run(async {
        let caller = Caller::new(&kafka);
        let mut replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        let mut given = Vec::new();
        for number in 0..4 {
            caller.command("device1", &number.to_string());
            caller.flush();
            given.push(replica.next().await);
        }
        replica.answer(&given[0]);
        until_committed(&kafka, 1).await;
        replica.answer(&given[2]);
        replica.answer(&given[3]);
        replica.answered(3).await;
        assert_eq!(committed(&kafka, 1).values().sum::<i64>(), 1, "the second is not answered");
        replica.answer(&given[1]);
        until_committed(&kafka, 4).await;
    });
}

#[test]
fn commands_of_one_device_leave_in_order_without_waiting_and_no_more_than_the_bound() {
    const TOTAL: usize = 6000;
    const BOUND: usize = 4096;
    let (kafka, nats) = (kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        for number in 0..TOTAL {
            caller.command("device1", &number.to_string());
        }
        caller.flush();
        let mut given = Vec::new();
        for number in 0..BOUND {
            given.push(replica.next().await);
            assert_eq!(given[number].command.message_id, Some(number.to_string()));
        }
        for given in given.drain(..) {
            replica.answer(&given);
        }
        for number in BOUND..TOTAL {
            let next = replica.next().await;
            assert_eq!(next.command.message_id, Some(number.to_string()));
            replica.answer(&next);
        }
        for _ in 0..TOTAL {
            caller.outcome().await;
        }
        let read = replica.stats.read.load(Ordering::Relaxed);
        assert_eq!(read, TOTAL as u64, "a pause repeats nothing");
        until_committed(&kafka, TOTAL as i64).await;
    });
}

#[test]
fn partitions_move_to_a_replica_that_joins_without_a_command_twice() {
    const PARTITIONS: i32 = 6;
    let (kafka, nats) = (kafka(PARTITIONS), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let devices: &[&str] = &["device1", "device2", "device3", "device4", "device5", "device6", "device7"];
        let mut replicas = [
            Replica::start(settings(&kafka, Some(&nats)), devices),
            Replica::start(settings(&kafka, Some(&nats)), devices),
        ];
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut number = 0;
        let mut write = |caller: &Caller| {
            for (partition, device) in devices.iter().enumerate() {
                let partition = Some(partition as i32 % PARTITIONS);
                caller.write_at(now_ms(), partition, device, &read(device, Some(&format!("{number}"))).to_string());
                number += 1;
            }
            caller.flush();
            devices.len()
        };
        // Until both have had commands, commands are always under way.
        let mut given = [0, 0];
        let mut open = 0;
        while given.iter().any(|&count| count < 50) {
            open += write(&caller);
            while open > 0 {
                let [one, two] = &mut replicas;
                let (index, next) = tokio::select! {
                    next = one.next() => (0, next),
                    next = two.next() => (1, next),
                };
                replicas[index].answer(&next);
                given[index] += 1;
                *seen.entry(next.command.message_id.unwrap()).or_default() += 1;
                open -= 1;
            }
        }
        for _ in 0..seen.len() {
            caller.outcome().await;
        }
        let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        let rebalances: u64 = replicas.iter().map(|replica| replica.stats.rebalances.load(Ordering::Relaxed)).sum();
        assert!(rebalances >= 2, "{rebalances}");
    });
}

#[test]
fn a_partition_that_leaves_with_a_command_under_way_is_read_again_by_the_next_replica() {
    let (kafka, nats) = (kafka(2), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut first = Replica::start(settings(&kafka, Some(&nats)), &["device1", "device2"]);
        for (partition, device) in [(0, "device1"), (1, "device2")] {
            caller.write_at(now_ms(), Some(partition), device, &read(device, Some(device)).to_string());
        }
        caller.flush();
        let given = [first.next().await, first.next().await];
        // Nobody answers, so one of the two partitions leaves when its time is over.
        let mut second = Replica::start(settings(&kafka, Some(&nats)), &["device1", "device2"]);
        let again = second.next().await;
        let repeated = again.command.message_id.clone();
        assert!(given.iter().any(|given| given.command.message_id == repeated));
        assert_eq!(first.stats.abandoned.load(Ordering::Relaxed), 1);
        // Its first reader answers the caller all the same, and the offset stays with the second one.
        for given in &given {
            first.answer(given);
            caller.outcome().await;
        }
        first.answered(2).await;
        second.answer(&again);
        assert_eq!(Some(answers(&caller.outcome().await)), repeated);
    });
}

#[test]
fn nothing_is_taken_while_nats_is_away_and_all_of_it_when_it_is_back() {
    let (kafka, mut nats) = (kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        caller.command("device1", "m1");
        caller.flush();
        let given = replica.next().await;
        nats.kill9();
        replica.answer(&given);
        assert_eq!(answers(&caller.outcome().await), "m1", "outcomes need Kafka alone");
        // The loss is noticed within milliseconds; commands may slip through until then.
        let mut slipped = 0;
        loop {
            caller.command("device1", &format!("s{slipped}"));
            caller.flush();
            match tokio::time::timeout(Duration::from_secs(1), replica.events.recv()).await {
                Ok(Some(DownlinkEvent::Command { ticket: Some(ticket), command, .. })) => {
                    replica.answer(&Given { ticket, command: command.unwrap() });
                    caller.outcome().await;
                    slipped += 1;
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
        }
        let nats = worker::aside(move || {
            nats.restart();
            nats
        })
        .await;
        let held = replica.next().await;
        assert_eq!(held.command.message_id, Some(format!("s{slipped}")));
        replica.answer(&held);
        caller.outcome().await;
        drop(nats);
    });
}

#[test]
fn an_outcome_that_kafka_cannot_take_now_is_sent_again_and_one_it_never_takes_becomes_a_failure() {
    let (mut kafka, nats) = (kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut settings = settings(&kafka, Some(&nats));
        settings.kafka.message_timeout = Duration::from_secs(1);
        let mut replica = Replica::start(settings, &["device1"]);
        caller.command("device1", "m1");
        caller.flush();
        let given = replica.next().await;
        let large = Outcome { payload: Bytes::from(vec![b'x'; 2_000_000]), ..outcome(&given.command) };
        replica.commands.answers().answer(given.ticket, large);
        assert_eq!(caller.failure("SYSTEM_ERROR").await["correlationid"], "m1");

        until_committed(&kafka, 1).await;
        caller.command("device1", "m2");
        caller.flush();
        let given = replica.next().await;
        kafka.kill9();
        replica.answer(&given);
        let given_back = async {
            while replica.stats.answered_again.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, given_back).await.expect("the outcome comes back");
        let kafka = worker::aside(move || {
            kafka.restart();
            kafka
        })
        .await;
        assert_eq!(answers(&caller.outcome().await), "m2");
        // The group may have lost this replica meanwhile, and then reads the command again.
        let stats = Arc::clone(&replica.stats);
        let commands = replica.commands.answers();
        let repeats = async {
            while let Some(DownlinkEvent::Command { ticket: Some(ticket), command, .. }) = replica.events.recv().await {
                let command = command.expect("a readable command");
                assert_eq!(command.message_id.as_deref(), Some("m2"));
                commands.answer(ticket, outcome(&command));
            }
        };
        tokio::select! {
            () = until_committed(&kafka, 2) => {}
            () = repeats => panic!("the thread ended"),
        }
        assert!(stats.read.load(Ordering::Relaxed) <= 3);
    });
}

#[test]
fn the_end_commits_what_is_answered_and_leaves_the_rest_to_others() {
    let (kafka, nats) = (kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        caller.command("device1", "m1");
        caller.command("device1", "m2");
        caller.flush();
        let given = [replica.next().await, replica.next().await];
        replica.answer(&given[0]);
        replica.commands.finish().await;
        assert_eq!(committed(&kafka, 1).values().sum::<i64>(), 1);
        assert_eq!(answers(&caller.outcome().await), "m1");
        let mut next = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        assert_eq!(next.next().await.command.message_id.as_deref(), Some("m2"));
    });
}

#[test]
fn without_nats_every_replica_reads_all_and_keeps_to_its_own_devices() {
    let kafka = kafka(2);
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        caller.command("device1", "before");
        caller.flush();
        let mut one = Replica::start(settings(&kafka, None), &["device1"]);
        let mut two = Replica::start(settings(&kafka, None), &["device2"]);
        // From the end: a replica reads what is written after it has found the end, which shows by its first record.
        let mut tries = 0;
        while one.stats.read.load(Ordering::Relaxed) == 0 || two.stats.read.load(Ordering::Relaxed) == 0 {
            caller.write_at(now_ms(), Some(0), "nobody", &read("nobody", None).to_string());
            caller.flush();
            tries += 1;
            tokio::task::yield_now().await;
        }
        assert!(tries > 0);
        caller.command("device1", "m1");
        caller.command("device2", "m2");
        caller.write("device2", "no command");
        caller.write("nobody", "no command");
        caller.write_at(now_ms() - 61_000, None, "device1", &read("device1", Some("m3")).to_string());
        caller.flush();
        for (replica, expected) in [(&mut one, "m1"), (&mut two, "m2")] {
            let given = replica.next().await;
            assert_eq!(given.command.message_id.as_deref(), Some(expected), "and not what was there before");
            replica.answer(&given);
        }
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            let payload: Value = serde_json::from_slice(&caller.outcome().await.payload).unwrap();
            outcomes.push(payload["answers"].as_str().or(payload["correlationid"].as_str()).unwrap().to_owned());
        }
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["m1", "m2", "m3"], "one each, and none for nobody");
        let rejected = caller.rejected().await;
        assert_eq!(rejected.address, "device2");
        assert!(committed(&kafka, 2).is_empty(), "no group");
    });
}
