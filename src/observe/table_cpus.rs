//! Compares the CPUs that have connection tables with those that receive packets.

use std::collections::BTreeSet;

use crate::dataplane::balancer::Balancer;
use crate::kernel::host::Files;
use crate::kernel::queues;
use crate::model::error::Result;
use crate::model::interface::ResolvedInterface;
use crate::model::reason::event_count;
use crate::model::table_cpus::TableCpus;
use crate::plan;

impl Balancer {
    /// Warns of CPUs that may receive packets by these interfaces but have no connection table, and of CPUs that have
    /// a table but receive none.
    pub(crate) fn cpu_warnings(&self, interfaces: &[ResolvedInterface]) -> Result<Vec<String>> {
        let targets = interfaces.iter().map(ResolvedInterface::target);
        let receiving = match queues::receiving(&Files::host(), targets) {
            Ok(receiving) => receiving,
            // Following gateways does not depend on this.
            Err(error) => return Ok(vec![error.to_string()]),
        };
        Ok(plan::cpus::warnings(&self.table_cpus(receiving)?))
    }

    /// The CPUs that have connection tables, and those that need them: those that may receive packets, and those that
    /// have received some.
    pub(crate) fn table_cpus(&self, mut receiving: BTreeSet<u32>) -> Result<TableCpus> {
        // Whatever the interrupts say, these CPUs have received packets.
        let states = (0..).zip(self.dataplane.cpu_states.get(0)?);
        let shared = states.filter(|(_, state)| event_count(state, "shared_table") != 0);
        receiving.extend(shared.map(|(cpu, _)| cpu));
        let tables = self.tables()?.own.into_keys().collect();
        let auto = self.dataplane.control()?.is_some_and(|control| control.cpus_auto != 0);
        Ok(TableCpus { auto, tables, receiving })
    }
}
