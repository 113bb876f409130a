//! The heap of the C library.

/// Makes all threads of this process share one heap of the C library, if that is glibc. Otherwise each thread that allocates
/// may get one of its own, which keeps what it once had: a process such as `lbctl serve`, whose threads read large tables in
/// turns, then grows to several times of what it needs. Call it before there are other threads.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the standard library cannot set this")]
        // SAFETY: the call takes two numbers. It locks the heap; threads read the limit when they would make another.
        let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
    }
}
