//! Answers that go on while something happens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Answer;

/// Answers that go on at once, of all listeners.
pub const STREAMS_MAX: usize = 16;

/// Room for [`STREAMS_MAX`] answers that go on. Its clones share it.
#[derive(Debug, Clone)]
pub struct StreamRoom {
    semaphore: Arc<Semaphore>,
}

impl Default for StreamRoom {
    fn default() -> Self {
        Self { semaphore: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

impl StreamRoom {
    /// Room for one answer until the permit is dropped. `None`: there are as many as may be.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.semaphore).try_acquire_owned().ok()
    }
}

/// Mark of an answer that goes on: the exchange may take `longest` in addition to the time of every exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) longest: Duration,
}

/// An answer with these chunks, each sent when it is there. Its connection is closed `longest` after the time that any
/// exchange may take; the permit is held until then. The chunks are asked for only as fast as the client reads.
pub(super) fn live(
    content_type: &'static str,
    longest: Duration,
    permit: OwnedSemaphorePermit,
    chunks: impl Stream<Item = Bytes> + Send + 'static,
) -> Answer {
    let frames = chunks.map(move |chunk| {
        let _held = &permit;
        Ok::<_, Infallible>(Frame::data(chunk))
    });
    let mut answer = Answer::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.extensions_mut().insert(Live { longest });
    answer
}
