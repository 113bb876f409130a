//! Which memory is short, and what to do about it. Pure.

use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::host::Available;
use crate::model::host::Bytes;
use crate::plan::memory::MemoryPlan;

impl Available {
    /// Refuses a plan that needs more memory than there is.
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
            "most of it is needed only while the kernel verifies the program: free some memory, or raise the limit of the \
             control group"
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

    /// Warns of tables that will not be on their CPU's NUMA node: the kernel takes free memory of another node rather
    /// than drop caches.
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
                "NUMA node {node} has {} of free memory for {} of connection tables: the kernel puts part of them on \
                 another node, where each look-up takes longer; to avoid that, run 'sysctl vm.drop_caches=1' \
                 first",
                Bytes(memory.free),
                Bytes(*needed)
            ));
        }
        warnings
    }
}

impl MemoryPlan {
    /// The keys of the configuration that take most of the memory.
    fn keys_to_lower(&self) -> &'static str {
        let tables: u64 = self.tables.iter().map(|table| table.bytes).sum();
        if self.rings > tables {
            "lower the number of [[vips]], or connection_table.entries"
        } else {
            "lower connection_table.entries"
        }
    }

    /// Adds the planned memory to an error of the kernel that it has not enough.
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
