//! What a plan is made from, and the steps that carry it out.

use std::collections::BTreeMap;
use std::fmt;

use super::unserved::Unserved;
use crate::model::abi;
use crate::model::config::XdpMode;
use crate::model::connection_tables::Tables;
use crate::model::interface::ResolvedInterface;
use crate::model::interface::RunningInterface;
use crate::plan::diff::Running;
use crate::plan::diff::TableDiff;

/// What runs. `Default` is an instance that does not run.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// The knobs of the program in the chain.
    pub(crate) knobs: Option<abi::knobs>,
    /// Whether this program is also the pinned one, and the chain calls it.
    pub(crate) in_place: bool,
    pub(crate) control: Option<abi::control>,
    pub(crate) tables: Tables,
    /// Whether the shared table exists.
    pub(crate) shared_table: bool,
    /// There are tables that no program uses.
    pub(crate) stray_tables: bool,
    pub(crate) interfaces: BTreeMap<String, RunningInterface>,
    pub(crate) table: Running,
    /// The records of interfaces that are not served.
    pub(crate) unserved: BTreeMap<String, Unserved>,
}

/// Knobs hold secrets, and a program that embeds the library may log a [`Plan`].
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// Prints no secrets, as for [`Snapshot`].
impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

/// The plan in terms of maps, programs and links.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    pub(crate) knobs: abi::knobs,
    pub(crate) replace_program: bool,
    /// The knobs of a program that forwards until the table is written, if it must not be the last one yet.
    pub(crate) until_written: Option<abi::knobs>,
    pub(crate) control: Option<abi::control>,
    pub(crate) running_tables: Tables,
    /// The tables that the program gets. `None`: those of the running program.
    pub(crate) tables: Option<Tables>,
    /// There are tables that no program uses.
    pub(crate) stray_tables: bool,
    /// CPU → NUMA node.
    pub(crate) nodes: BTreeMap<u32, u32>,
    /// Interfaces to attach to, for the first time or again.
    pub(crate) attach: Vec<ResolvedInterface>,
    pub(crate) entries: Vec<abi::interface>,
    pub(crate) detach: Vec<String>,
    pub(crate) remove_entries: Vec<abi::interface>,
    /// Interfaces that are served, and that the configuration no longer names: index by name.
    pub(crate) leaving: BTreeMap<String, u32>,
    /// Leaving interfaces that stay, because no interface that replaces them is served yet.
    pub(crate) kept: Vec<String>,
    /// The instance does not run yet.
    pub(crate) starts: bool,
    /// The interfaces that are served afterwards.
    pub(crate) served: Vec<ResolvedInterface>,
    /// The records of interfaces that this plan does not change.
    pub(crate) kept_records: BTreeMap<String, Unserved>,
    pub(crate) table: TableDiff,
}

impl Steps {
    /// The interfaces to attach to: name, index and mode.
    pub(crate) fn interfaces(&self) -> Vec<(&str, u32, XdpMode)> {
        self.attach.iter().map(ResolvedInterface::target).collect()
    }
}
