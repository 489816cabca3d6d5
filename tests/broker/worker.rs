//! A worker's thread.

use std::time::Duration;

use tokio::task::LocalSet;

/// How long anything may take that takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a future as a worker runs: one thread, one runtime, one `LocalSet`.
///
/// # Panics
/// When it does not end in time.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let bounded = async { tokio::time::timeout(4 * PATIENCE, future).await.expect("the test ends in time") };
    LocalSet::new().block_on(&runtime, bounded)
}

/// Runs something that blocks away from the worker's thread, which goes on meanwhile.
pub(crate) async fn aside<T: Send + 'static>(blocking: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(blocking).await.expect("it does not panic")
}

/// Waits until that holds, while the worker's other tasks go on.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::task::yield_now().await;
    }
}
