//! What an apply would change: the difference between what runs and what is wanted. Pure.

mod addresses;
pub(crate) mod cpus;
mod display;
mod interface;
pub(crate) mod map_cost;
mod unserved;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::abi;
use crate::abi::consts;
use crate::config::Config;
use crate::config::Cpus;
use crate::config::Oversize;
use crate::config::PacketsConfig;
use crate::config::SourceV4;
use crate::config::SourceV6;
use crate::config::TableKind;
use crate::config::XdpMode;
use crate::diff::Running;
use crate::diff::ServerIdChange;
use crate::diff::TableDiff;
use crate::diff::VipChange;
use crate::diff::diff;
use crate::error::Error;
use crate::error::Result;
use crate::memory::MemoryPlan;
use crate::memory::plan_memory;
use crate::mismatch::Mismatch;
use crate::model::connection_tables::Tables;
use crate::model::connection_tables::udp_timeout;
use crate::model::flow_effect::Breaking;
use crate::model::flow_effect::Changed;
use crate::model::flow_effect::FlowEffect;
use crate::model::host::Host;
use crate::model::interface::ResolvedInterface;
use crate::model::interface::RunningInterface;
use crate::model::secret::AnswerSecret;
use crate::model::secret::Secret;
use crate::model::table_cpus::TableCpus;
use crate::outweighed;
use crate::repair::LostPins;
use crate::table::Table;
use crate::tied;
use crate::tied::Ties;
pub use addresses::AddressChange;
pub(crate) use addresses::address_changes;
pub(crate) use interface::IPV6_MINIMUM_MTU;
pub use interface::InterfaceAction;
pub use interface::InterfaceChange;
pub(crate) use interface::plan_detaching;
pub(crate) use interface::plan_interfaces;
pub use unserved::Unserved;

/// "Too big" answers per second and CPU, to all senders together. Linux limits its own ICMP errors to as many per
/// host.
pub(crate) const TOO_BIG_REPLIES_PER_SECOND: u32 = 1_000;

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

/// The balancer program's part in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgramChange {
    /// It is loaded for the first time.
    Load,
    /// It is replaced, in one step that no packet misses, and keeps all maps.
    Replace {
        /// Why.
        details: Vec<String>,
    },
}

/// What an apply would change. Its `Display` is what `lbctl plan` prints.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// Of [`Balancer::follow`](crate::Balancer::follow): another command changed the interfaces meanwhile. Nothing was
    /// done, and nothing is known of what there was to warn of: follow again.
    #[serde(skip)]
    pub overtaken: bool,
    /// Pins that somebody removed, or put something else in the place of. Where there are any, what else differs is
    /// known when they are back.
    pub lost: LostPins,
    /// The program.
    pub program: Option<ProgramChange>,
    /// The connection tables: what changes, one short phrase each.
    pub connection_table: Vec<String>,
    /// The interfaces.
    pub interfaces: Vec<InterfaceChange>,
    /// Interfaces of the configuration that are not served, or not as it says, and why. After an apply these are
    /// recorded in the instance, and [`Balancer::follow`](crate::Balancer::follow) tries them again.
    pub unserved: Vec<Unserved>,
    /// The VIPs.
    pub vips: Vec<VipChange>,
    /// The addresses of the VIPs: what changes for packets that no VIP takes. No change of its own, but what those of
    /// VIPs come to.
    pub addresses: Vec<AddressChange>,
    /// The server ids.
    pub server_ids: Vec<ServerIdChange>,
    /// What the maps hold that does not match the rest of them, and is written anew: nobody but root, or a fault of
    /// l4lb, can have made it so.
    pub repairs: Vec<Mismatch>,
    /// Leftovers of an interrupted command that are cleaned up, though nothing else changes.
    pub clean_up: bool,
    /// What the changes do to flows, where an instance runs that can have some.
    pub flows: Vec<FlowEffect>,
    /// Why that is not known, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows_unknown: Option<String>,
    /// Whether `lbctl apply` wants `--yes` for it, the library's [`ApplyOptions::allow_breaking`]: established flows
    /// break, or it is unknown how many do.
    ///
    /// [`ApplyOptions::allow_breaking`]: crate::ApplyOptions::allow_breaking
    pub needs_yes: bool,
    /// What works, but not well.
    pub warnings: Vec<String>,
    /// Reals of the wanted VIPs whose addresses hash alike, whether anything of them changes or not: machines with
    /// Katran may send their flows the other way round. Not in the plan's `Display`.
    #[serde(skip_serializing_if = "Ties::is_empty")]
    pub tied_reals: Ties,
    /// What the maps take, if connection tables or rings become more, fewer, larger or smaller.
    pub memory: Option<MemoryPlan>,
    #[serde(skip)]
    pub(crate) steps: Steps,
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

impl Plan {
    /// Takes up what differs in VIPs, reals and server ids.
    pub(crate) fn set_table(&mut self, mut diff: TableDiff) -> Result<()> {
        if diff.ids_exhausted {
            return Err(Error::RealIds);
        }
        self.repairs = std::mem::take(&mut diff.repairs);
        let visible =
            !diff.vips.is_empty() || !diff.server_ids.is_empty() || !self.repairs.is_empty();
        self.clean_up |= !diff.writes.is_empty() && !visible;
        self.vips = std::mem::take(&mut diff.vips);
        self.server_ids = std::mem::take(&mut diff.server_ids);
        self.steps.table = diff;
        Ok(())
    }

    /// Takes up what the changes do to flows. That it cannot be found out is no error: it is unknown.
    pub(crate) fn set_flows(&mut self, effects: Result<Vec<FlowEffect>>) {
        match effects {
            Ok(flows) => self.flows = flows,
            Err(error) => self.flows_unknown = Some(error.to_string()),
        }
        self.needs_yes = self.breaking().next().is_some() || self.flows_unknown.is_some();
    }

    /// Why an apply without consent is refused, if it is: one line.
    pub fn refusal(&self) -> Option<String> {
        if !self.needs_yes {
            return None;
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

    /// Whether flows break of reals that leave a VIP: of those fewer do if they are drained first.
    pub(crate) fn draining_helps(&self) -> bool {
        self.breaking().any(|effect| match effect.change {
            Changed::Vip(vip) => {
                self.vips.iter().any(|change| change.vip == vip && change.moves_by_reals)
            }
            _ => false,
        })
    }

    /// A warning, if it is not known what the changes do to flows.
    pub(crate) fn unknown_flows(&self) -> Option<String> {
        let why = self.flows_unknown.as_ref()?;
        Some(format!("how many established flows move is unknown: {why}"))
    }

    /// The changes that break established flows, or may.
    pub fn breaking(&self) -> impl Iterator<Item = &FlowEffect> {
        self.flows.iter().filter(|effect| effect.breaks())
    }

    /// Whether nothing is to change: what runs is what is wanted, but for [`Self::unserved`].
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty()
            && self.program.is_none()
            && self.connection_table.is_empty()
            && self.interfaces.is_empty()
            && self.vips.is_empty()
            && self.server_ids.is_empty()
            && self.repairs.is_empty()
            && !self.clean_up
    }
}

/// The program's knobs for a configuration.
pub(crate) fn knobs(
    config: &Config,
    tables: &Tables,
    secret: Secret,
    answer_secret: AnswerSecret,
) -> abi::knobs {
    let table = &config.connection_table;
    let (v4, v6) = (config.packets.source_v4(), config.packets.source_v6());
    let (udp_timeout, udp_timeout_units) = udp_timeout(table.udp_timeout_seconds);
    // Only the last word of an IPv6 source varies.
    let tail = u32::MAX.checked_shr(u32::from(v6.prefix_len()).saturating_sub(96)).unwrap_or(0);
    abi::knobs {
        build: consts::OBJECT_HASH,
        udp_timeout,
        udp_timeout_units,
        table_factors: secret.factors,
        table_keys: secret.keys,
        answer_secret: answer_secret.words(),
        table_kind: tables.kind.raw(),
        table_bank: tables.bank,
        sets: tables.size(),
        max_ip_packet: config.packets.max_frame - PacketsConfig::ETHERNET_HEADER,
        new_flows_per_second: table.new_connections_per_second,
        too_big_replies_per_second: TOO_BIG_REPLIES_PER_SECOND,
        oversize_reply: u32::from(config.packets.oversize == Oversize::Icmp),
        source4: abi::be32(v4.network()),
        source4_spread: abi::be32(v4.hostmask()),
        source6: IpAddr::V6(v6.network()).into(),
        source6_spread: tail.to_be(),
        source4_prefix: config.packets.encap_source_v4.map_or(0, |net| net.0.prefix_len().into()),
        source6_prefix: config.packets.encap_source_v6.map_or(0, |net| net.0.prefix_len().into()),
        outer_df: config.packets.outer_df.into(),
    }
}

/// Puts what the knobs say into a configuration.
pub(crate) fn write_knobs(knobs: &abi::knobs, config: &mut Config) {
    let seconds = knobs.udp_timeout / 1_000_000_000;
    config.connection_table.kind = TableKind::from_raw(knobs.table_kind);
    config.connection_table.udp_timeout_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    config.connection_table.new_connections_per_second = knobs.new_flows_per_second;
    let packets = &mut config.packets;
    packets.max_frame = knobs.max_ip_packet + PacketsConfig::ETHERNET_HEADER;
    packets.oversize = if knobs.oversize_reply == 0 { Oversize::Drop } else { Oversize::Icmp };
    let length = |prefix: u32| u8::try_from(prefix).unwrap_or(u8::MAX);
    let v4 = ipnet::Ipv4Net::new(abi::from_be32(knobs.source4), length(knobs.source4_prefix));
    let v6 = match IpAddr::from(knobs.source6) {
        IpAddr::V6(v6) => ipnet::Ipv6Net::new(v6, length(knobs.source6_prefix)),
        IpAddr::V4(v4) => ipnet::Ipv6Net::new(v4.to_ipv6_mapped(), length(knobs.source6_prefix)),
    };
    packets.outer_df = knobs.outer_df != 0;
    // No source has a prefix of length 0, as that begins with the unspecified address.
    packets.encap_source_v4 = v4.ok().filter(|_| knobs.source4_prefix != 0).map(SourceV4);
    packets.encap_source_v6 = v6.ok().filter(|_| knobs.source6_prefix != 0).map(SourceV6);
}

fn knob_changes(old: &abi::knobs, new: &abi::knobs) -> Vec<String> {
    let mut details = Vec::new();
    if old.build != new.build {
        details.push("new build".to_owned());
    }
    let (mut before, mut after) = (Config::default(), Config::default());
    write_knobs(old, &mut before);
    write_knobs(new, &mut after);
    let sections = |config: &Config| {
        [
            ("connection_table", serde_json::to_value(&config.connection_table)),
            ("packets", serde_json::to_value(&config.packets)),
        ]
    };
    for ((section, before), (_, after)) in sections(&before).into_iter().zip(sections(&after)) {
        let (Ok(before), Ok(after)) = (before, after) else { continue };
        for (key, value) in after.as_object().into_iter().flatten() {
            let old = before.get(key).unwrap_or(&serde_json::Value::Null);
            if old != value {
                details.push(format!("{section}.{key} {old} → {value}"));
            }
        }
    }
    if details.is_empty() {
        details.push("for other connection tables".to_owned());
    }
    details
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
    let table = Table::from(config);
    plan.warnings.extend(outweighed::warnings(&table, |_| true));
    plan.tied_reals = tied::ties(&table);
    plan.set_table(diff(&snapshot.table, &table))?;
    let running = snapshot.table.vips.iter().map(|(vip, running)| (vip, &running.spec));
    plan.addresses = address_changes(running, table.vips.iter());
    plan_memory(&mut plan, snapshot, &table, host)?;
    Ok(plan)
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

/// Returns the tables that the program is to use.
fn plan_tables(
    plan: &mut Plan,
    snapshot: &Snapshot,
    config: &Config,
    host: &Host,
) -> Result<Tables> {
    let table = &config.connection_table;
    let cpus = match &table.cpus {
        Cpus::Auto => host.receiving_cpus.iter().copied().collect(),
        Cpus::List(list) => {
            if let Some(cpu) = list.iter().find(|cpu| **cpu >= host.possible_cpus) {
                return Err(Error::NoSuchCpu {
                    cpu: *cpu,
                    last: host.possible_cpus.saturating_sub(1),
                });
            }
            let tables = list.iter().copied().collect();
            let receiving = host.receiving_cpus.clone();
            plan.warnings.extend(cpus::warnings(&TableCpus { auto: false, tables, receiving }));
            list.clone()
        }
    };
    let count = u32::try_from(cpus.len()).unwrap_or(u32::MAX).max(1);
    let each = table.entries.div_ceil(count);
    let own: BTreeMap<_, _> = cpus.into_iter().map(|cpu| (cpu, table.kind.size(each))).collect();
    let mut tables = Tables { kind: table.kind, bank: snapshot.tables.bank, own };
    plan.steps.running_tables = snapshot.tables.clone();
    if tables != snapshot.tables {
        // A running program must find its own as long as it runs.
        if snapshot.knobs.is_some() {
            tables.bank = 1 - tables.bank;
        }
        plan.steps.tables = Some(tables.clone());
    }
    plan.steps.nodes.clone_from(&host.nodes);

    let wanted = abi::control {
        abi: consts::ABI_VERSION,
        next_serial: snapshot.table.next_serial,
        table_entries: table.entries.into(),
        cpus_auto: u32::from(table.cpus == Cpus::Auto),
        pad: 0,
    };
    let list = |auto: u32, tables: &BTreeMap<u32, u32>| {
        let cpus = tables.keys().map(u32::to_string).collect::<Vec<_>>().join(", ");
        if auto == 0 { format!("[{cpus}]") } else { format!("\"auto\" ({cpus})") }
    };
    if let Some(running) = &snapshot.control {
        if running.table_entries != wanted.table_entries {
            plan.connection_table
                .push(format!("entries {} → {}", running.table_entries, wanted.table_entries));
        }
        if running.cpus_auto != wanted.cpus_auto
            || !snapshot.tables.own.keys().eq(tables.own.keys())
        {
            plan.connection_table.push(format!(
                "cpus {} → {}",
                list(running.cpus_auto, &snapshot.tables.own),
                list(wanted.cpus_auto, &tables.own)
            ));
        }
        if abi::bytes_of(running) != abi::bytes_of(&wanted) {
            plan.steps.control = Some(wanted);
        }
    } else {
        let noun = if count == 1 { "table" } else { "tables" };
        plan.connection_table.push(format!(
            "{count} {noun} of {each} entries, cpus {}",
            list(wanted.cpus_auto, &tables.own)
        ));
        // Serial 0 stands for no VIP.
        plan.steps.control = Some(abi::control { next_serial: 1, ..wanted });
    }
    plan.steps.stray_tables = snapshot.stray_tables;
    plan.clean_up |=
        snapshot.control.is_some() && (snapshot.stray_tables || !snapshot.shared_table);
    Ok(tables)
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
