//! The thread on which this replica agrees with the others who holds a device.

use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::local_task::block_on_local;
use crate::queue::nats::{NatsClaims, NatsSettings};
use crate::replica::request::{Asked, Respond};
use crate::replica::{ClusterEvent, Coordination, Directory, Report, WorkerSender, coordinate};
use crate::telemetry::health::{Health, PartState};
use crate::telemetry::metric::{ClaimVerdict, CoordinationMetrics};
use crate::transport::Clock;

/// The parts that the thread works with.
pub struct CoordinationThread {
    /// How NATS is reached.
    pub settings: NatsSettings,
    /// The id of this replica.
    pub replica_id: String,
    /// Its sessions.
    pub directory: Arc<Directory>,
    /// Requests of operators to other replicas.
    pub asked: mpsc::Receiver<Asked>,
    /// This replica, for requests of others.
    pub respond: Arc<dyn Respond>,
    /// The ways to its workers.
    pub worker_senders: Arc<[WorkerSender]>,
    /// Takes the state of the connection.
    pub health: Arc<Health>,
    /// Takes the numbers.
    pub metrics: Arc<CoordinationMetrics>,
    /// The process' clock.
    pub clock: Clock,
}

impl CoordinationThread {
    /// Starts the thread; the workers tell it through the sender. It ends with the process.
    pub fn spawn(self) -> anyhow::Result<mpsc::UnboundedSender<ClusterEvent>> {
        let (sender, cluster_events) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("coordination".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                block_on_local(&runtime, self.run(cluster_events))
            })
            .context("the thread for coordination")?;
        Ok(sender)
    }

    async fn run(self, cluster_events: mpsc::UnboundedReceiver<ClusterEvent>) -> anyhow::Result<()> {
        let Self { settings, replica_id, directory, asked, respond, worker_senders, health, metrics, clock } = self;
        let claims = NatsClaims::start(&settings).await?;
        let counted = Arc::clone(&metrics);
        let ignored = move |error| counted.ignored[error].inc();
        claims.exchange_requests(&settings.prefix, &replica_id, asked, respond, ignored).await?;
        let coordination = Coordination::new(&replica_id, directory);
        let report = |news| note(&health, &metrics, news);
        coordinate(coordination, claims, cluster_events, &worker_senders, || clock.now(), report).await;
        Ok(())
    }
}

fn note(health: &Health, metrics: &CoordinationMetrics, news: Report) {
    match news {
        Report::Connected => health.coordination.set(0, PartState::Ok),
        Report::Disconnected => {
            health.coordination.set(0, PartState::Away);
            metrics.outages.inc();
        }
        Report::Insisted => metrics.claims[ClaimVerdict::Insist].inc(),
        Report::Asked => metrics.claims[ClaimVerdict::Ask].inc(),
        Report::Yielded => metrics.claims[ClaimVerdict::Yield].inc(),
        Report::Ignored { error, .. } => metrics.ignored[error].inc(),
    }
}
