//! Facts of the host that a plan depends on. `kernel` reads them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use bytesize::ByteSize;
use libbpf_rs::MapType;

use crate::model::cpu_list::write_cpu_list;
use crate::model::real_way::RealFacts;
use crate::model::secret::AnswerSecret;
use crate::model::secret::Secret;

/// Facts of the host that a plan depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// CPUs are numbered below this.
    pub(crate) possible_cpus: u32,
    /// The CPUs that may receive packets of the interfaces.
    pub(crate) receiving_cpus: BTreeSet<u32>,
    /// The CPUs that are online.
    pub(crate) online_cpus: BTreeSet<u32>,
    /// CPU → its NUMA node. A kernel without NUMA has none.
    pub(crate) nodes: BTreeMap<u32, u32>,
    /// The maps that every balancer has.
    pub(crate) maps: Vec<MapShape>,
    pub(crate) memory: Available,
    /// What it knows about the reals of the configuration.
    pub(crate) reals: RealFacts,
    /// Random words for an instance that has no secret yet.
    pub(crate) secret: Secret,
    /// Random words for the limits of answers.
    pub(crate) answer_secret: AnswerSecret,
}

/// A map of every balancer, as the BPF object describes it.
#[derive(Clone, Debug)]
pub(crate) struct MapShape {
    pub(crate) kind: MapType,
    pub(crate) flags: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

/// Memory of a NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeMemory {
    /// Memory that nobody uses.
    pub(crate) free: u64,
    /// Free, or a cache that the kernel can drop.
    pub(crate) available: u64,
}

/// The available memory, in bytes. What could not be read counts as no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Available {
    /// The host's `MemAvailable`.
    pub(crate) host: Option<u64>,
    /// What the control groups of this process leave, by their path: the kernel charges maps to the process that
    /// creates them.
    pub(crate) groups: BTreeMap<String, u64>,
    /// Nodes that have memory.
    pub(crate) nodes: BTreeMap<u32, NodeMemory>,
}

/// `CPU 3`, `CPUs 0-2,7`.
pub(crate) fn cpus_in_words(cpus: &[u32]) -> String {
    let noun = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{noun} {}", write_cpu_list(&cpus.iter().copied().collect()))
}

/// A number of bytes for people: `61.2 MB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", ByteSize::b(self.0).display().si())
    }
}

#[cfg(test)]
mod tests {
    use super::cpus_in_words;

    #[test]
    fn lists_for_people() {
        assert_eq!(cpus_in_words(&[3]), "CPU 3");
        assert_eq!(cpus_in_words(&[0, 1, 2, 7]), "CPUs 0-2,7");
    }
}
