//! How much one peer may have done for it before the others are looked at.

use std::future::Future;
use std::pin::pin;
use std::task::Context;

use tokio::task::yield_now;

/// Bytes that are taken in for one peer in a turn; the packet or body that goes beyond is still taken in whole.
pub const TURN_BYTES: usize = 64 * 1024;

/// Lets the task be polled again once the runtime has looked at its sockets and timers.
///
/// A task that wakes itself by its waker is polled again before that: a `LocalSet` polls 61 tasks that are awake, the same
/// one 61 times if there is no other, before the runtime gets to the sockets.
pub fn poll_again_behind_others(cx: &mut Context<'_>) {
    // The first poll hands the waker to the runtime, which wakes it behind its driver; there is no second one.
    let _pending = pin!(yield_now()).poll(cx);
}
