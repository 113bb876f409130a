//! The host's CPUs, NUMA nodes and addresses, read from sysfs, procfs and the C library.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::kernel::outside::read_system;
use crate::model::abi::consts;
pub(crate) use crate::model::address::is_link_local;
use crate::model::cpu_list::MAX_TOLD_CPUS;
use crate::model::cpu_list::cpu_list;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::prefix::Prefix;

/// Where sysfs and procfs are mounted. Tests have their own trees.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) sys: PathBuf,
    pub(crate) proc: PathBuf,
}

impl Files {
    /// The places on a host.
    pub(crate) fn host() -> Self {
        Self { sys: PathBuf::from("/sys"), proc: PathBuf::from("/proc") }
    }

    /// Where control groups are mounted. `ip netns exec` mounts another sysfs, without them. Then they are read as the
    /// first process sees them.
    pub(crate) fn control_groups(&self) -> PathBuf {
        let own = self.sys.join("fs/cgroup");
        let is_empty = std::fs::read_dir(&own).map_or(true, |mut entries| entries.next().is_none());
        if is_empty { self.proc.join("1/root/sys/fs/cgroup") } else { own }
    }

    /// Whether sysfs lists the CPUs. Without the list, per-CPU maps cannot be read.
    pub(crate) fn has_sysfs(&self) -> bool {
        self.sys.join("devices/system/cpu/possible").exists()
    }

    /// Whether procfs has the settings of the kernel's network.
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

    /// The NUMA nodes that are online, and their folders in sysfs.
    pub(crate) fn node_dirs(&self) -> Vec<(u32, PathBuf)> {
        let dirs = entries(&self.sys.join("devices/system/node")).into_iter();
        dirs.filter_map(|(name, path)| Some((name.strip_prefix("node")?.parse().ok()?, path)))
            .collect()
    }
}

/// How many CPUs there can be, online or not.
pub(crate) fn possible_cpus() -> Result<u32> {
    let cpus = crate::kernel::bpf::possible_cpus()
        .map_err(|source| Error::Host { operation: "count the CPUs", source })?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX).min(consts::MAX_CPUS))
}

/// Every address of this host, and the interface that has it.
pub(crate) fn addresses() -> Result<Vec<(String, IpAddr)>> {
    Ok(networks()?.into_iter().map(|at| (at.interface, at.net.address())).collect())
}

/// An address of this host, with its network.
pub(crate) struct OwnNetwork {
    pub(crate) interface: String,
    pub(crate) net: Prefix,
    /// Whether the interface is up. If not, the kernel has the address, and takes no packets for it.
    pub(crate) is_up: bool,
}

/// Every address of this host with its network, and the interface that has it.
pub(crate) fn networks() -> Result<Vec<OwnNetwork>> {
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
        let net = mask.and_then(|mask| Prefix::with_netmask(own, mask));
        Some(net.unwrap_or_else(|| own.into()))
    };
    Ok(addresses
        .filter_map(|address| {
            Some(OwnNetwork {
                net: net(&address)?,
                is_up: address.flags.contains(InterfaceFlags::IFF_UP),
                interface: address.interface_name,
            })
        })
        .collect())
}

/// The text of a file of sysfs or procfs, without the line end; `None`: it cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    Some(read_system(path).ok()?.trim().to_owned())
}

/// A list such as `0-3,5`.
pub(crate) fn list(path: &Path) -> Option<BTreeSet<u32>> {
    cpu_list(&text(path)?, MAX_TOLD_CPUS)
}

/// Names and paths of the files in a folder. The folder need not exist.
pub(crate) fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    entries.sort();
    entries
}
