//! Other network namespaces of this host: those with a name, and those of processes.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::thread;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::NsidAttribute;
use netlink_packet_route::nsid::NsidMessage;
use nix::sched::CloneFlags;
use nix::sched::setns;

use super::client::Netlink;
use super::client::blocking;
use crate::model::error::NetlinkError;

/// Where `ip netns` keeps namespaces with a name.
const NAMED: &str = "/run/netns";

/// The most processes whose namespaces are read.
const MOST_PROCESSES: usize = 1 << 16;

/// A network namespace beside this one.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    /// Its name, or a process in it.
    path: PathBuf,
}

impl Namespace {
    /// What to put before a command to run it in the namespace.
    pub(crate) fn shell(&self) -> String {
        match self.path.strip_prefix(NAMED) {
            Ok(name) => format!("ip netns exec {}", name.display()),
            Err(_) => format!("nsenter --net={}", self.path.display()),
        }
    }

    /// Calls a function in the namespace, on a new thread. Needs `CAP_SYS_ADMIN`.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send,
    ) -> Result<T, String> {
        let enter = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| format!("cannot enter its network namespace: {errno}"))?;
            work()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("l4lb-namespace".to_owned());
            let thread = thread.spawn_scoped(scope, enter).map_err(|error| error.to_string())?;
            thread.join().unwrap_or_else(|_| Err("looking into it failed".to_owned()))
        })
    }
}

/// Paths to network namespaces: names first, then processes by id. The process with the lowest id usually started the
/// others.
fn paths(proc: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name())
    };
    let mut named: Vec<_> = list(Path::new(NAMED)).collect();
    named.sort();
    let pid = |name: std::ffi::OsString| name.to_str()?.parse::<u32>().ok();
    let pids: BTreeSet<u32> = list(proc).filter_map(pid).take(MOST_PROCESSES).collect();
    let named = named.into_iter().map(|name| Path::new(NAMED).join(name));
    named.chain(pids.into_iter().map(|pid| proc.join(format!("{pid}/ns/net")))).collect()
}

impl Netlink {
    /// The number that a namespace has here, if it has one.
    async fn number_of(&self, namespace: &File) -> Result<Option<i32>, NetlinkError> {
        let fd = u32::try_from(namespace.as_raw_fd()).unwrap_or_default();
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(fd));
        match self.request(RouteNetlinkMessage::GetNsId(message), 0).await {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewNsId(message) => {
                    message.attributes.iter().find_map(|attribute| match attribute {
                        NsidAttribute::Id(id) => Some(*id),
                        _ => None,
                    })
                }
                _ => None,
            })),
            Err(cause) => {
                let operation = "ask for the number of a network namespace".to_owned();
                Err(NetlinkError::Netlink { operation, cause: cause.into() })
            }
        }
    }
}

/// Finds the network namespace that has a number in this one. `None`: it has no name, and no process that is visible
/// here is in it.
pub(crate) fn namespace_blocking(
    number: i32,
    proc: &Path,
) -> Result<Option<Namespace>, NetlinkError> {
    blocking(async |netlink| {
        let mut seen = BTreeSet::new();
        for path in paths(proc) {
            // A process can end at any time.
            let Ok(found) = fs::metadata(&path) else { continue };
            if !seen.insert((found.dev(), found.ino())) {
                continue;
            }
            let Ok(file) = File::open(&path) else { continue };
            if is_namespace(&file).is_ok_and(|is| is)
                && netlink.number_of(&file).await? == Some(number)
            {
                return Ok(Some(Namespace { file, path }));
            }
        }
        Ok(None)
    })
}

/// A file of `ip netns add` on which nothing is mounted is a plain file.
fn is_namespace(file: &File) -> io::Result<bool> {
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}
