//! A future that runs to its end on the thread that calls.

use std::panic::resume_unwind;

use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local};

/// Runs a future as a task of a `LocalSet` of its own, and returns its output; tasks that it has spawned there are dropped then.
///
/// [`LocalSet::block_on`] polls its future whenever any task of the set is woken: each message of a device would poll everything
/// that the future waits for. A task is polled when it is woken itself.
///
/// # Panics
/// The future's panic goes on here.
pub fn block_on_local<F>(runtime: &Runtime, future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    let output = LocalSet::new().block_on(runtime, async { spawn_local(future).await });
    // Nobody aborts the task, so nothing else has ended it.
    output.unwrap_or_else(|ended| resume_unwind(ended.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::rc::Rc;

    use tokio::task::yield_now;

    use super::*;

    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    #[test]
    fn the_future_is_not_polled_for_what_wakes_other_tasks() {
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        let ended = block_on_local(&runtime(), async move {
            let other = spawn_local(async {
                for _ in 0..1_000 {
                    yield_now().await;
                }
            });
            let mut other = pin!(other);
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                other.as_mut().poll(cx)
            })
            .await
        });
        assert!(ended.is_ok());
        assert!(polls.get() < 10, "{} polls", polls.get());
    }

    #[test]
    fn a_panic_of_the_future_is_one_of_the_caller() {
        let runtime = runtime();
        let panics = || block_on_local(&runtime, async { std::panic::panic_any(7) });
        let panicked = catch_unwind(AssertUnwindSafe(panics)).expect_err("it panics");
        assert_eq!(panicked.downcast_ref(), Some(&7));
    }
}
