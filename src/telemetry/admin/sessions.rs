//! Sessions as operators see and end them.

use std::pin::Pin;

use serde::Serialize;

use crate::replica::request::Selection;

/// An answer that may have to come from another thread.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    /// The device.
    pub device_id: String,
    /// Its product.
    pub product_id: String,
    /// ULID of the session.
    pub session_id: String,
    /// `mqtt`.
    pub transport: &'static str,
    /// Address of the client.
    pub peer: String,
    /// When the session began, ms since 1970.
    pub connected_at: u64,
    /// The replica that has it.
    pub replica_id: String,
    /// The worker that serves it.
    pub worker: usize,
}

/// Replicas that a request is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Replicas {
    /// The one that is asked.
    #[default]
    This,
    /// All that hear each other.
    All,
    /// Those with these ids or host names.
    Named(Vec<String>),
}

/// Sessions that are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Where they are.
    pub replicas: Replicas,
    /// How many to leave out at the front.
    pub offset: usize,
    /// Which of them.
    pub selection: Selection,
}

/// A part of all sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// How many there are.
    pub total: usize,
    /// How many of them come before this part, behind the device that was named.
    pub offset: usize,
    /// How many this part may have.
    pub limit: usize,
    /// The last device of this part, if there are more: they come behind it.
    pub next: Option<String>,
    /// By device id.
    pub sessions: Vec<SessionInfo>,
    /// The replicas that answered, and how many of `total` each has.
    pub replicas: Vec<ReplicaTotal>,
    /// Replicas that did not answer, or are not known.
    pub missing: Vec<String>,
    /// `off` where replicas do not hear each other, and each answers for itself alone; `ok` or `away` else.
    pub coordination: &'static str,
}

/// Sessions of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaTotal {
    /// Id of the replica.
    pub replica_id: String,
    /// Sessions that were asked for.
    pub total: usize,
}

/// The sessions of this replica, and of others.
pub trait Sessions: Send + Sync {
    /// Sessions, ordered by device id. `None`: too many requests wait for answers of other replicas.
    fn list(&self, query: SessionQuery) -> Waiting<'_, Option<Page>>;

    /// The session of a device.
    fn find<'a>(&'a self, device: &'a str) -> Waiting<'a, Option<SessionInfo>>;

    /// Ends the session of a device on these replicas; says whether there was one. It may still be closing when the answer
    /// comes. `None`: too many requests wait for answers of other replicas.
    fn kick<'a>(&'a self, device: &'a str, replicas: Replicas) -> Waiting<'a, Option<bool>>;
}
