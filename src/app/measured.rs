//! The surroundings of a worker as the process has them, for `benches/instructions`.

use std::sync::Arc;

use super::meter::WorkerMeter;
use super::notices::DeviceNotices;
use super::registry::RegistryAdapter;
use crate::registry::Registry;
use crate::telemetry::follow::Followers;
use crate::telemetry::health::Health;
use crate::telemetry::metric::WorkerMetrics;
use crate::transport::{self, Clock, ConnectionLimit, Meter};

/// The registry and the meter of the only worker of a replica. No part of the interface.
#[doc(hidden)]
pub fn registry_and_meter(
    registry: Registry,
    connection_limit: Arc<ConnectionLimit>,
) -> (Arc<dyn transport::Registry>, Box<dyn Meter>) {
    let metrics = Arc::new(WorkerMetrics::default());
    let (notices, followers) = (Arc::new(DeviceNotices::new()), Arc::new(Followers::new("replica1")).worker());
    let health = Arc::new(Health::new(1));
    let meter = WorkerMeter::new(0, metrics.clone(), health, connection_limit, notices, followers, Clock::new());
    (Arc::new(RegistryAdapter { registry, metrics }), Box::new(meter))
}
