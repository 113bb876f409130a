//! Network namespaces without names.

use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::PathBuf;
use std::process;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::setns;
use nix::sched::unshare;

use super::need_root;

/// The kernel settings of every namespace: interfaces are ready at once and say nothing unasked,
/// ICMP is not rationed, and a port can be used again.
const SETTINGS: [(&str, &str); 11] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/ip_forward", "0"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
];

/// A network namespace of this test, with its loopback up.
///
/// A file descriptor holds it, not a name under `/run/netns`: it ends with this value, its sockets
/// and its processes. To look inside while a test hangs: `nsenter --net=PATH`, with the path that
/// its `Debug` shows.
pub(crate) struct NetNs {
    file: OwnedFd,
}

impl NetNs {
    /// Makes a namespace.
    #[track_caller]
    pub(crate) fn new() -> Self {
        need_root();
        let make = || -> io::Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            for (key, value) in SETTINGS {
                fs::write(format!("/proc/sys/net/{key}"), value)?;
            }
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        };
        let file = on_fresh_thread(make).expect("make a network namespace");
        let ns = Self { file };
        ns.shell("ip link set lo up");
        ns
    }

    /// The file that stands for the namespace, for as long as this value lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` on a thread of its own inside the namespace, with a `/sys` that shows the
    /// namespace's interfaces. A panic in it goes on in the caller.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_fresh_thread(|| {
            enter(&self.file).and_then(|()| own_sys()).expect("enter the network namespace");
            work()
        })
    }

    /// Like [`run`](Self::run), but quicker, because `/sys` stays the machine's: for opening
    /// sockets, which belong to the namespace then, whichever thread uses them.
    pub(crate) fn open<T: Send>(&self, open: impl FnOnce() -> T + Send) -> T {
        on_fresh_thread(|| {
            enter(&self.file).expect("enter the network namespace");
            open()
        })
    }

    /// A command that will run inside the namespace, with a `/sys` that shows the namespace's
    /// interfaces and, under `/sys/fs/bpf`, nothing.
    pub(crate) fn command(&self, program: &str) -> Command {
        let file = self.file.try_clone().expect("duplicate a file descriptor");
        before_exec(Command::new(program), move || {
            enter(&file)?;
            own_sys()
        })
    }

    /// Runs a shell script inside the namespace and returns what it printed.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        let file = self.file.try_clone().expect("duplicate a file descriptor");
        let mut shell = before_exec(Command::new("sh"), move || enter(&file));
        let output = shell.args(["-euc", script]).stdin(Stdio::null()).output().expect("run sh");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{script}\n{stdout}{stderr}", output.status);
        stdout
    }
}

impl fmt::Debug for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetNs({})", self.path().display())
    }
}

/// A command that will run in a new network namespace, in which nothing is and which ends with it.
pub(super) fn isolated_command(program: &str) -> Command {
    need_root();
    before_exec(Command::new(program), || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        own_sys()
    })
}

/// Adds a step between fork and exec; the step must not allocate.
fn before_exec<F>(mut command: Command, step: F) -> Command
where
    F: FnMut() -> io::Result<()> + Send + Sync + 'static,
{
    #[expect(unsafe_code, reason = "between fork and exec is the one moment to change namespace")]
    // SAFETY: the steps of this file are bare system calls on descriptors and static strings: no
    // allocation, no lock, so that it does not matter which threads the fork left behind.
    unsafe {
        command.pre_exec(step);
    }
    command
}

/// Moves the calling thread into the network namespace. No allocation.
fn enter(namespace: impl AsFd) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Gives the calling thread its own copy of the mounts, with `/sys` of its network namespace: the
/// old one would go on showing the machine's interfaces. No allocation.
fn own_sys() -> io::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING)?;
    mount(Some("l4lb-test"), "/sys", Some("sysfs"), MsFlags::empty(), NOTHING)?;
    Ok(())
}

/// Runs `work` on a new thread, the only way not to change the caller's namespaces.
fn on_fresh_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| scope.spawn(work).join());
    result.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}
