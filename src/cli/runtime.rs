//! I/O of a tool.

use std::io;

/// Runs I/O to its end, on this thread.
///
/// # Errors
/// The system's, when it gives no runtime.
pub fn block_on<F: Future>(work: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}
