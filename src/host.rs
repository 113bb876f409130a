//! What a plan depends on beside the configuration: the host's CPUs, NUMA nodes and memory, as sysfs and
//! procfs tell them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

use ipnet::IpNet;
use nix::sys::socket::SockaddrStorage;

use crate::abi;
pub(crate) use crate::addr::is_link_local;
use crate::balancer::possible_cpus;
use crate::cpus;
use crate::error::Error;
use crate::error::Result;
use crate::memory::Available;
use crate::memory::MapShape;
use crate::model::cpu_list::MAX_TOLD_CPUS;
use crate::model::cpu_list::cpu_list;
use crate::model::interface::ResolvedInterface;
use crate::object;
use crate::outside::read_system;
use crate::sys;
use crate::tables::Secret;

/// Facts of the host that a plan depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// CPUs are numbered below this.
    pub(crate) possible_cpus: u32,
    /// The CPUs that may receive packets by way of the interfaces.
    pub(crate) receiving_cpus: BTreeSet<u32>,
    /// The CPUs that are online.
    pub(crate) online_cpus: BTreeSet<u32>,
    /// CPU → its NUMA node. A kernel without NUMA has none.
    pub(crate) nodes: BTreeMap<u32, u32>,
    /// The maps that every balancer has.
    pub(crate) maps: Vec<MapShape>,
    pub(crate) memory: Available,
    /// Random, for an instance without a secret so far.
    pub(crate) secret: Secret,
    /// The same, for the limits of answers.
    pub(crate) answer_secret: AnswerSecret,
}

impl Host {
    /// Reads what matters to a balancer on these interfaces.
    pub(crate) fn read(interfaces: &[ResolvedInterface]) -> Result<Self> {
        let files = Files::host();
        Ok(Self {
            possible_cpus: possible_cpus()?,
            receiving_cpus: cpus::receiving(&files, interfaces)?,
            online_cpus: files.online_cpus()?,
            nodes: files.nodes(),
            maps: object::balancer_maps()?,
            memory: Available::read(&files),
            secret: Secret::new()?,
            answer_secret: AnswerSecret::of(sys::random()?),
        })
    }
}

/// What the bucket of a source depends on that asks for answers. Never printed: whoever knows it silences others.
#[derive(Clone, Copy, Default)]
pub(crate) struct AnswerSecret([u64; 2]);

impl AnswerSecret {
    pub(crate) const fn of([first, second]: [u64; 2]) -> Self {
        // Odd, so that multiplying by them loses nothing.
        Self([first | 1, second | 1])
    }

    pub(crate) fn words(self) -> [u64; 2] {
        self.0
    }
}

impl From<&abi::knobs> for AnswerSecret {
    fn from(knobs: &abi::knobs) -> Self {
        Self(knobs.answer_secret)
    }
}

impl fmt::Debug for AnswerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerSecret")
    }
}

/// Where sysfs and procfs are mounted: tests have trees of their own.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) sys: PathBuf,
    pub(crate) proc: PathBuf,
}

impl Files {
    /// The host's own.
    pub(crate) fn host() -> Self {
        Self { sys: PathBuf::from("/sys"), proc: PathBuf::from("/proc") }
    }

    /// Where control groups are mounted. `ip netns exec` mounts a sysfs of its own, without them: then as the first process
    /// sees them.
    pub(crate) fn control_groups(&self) -> PathBuf {
        let own = self.sys.join("fs/cgroup");
        let is_empty = std::fs::read_dir(&own).map_or(true, |mut entries| entries.next().is_none());
        if is_empty { self.proc.join("1/root/sys/fs/cgroup") } else { own }
    }

    /// Whether sysfs tells of CPUs, without which per-CPU maps cannot be read.
    pub(crate) fn has_sysfs(&self) -> bool {
        self.sys.join("devices/system/cpu/possible").exists()
    }

    /// Whether procfs tells what the kernel's network is set to.
    pub(crate) fn has_procfs(&self) -> bool {
        self.proc.join("sys/net").exists()
    }

    /// The CPUs that are online.
    pub(crate) fn online_cpus(&self) -> Result<BTreeSet<u32>> {
        let path = self.sys.join("devices/system/cpu/online");
        let what = format!("{} is no list of CPUs", path.display());
        let strange = || io::Error::new(io::ErrorKind::InvalidData, what);
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                io::Error::other(format!("there is no {}; is sysfs mounted?", path.display()))
            }
            _ => error,
        };
        read_system(&path)
            .map_err(missing)
            .and_then(|text| cpu_list(text.trim(), MAX_TOLD_CPUS).ok_or_else(strange))
            .map_err(|source| Error::Host { operation: "list the CPUs", source })
    }

    /// CPU → its NUMA node.
    pub(crate) fn nodes(&self) -> BTreeMap<u32, u32> {
        let mut nodes = BTreeMap::new();
        for (node, dir) in self.node_dirs() {
            let cpus = list(&dir.join("cpulist")).unwrap_or_default();
            nodes.extend(cpus.into_iter().map(|cpu| (cpu, node)));
        }
        nodes
    }

    /// The NUMA nodes that are online, and where sysfs tells about them.
    pub(crate) fn node_dirs(&self) -> Vec<(u32, PathBuf)> {
        let dirs = entries(&self.sys.join("devices/system/node")).into_iter();
        dirs.filter_map(|(name, path)| Some((name.strip_prefix("node")?.parse().ok()?, path)))
            .collect()
    }
}

/// Every address of this host, and the interface that has it.
pub(crate) fn addresses() -> Result<Vec<(String, IpAddr)>> {
    Ok(networks()?.into_iter().map(|(interface, net)| (interface, net.addr())).collect())
}

/// Every address of this host with its network, and the interface that has it.
pub(crate) fn networks() -> Result<Vec<(String, IpNet)>> {
    let addresses = nix::ifaddrs::getifaddrs().map_err(|errno| Error::Host {
        operation: "list the addresses of this host",
        source: errno.into(),
    })?;
    let ip = |address: &SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let net = |address: &nix::ifaddrs::InterfaceAddress| {
        let own = ip(address.address.as_ref()?)?;
        let mask = address.netmask.as_ref().and_then(ip);
        let net = mask.and_then(|mask| IpNet::with_netmask(own, mask).ok());
        Some(net.unwrap_or_else(|| own.into()))
    };
    Ok(addresses
        .filter_map(|address| Some((address.interface_name.clone(), net(&address)?)))
        .collect())
}

/// What a file of sysfs or procfs says, without the end of its line; `None`: it cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    Some(read_system(path).ok()?.trim().to_owned())
}

/// A list such as `0-3,5`.
pub(crate) fn list(path: &Path) -> Option<BTreeSet<u32>> {
    cpu_list(&text(path)?, MAX_TOLD_CPUS)
}

/// Names and paths of what is in a folder, which need not exist.
pub(crate) fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    entries.sort();
    entries
}
