//! What the kernel knows of a TCP connection: `TCP_INFO`.
#![expect(unsafe_code, reason = "nix has no TCP_INFO")]

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use nix::libc;

use super::bpf::size_u32;

/// How far what was sent has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Segments that are not acknowledged yet.
    pub(crate) unacknowledged: u32,
    /// Those of them that arrived, though one before them did not.
    pub(crate) arrived_later: u32,
    /// Segments that were sent again, since the connection began.
    pub(crate) sent_again: u32,
}

/// How far what was sent over a connection has come.
pub(crate) fn progress(socket: impl AsFd) -> io::Result<Progress> {
    // SAFETY: it has only integers, for which zero is valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_u32::<libc::tcp_info>();
    // SAFETY: `info` is writable for `length` bytes, and every bit pattern of it is valid. The kernel may fill less.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Progress {
        unacknowledged: info.tcpi_unacked,
        arrived_later: info.tcpi_sacked,
        sent_again: info.tcpi_total_retrans,
    })
}
