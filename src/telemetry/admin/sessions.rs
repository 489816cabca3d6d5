//! Sessions as operators see and end them.

use std::fmt;
use std::pin::Pin;

use serde::Serialize;

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
    /// The worker that serves it.
    pub worker: usize,
}

/// A part of all sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// How many there are.
    pub total: usize,
    /// How many of them come before this part.
    pub offset: usize,
    /// How many this part may have.
    pub limit: usize,
    /// By device id.
    pub sessions: Vec<SessionInfo>,
}

/// The sessions of this replica.
pub trait Sessions: fmt::Debug + Send + Sync {
    /// At most `limit` sessions behind the first `offset`, ordered by device id, with the number of all.
    fn list(&self, offset: usize, limit: usize) -> Waiting<'_, (usize, Vec<SessionInfo>)>;

    /// The session of a device.
    fn find<'a>(&'a self, device: &'a str) -> Waiting<'a, Option<SessionInfo>>;

    /// Ends the session of a device; says whether there was one. It may still be closing when the answer comes.
    fn kick<'a>(&'a self, device: &'a str) -> Waiting<'a, bool>;
}
