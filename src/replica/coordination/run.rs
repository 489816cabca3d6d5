//! The task that drives a [`Coordination`] over a channel.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Coordination, Output, Report};
use crate::protocol::limit::Now;
use crate::replica::claim::{Claim, ClaimError};
use crate::replica::{ClusterEvent, WorkerSender};

/// Pause between two batches of claims: after an outage, and of what workers tell. An event that comes after a longer pause
/// is handled at once.
const TICK: Duration = Duration::from_millis(10);

/// Events of workers in one batch: 100,000 a second, more than CONNECTs of all workers together.
const EVENTS_PER_TICK: usize = 1_000;

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
///
/// Events of workers are taken in batches. A batch costs a wake-up of this thread and a write to the channel, which is more than the
/// claims in it cost when thousands of devices connect in a second.
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
    let mut events = Vec::new();
    let mut next_events_at = Instant::now();
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
            taken = take_events(&mut cluster_events, &mut events, next_events_at) => {
                if taken == 0 {
                    return;
                }
                next_events_at = Instant::now() + TICK;
                events.drain(..).for_each(|event| coordination.handle_event(event, now()));
            }
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

/// Waits until `at`, and then for events of workers; takes those that are there. 0 when the workers have ended. Safe to drop.
async fn take_events(
    cluster_events: &mut mpsc::UnboundedReceiver<ClusterEvent>,
    events: &mut Vec<ClusterEvent>,
    at: Instant,
) -> usize {
    // Also a sleep that is over waits for the next turn of the timer.
    if Instant::now() < at {
        sleep_until(at).await;
    }
    cluster_events.recv_many(events, EVENTS_PER_TICK).await
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::sync::Arc;

    use tokio::task::yield_now;

    use super::*;
    use crate::protocol::id::DeviceId;
    use crate::replica::Directory;
    use crate::replica::claim::ClaimKind;

    const NOW: Now = Now { unix_ms: 1_700_000_000_000, us: 0 };

    /// A channel that brings nothing, and counts the claims, and how often the coordination turned to it.
    #[derive(Default)]
    struct Counting {
        turns: Cell<usize>,
        claims: Cell<usize>,
    }

    impl ClaimChannel for &Counting {
        async fn next(&mut self) -> Option<ChannelEvent> {
            self.turns.set(self.turns.get() + 1);
            std::future::pending().await
        }

        async fn publish(&self, _claim: &Claim) {
            self.claims.set(self.claims.get() + 1);
        }

        async fn send_barrier(&self, _number: u64) {}
    }

    #[tokio::test]
    async fn the_first_claim_is_published_at_once_and_those_that_follow_in_fewer_batches_than_there_are_claims() {
        const CLAIMS: usize = 1_000;
        let channel = Counting::default();
        let (sender, cluster_events) = mpsc::unbounded_channel();
        let coordination = Coordination::new("replica1", Arc::new(Directory::default()));
        let mut coordinating = pin!(coordinate(coordination, &channel, cluster_events, &[], || NOW, |_| ()));
        let connecting = async {
            for number in 1..=CLAIMS {
                let device = DeviceId::new(&format!("device{number}")).expect("a valid id");
                let claim = ClusterEvent::Claim { kind: ClaimKind::Ended, device, session: "01J".into() };
                sender.send(claim).expect("it is coordinated");
                yield_now().await;
                assert!(channel.claims.get() > 0, "the first one waits for nothing");
            }
            while channel.claims.get() < CLAIMS {
                yield_now().await;
            }
        };
        tokio::select! {
            // A claim that was sent is handled before the next one is.
            biased;
            () = &mut coordinating => panic!("the workers have not ended"),
            () = connecting => {}
        }
        assert!(channel.turns.get() < CLAIMS / 2, "{} turns", channel.turns.get());
        drop(sender);
        coordinating.await;
    }
}
