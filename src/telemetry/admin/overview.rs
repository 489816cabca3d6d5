//! Everything at a glance: queues, registry, certificates, workers, replicas.

use serde::Serialize;

use super::answer::Admin;
use super::sessions::Replicas;
use super::shed::{ReplicaShed, ShedReport};
use crate::telemetry::metric::{CertificateUse, Label as _};

/// The parts of the bridge that the configuration names. No user or password stands in any of them.
#[derive(Debug, Clone, Default)]
pub struct Deployment {
    /// Id of this replica.
    pub replica_id: String,
    /// The queue of messages.
    pub messages: Place,
    /// The queue of commands.
    pub commands: Place,
    /// The registry.
    pub registry: Place,
}

/// A part and where it is.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// `kafka`, `nats`, `stdio`, `none`, `file` or `http`.
    pub kind: &'static str,
    /// Servers, file or URL; empty without one.
    pub place: String,
}

/// The answer of `/api/overview`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview<'a> {
    replica_id: &'a str,
    version: &'static str,
    access: Access,
    state: State,
    queues: [Queue<'a>; 2],
    registry: Queue<'a>,
    coordination: &'static str,
    certificates: Vec<Certificate>,
    workers: Vec<Worker>,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Access {
    /// Whether `admin.token` is set: without it pages of a browser read and change nothing.
    token: bool,
}

#[derive(Debug, Serialize)]
struct State {
    ready: bool,
    draining: bool,
    capacity: &'static str,
}

#[derive(Debug, Serialize)]
struct Queue<'a> {
    role: &'static str,
    kind: &'a str,
    #[serde(rename = "where")]
    place: &'a str,
    state: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    #[serde(rename = "use")]
    usage: &'static str,
    /// ms since 1970
    expires_at: u64,
    /// An older one is in force, as the files hold none that can be used.
    stale: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Worker {
    worker: usize,
    sessions: u64,
    /// ms; null once it has ended
    turned_ago: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    replica_id: String,
    answered: bool,
    sessions: Option<usize>,
    shed: Option<&'static str>,
}

impl Admin {
    pub(super) async fn overview(&self) -> Overview<'_> {
        let (readiness, deployment) = (self.health.readiness(), &self.deployment);
        Overview {
            replica_id: &deployment.replica_id,
            version: env!("CARGO_PKG_VERSION"),
            access: Access { token: self.token.is_some() },
            state: State {
                ready: readiness.ready,
                draining: readiness.draining,
                capacity: readiness.capacity.as_str(),
            },
            queues: [
                deployment.messages.at("messages", readiness.queue.as_str()),
                deployment.commands.at("commands", readiness.commands.as_str()),
            ],
            registry: deployment.registry.at("registry", readiness.registry.as_str()),
            coordination: readiness.coordination.as_str(),
            certificates: self.certificates(),
            workers: self.workers(),
            replicas: self.replicas().await,
        }
    }

    fn certificates(&self) -> Vec<Certificate> {
        let metrics = &self.metrics.certificates;
        let certificate = |usage: CertificateUse| {
            let expires_at = metrics.expiry[usage].get()?.saturating_mul(1_000);
            Some(Certificate { usage: usage.text(), expires_at, stale: metrics.stale[usage].get() == Some(1) })
        };
        CertificateUse::all().filter_map(certificate).collect()
    }

    fn workers(&self) -> Vec<Worker> {
        let worker = |worker| {
            let sessions = u64::try_from(self.metrics.worker(worker).sessions.get()).unwrap_or_default();
            let turned_ago = self.health.turned_ago(worker);
            let turned_ago = turned_ago.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
            Worker { worker, sessions, turned_ago }
        };
        (0..self.health.workers()).map(worker).collect()
    }

    /// This one alone where replicas do not hear each other, or too many requests wait.
    async fn replicas(&self) -> Vec<Replica> {
        let report = match self.sheds.report(Replicas::All).await {
            Ok(report) => Ok(report),
            Err(_) => self.sheds.report(Replicas::This).await,
        };
        let ShedReport { replicas, missing } =
            report.unwrap_or(ShedReport { replicas: Vec::new(), missing: Vec::new() });
        let here = |ReplicaShed { replica_id, sessions, state, .. }| Replica {
            replica_id,
            answered: true,
            sessions: Some(sessions),
            shed: Some(state),
        };
        let gone = |replica_id| Replica { replica_id, answered: false, sessions: None, shed: None };
        replicas.into_iter().map(here).chain(missing.into_iter().map(gone)).collect()
    }
}

impl Place {
    fn at(&self, role: &'static str, state: &'static str) -> Queue<'_> {
        Queue { role, kind: self.kind, place: &self.place, state }
    }
}
