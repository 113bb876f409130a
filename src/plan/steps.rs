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

/// What runs. `Default` is an instance that does not.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// Of the program in the chain.
    pub(crate) knobs: Option<abi::knobs>,
    /// Whether that is also the one that is pinned, and the chain leads to it.
    pub(crate) in_place: bool,
    pub(crate) control: Option<abi::control>,
    pub(crate) tables: Tables,
    /// Whether the shared table is there.
    pub(crate) shared_table: bool,
    /// There are tables that no program uses.
    pub(crate) stray_tables: bool,
    pub(crate) interfaces: BTreeMap<String, RunningInterface>,
    pub(crate) table: Running,
    /// What is recorded of interfaces that are not served.
    pub(crate) unserved: BTreeMap<String, Unserved>,
}

/// Knobs hold secrets, and a [`Plan`] may be logged by whoever embeds the library.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// As of [`Snapshot`].
impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

/// The plan in the terms of those who carry it out.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    pub(crate) knobs: abi::knobs,
    pub(crate) replace_program: bool,
    pub(crate) control: Option<abi::control>,
    pub(crate) running_tables: Tables,
    /// The tables that the program is to use; `None`: as the running one does.
    pub(crate) tables: Option<Tables>,
    /// There are tables that no program uses.
    pub(crate) stray_tables: bool,
    /// CPU → NUMA node.
    pub(crate) nodes: BTreeMap<u32, u32>,
    /// Interfaces to attach to, some of them again.
    pub(crate) attach: Vec<ResolvedInterface>,
    pub(crate) entries: Vec<abi::interface>,
    pub(crate) detach: Vec<String>,
    pub(crate) remove_entries: Vec<abi::interface>,
    /// Of the interfaces that are no longer asked for, those that are served so far: index by name.
    pub(crate) leaving: BTreeMap<String, u32>,
    /// Those of them that stay, as none is served yet that is asked for in their place.
    pub(crate) kept: Vec<String>,
    /// The instance does not run so far.
    pub(crate) starts: bool,
    /// The interfaces that are served afterwards.
    pub(crate) served: Vec<ResolvedInterface>,
    /// What is recorded of interfaces that this plan is not about.
    pub(crate) kept_records: BTreeMap<String, Unserved>,
    pub(crate) table: TableDiff,
}

impl Steps {
    /// The interfaces to attach to: name, index and mode.
    pub(crate) fn interfaces(&self) -> Vec<(&str, u32, XdpMode)> {
        self.attach.iter().map(ResolvedInterface::target).collect()
    }
}
