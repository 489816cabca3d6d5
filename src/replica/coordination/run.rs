//! The task that drives a [`Coordination`] over a channel.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::{Coordination, Output, Report};
use crate::protocol::limit::Now;
use crate::replica::claim::{Claim, ClaimError};
use crate::replica::{ClusterEvent, WorkerSender};

/// Pause between two batches of claims after an outage.
const TICK: Duration = Duration::from_millis(10);

/// An event of the channel of claims.
#[derive(Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// A claim; those of this replica come back, too.
    Claim(Claim),
    /// A message that is no claim that counts.
    Ignored(ClaimError),
    /// The channel is there, again or for the first time, or lost claims: all sessions are to be claimed.
    Connected,
    /// The channel is away.
    Disconnected,
    /// The barrier of that number came back.
    Barrier(u64),
}

/// The channel on which every replica publishes its claims and receives those of all.
pub trait ClaimChannel {
    /// Waits for the next event; `None` when the channel has ended. Safe to drop.
    fn next(&mut self) -> impl Future<Output = Option<ChannelEvent>>;

    /// Publishes a claim; lost while the channel is away, which [`ChannelEvent::Connected`] makes good.
    fn publish(&self, claim: &Claim) -> impl Future<Output = ()>;

    /// Sends a barrier. [`ChannelEvent::Barrier`] follows in any case: behind all claims that were published before, or after
    /// the longest time that this may take, or both.
    fn send_barrier(&self, number: u64) -> impl Future<Output = ()>;
}

/// Coordinates until the channel or the workers have ended. `now` reads the clock of the process.
pub async fn coordinate(
    mut coordination: Coordination,
    mut channel: impl ClaimChannel,
    mut cluster_events: mpsc::UnboundedReceiver<ClusterEvent>,
    worker_senders: &[WorkerSender],
    now: impl Fn() -> Now,
    mut report: impl FnMut(Report),
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = channel.next() => match event {
                None => return,
                Some(ChannelEvent::Claim(claim)) => coordination.handle_claim(&claim, now()),
                Some(ChannelEvent::Ignored(error)) => coordination.handle_ignored(error),
                Some(ChannelEvent::Connected) => coordination.handle_connected(now()),
                Some(ChannelEvent::Disconnected) => coordination.handle_disconnected(now()),
                Some(ChannelEvent::Barrier(number)) => coordination.handle_barrier(number),
            },
            event = cluster_events.recv() => match event {
                None => return,
                Some(event) => coordination.handle_event(event, now()),
            },
            _ = ticks.tick(), if coordination.wants_tick() => coordination.handle_tick(now()),
        }
        while let Some(output) = coordination.poll_output() {
            match output {
                Output::Publish(claim) => channel.publish(&claim).await,
                Output::SendBarrier(number) => channel.send_barrier(number).await,
                Output::WorkerMessage(worker, message) => {
                    if let Some(worker_sender) = worker_senders.get(worker) {
                        worker_sender.send(message);
                    }
                }
                Output::Report(news) => {
                    if let Report::Ignored { error, is_first: true } = news {
                        warn(error);
                    }
                    report(news);
                }
            }
        }
    }
}

/// Warns of a message without effect; once for each reason, as whoever can write there can do so without end.
fn warn(error: ClaimError) {
    match error {
        ClaimError::Malformed => tracing::warn!("something on the subject of claims is none, and is ignored"),
        ClaimError::Unsigned => tracing::warn!(
            "an unsigned claim is ignored: a replica without nats.claim_secret, or somebody else who may write there"
        ),
        ClaimError::WrongSignature => tracing::warn!(
            "a claim with a wrong signature is ignored: a replica with another nats.claim_secret, or somebody else \
             who may write there"
        ),
    }
}
