//! The sessions as operators see them.

use std::sync::Arc;

use crate::protocol::id::DeviceId;
use crate::replica::{Directory, Entry, WorkerMessage, WorkerSender};
use crate::session::mqtt::Ending;
use crate::telemetry::admin::{SessionInfo, Sessions, Waiting};

/// The directory, and the ways to the workers.
#[derive(Debug, Clone)]
pub struct ReplicaSessions {
    /// The sessions by device.
    pub directory: Arc<Directory>,
    /// By worker.
    pub worker_senders: Arc<[WorkerSender]>,
}

impl ReplicaSessions {
    /// Ends the session of a device; whether there was one.
    pub fn end(&self, device: &str, ending: Ending) -> bool {
        let Some(entry) = self.directory.find(device) else { return false };
        let Some(worker_sender) = self.worker_senders.get(entry.worker) else { return false };
        worker_sender.send(WorkerMessage::End(entry.token, ending));
        true
    }
}

fn info(device: &str, entry: &Entry) -> SessionInfo {
    SessionInfo {
        device_id: device.to_owned(),
        product_id: entry.product.to_string(),
        session_id: entry.session.to_string(),
        transport: "mqtt",
        peer: entry.peer.to_string(),
        connected_at: entry.connected_ms,
        worker: entry.worker,
    }
}

impl Sessions for ReplicaSessions {
    fn list(&self, offset: usize, limit: usize) -> Waiting<'_, (usize, Vec<SessionInfo>)> {
        let page = self.directory.page(offset, limit);
        let infos = page.iter().map(|(device, entry): &(DeviceId, Entry)| info(device.as_str(), entry)).collect();
        let total = self.directory.len();
        Box::pin(async move { (total, infos) })
    }

    fn find<'a>(&'a self, device: &'a str) -> Waiting<'a, Option<SessionInfo>> {
        let found = self.directory.find(device).map(|entry| info(device, &entry));
        Box::pin(async move { found })
    }

    fn kick<'a>(&'a self, device: &'a str) -> Waiting<'a, bool> {
        let kicked = self.end(device, Ending::Kicked);
        Box::pin(async move { kicked })
    }
}
