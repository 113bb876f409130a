//! Saving: what runs, as a configuration.

use std::collections::BTreeMap;

use crate::control::unserved;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::running_knobs;
use crate::dataplane::interfaces::read_interfaces;
use crate::model::config::Config;
use crate::model::config::Cpus;
use crate::model::error::Result;
use crate::model::interface::RunningInterface;
use crate::model::interface::interface_config;
use crate::model::vip_table::Table;
use crate::plan;
use crate::plan::Unserved;

impl Balancer {
    /// The running state as a configuration. It includes interfaces that are asked for and not served. Planning it
    /// changes nothing, unless an interface was renamed. The metrics endpoint belongs to `lbctl serve` and is not part
    /// of it.
    pub fn save(&self) -> Result<Config> {
        self.save_with(&self.table()?)
    }

    /// As [`Self::save`], from VIPs, reals and server ids that the caller has read.
    pub(crate) fn save_with(&self, table: &Table) -> Result<Config> {
        let mut config = Config::default();
        if let Some(control) = self.dataplane.control()? {
            let table = &mut config.connection_table;
            table.entries = u32::try_from(control.table_entries).unwrap_or(u32::MAX);
            if control.cpus_auto == 0 {
                table.cpus = Cpus::List(self.tables()?.own.into_keys().collect());
            }
        }
        if let Some(knobs) = running_knobs(&self.instance)? {
            plan::write_knobs(&knobs, &mut config);
        }
        table.write_to(&mut config);
        let interfaces = read_interfaces(&self.instance, &self.dataplane)?;
        // If all interfaces are in another network namespace, the configuration has all of them. If only some were
        // moved away, no plan can include those.
        let all_elsewhere = interfaces.values().all(|interface| interface.attached.is_none());
        let is_asked_for = |interface: &RunningInterface| {
            // Without a link, the interface's name is not known.
            interface.pin.is_some() && (interface.elsewhere.is_none() || all_elsewhere)
        };
        let mut interfaces: BTreeMap<_, _> = interfaces
            .into_iter()
            .filter(|(_, interface)| is_asked_for(interface))
            .filter_map(|(name, interface)| Some((name, interface.entry?)))
            .map(|(name, entry)| (name.clone(), interface_config(&name, &entry)))
            .collect();
        let waiting = unserved::read(&self.instance)?.into_iter();
        interfaces.extend(waiting.map(|(name, unserved)| (name, unserved.config)));
        config.interfaces = interfaces.into_values().collect();
        Ok(config)
    }

    /// The interfaces that the last attempt could not serve as asked for, and why.
    pub fn unserved(&self) -> Result<Vec<Unserved>> {
        Ok(unserved::read(&self.instance)?.into_values().collect())
    }
}
