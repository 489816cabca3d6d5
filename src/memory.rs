//! Freed memory that the C library keeps.

/// Returns freed memory to the system, as far as whole pages are free. The C library keeps it otherwise, in an arena for each
/// thread: a registry that is reloaded by another thread would count three times, and a flood of handshakes for ever.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and may be called from any thread at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
