//! Agrees with the other replicas who holds a device.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::protocol::claim::{Claim, Verdict, Word};
use crate::protocol::session::Ending;
use crate::queue::nats::{Heard, NatsCoordination, NatsSettings};
use crate::telemetry::health::{Health, PartState};
use crate::telemetry::metric::{ClaimVerdict, CoordinationMetrics};
use crate::transport::{Clock, Directory, Mail, Mailbox, Notice};

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
        let clock = self.clock;
        let mut settling: VecDeque<(String, Box<str>)> = VecDeque::new();
        let mut pace = interval(SETTLING_PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = others.hear() => match heard {
                    None => return Ok(()),
                    Some(Heard::Claim(claim)) => {
                        if let Some(answer) = self.answer(&claim, clock) {
                            others.say(&answer).await;
                        }
                    }
                    Some(Heard::Connected) => {
                        self.health.coordination.set(0, PartState::Ok);
                        let all = self.directory.all();
                        settling = all.into_iter().map(|(device, session)| (device.to_string(), session)).collect();
                    }
                    Some(Heard::Away) => {
                        self.health.coordination.set(0, PartState::Away);
                        self.metrics.outages.inc();
                        settling.clear();
                    }
                    Some(Heard::Proved(worker)) => {
                        let mailbox = usize::try_from(worker).ok().and_then(|worker| self.mailboxes.get(worker));
                        if let Some(mailbox) = mailbox {
                            mailbox.send(Mail::CaughtUp);
                        }
                    }
                },
                notice = notices.recv() => match notice {
                    None => return Ok(()),
                    Some(Notice::Say { word, device, session }) => {
                        others.say(&self.claim(word, device.as_str(), &session)).await;
                    }
                    Some(Notice::CatchUp { worker }) => others.prove(worker as u64).await,
                },
                _ = pace.tick(), if !settling.is_empty() => {
                    for (device, session) in settling.drain(..settling.len().min(SETTLING_BATCH)) {
                        others.say(&self.claim(Word::Held, &device, &session)).await;
                    }
                }
            }
        }
    }

    fn claim(&self, word: Word, device: &str, session: &str) -> Claim {
        Claim { word, device: device.into(), session: session.into(), replica: self.replica_id.as_str().into() }
    }

    /// Applies a claim; what must be said to it.
    fn answer(&self, claim: &Claim, clock: Clock) -> Option<Claim> {
        let now = clock.now();
        if *claim.replica == *self.replica_id {
            if matches!(claim.word, Word::Begun | Word::Held) {
                self.directory.note_heard(claim, now.us);
            }
            return None;
        }
        let (verdict, entry) = self.directory.hear(claim, now.us)?;
        let mailbox = self.mailboxes.get(entry.worker)?;
        let count = |verdict| self.metrics.claims.inc(verdict);
        match verdict {
            Verdict::Keep => {
                count(ClaimVerdict::Keep);
                None
            }
            Verdict::Insist => {
                count(ClaimVerdict::Insist);
                Some(self.claim(Word::Held, &claim.device, &entry.session))
            }
            Verdict::Yield => {
                count(ClaimVerdict::Yield);
                mailbox.send(Mail::End(entry.token, Ending::TakenOver));
                Some(self.claim(Word::Yielded, &claim.device, &claim.session))
            }
            Verdict::Won => {
                mailbox.send(Mail::Reassert(entry.token));
                None
            }
        }
    }
}
