//! What a child process must not get from this one.
#![expect(unsafe_code, reason = "code between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc;

/// Lets the child have its three standard streams, and no other file of this process.
///
/// Files that Rust opens are closed anyway. This process may have been given others when it was started.
pub(crate) fn without_open_files(command: &mut Command) {
    let close = || {
        // SAFETY: one system call, which touches no memory.
        let result = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3 as libc::c_uint,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes one system call and reads `errno`: it takes no lock and allocates nothing.
    unsafe { command.pre_exec(close) };
}
