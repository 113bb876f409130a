//! What an apply would change: the difference between what runs and what is wanted. Pure.

mod addresses;
mod change;
mod connection_tables;
pub(crate) mod counter_change;
pub(crate) mod cpus;
mod detail;
pub(crate) mod diff;
mod display;
pub(crate) mod encapsulation;
mod interface;
mod knobs;
mod leave_out;
pub(crate) mod map_cost;
pub(crate) mod memory;
pub(crate) mod report;
pub(crate) mod rings;
pub(crate) mod steps;
mod summary;
mod unserved;
pub(crate) mod writes;

use std::net::IpAddr;

use crate::model::abi;
use crate::model::config::Config;
use crate::model::connection_tables::Tables;
use crate::model::digest::digest;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::flow_effect::Breaking;
use crate::model::flow_effect::Changed;
use crate::model::flow_effect::FlowEffect;
use crate::model::host::Host;
use crate::model::interface::ResolvedInterface;
use crate::model::lost_pins::LostPins;
use crate::model::mismatch::Mismatch;
use crate::model::outweighed;
use crate::model::removals::Removals;
use crate::model::secret::AnswerSecret;
use crate::model::secret::Secret;
use crate::model::tied;
use crate::model::tied::Ties;
use crate::model::vip_table::Table;
use crate::plan::diff::DecapsulateChange;
use crate::plan::diff::ServerIdChange;
use crate::plan::diff::TableDiff;
use crate::plan::diff::VipChange;
use crate::plan::diff::diff_with;
use crate::plan::memory::MemoryPlan;
pub use addresses::AddressChange;
pub(crate) use addresses::address_changes;
pub use change::Change;
pub use detail::Action;
pub use detail::Detail;
pub use detail::Object;
pub(crate) use interface::IPV6_MINIMUM_MTU;
pub use interface::InterfaceAction;
pub use interface::InterfaceChange;
pub(crate) use interface::plan_detaching;
pub(crate) use interface::plan_interfaces;
#[cfg(test)]
pub(crate) use knobs::TOO_BIG_REPLIES_PER_SECOND;
pub(crate) use knobs::knobs;
pub(crate) use knobs::write_knobs;
pub(crate) use steps::Snapshot;
pub(crate) use steps::Steps;
pub use unserved::Unserved;

use connection_tables::plan_tables;
use knobs::knob_changes;

/// The balancer program's part in a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum ProgramChange {
    /// It is loaded for the first time.
    Load,
    /// It is replaced in one step, without interruption, and keeps all maps.
    Replace {
        /// Why.
        details: Vec<Detail>,
    },
}

/// What an apply would change. Its `Display` is what `lbctl plan` prints. As JSON it has [`Self::changes`] in place of the
/// lists of what changes.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Set by [`Balancer::follow`](crate::Balancer::follow): another command changed the interfaces at the same time.
    /// Nothing was done, and warnings are not known: follow again.
    pub overtaken: bool,
    /// Pins that somebody removed or replaced. If there are any, the other changes are known only once the pins are
    /// back.
    pub lost: LostPins,
    /// The program.
    pub program: Option<ProgramChange>,
    /// The connection tables: what changes, one short phrase each.
    pub connection_table: Vec<Detail>,
    /// The interfaces.
    pub interfaces: Vec<InterfaceChange>,
    /// Interfaces of the configuration that are not served, or not as configured, and why. After an apply these are
    /// recorded in the instance, and [`Balancer::follow`](crate::Balancer::follow) tries them again.
    pub unserved: Vec<Unserved>,
    /// The VIPs.
    pub vips: Vec<VipChange>,
    /// The addresses of the VIPs: what changes for packets that no VIP takes. It follows from the changes of the VIPs.
    pub addresses: Vec<AddressChange>,
    /// The server ids.
    pub server_ids: Vec<ServerIdChange>,
    /// The addresses for packets that come in an outer header.
    pub decapsulate: Vec<DecapsulateChange>,
    /// The checks of reals and how they are run: what changes, one short phrase each.
    pub checks: Vec<Detail>,
    /// Reals whose way of packets changes because the host does: it got or lost their address, they have another MAC.
    pub reals: Vec<Detail>,
    /// Map contents that do not match the other maps, and are written anew. Only root or a fault of l4lb can cause
    /// this.
    pub repairs: Vec<Mismatch>,
    /// Leftovers of an interrupted command that are cleaned up, though nothing else changes.
    pub clean_up: bool,
    /// What the changes do to flows. Empty if no instance runs.
    pub flows: Vec<FlowEffect>,
    /// Why the effect on flows is not known, if so.
    pub flows_unknown: Option<String>,
    /// Whether `lbctl apply` wants `--yes` for it, the library's [`ApplyOptions::allow_breaking`]: established flows
    /// break, or it is unknown how many do.
    ///
    /// [`ApplyOptions::allow_breaking`]: crate::ApplyOptions::allow_breaking
    pub needs_yes: bool,
    /// How much of what runs it removes. Too much of it needs `--yes`, too. Not in the plan's `Display`.
    pub removals: Removals,
    /// Warnings: what works, but not well.
    pub warnings: Vec<String>,
    /// Reals of the wanted VIPs whose addresses hash alike, changed or not. Machines with Katran may send their flows
    /// to the other real. Not in the plan's `Display`.
    pub tied_reals: Ties,
    /// The memory of the maps, if the number or size of connection tables or rings changes.
    pub memory: Option<MemoryPlan>,
    pub(crate) steps: Steps,
}

impl Plan {
    /// Adds the differences in VIPs, reals and server ids to the plan.
    pub(crate) fn set_table(&mut self, mut diff: TableDiff) -> Result<()> {
        if diff.ids_exhausted {
            return Err(Error::RealIds);
        }
        self.repairs = std::mem::take(&mut diff.repairs);
        let visible = !diff.vips.is_empty()
            || !diff.server_ids.is_empty()
            || !diff.decapsulate.is_empty()
            || !diff.checks.is_empty()
            || !diff.reals.is_empty()
            || !self.repairs.is_empty();
        self.clean_up |= !diff.writes.is_empty() && !visible;
        self.vips = std::mem::take(&mut diff.vips);
        self.server_ids = std::mem::take(&mut diff.server_ids);
        self.decapsulate = std::mem::take(&mut diff.decapsulate);
        self.checks = std::mem::take(&mut diff.checks);
        self.reals = std::mem::take(&mut diff.reals);
        self.steps.table = diff;
        Ok(())
    }

    /// Adds the effect on flows to the plan. If it cannot be found out, it counts as unknown; that is no error.
    pub(crate) fn set_flows(&mut self, effects: Result<Vec<FlowEffect>>) {
        match effects {
            Ok(flows) => self.flows = flows,
            Err(error) => self.flows_unknown = Some(error.to_string()),
        }
        self.needs_yes = self.breaking().next().is_some()
            || self.flows_unknown.is_some()
            || self.removals.are_many();
    }

    /// Why apply refuses the plan without consent, if it does: one line.
    pub fn refusal(&self) -> Option<String> {
        if !self.needs_yes {
            return None;
        }
        if self.removals.are_many() {
            return Some(self.removals.to_string());
        }
        let breaking: Vec<_> = self.breaking().cloned().collect();
        Some(match (&breaking[..], &self.flows_unknown) {
            ([FlowEffect { moved: Some(moved), established: Some(all), .. }], _) => {
                format!("{moved} of {all} established flows break")
            }
            ([], Some(why)) => format!("how many established flows break is unknown ({why})"),
            _ => format!("established flows break: {}", Breaking(breaking)),
        })
    }

    /// Whether flows break because reals leave a VIP. If such reals are drained first, fewer flows break.
    pub(crate) fn draining_helps(&self) -> bool {
        self.breaking().any(|effect| match effect.change {
            Changed::Vip(vip) => {
                self.vips.iter().any(|change| change.vip == vip && change.moves_by_reals)
            }
            _ => false,
        })
    }

    /// A warning, if the effect of the changes on flows is not known.
    pub(crate) fn unknown_flows(&self) -> Option<String> {
        let why = self.flows_unknown.as_ref()?;
        Some(format!("how many established flows move is unknown: {why}"))
    }

    /// The changes that break established flows, or may break them.
    pub fn breaking(&self) -> impl Iterator<Item = &FlowEffect> {
        self.flows.iter().filter(|effect| effect.breaks())
    }

    /// A digest of what changes. It is the same for another plan that changes the same, whatever that does to flows.
    pub fn digest(&self) -> String {
        let changes = self.changes().into_iter().map(|change| change.text);
        let unserved = self.unserved.iter().map(|unserved| unserved.name.clone());
        let mut told: Vec<u8> =
            changes.chain(unserved).flat_map(|line| (line + "\n").into_bytes()).collect();
        // The texts leave out what checks say: which program is run, what is sent. The digest has it.
        for write in &self.steps.table.writes {
            if let writes::Write::Policies(policies) = write {
                told.extend(policies.to_bytes().unwrap_or_default());
            }
        }
        format!("{:016x}", digest(&told))
    }

    /// Whether nothing changes: all that runs is as wanted, except [`Self::unserved`].
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty()
            && self.program.is_none()
            && self.connection_table.is_empty()
            && self.interfaces.is_empty()
            && self.vips.is_empty()
            && self.server_ids.is_empty()
            && self.decapsulate.is_empty()
            && self.checks.is_empty()
            && self.reals.is_empty()
            && self.repairs.is_empty()
            && !self.clean_up
    }
}

/// Compares what runs with what is wanted.
pub(crate) fn plan(
    snapshot: &Snapshot,
    config: &Config,
    interfaces: &[ResolvedInterface],
    host: &Host,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let tables = plan_tables(&mut plan, snapshot, config, host)?;
    plan_program(&mut plan, snapshot, config, &tables, host);
    plan_interfaces(&mut plan, snapshot, interfaces, config);
    plan_detaching(&mut plan, snapshot, interfaces, config);
    plan.steps.served = interfaces.to_vec();
    plan.steps.starts = snapshot.control.is_none();
    if config.interfaces.is_empty() && !config.vips.is_empty() {
        plan.warnings.push("no [[interfaces]]: no packet will reach the VIPs".to_owned());
    }
    plan.warnings.extend(config.shared_sources());
    let mut table = Table::from(config);
    table.keep_health(|vip| snapshot.table.spec(vip));
    plan.warnings.extend(outweighed::warnings(&table, |_| true));
    plan.tied_reals = tied::ties(&table);
    plan.removals = removals(snapshot, &table);
    plan.set_table(diff_with(&snapshot.table, &table, &host.reals))?;
    if let Some(old) = snapshot.knobs.as_ref().filter(|_| plan.steps.replace_program) {
        let running = (&snapshot.table.table(), old);
        plan.steps.until_written =
            encapsulation::until_written(running, (&table, &plan.steps.knobs));
    }
    let running = snapshot.table.vips.iter().map(|(vip, running)| (vip, &running.spec));
    plan.addresses = address_changes(running, table.vips.iter());
    plan_memory(&mut plan, snapshot, &table, host)?;
    Ok(plan)
}

fn removals(snapshot: &Snapshot, wanted: &Table) -> Removals {
    let mut removals = Removals::default();
    for (vip, running) in &snapshot.table.vips {
        let stays = wanted.vips.get(vip);
        let reals = &running.spec.reals;
        let gone = |real: &&IpAddr| stays.is_none_or(|spec| !spec.reals.contains_key(*real));
        removals.of_vips += 1;
        removals.vips += usize::from(stays.is_none());
        removals.of_reals += reals.len();
        removals.reals += reals.keys().filter(gone).count();
    }
    removals
}

fn plan_program(
    plan: &mut Plan,
    snapshot: &Snapshot,
    config: &Config,
    tables: &Tables,
    host: &Host,
) {
    let secret = snapshot.knobs.map_or(host.secret, |running| Secret::from(&running));
    let answer_secret =
        snapshot.knobs.map_or(host.answer_secret, |running| AnswerSecret::from(&running));
    let wanted = knobs(config, tables, secret, answer_secret);
    plan.program = match &snapshot.knobs {
        Some(running) if snapshot.in_place => (abi::bytes_of(running) != abi::bytes_of(&wanted))
            .then(|| ProgramChange::Replace { details: knob_changes(running, &wanted) }),
        _ => Some(ProgramChange::Load),
    };
    plan.steps.replace_program = plan.program.is_some();
    plan.steps.knobs = wanted;
}

/// Plans the memory of the plan so far, and refuses it if there is not enough.
pub(crate) fn plan_memory(
    plan: &mut Plan,
    snapshot: &Snapshot,
    wanted: &Table,
    host: &Host,
) -> Result<()> {
    plan.memory = MemoryPlan::new(snapshot, &plan.steps, wanted, host);
    if plan.memory.is_none() && plan.steps.replace_program {
        host.memory.check(&MemoryPlan::of_loading())?;
    }
    if let Some(memory) = &plan.memory {
        host.memory.check(memory)?;
        plan.warnings.extend(host.memory.warnings(memory));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let of_steps = abi::knobs {
            table_factors: [11_111_111; 3],
            table_keys: [22_222_222; 6],
            answer_secret: [33_333_333; 2],
            ..abi::knobs::default()
        };
        let answer_secret = AnswerSecret::of([33_333_333; 2]);
        let host = Host { answer_secret, ..Host::default() };
        let steps = Steps { knobs: of_steps, ..Steps::default() };
        let plan = Plan { steps, ..Plan::default() };
        let snapshot = Snapshot { knobs: Some(of_steps), ..Snapshot::default() };
        for text in [
            format!("{plan:?}"),
            format!("{plan:#?}"),
            format!("{snapshot:?}"),
            format!("{host:?}"),
        ] {
            for number in ["11111111", "22222222", "33333333"] {
                assert!(!text.contains(number), "{text}");
            }
        }
    }
}
