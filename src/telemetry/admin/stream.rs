//! Answers that go on while something happens.

use std::convert::Infallible;

use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Answer;

/// Answers that go on at once, of all listeners.
pub const STREAMS_MAX: usize = 16;

/// An answer with these chunks, each sent when it is there; the permit is held until its connection is closed. The chunks are
/// asked for only as fast as the client reads.
pub(super) fn live(
    content_type: &'static str,
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
    answer
}
