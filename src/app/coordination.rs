//! Agrees with the other replicas who holds a device.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::protocol::id::DeviceId;
use crate::queue::nats::{Heard, NatsCoordination, NatsSettings};
use crate::replica::LateSessions;
use crate::replica::claim::{Claim, ClaimError, PATIENCE_US, Verdict, Word};
use crate::replica::{Directory, Mail, Mailbox, Notice};
use crate::session::mqtt::Ending;
use crate::telemetry::health::{Health, PartState};
use crate::telemetry::metric::{ClaimFault, ClaimVerdict, CoordinationMetrics};
use crate::transport::Clock;

/// Sessions that are claimed at once after an outage, every [`SETTLING_PAUSE`]: 50,000 a second.
const SETTLING_BATCH: usize = 500;

/// Pause between two batches.
const SETTLING_PAUSE: Duration = Duration::from_millis(10);

/// What the coordination works with.
pub struct Coordination {
    /// How NATS is reached.
    pub settings: NatsSettings,
    /// This replica.
    pub replica_id: String,
    /// Its sessions.
    pub directory: Arc<Directory>,
    /// Its workers.
    pub mailboxes: Arc<[Mailbox]>,
    /// What is told about the connection.
    pub health: Arc<Health>,
    /// Its numbers.
    pub metrics: Arc<CoordinationMetrics>,
    /// The process' clock.
    pub clock: Clock,
}

impl Coordination {
    /// Starts the thread; the workers tell it through the sender. It ends with the process.
    pub fn spawn(self) -> anyhow::Result<mpsc::UnboundedSender<Notice>> {
        let (sender, notices) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("coordination".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                LocalSet::new().block_on(&runtime, self.run(notices))
            })
            .context("the thread for coordination")?;
        Ok(sender)
    }

    async fn run(self, mut notices: mpsc::UnboundedReceiver<Notice>) -> anyhow::Result<()> {
        let mut others = NatsCoordination::start(&self.settings).await?;
        // When something was asked last.
        let mut asked_us = 0;
        let mut complained = Vec::new();
        let mut settling: VecDeque<(Word, DeviceId, Box<str>)> = VecDeque::new();
        let mut late = LateSessions::default();
        let mut proofs = Proofs::default();
        let mut pace = interval(SETTLING_PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = others.hear() => match heard {
                    None => return Ok(()),
                    Some(Heard::Claim(claim)) => {
                        if let Some(answer) = self.answer(&claim) {
                            if answer.word == Word::Asked {
                                asked_us = self.clock.now().us;
                            }
                            others.say(&answer).await;
                        }
                    }
                    Some(Heard::Ignored(error)) => {
                        self.metrics.ignored.inc(fault(error));
                        if !complained.contains(&error) {
                            complained.push(error);
                            complain(error);
                        }
                    }
                    Some(Heard::Connected) => {
                        self.health.coordination.set(0, PartState::Ok);
                        others.say(&self.say_time()).await;
                        let all = self.directory.all().into_iter();
                        settling = all.map(|(device, session)| (Word::Held, device, session)).collect();
                        let late = late.say_all(self.clock.now().us);
                        settling.extend(late.map(|(device, session)| (Word::Late, device, session)));
                    }
                    Some(Heard::Away) => {
                        self.health.coordination.set(0, PartState::Away);
                        self.metrics.outages.inc();
                        settling.clear();
                        late.lose(self.clock.now().us);
                    }
                    Some(Heard::Proved(number)) => {
                        if let Some(mailbox) = proofs.take(number).and_then(|worker| self.mailboxes.get(worker)) {
                            // What was missed is known, but what was asked about it may not be answered yet.
                            mailbox.send(Mail::CaughtUp { settled_us: asked_us + PATIENCE_US });
                        }
                    }
                },
                notice = notices.recv() => match notice {
                    None => return Ok(()),
                    Some(Notice::Say { word, device, session }) => {
                        if let Some(claim) = self.claim(word, device.as_str(), &session) {
                            others.say(&claim).await;
                        }
                        if word == Word::Late {
                            late.note(device, session, others.is_connected(), self.clock.now().us);
                        }
                    }
                    Some(Notice::CatchUp { worker }) => others.prove(proofs.ask(worker)).await,
                },
                _ = pace.tick(), if !settling.is_empty() => {
                    for (word, device, session) in settling.drain(..settling.len().min(SETTLING_BATCH)) {
                        if let Some(claim) = self.claim(word, device.as_str(), &session) {
                            others.say(&claim).await;
                        }
                    }
                }
            }
        }
    }

    /// A claim about a session; `None` when it says that the session is here, and it is not any more.
    fn claim(&self, word: Word, device: &str, session: &str) -> Option<Claim> {
        let now = self.clock.now();
        let (since, said) = match word {
            Word::Begun | Word::Held | Word::Lives => self.directory.since(device, session, now)?,
            // One that has ended is older than any that is there.
            Word::Late => self.directory.since(device, session, now).unwrap_or_else(|| (0, self.directory.time(now))),
            _ => (0, self.directory.time(now)),
        };
        let (device, session, replica) = (device.into(), session.into(), self.replica_id.as_str().into());
        Some(Claim { word, device, session, replica, since, said, question: None })
    }

    fn say_time(&self) -> Claim {
        let (said, replica) = (self.directory.time(self.clock.now()), self.replica_id.as_str().into());
        Claim { word: Word::Time, device: "".into(), session: "".into(), replica, since: 0, said, question: None }
    }

    /// Applies a claim; what must be said to it.
    fn answer(&self, claim: &Claim) -> Option<Claim> {
        if *claim.replica == *self.replica_id {
            return None;
        }
        let now = self.clock.now();
        if claim.word == Word::Time && self.directory.is_ahead_of(claim.said, now) {
            return Some(self.say_time());
        }
        let (verdict, entry) = self.directory.hear(claim, now)?;
        let mailbox = self.mailboxes.get(entry.worker)?;
        let device = &*claim.device;
        match verdict {
            Verdict::Insist => {
                self.metrics.claims.inc(ClaimVerdict::Insist);
                self.claim(Word::Held, device, &entry.session)
            }
            Verdict::Ask(question) => {
                self.metrics.claims.inc(ClaimVerdict::Ask);
                let asked = self.claim(Word::Asked, device, &claim.session)?;
                Some(Claim { question: Some(question), ..asked })
            }
            Verdict::Answer(question) => {
                mailbox.send(Mail::Replaces(entry.token));
                let lives = self.claim(Word::Lives, device, &entry.session)?;
                Some(Claim { question: Some(question), ..lives })
            }
            Verdict::Yield => {
                self.metrics.claims.inc(ClaimVerdict::Yield);
                mailbox.send(Mail::End(entry.token, Ending::TakenOver));
                self.claim(Word::Yielded, device, &claim.session)
            }
            Verdict::Won => {
                mailbox.send(Mail::Reassert(entry.token));
                None
            }
            Verdict::Announce => {
                mailbox.send(Mail::Announce(entry.token));
                None
            }
        }
    }
}

/// Which worker waits for which proof that all claims were heard. Each number comes back twice, from the server and after
/// the longest time that it may take, which may be after the next freeze.
#[derive(Debug, Default)]
struct Proofs {
    last: u64,
    /// By worker the number that it waits for.
    waiting: HashMap<usize, u64>,
}

impl Proofs {
    /// The number of a worker's next proof; earlier ones of it mean nothing any more.
    fn ask(&mut self, worker: usize) -> u64 {
        self.last += 1;
        self.waiting.insert(worker, self.last);
        self.last
    }

    /// The worker that waits for that proof, which it has now.
    fn take(&mut self, number: u64) -> Option<usize> {
        let worker = self.waiting.iter().find(|(_, waiting)| **waiting == number).map(|(worker, _)| *worker)?;
        self.waiting.remove(&worker);
        Some(worker)
    }
}

fn fault(error: ClaimError) -> ClaimFault {
    match error {
        ClaimError::Malformed => ClaimFault::Malformed,
        ClaimError::Unsigned => ClaimFault::Unsigned,
        ClaimError::WrongSignature => ClaimFault::WrongSignature,
    }
}

/// Once for each kind: whoever can write there can do so without end.
fn complain(error: ClaimError) {
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
    use super::*;

    #[test]
    fn a_proof_counts_once_and_only_for_the_last_freeze_of_its_worker() {
        let mut proofs = Proofs::default();
        let (first, other) = (proofs.ask(0), proofs.ask(1));
        assert_eq!(proofs.take(first), Some(0));
        let second = proofs.ask(0);
        assert_eq!(proofs.take(first), None, "its time is over now, after another freeze has ended");
        assert_eq!((proofs.take(second), proofs.take(second)), (Some(0), None));
        let (overtaken, third) = (proofs.ask(0), proofs.ask(0));
        assert_eq!((proofs.take(overtaken), proofs.take(third), proofs.take(other)), (None, Some(0), Some(1)));
    }
}
