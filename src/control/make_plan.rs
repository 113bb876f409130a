//! Making the plan of an apply: reads what runs and the facts about the host, and compares them with the configuration.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::control::effects::Question;
use crate::control::effects::effects;
use crate::control::opened;
use crate::control::options::OnUnserved;
use crate::control::own_host;
use crate::control::reals;
use crate::control::reals::Looked;
use crate::control::resolve::Already;
use crate::control::resolve::Found;
use crate::control::resolve::find_all;
use crate::control::unchecked;
use crate::control::unserved;
use crate::control::unusable_checks;
use crate::dataplane::Check;
use crate::dataplane::Dataplane;
use crate::dataplane::InterfacePlaces;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::open_dataplane;
use crate::dataplane::balancer::read_tables;
use crate::dataplane::balancer::running_knobs;
use crate::dataplane::interfaces::read_interfaces;
use crate::dataplane::interfaces::running_interfaces;
use crate::instance::Instance;
use crate::instance::chain::slots::Chain;
use crate::instance::links;
use crate::instance::own_programs::OwnProgram;
use crate::kernel::netlink::Choice;
use crate::model::config::Config;
use crate::model::config::Cpus;
use crate::model::error::Result;
use crate::model::host::Host;
use crate::model::interface::ResolvedInterface;
use crate::model::vip_table::Table;
use crate::plan;
use crate::plan::Plan;
use crate::plan::Snapshot;
use crate::plan::encapsulation;

/// Reads what runs.
pub(crate) fn read_snapshot(instance: &Instance) -> Result<Snapshot> {
    let chain = Chain::open_existing(instance)?;
    let own = OwnProgram::Balancer;
    let home = chain.as_ref().map(|chain| chain.home(own));
    let slot = home.transpose()?.map_or(own.slot(), |(slot, _)| slot);
    let (Some(dataplane), Some(chain)) = (open_dataplane(instance)?, chain) else {
        let interfaces = running_interfaces(instance)?;
        return Ok(Snapshot { interfaces, ..Snapshot::default() });
    };
    let control = dataplane.control()?;
    let next_serial = control.map_or(1, |control| control.next_serial);
    let knobs = running_knobs(instance)?;
    let (tables, others) = read_tables(&dataplane, knobs.as_ref())?;
    Ok(Snapshot {
        knobs,
        in_place: chain.in_place(slot, own.name())? && chain.is_settled()?,
        control,
        tables,
        shared_table: dataplane.has_shared_table()?,
        stray_tables: others,
        interfaces: read_interfaces(instance, &dataplane)?,
        table: dataplane.read_checked(next_serial, Check::Checksums)?,
        unserved: unserved::read(instance)?,
    })
}

/// The plan from what runs to a configuration.
pub(crate) fn make_plan(
    instance: &Instance,
    config: &Config,
    on_unserved: OnUnserved,
    choice: Choice,
    already: Already,
) -> Result<Plan> {
    own_host::check(config)?;
    unusable_checks::check(config)?;
    links::refuse_other_namespace(instance, &[])?;
    let snapshot = read_snapshot(instance)?;
    let mut plan = plan_without_flows(instance, config, &snapshot, on_unserved, choice, already)?;
    let mut wanted = Table::from(config);
    if let Some(knobs) = snapshot.knobs.as_ref().filter(|_| snapshot.control.is_some()) {
        let new = plan.steps.knobs;
        wanted.keep_health(|vip| snapshot.table.spec(vip));
        let dead = snapshot.interfaces.iter().filter(|(_, running)| running.is_gone());
        let dead = dead.map(|(name, _)| name).chain(snapshot.unserved.keys());
        let question = Question {
            running: &snapshot.table,
            wanted: &wanted,
            knobs: Some((knobs, &new)),
            dead_interfaces: dead.cloned().collect(),
        };
        let balancer = Balancer::open(instance)?;
        plan.set_flows(effects(&balancer, &question, &plan, None));
        plan.warnings.extend(plan.unknown_flows());
        plan.warnings.extend(opened::warnings(|vip| snapshot.table.spec(vip), &wanted));
        let served = plan.steps.served.iter();
        let mtus = served.map(|interface| (interface.config.name.clone(), interface.mtu));
        let narrowest = mtus.min_by_key(|(_, mtu)| *mtu);
        let before = |vip| snapshot.table.spec(vip);
        let changes = wanted.vips.iter().filter_map(|(vip, spec)| Some((*vip, before(vip)?, spec)));
        let variant = config.packets.gue_variant;
        plan.warnings.extend(encapsulation::warnings(changes, &narrowest, variant));
    }
    plan.warnings.extend(unchecked::unused(config));
    plan.warnings.extend(unchecked::warning(instance, &wanted, |_| true));
    Ok(plan)
}

/// The plan, without its effect on flows.
pub(crate) fn plan_without_flows(
    instance: &Instance,
    config: &Config,
    snapshot: &Snapshot,
    on_unserved: OnUnserved,
    choice: Choice,
    already: Already,
) -> Result<Plan> {
    let found = find_all(instance, config, &snapshot.interfaces, on_unserved, choice, already)?;
    let mut host = Host::read(&found.current)?;
    if found.current.len() < config.interfaces.len() {
        host.receiving_cpus = expected_cpus(snapshot, config, &found, &host);
    }
    let ids = snapshot.table.live_ids();
    let is_known = |real| snapshot.table.neighbour(&ids, real).is_some();
    let looked = look_for_reals(config, &found, is_known)?;
    host.reals = looked.facts.clone();
    let mut plan = plan::plan(snapshot, config, &found.served, &host)?;
    plan.warnings.extend(looked.warnings(is_known));
    plan.warnings.extend(found.warnings);
    plan.unserved = found.unserved;
    // Check that the map has room before anything is attached, or attached again.
    let mut places = match snapshot.control {
        Some(_) => Dataplane::open(instance)?.interface_places()?,
        None => InterfacePlaces::default(),
    };
    for entry in plan.steps.entries.clone() {
        match places.put(entry.ifindex) {
            Err(error) if on_unserved != OnUnserved::Fail => plan.leave_out(entry.ifindex, &error),
            done => drop(done?),
        }
    }
    plan.keep_leaving();
    if let Some(error) = found.error
        && on_unserved == OnUnserved::LeaveOut
        && plan.serves_nothing()
    {
        return Err(error);
    }
    plan.forget_records(&snapshot.unserved, config);
    Ok(plan)
}

/// Finds out which reals are this host, and the MACs of those that need one. Refuses reals that are on none of the
/// networks, if all interfaces are known. Waits for no real whose MAC is known: that stays until it answers.
fn look_for_reals(
    config: &Config,
    found: &Found,
    is_known: impl Fn(IpAddr) -> bool,
) -> Result<Looked> {
    let table = Table::from(config);
    let served = found.served.iter().map(|served| (&*served.config.name, served.ifindex));
    let interfaces: Vec<_> = served.collect();
    let looked = reals::look(&table, &interfaces, |real| !is_known(real))?;
    if found.current.len() == config.interfaces.len() {
        looked.refuse_far(config, |_| false)?;
    }
    Ok(looked)
}

/// The CPUs that are to have connection tables while some interfaces, and so their CPUs, are not known. CPUs that have
/// tables keep them, so that an interface that fails moves no flow. New tables are made for all CPUs that are online.
fn expected_cpus(
    snapshot: &Snapshot,
    config: &Config,
    found: &Found,
    host: &Host,
) -> BTreeSet<u32> {
    let known = (!found.current.is_empty()).then(|| host.receiving_cpus.clone());
    match &config.connection_table.cpus {
        Cpus::List(list) => known.unwrap_or_else(|| list.iter().copied().collect()),
        Cpus::Auto if snapshot.control.is_some_and(|control| control.cpus_auto != 0) => {
            let tables = snapshot.tables.own.keys().copied();
            tables.chain(known.unwrap_or_default()).collect()
        }
        Cpus::Auto => host.online_cpus.clone(),
    }
}

/// Checks that a configuration fits the host, above all its memory, with what is known about the interfaces.
pub(crate) fn check_fit(
    instance: &Instance,
    config: &Config,
    interfaces: &[ResolvedInterface],
) -> Result<()> {
    let snapshot = read_snapshot(instance)?;
    plan::plan(&snapshot, config, interfaces, &Host::read(interfaces)?).map(drop)
}
