//! `/api/trace` and `/api/envelopes`: what happens, while it happens.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use hyper::body::Bytes;
use tokio::time::{Instant, timeout_at};

use super::sessions::{Replicas, Waiting};
use crate::replica::request::Filter;
use crate::telemetry::follow::Line;

/// Longest time that somebody may follow.
pub const FOLLOW_MAX: Duration = Duration::from_secs(3_600);

/// Time that somebody follows a trace, unless the request says otherwise.
pub const TRACE_DEFAULT: Duration = Duration::from_secs(300);

/// Time without a line after which an empty one is sent: it shows that the bridge lives, and finds out whether the client
/// does.
const SILENCE: Duration = Duration::from_secs(10);

/// A wish of an operator to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowOrder {
    /// Steps or envelopes that he wants to see.
    pub filter: Filter,
    /// Where it happens.
    pub replicas: Replicas,
    /// How long.
    pub longest: Duration,
}

/// As many follow as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many follow already")]
pub struct TooMany;

/// Lines of what an operator follows, without an end.
pub type LineStream = Pin<Box<dyn Stream<Item = Line> + Send>>;

/// Steps and envelopes of this replica, and of others.
pub trait Follows: Send + Sync {
    /// Follows until the lines are dropped. The first one says where they come from.
    fn follow(&self, order: FollowOrder) -> Waiting<'_, Result<LineStream, TooMany>>;
}

/// The lines as chunks of a body, until the time is over.
pub(super) fn chunks(lines: LineStream, longest: Duration) -> impl Stream<Item = Bytes> + Send + use<> {
    let end = Instant::now() + longest;
    stream::unfold(lines, move |mut lines| async move {
        let silent = Instant::now() + SILENCE;
        match timeout_at(silent.min(end), lines.next()).await {
            Ok(line) => Some((chunk(line?), lines)),
            Err(_) if silent < end => Some((Bytes::from_static(b"\n"), lines)),
            Err(_) => None,
        }
    })
}

fn chunk(line: Line) -> Bytes {
    match line {
        Line::Text(text) => [&text[..], b"\n"].concat().into(),
        Line::Dropped(count) => format!("{{\"dropped\":{count}}}\n").into(),
    }
}
