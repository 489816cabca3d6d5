//! Memory that was freed, and that the C library keeps.

/// Gives memory that was freed back to the system, as far as whole pages of it are free. The C library keeps it otherwise,
/// for each thread apart: a registry that is read again by another thread would count three times, and a flood of handshakes
/// for ever.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and may be called from any thread at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
