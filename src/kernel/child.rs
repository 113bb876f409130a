//! Programs of the operator: what they must not get from this process, and their end.
#![expect(
    unsafe_code,
    reason = "code between fork and exec, and a system call that no crate wraps"
)]

use std::io;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::ptr::null_mut;

use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::process::Command;

/// Where programs find others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that gets nothing of this process but its rights: no environment but `PATH`, no input, no open files, no
/// signals that are ignored or blocked. It runs in `/`, and in a process group of its own.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).current_dir("/").process_group(0).stdin(Stdio::null());
    // SAFETY: `begin_anew` makes system calls and reads `errno`: it takes no lock and allocates nothing.
    unsafe { command.pre_exec(begin_anew) };
    command
}

/// Runs between fork and exec.
fn begin_anew() -> io::Result<()> {
    let checked = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // A shell or a service manager may have started this process with signals that are ignored or blocked, and threads
    // of it block some. A program that cannot be interrupted is not what its author tried.
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default disposition needs no function. The kernel or libc refuses the signals that cannot have
        // another one.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a set of signals is plain data, which `sigemptyset` fills.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are null or lead to a variable that lives on.
    checked(unsafe {
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut())
    })?;
    // Files that Rust opens are closed anyway. This process may have been given others when it was started.
    // SAFETY: one system call, which touches no memory.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    checked(i32::from(closed != 0))
}

/// A program that runs, and what it has started. When this goes, all of its process group is killed.
#[derive(Debug)]
pub(crate) struct Program {
    group: Group,
    end: AsyncFd<OwnedFd>,
}

impl Program {
    /// Starts a [`command`]. It needs a tokio runtime with I/O.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let group = Group(command.spawn()?);
        // SAFETY: an `OwnedFd` is open until it is dropped, and always the same file.
        let end = unsafe { AsyncFd::register_with_interest(pidfd(&group.0)?, Interest::READABLE) }?;
        Ok(Self { group, end })
    }

    /// Waits for the end of the program. What it has left running ends with it.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        // Nobody has asked for its exit code yet, so no other process or group can have its number.
        let _ = self.end.readable().await?;
        self.group.kill();
        self.group.0.wait().await
    }
}

/// A file that can be read once a process has ended.
fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let id = child.id().ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: one system call, which touches no memory. Its file is closed at exec.
    let file = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
    let file =
        i32::try_from(file).ok().filter(|file| *file >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just opened it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// A process group, by the program that it began with.
#[derive(Debug)]
struct Group(Child);

impl Group {
    fn kill(&self) {
        // A child that nobody waited for keeps its number, also if it has ended: no other group can have it.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // If there is none left, there is nothing to kill.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
