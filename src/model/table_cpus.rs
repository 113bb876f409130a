//! Which CPUs have connection tables, and which need them.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::host::cpus_in_words;

/// Which CPUs have connection tables, and which should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableCpus {
    /// `connection_table.cpus` is `"auto"`.
    pub(crate) auto: bool,
    pub(crate) tables: BTreeSet<u32>,
    pub(crate) receiving: BTreeSet<u32>,
}

impl TableCpus {
    /// The CPUs that receive packets and have no table; `None`: there are none.
    pub(crate) fn without_table(&self) -> Option<CpusWithoutTable> {
        let cpus: Vec<u32> = self.receiving.difference(&self.tables).copied().collect();
        (!cpus.is_empty()).then_some(CpusWithoutTable(cpus))
    }

    /// The CPUs that have a table and receive no packets.
    pub(crate) fn idle(&self) -> Vec<u32> {
        self.tables.difference(&self.receiving).copied().collect()
    }
}

/// CPUs that may receive packets and have no connection table. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpusWithoutTable(pub(crate) Vec<u32>);

impl CpusWithoutTable {
    /// What to do about it if the configuration names the CPUs.
    pub(crate) fn remedy(&self) -> String {
        let what = if self.0.len() == 1 { "it" } else { "them" };
        format!("add {what} to connection_table.cpus, or write \"auto\" there")
    }
}

impl fmt::Display for CpusWithoutTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.0.len() == 1 { "has" } else { "have" };
        write!(f, "{} may receive packets, but {verb} no connection table", cpus_in_words(&self.0))
    }
}
