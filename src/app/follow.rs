//! Operators who follow what happens here and on other replicas.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::sessions::ReplicaSessions;
use crate::replica::request::{
    Answer, Answers, Asked, Batch, Filter, Follow, FollowedLines, RENEWAL, Repetitions, Request, Subject,
};
use crate::telemetry::admin::{FollowOrder, Follows, LineStream, Replicas, TooMany, Waiting};
use crate::telemetry::follow::{Bounds, Followers, Line, LineSender, Lines, following};

/// Lines that wait for an operator, of all replicas.
const FOR_OPERATOR: Bounds = Bounds { lines: 1_024, bytes: 1024 * 1024 };

/// Lines that wait for another replica: those of a second.
const FOR_REPLICA: Bounds = Bounds { lines: 200, bytes: 512 * 1024 };

/// Operators of this replica who follow what happens on others, by the id of each.
#[derive(Debug, Default)]
pub struct RemoteFollowers {
    by_id: Mutex<HashMap<String, (LineSender, Repetitions)>>,
}

impl RemoteFollowers {
    /// Adds lines of another replica to those of the follower with that id, if it is there.
    pub fn take_lines(&self, id: &str, replica: &str, number: u64, batch: Batch) {
        let mut by_id = self.lock();
        let Some((sender, repetitions)) = by_id.get_mut(id) else { return };
        if !repetitions.is_new(replica, number) {
            return;
        }
        let Batch { lines, dropped } = batch;
        if dropped > 0 {
            sender.note_dropped(dropped);
        }
        for line in lines {
            sender.offer(&Bytes::from(line));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (LineSender, Repetitions)>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines of this replica for another one; `None`: as many follow as may.
pub fn for_another_replica(followers: &Arc<Followers>, filter: &Filter) -> Option<Box<dyn FollowedLines>> {
    let lines = followers.follow(filter.clone(), FOR_REPLICA)?;
    Some(Box::new(Outgoing { lines, next: None }))
}

struct Outgoing {
    lines: Lines,
    /// A line that did not fit into the last batch.
    next: Option<Bytes>,
}

impl FollowedLines for Outgoing {
    fn take(&mut self, lines_max: usize, bytes_max: usize) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.lines.len() < lines_max {
            let line = self.next.take().map(Line::Text).or_else(|| self.lines.take());
            match line {
                None => break,
                Some(Line::Dropped(count)) => batch.dropped += count,
                Some(Line::Text(text)) if text.len() > bytes_max => batch.dropped += 1,
                Some(Line::Text(text)) if bytes + text.len() > bytes_max => {
                    self.next = Some(text);
                    break;
                }
                Some(Line::Text(text)) => {
                    bytes += text.len();
                    // It is JSON, and so UTF-8.
                    batch.lines.push(String::from_utf8_lossy(&text).into_owned());
                }
            }
        }
        batch
    }
}

impl Follows for ReplicaSessions {
    fn follow(&self, order: FollowOrder) -> Waiting<'_, Result<LineStream, TooMany>> {
        Box::pin(self.lines(order))
    }
}

impl ReplicaSessions {
    async fn lines(&self, order: FollowOrder) -> Result<LineStream, TooMany> {
        let FollowOrder { filter, replicas, longest } = order;
        let lines = self.local.followers.follow(filter.clone(), FOR_OPERATOR).ok_or(TooMany)?;
        let own = &self.local.replica_id;
        let (mut seen, mut missing, mut remote, mut why) = (vec![own.clone()], Vec::new(), None, "");
        match (&self.others, replicas) {
            (_, Replicas::This | Replicas::Named(_)) => {}
            (None, Replicas::All) => why = ", as replicas do not hear each other without nats.servers",
            (Some(_), Replicas::All) => {
                let (follow, answers) = self.ask_to_follow(&filter, lines.sender()).await.ok_or(TooMany)?;
                remote = Some(follow);
                missing = answers.missing;
                for (replica, answer) in answers.by_replica {
                    let told = if answer == Answer::Follows(true) { &mut seen } else { &mut missing };
                    told.push(replica);
                }
            }
        }
        let mut text = format!("{} for {} s on {}{why}", shown(&filter), longest.as_secs(), seen.join(", "));
        if !missing.is_empty() {
            text.push_str(&format!("; not on {}", missing.join(", ")));
        }
        let first = following(own, self.local.clock.now().unix_ms, text, &seen, &missing);
        let state = (Some(first), lines, remote);
        Ok(Box::pin(stream::unfold(state, |(first, mut lines, remote)| async move {
            let line = match first {
                Some(first) => Line::Text(first),
                None => lines.next().await,
            };
            Some((line, (None, lines, remote)))
        })))
    }

    /// Asks all others for their lines, again and again until the result is dropped. `None`: too many requests wait.
    async fn ask_to_follow(&self, filter: &Filter, sender: LineSender) -> Option<(RemoteFollow, Answers)> {
        let id = format!("{:016x}", getrandom::u64().ok()?);
        self.local.remote.lock().insert(id.clone(), (sender, Repetitions::default()));
        let mut remote = RemoteFollow { id: id.clone(), sessions: self.clone(), renewal: None };
        let request = Request::Follow(Follow { id, filter: filter.clone() });
        let answers = self.ask_others(&Replicas::All, request.clone()).await?;
        let sessions = self.clone();
        let renewal = tokio::spawn(async move {
            loop {
                sleep(RENEWAL).await;
                // Where too many requests wait the next one may pass: the lease outlasts it.
                let _answers = sessions.ask_others(&Replicas::All, request.clone()).await;
            }
        });
        remote.renewal = Some(renewal.abort_handle());
        Some((remote, answers))
    }
}

/// A follower on other replicas; they stop once it is dropped.
struct RemoteFollow {
    id: String,
    sessions: ReplicaSessions,
    renewal: Option<AbortHandle>,
}

impl Drop for RemoteFollow {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
        self.sessions.local.remote.lock().remove(&self.id);
        if let Some(others) = &self.sessions.others {
            let (answered, _) = oneshot::channel();
            let request = Request::StopFollowing(std::mem::take(&mut self.id));
            // Where it does not get there the lease ends.
            let _unsent = others.try_send(Asked { to: Vec::new(), request, answered });
        }
    }
}

/// The filter in words.
fn shown(filter: &Filter) -> String {
    match filter {
        Filter::Envelopes { product, device, kind } => {
            let parts = [("product", product), ("device", device), ("type", kind)];
            let parts = parts.iter().filter_map(|(name, value)| Some(format!(" of {name} {}", value.as_deref()?)));
            format!("envelopes{}", parts.collect::<String>())
        }
        Filter::Trace(Subject::Device(device)) => format!("everything about device {device}"),
        Filter::Trace(Subject::Product(product)) => format!("everything about devices of product {product}"),
        Filter::Trace(Subject::Address(ip, None)) => format!("everything about {ip}"),
        Filter::Trace(Subject::Address(ip, Some(port))) => format!("everything about {ip} port {port}"),
    }
}
