//! The memory that there is: of the host, of the control groups above this process, of NUMA nodes.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::error::Result;
use crate::host::Files;
use crate::host::text;
use crate::memory::Bytes;
use crate::memory::MemoryPlan;

/// Memory of a NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeMemory {
    /// Nobody uses it.
    pub(crate) free: u64,
    /// Free, or a cache that the kernel can drop.
    pub(crate) available: u64,
}

/// The memory that can be had, in bytes. What could not be read does not limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Available {
    /// The host's `MemAvailable`.
    pub(crate) host: Option<u64>,
    /// What the control groups that this process is in leave, by their path: maps are charged to whoever
    /// makes them.
    pub(crate) groups: BTreeMap<String, u64>,
    /// Nodes that have memory.
    pub(crate) nodes: BTreeMap<u32, NodeMemory>,
}

/// How the versions of control groups name things: the controller in `/proc/self/cgroup`, where the groups are
/// below `/sys/fs/cgroup`, limit, usage, and what of it are caches.
const VERSIONS: [(&str, &str, &str, &str, [&str; 3]); 2] = [
    ("", "", "memory.max", "memory.current", ["active_file", "inactive_file", "slab_reclaimable"]),
    (
        "memory",
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ["total_active_file", "total_inactive_file", "total_slab_reclaimable"],
    ),
];

impl Available {
    pub(crate) fn read(files: &Files) -> Self {
        Self {
            host: text(&files.proc.join("meminfo"))
                .and_then(|meminfo| kilobytes(&meminfo, "MemAvailable:")),
            groups: groups(files),
            nodes: nodes(files),
        }
    }

    /// Refuses what cannot be had.
    pub(crate) fn check(&self, plan: &MemoryPlan) -> Result<()> {
        let short = |needed: u64, available: u64, place: String, remedy: &str| {
            Err(Error::Memory {
                plan: plan.summary(),
                needed: Bytes(needed).to_string(),
                available: Bytes(available).to_string(),
                place,
                remedy: remedy.to_owned(),
            })
        };
        let lower = plan.keys_to_lower();
        let needed = plan.needed();
        let lower = if plan.loading > plan.additional {
            "most of it is for a moment, while the kernel verifies the program: give it more"
        } else {
            lower
        };
        if let Some(host) = self.host.filter(|host| *host < needed) {
            return short(needed, host, "on this host".to_owned(), lower);
        }
        for (group, available) in &self.groups {
            if *available < needed {
                let place = format!("in the control group {group}");
                return short(needed, *available, place, lower);
            }
        }
        if self.nodes.len() > 1 {
            for (node, needed) in &plan.additional_on {
                let available = self.nodes.get(node).map(|memory| memory.available);
                if let Some(available) = available.filter(|available| available < needed) {
                    let place = format!("on NUMA node {node}");
                    let remedy = "lower connection_table.entries, or name CPUs of other nodes too in \
                                  connection_table.cpus";
                    return short(*needed, available, place, remedy);
                }
            }
        }
        Ok(())
    }

    /// Warns of tables that come to lie elsewhere than on their CPU's node: rather than drop caches there, the
    /// kernel takes free memory of another node.
    pub(crate) fn warnings(&self, plan: &MemoryPlan) -> Vec<String> {
        if self.nodes.len() < 2 {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        for (node, needed) in &plan.additional_on {
            let Some(memory) = self.nodes.get(node).filter(|memory| memory.free < *needed) else {
                continue;
            };
            warnings.push(format!(
                "NUMA node {node} has {} of free memory for {} of connection tables: part of them comes to lie \
                 on another node, where each look-up takes longer; 'sysctl vm.drop_caches=1' before it avoids \
                 that",
                Bytes(memory.free),
                Bytes(*needed)
            ));
        }
        warnings
    }
}

impl MemoryPlan {
    /// What in a configuration takes most of the memory.
    fn keys_to_lower(&self) -> &'static str {
        let tables: u64 = self.tables.iter().map(|table| table.bytes).sum();
        if self.rings > tables {
            "lower the number of [[vips]], or connection_table.entries"
        } else {
            "lower connection_table.entries"
        }
    }

    /// An error of the kernel, which had not enough memory after all, with what was to be had.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if !error.is_out_of_memory() {
            return error;
        }
        Error::OutOfMemory {
            source: Box::new(error),
            needed: Bytes(self.additional).to_string(),
            plan: self.summary(),
            remedy: self.keys_to_lower(),
        }
    }
}

/// Bytes that a line such as `MemFree:  12 kB` tells of; those of a node begin with `Node 0`.
fn kilobytes(meminfo: &str, key: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != key).skip(1);
        words.next()?.parse::<u64>().ok()?.checked_mul(1024)
    })
}

fn nodes(files: &Files) -> BTreeMap<u32, NodeMemory> {
    let read = |(node, dir): (u32, std::path::PathBuf)| {
        let meminfo = text(&dir.join("meminfo"))?;
        let value = |key| kilobytes(&meminfo, key);
        // A node of CPUs alone: the kernel takes the nearest memory for them.
        value("MemTotal:").filter(|total| *total != 0)?;
        let free = value("MemFree:")?;
        let caches = ["Active(file):", "Inactive(file):", "SReclaimable:"];
        let available = free + caches.into_iter().filter_map(value).sum::<u64>();
        Some((node, NodeMemory { free, available }))
    };
    files.node_dirs().into_iter().filter_map(read).collect()
}

/// What the control groups leave that this process is in, and those above them.
fn groups(files: &Files) -> BTreeMap<String, u64> {
    let mut left = BTreeMap::new();
    let memberships = text(&files.proc.join("self/cgroup")).unwrap_or_default();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        for (controller, place, limit, usage, caches) in VERSIONS {
            if !controllers.split(',').any(|name| name == controller) {
                continue;
            }
            let root = files.control_groups().join(place);
            for group in std::path::Path::new(path).ancestors() {
                let dir = root.join(group.strip_prefix("/").unwrap_or(group));
                let number = |file: &str| text(&dir.join(file))?.parse::<u64>().ok();
                // "max" is no number.
                let (Some(limit), Some(usage)) = (number(limit), number(usage)) else { continue };
                let stat = text(&dir.join("memory.stat")).unwrap_or_default();
                let cache = |name: &&str| {
                    let value = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
                    stat.lines().find_map(value)
                };
                let reclaimable: u64 = caches.iter().filter_map(cache).sum();
                let available = limit.saturating_sub(usage.saturating_sub(reclaimable));
                left.insert(group.display().to_string(), available);
            }
        }
    }
    left
}
