//! Memory of a version that is not in force any more.

/// Gives memory that was freed back to the system, as far as whole pages of it are free. The C library keeps it otherwise,
/// for each thread apart, and a registry that is read again by another thread would count three times.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and may be called from any thread at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
