//! The sessions of this replica and of others, as operators see and end them.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::replica::{LocalReplica, row};
use crate::replica::request::{
    Answer, Answers, Asked, ReplicaState, Request, RequestSender, Respond, SessionPart, SessionRow, is_named,
};
use crate::replica::shed::{Goal, ShedPlan, ShedState};
use crate::telemetry::admin::{
    Page, ReplicaShed, ReplicaTotal, Replicas, SessionInfo, SessionQuery, Sessions, ShedAim, ShedOrder, ShedRefusal,
    ShedReport, Sheds, Waiting,
};

/// Where all go down to the mean, each may keep a fiftieth more: the last few devices would come back to a replica that
/// is full more often than not.
const MEAN_SLACK: usize = 50;

/// This replica, and the way to other replicas.
#[derive(Debug, Clone)]
pub struct ReplicaSessions {
    /// This replica.
    pub local: Arc<LocalReplica>,
    /// `None`: replicas do not hear each other.
    pub others: Option<RequestSender>,
}

impl ReplicaSessions {
    fn is_meant(&self, replicas: &Replicas) -> bool {
        match replicas {
            Replicas::This | Replicas::All => true,
            Replicas::Named(names) => names.iter().any(|name| is_named(&self.local.replica_id, name)),
        }
    }

    /// Answers of the replicas that are meant, this one first where it is one of them. `None`: too many requests wait.
    async fn ask(&self, replicas: &Replicas, request: Request) -> Option<Answers> {
        let mut answers = self.ask_others(replicas, request.clone()).await?;
        if self.is_meant(replicas) {
            let own = (self.local.replica_id.clone(), self.local.respond(&request));
            answers.by_replica.insert(0, own);
        }
        if let Replicas::Named(names) = replicas {
            let is_told = |name: &String| {
                let answered = answers.by_replica.iter().map(|(id, _)| id);
                answered.chain(&answers.missing).any(|id| is_named(id, name))
            };
            let unknown: Vec<String> = names.iter().filter(|&name| !is_told(name)).cloned().collect();
            answers.missing.extend(unknown);
        }
        Some(answers)
    }

    /// As [`Self::ask`], without this replica.
    pub(super) async fn ask_others(&self, replicas: &Replicas, request: Request) -> Option<Answers> {
        let to = match replicas {
            Replicas::This => return Some(Answers::default()),
            Replicas::All => Vec::new(),
            Replicas::Named(names) => names.clone(),
        };
        let Some(others) = &self.others else { return Some(Answers::default()) };
        let (answered, answer) = oneshot::channel();
        others.try_send(Asked { to, request, answered }).ok()?;
        answer.await.ok()
    }

    async fn page(&self, query: SessionQuery) -> Option<Page> {
        let SessionQuery { replicas, offset, selection } = query;
        let limit = selection.limit;
        let answers = match replicas {
            Replicas::This => {
                let own = Answer::Sessions(self.local.sessions(offset, &selection));
                Answers { by_replica: vec![(self.local.replica_id.clone(), own)], missing: Vec::new() }
            }
            replicas => self.ask(&replicas, Request::Sessions(selection)).await?,
        };
        let Answers { by_replica, missing } = answers;
        let parts = by_replica.into_iter().filter_map(|(replica_id, answer)| match answer {
            Answer::Sessions(part) => Some((replica_id, part)),
            Answer::State(_) | Answer::Ended(_) | Answer::Follows(_) => None,
        });
        let parts: Vec<(String, SessionPart)> = parts.collect();
        let total_of = |(replica_id, part): &(String, SessionPart)| ReplicaTotal {
            replica_id: replica_id.clone(),
            total: part.total,
        };
        let replicas: Vec<ReplicaTotal> = parts.iter().map(total_of).collect();
        let total = replicas.iter().map(|replica| replica.total).sum();
        let (sessions, next) = merge(parts, limit);
        let coordination = self.local.health.readiness().coordination.as_str();
        Some(Page { total, offset, limit, next, sessions, replicas, missing, coordination })
    }

    async fn begin_shed(&self, order: ShedOrder) -> Result<ShedReport, ShedRefusal> {
        let ShedOrder { aim, rate, replicas } = order;
        self.check(&replicas)?;
        if self.local.is_draining() && self.is_meant(&replicas) {
            return Err(ShedRefusal::Draining);
        }
        let plan = match aim {
            ShedAim::Sessions(count) => ShedPlan { goal: Goal::End(count), rate, most: count },
            ShedAim::Mean if self.others.is_none() => return Err(ShedRefusal::Alone),
            ShedAim::Mean => {
                let states = self.states(&Replicas::All).await?;
                let target = mean(&states);
                plan_down_to(target, rate, &states)
            }
            ShedAim::To(target) => plan_down_to(target, rate, &self.states(&replicas).await?),
        };
        self.report_of(&replicas, Request::Shed(plan)).await
    }

    fn check(&self, replicas: &Replicas) -> Result<(), ShedRefusal> {
        let is_alone = self.others.is_none() && *replicas != Replicas::This;
        if is_alone { Err(ShedRefusal::Alone) } else { Ok(()) }
    }

    async fn states(&self, replicas: &Replicas) -> Result<Vec<ReplicaState>, ShedRefusal> {
        let answers = self.ask(replicas, Request::State).await.ok_or(ShedRefusal::Busy)?;
        Ok(answers.by_replica.into_iter().filter_map(|(_, answer)| state_of(answer)).collect())
    }

    async fn report_of(&self, replicas: &Replicas, request: Request) -> Result<ShedReport, ShedRefusal> {
        self.check(replicas)?;
        let Answers { by_replica, missing } = self.ask(replicas, request).await.ok_or(ShedRefusal::Busy)?;
        let shed = |(replica_id, answer)| Some(replica_shed(replica_id, &state_of(answer)?));
        Ok(ShedReport { replicas: by_replica.into_iter().filter_map(shed).collect(), missing })
    }
}

/// The number of sessions that each replica may keep: what those that stay have on average when all sessions are
/// theirs, and a little more.
fn mean(states: &[ReplicaState]) -> usize {
    let sessions: usize = states.iter().map(|state| state.sessions).sum();
    let staying = states.iter().filter(|state| !state.draining).count().max(1);
    (sessions * (MEAN_SLACK + 1)).div_ceil(staying * MEAN_SLACK)
}

/// A shed down to that number. A balancer that leads devices to all replicas in turn brings most of them back to
/// replicas that are full as well, so that each may have to send away more than it has too many; twice what all have
/// too many is more than enough.
fn plan_down_to(target: usize, rate: u32, states: &[ReplicaState]) -> ShedPlan {
    let excess: usize = states.iter().map(|state| state.sessions.saturating_sub(target)).sum();
    ShedPlan { goal: Goal::DownTo(target), rate, most: excess.saturating_mul(2) }
}

fn state_of(answer: Answer) -> Option<ReplicaState> {
    match answer {
        Answer::State(state) => Some(state),
        Answer::Sessions(_) | Answer::Ended(_) | Answer::Follows(_) => None,
    }
}

fn replica_shed(replica_id: String, state: &ReplicaState) -> ReplicaShed {
    let sessions = state.sessions;
    let Some(shed) = state.shed else {
        return ReplicaShed { replica_id, sessions, state: "none", to: None, rate: 0, ended: 0, left: 0 };
    };
    let to = match shed.plan.goal {
        Goal::DownTo(target) => Some(target),
        Goal::End(_) => None,
    };
    let state = match shed.state {
        ShedState::Running => "running",
        ShedState::Waiting => "waiting",
        ShedState::Done => "done",
        ShedState::GaveUp => "gave_up",
        ShedState::Stopped => "stopped",
    };
    ReplicaShed { replica_id, sessions, state, to, rate: shed.plan.rate, ended: shed.ended, left: shed.left }
}

/// The first `limit` sessions of all parts by device, and the last device of them if there are more. A device that two
/// replicas have at the moment is never split: its second session would come behind itself.
fn merge(parts: Vec<(String, SessionPart)>, limit: usize) -> (Vec<SessionInfo>, Option<String>) {
    // Behind the last session that a replica has told there may be others of it that come before those of the rest.
    let known_until = parts.iter().filter(|(_, part)| part.has_more);
    let known_until = known_until.map(|(_, part)| part.sessions.last().map(|row| row.device.clone())).min().flatten();
    let mut has_more = parts.iter().any(|(_, part)| part.has_more);
    let mut rows: Vec<(String, SessionRow)> = Vec::new();
    for (replica_id, part) in parts {
        rows.extend(part.sessions.into_iter().map(|row| (replica_id.clone(), row)));
    }
    rows.sort_unstable_by(|(one, a), (other, b)| (&a.device, one).cmp(&(&b.device, other)));
    let mut end = rows.len();
    if let Some(until) = known_until {
        end = rows.partition_point(|(_, row)| row.device <= until);
    }
    if end > limit {
        let last = rows[limit - 1].1.device.clone();
        end = rows.partition_point(|(_, row)| row.device <= last);
    }
    has_more |= end < rows.len();
    rows.truncate(end);
    let next = rows.last().filter(|_| has_more).map(|(_, row)| row.device.clone());
    (rows.into_iter().map(|(replica_id, row)| info(replica_id, row)).collect(), next)
}

fn info(replica_id: String, row: SessionRow) -> SessionInfo {
    SessionInfo {
        device_id: row.device,
        product_id: row.product,
        session_id: row.session,
        transport: "mqtt",
        peer: row.peer,
        connected_at: row.connected_ms,
        replica_id,
        worker: row.worker,
    }
}

impl Sessions for ReplicaSessions {
    fn list(&self, query: SessionQuery) -> Waiting<'_, Option<Page>> {
        Box::pin(self.page(query))
    }

    fn find<'a>(&'a self, device: &'a str) -> Waiting<'a, Option<SessionInfo>> {
        let found = self.local.directory.find(device);
        let found = found.map(|entry| info(self.local.replica_id.clone(), row(device, &entry)));
        Box::pin(async move { found })
    }

    fn kick<'a>(&'a self, device: &'a str, replicas: Replicas) -> Waiting<'a, Option<bool>> {
        Box::pin(async move {
            let answers = self.ask(&replicas, Request::End(device.to_owned())).await?;
            Some(answers.by_replica.iter().any(|(_, answer)| *answer == Answer::Ended(true)))
        })
    }
}

impl Sheds for ReplicaSessions {
    fn begin(&self, order: ShedOrder) -> Waiting<'_, Result<ShedReport, ShedRefusal>> {
        Box::pin(self.begin_shed(order))
    }

    fn report(&self, replicas: Replicas) -> Waiting<'_, Result<ShedReport, ShedRefusal>> {
        Box::pin(async move { self.report_of(&replicas, Request::State).await })
    }

    fn stop(&self, replicas: Replicas) -> Waiting<'_, Result<ShedReport, ShedRefusal>> {
        Box::pin(async move { self.report_of(&replicas, Request::StopShedding).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(devices: &[&str], has_more: bool) -> SessionPart {
        let row = |device: &&str| SessionRow {
            device: (*device).to_owned(),
            product: "product1".to_owned(),
            session: String::new(),
            peer: String::new(),
            connected_ms: 0,
            worker: 0,
        };
        SessionPart { total: devices.len(), sessions: devices.iter().map(row).collect(), has_more }
    }

    fn merged(parts: &[SessionPart], limit: usize) -> (String, Option<String>) {
        let parts = parts.iter().enumerate().map(|(number, part)| (format!("replica{number}"), part.clone()));
        let (sessions, next) = merge(parts.collect(), limit);
        (sessions.iter().map(|session| session.device_id.as_str()).collect(), next)
    }

    #[test]
    fn parts_of_several_replicas_become_one_in_order_and_no_session_is_left_out_between_two() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(merged(&[part(&["a", "d"], false), part(&["b", "c"], false)], 9), ("abcd".to_owned(), None));
        assert_eq!(merged(&[part(&["a", "d"], false), part(&["b", "c"], false)], 3), ("abc".to_owned(), text("c")));
        // The first has more behind d, which may come before f.
        assert_eq!(merged(&[part(&["a", "d"], true), part(&["b", "f"], false)], 9), ("abd".to_owned(), text("d")));
        assert_eq!(merged(&[part(&["a", "b"], false), part(&["b", "c"], false)], 2), ("abb".to_owned(), text("b")));
        assert_eq!(merged(&[part(&[], false)], 9), (String::new(), None));
    }

    fn state(sessions: usize, draining: bool) -> ReplicaState {
        ReplicaState { sessions, draining, shed: None }
    }

    #[test]
    fn the_mean_is_that_of_replicas_that_stay_and_leaves_a_little_room() {
        assert_eq!(mean(&[state(60, false), state(60, false), state(0, false)]), 41);
        assert_eq!(mean(&[state(60, false), state(60, true), state(0, false)]), 62);
        assert_eq!(mean(&[state(0, true)]), 0);
        let plan = plan_down_to(41, 100, &[state(60, false), state(60, false), state(0, false)]);
        assert_eq!(plan, ShedPlan { goal: Goal::DownTo(41), rate: 100, most: 76 });
    }
}
