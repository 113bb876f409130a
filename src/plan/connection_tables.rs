//! The part of a plan about connection tables.

use std::collections::BTreeMap;

use super::Plan;
use super::Snapshot;
use super::cpus;
use super::detail::Detail;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::Config;
use crate::model::config::Cpus;
use crate::model::connection_tables::Tables;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::host::Host;
use crate::model::table_cpus::TableCpus;

/// The keys of the configuration.
const ENTRIES: &str = "connection_table.entries";
const CPUS: &str = "connection_table.cpus";

/// Plans the connection tables, and returns those that the program is to use.
pub(super) fn plan_tables(
    plan: &mut Plan,
    snapshot: &Snapshot,
    config: &Config,
    host: &Host,
) -> Result<Tables> {
    let table = &config.connection_table;
    let cpus = table_cpus(plan, config, host)?;
    let count = u32::try_from(cpus.len()).unwrap_or(u32::MAX).max(1);
    let each = table.entries.div_ceil(count);
    let own = cpus.into_iter().map(|cpu| (cpu, table.kind.size(each))).collect();
    let mut tables = Tables { kind: table.kind, bank: snapshot.tables.bank, own };
    plan.steps.running_tables = snapshot.tables.clone();
    if tables != snapshot.tables {
        // The running program uses its own tables until it is replaced.
        if snapshot.knobs.is_some() {
            tables.bank = 1 - tables.bank;
        }
        plan.steps.tables = Some(tables.clone());
    }
    plan.steps.nodes.clone_from(&host.nodes);
    plan_control(plan, snapshot, config, &tables, (count, each));
    plan.steps.stray_tables = snapshot.stray_tables;
    plan.clean_up |=
        snapshot.control.is_some() && (snapshot.stray_tables || !snapshot.shared_table);
    Ok(tables)
}

/// The CPUs that get a table of their own, in the order of the configuration.
fn table_cpus(plan: &mut Plan, config: &Config, host: &Host) -> Result<Vec<u32>> {
    let list = match &config.connection_table.cpus {
        Cpus::Auto => return Ok(host.receiving_cpus.iter().copied().collect()),
        Cpus::List(list) => list,
    };
    if let Some(cpu) = list.iter().find(|cpu| **cpu >= host.possible_cpus) {
        return Err(Error::NoSuchCpu { cpu: *cpu, last: host.possible_cpus.saturating_sub(1) });
    }
    plan.warnings.extend(cpus::warnings(&TableCpus {
        auto: false,
        tables: list.iter().copied().collect(),
        receiving: host.receiving_cpus.clone(),
    }));
    Ok(list.clone())
}

/// Plans the control record, which says what the configuration asks of the tables. There are
/// `count` tables, each with room for `each` flows.
fn plan_control(
    plan: &mut Plan,
    snapshot: &Snapshot,
    config: &Config,
    tables: &Tables,
    (count, each): (u32, u32),
) {
    let table = &config.connection_table;
    let wanted = abi::control {
        abi: consts::ABI_VERSION,
        next_serial: snapshot.table.next_serial,
        table_entries: table.entries.into(),
        cpus_auto: u32::from(table.cpus == Cpus::Auto),
        // Nothing that a file says begins or ends a drain.
        draining_since: snapshot.control.map_or(0, |control| control.draining_since),
    };
    let list = |auto: u32, tables: &BTreeMap<u32, u32>| {
        let cpus = tables.keys().map(u32::to_string).collect::<Vec<_>>().join(", ");
        if auto == 0 { format!("[{cpus}]") } else { format!("\"auto\" ({cpus})") }
    };
    let value = |auto: u32, tables: &BTreeMap<u32, u32>| serde_json::json!({ "auto": auto != 0, "cpus": tables.keys().collect::<Vec<_>>() });
    let Some(running) = &snapshot.control else {
        let noun = if count == 1 { "table" } else { "tables" };
        let text = format!("{count} {noun} of {each} entries");
        let entries = Detail::setting(ENTRIES, (), wanted.table_entries, text);
        let text = format!("cpus {}", list(wanted.cpus_auto, &tables.own));
        let cpus = Detail::setting(CPUS, (), value(wanted.cpus_auto, &tables.own), text);
        plan.connection_table.extend([entries, cpus]);
        // Serial 0 stands for no VIP.
        plan.steps.control = Some(abi::control { next_serial: 1, ..wanted });
        return;
    };
    if running.table_entries != wanted.table_entries {
        let (old, new) = (running.table_entries, wanted.table_entries);
        let text = format!("entries {old} → {new}");
        plan.connection_table.push(Detail::setting(ENTRIES, old, new, text));
    }
    if running.cpus_auto != wanted.cpus_auto || !snapshot.tables.own.keys().eq(tables.own.keys()) {
        let (old, new) =
            ((running.cpus_auto, &snapshot.tables.own), (wanted.cpus_auto, &tables.own));
        let text = format!("cpus {} → {}", list(old.0, old.1), list(new.0, new.1));
        let (old, new) = (value(old.0, old.1), value(new.0, new.1));
        plan.connection_table.push(Detail::setting(CPUS, old, new, text));
    }
    if abi::bytes_of(running) != abi::bytes_of(&wanted) {
        plan.steps.control = Some(wanted);
    }
}
