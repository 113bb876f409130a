//! The balancer of an instance: planning, applying, changing and reading it.
//!
//! The maps are the whole state: a [`Balancer`] can be opened by any process at any time, forwarding
//! needs none. Readers are free; whoever writes waits for the instance's lock.

mod carry_out;
mod check;
mod interfaces;
mod pins;
mod table_cpus;
mod unserved;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::abi;
use crate::abi::consts;
use crate::attach;
use crate::attach::remove_all;
use crate::chain::place;
use crate::chain::slots::Chain;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::Cpus;
use crate::config::TableKind;
use crate::dataplane::Check;
use crate::dataplane::Dataplane;
use crate::dataplane::InterfacePlaces;
use crate::diff::Running;
use crate::diff::diff;
use crate::effects::Question;
use crate::effects::effects;
use crate::error::Error;
use crate::error::Result;
use crate::host::possible_cpus;
use crate::instance::Instance;
use crate::instance::own_programs::OwnProgram;
use crate::instance::remove_pin;
use crate::maps;
use crate::model::connection_tables::Tables;
use crate::model::flow_effect::Breaking;
use crate::model::host::Host;
use crate::model::interface::ResolvedInterface;
use crate::model::interface::RunningInterface;
use crate::model::interface::interface_config;
use crate::netlink::Choice;
use crate::object;
use crate::outweighed;
use crate::own_host;
use crate::plan;
use crate::plan::Plan;
use crate::plan::Snapshot;
use crate::plan::Unserved;
use crate::plan::address_changes;
use crate::repair::refuse_lost_of_balancer;
use crate::serving;
use crate::table::Table;

use carry_out::carry_out;
use interfaces::Already;
use interfaces::Found;
use interfaces::find_all;
use interfaces::running_interfaces;

pub use check::Rewritten;
pub(crate) use interfaces::gateway_of;
pub(crate) use interfaces::own_names;
pub(crate) use interfaces::read_interfaces;
pub(crate) use interfaces::refuse_other_mode;
pub(crate) use interfaces::resolve_all;
pub(crate) use interfaces::served_interfaces;

/// How long flows are counted for a command that does not ask for consent: it may be an emergency.
const COUNT_AT_MOST: Duration = Duration::from_secs(2);

/// What it means that an interface cannot be served: it is missing or down, its gateway is not found, it has another
/// program.
///
/// Of an interface that is served already, what was last known stays while its gateway does not answer, with a warning;
/// unless it is [`Self::Fail`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnserved {
    /// The rest is done: [`Plan::unserved`] has those that are left out. An error, if the instance does not run and none
    /// of its interfaces can be served.
    #[default]
    LeaveOut,
    /// The same, also if none can be served: VIPs, program and maps are set up. For who calls [`Balancer::follow`].
    Wait,
    /// An error: all or nothing.
    Fail,
}

/// How a configuration is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// What it means that an interface cannot be served.
    pub on_unserved: OnUnserved,
    /// The slot of the chain for the XDP program that an interface of the configuration has already; `None`:
    /// that is an error.
    pub adopt: Option<u32>,
    /// Whether established flows may break. Else a change that breaks some is [`Error::BreaksFlows`], one of which that
    /// cannot be found out [`Error::FlowsUnknown`], and nothing is changed.
    pub allow_breaking: bool,
    /// `--repair`: whether the balancer may be taken down and set up anew, where somebody removed pins and the kernel
    /// has freed what they were of. For about a second no packet is balanced, and flows are forgotten. Without it,
    /// that is [`Error::LostPins`]. What is still held is pinned again in any case, without an interruption.
    pub repair: bool,
    /// Whether the default router that is in use stays while its route is there, also if it does not answer, as
    /// [`Balancer::follow`] has it. Else whoever answers is taken, and may be of the other IP version. For who calls
    /// [`Balancer::follow`].
    pub keep_gateways: bool,
}

impl From<OnUnserved> for ApplyOptions {
    fn from(on_unserved: OnUnserved) -> Self {
        Self { on_unserved, keep_gateways: on_unserved == OnUnserved::Wait, ..Self::default() }
    }
}

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    instance: Instance,
    pub(crate) dataplane: Dataplane,
}

impl Balancer {
    /// Opens the balancer of an instance.
    pub fn open(instance: &Instance) -> Result<Self> {
        instance.check_host()?;
        refuse_lost_of_balancer(instance)?;
        match open_dataplane(instance)? {
            Some(dataplane) => Ok(Self { instance: instance.clone(), dataplane }),
            None => Err(Error::NotRunning {
                instance: instance.name().to_owned(),
                path: instance.dir(),
            }),
        }
    }

    /// The instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What [`Balancer::apply`] would change. Changes nothing, apart from asking for the gateways.
    pub fn plan(instance: &Instance, config: &Config) -> Result<Plan> {
        config.check()?;
        instance.check_host()?;
        if let Some(plan) = pins::plan(instance)? {
            return Ok(plan);
        }
        let config = &*own_names(config)?;
        make_plan(instance, config, OnUnserved::LeaveOut, Choice::Anew, Already::Warn)
    }

    /// Loads, attaches and programs until the kernel matches the configuration.
    ///
    /// Traffic that is forwarded already goes on all along. What would break established flows is refused, unless
    /// [`ApplyOptions::allow_breaking`] says that it is meant. Interfaces that cannot be served hold up no others:
    /// look at [`Plan::unserved`]. If it fails before the first packet could be forwarded, nothing remains.
    pub fn apply(instance: &Instance, config: &Config) -> Result<Plan> {
        Self::apply_with(instance, config, OnUnserved::LeaveOut)
    }

    /// As [`Balancer::apply`], with options, or only a choice of what an interface that cannot be served means.
    pub fn apply_with(
        instance: &Instance,
        config: &Config,
        options: impl Into<ApplyOptions>,
    ) -> Result<Plan> {
        Self::apply_announced(instance, config, options, |_| {})
    }

    /// As [`Balancer::apply_with`]; `announce` is shown the plan before programs and maps take memory, if
    /// anything is to change.
    pub fn apply_announced(
        instance: &Instance,
        config: &Config,
        options: impl Into<ApplyOptions>,
        announce: impl FnOnce(&Plan),
    ) -> Result<Plan> {
        let options = options.into();
        let ApplyOptions { on_unserved, adopt, allow_breaking, repair, .. } = options;
        config.check()?;
        instance.check_host()?;
        let config = &*own_names(config)?;
        let choice = if options.keep_gateways { Choice::Keep } else { Choice::Anew };
        let make_plan = |instance, config| {
            make_plan(instance, config, on_unserved, choice, Already::Adopt(adopt))
        };
        if !instance.exists() {
            // What cannot work is found out before anything is created.
            let fits = make_plan(instance, config).map(drop);
            // Unless another command has begun to create it: what is in the way may be its work.
            if fits.is_err() && !instance.exists() {
                fits?;
            }
        }
        let lock = instance.lock()?;
        let fresh = instance.is_empty(&lock);
        // Before links are pinned again, or taken away.
        attach::refuse_other_namespace(instance, &[])?;
        // What is planned is planned of what the maps say when all of them are there.
        let lost = pins::recover(instance, repair, || {
            pins::can_be_set_up(instance, config, on_unserved, choice, Already::Adopt(adopt))
        })?;
        let done = make_plan(instance, config).and_then(|mut plan| {
            let breaking: Vec<_> = plan.breaking().cloned().collect();
            if !allow_breaking {
                if !breaking.is_empty() {
                    return Err(Error::BreaksFlows {
                        changes: Breaking(breaking),
                        draining_helps: plan.draining_helps(),
                    });
                }
                if let Some(why) = &plan.flows_unknown {
                    return Err(Error::FlowsUnknown { why: why.clone() });
                }
            }
            unserved::remove_misfit(instance)?;
            let recorded = unserved::read(instance)?;
            if !plan.is_empty() || !unserved::are_same(&recorded, &plan.records()) {
                carry_out(instance, &mut plan, adopt, on_unserved, announce)?;
            }
            Ok(plan)
        });
        if done.is_ok() {
            serving::applied(instance);
        }
        if fresh && done.is_err() {
            remove_all(instance, lock)?;
        }
        done.map(|plan| Plan { lost, ..plan })
    }

    /// Changes VIPs, reals and server ids, as [`Balancer::apply`] would with a file that says the same, and whatever
    /// becomes of established flows: [`Plan::flows`] tells.
    ///
    /// Flows are counted before the instance is locked, for two seconds at most. If they cannot be,
    /// [`Plan::flows_unknown`] says why, and the change is made all the same. `change` is called twice, as another
    /// command may change the instance meanwhile: what it makes of the table the second time is written.
    pub fn edit(&self, change: impl Fn(&mut Table) -> Result<()>) -> Result<Plan> {
        let seen = Self::open(&self.instance)?;
        let (running, wanted, mut counted) = seen.edited(&change)?;
        let question = Question {
            running: &running,
            wanted: &wanted,
            knobs: None,
            dead_interfaces: [].into(),
        };
        counted.set_flows(effects(&seen, &question, &counted, Some(COUNT_AT_MOST)));

        let _lock = self.instance.lock_existing()?;
        // The maps may have been replaced before the lock was free.
        let current = Self::open(&self.instance)?;
        let (_, wanted, mut plan) = current.edited(&change)?;
        current.dataplane.write_all(&plan.steps.table)?;
        let same = plan.vips == counted.vips && plan.server_ids == counted.server_ids;
        if same {
            plan.flows = counted.flows;
            plan.flows_unknown = counted.flows_unknown;
        } else {
            plan.flows_unknown = Some("another command changed the same VIP meanwhile".to_owned());
        }
        let changed: BTreeSet<_> = plan.vips.iter().map(|change| change.vip).collect();
        plan.warnings = outweighed::warnings(&wanted, |vip| changed.contains(vip));
        plan.warnings.extend(plan.unknown_flows());
        Ok(plan)
    }

    /// What runs, what a change makes of it, and the plan from one to the other without what it does to flows.
    fn edited(&self, change: &impl Fn(&mut Table) -> Result<()>) -> Result<(Running, Table, Plan)> {
        let running = self.dataplane.read_table(self.next_serial()?)?;
        let mut wanted = running.table();
        let before = self.save_with(&wanted)?;
        change(&mut wanted)?;
        let mut config = before.clone();
        wanted.write_to(&mut config);
        config.check().map_err(ConfigError::without_key)?;
        own_host::check_change(&before, &config)?;
        let mut plan = Plan::default();
        plan.set_table(diff(&running, &wanted))?;
        let now = running.vips.iter().map(|(vip, running)| (vip, &running.spec));
        plan.addresses = address_changes(now, wanted.vips.iter());
        Ok((running, wanted, plan))
    }

    /// The tables of the program that runs.
    pub(crate) fn tables(&self) -> Result<Tables> {
        let knobs = running_knobs(&self.instance)?;
        Ok(read_tables(&self.dataplane, knobs.as_ref())?.0)
    }

    fn next_serial(&self) -> Result<u32> {
        Ok(self.dataplane.control()?.map_or(1, |control| control.next_serial))
    }

    /// The VIPs, reals and server ids that run.
    pub fn table(&self) -> Result<Table> {
        Ok(self.dataplane.read_table(self.next_serial()?)?.table())
    }

    /// The running state as a configuration, with the interfaces that are asked for and not served: planning it changes
    /// nothing, unless an interface was renamed. The metrics endpoint belongs to `lbctl serve` and is not part of it.
    pub fn save(&self) -> Result<Config> {
        self.save_with(&self.table()?)
    }

    /// As [`Self::save`], with VIPs, reals and server ids that were read already.
    fn save_with(&self, table: &Table) -> Result<Config> {
        let mut config = Config::default();
        table.write_to(&mut config);
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
        let interfaces = read_interfaces(&self.instance, &self.dataplane)?;
        // Asked in another network namespace, the instance is the same; but what has moved away from the others
        // cannot be planned.
        let all_elsewhere = interfaces.values().all(|interface| interface.attached.is_none());
        let is_asked_for = |interface: &RunningInterface| {
            // Without a link, the name is not known.
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

    /// Interfaces that are asked for and were not served, or not as they are asked for, when that was last tried, and why.
    pub fn unserved(&self) -> Result<Vec<Unserved>> {
        Ok(unserved::read(&self.instance)?.into_values().collect())
    }

    /// Whether the chain leads to the balancer that is pinned.
    pub(crate) fn is_in_place(&self) -> Result<bool> {
        let own = OwnProgram::Balancer;
        Chain::open(&self.instance)?.in_place(own.slot(), own.name())
    }
}

fn remove_maps(instance: &Instance) -> Result<()> {
    let mut maps = OwnProgram::Balancer.maps().iter().chain([&unserved::MAP]);
    maps.try_for_each(|name| remove_pin(&instance.map(name)))
}

fn open_dataplane(instance: &Instance) -> Result<Option<Dataplane>> {
    // The first apply makes the control record before anything depends on the rest.
    let pin = instance.map("control");
    if !pin.exists() || !instance.program(attach::ROOT).exists() {
        return Ok(None);
    }
    // The version is the first word, whatever another build has made of the rest.
    match maps::first_word(&maps::open(&pin)?)? {
        0 => Ok(None),
        consts::ABI_VERSION => Dataplane::open(instance).map(Some),
        running => Err(Error::Abi {
            instance: instance.name().to_owned(),
            running,
            ours: consts::ABI_VERSION,
        }),
    }
}

/// The knobs of the program in the chain.
pub(crate) fn running_knobs(instance: &Instance) -> Result<Option<abi::knobs>> {
    let chain = Chain::open(instance)?;
    let Some(slot) = chain.slot_of(OwnProgram::Balancer.name())? else { return Ok(None) };
    let Some(Some(id)) = chain.slots()?.get(slot as usize).copied() else { return Ok(None) };
    let offset = std::mem::offset_of!(abi::balancer_rodata, knobs);
    let rodata = place::rodata(id)?;
    Ok(rodata.and_then(|bytes| abi::from_bytes(bytes.get(offset..)?)))
}

/// Loads the running program once more, for another place of the chain.
pub(crate) fn load_copy(instance: &Instance, place: u32) -> Result<Option<OwnedFd>> {
    let Some(knobs) = running_knobs(instance)? else { return Ok(None) };
    let knobs = abi::knobs { build: consts::OBJECT_HASH, ..knobs };
    Ok(Some(object::load_balancer(Some(instance), place, &knobs)?.program))
}

/// The tables of a program with these knobs.
fn read_tables(dataplane: &Dataplane, knobs: Option<&abi::knobs>) -> Result<(Tables, bool)> {
    let kind = knobs.map_or_else(TableKind::default, |knobs| TableKind::from_raw(knobs.table_kind));
    let bank = knobs.map_or(0, |knobs| knobs.table_bank % consts::TABLE_BANKS);
    dataplane.read_tables(kind, bank, possible_cpus()?)
}

fn read_snapshot(instance: &Instance) -> Result<Snapshot> {
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

fn make_plan(
    instance: &Instance,
    config: &Config,
    on_unserved: OnUnserved,
    choice: Choice,
    already: Already,
) -> Result<Plan> {
    own_host::check(config)?;
    attach::refuse_other_namespace(instance, &[])?;
    let snapshot = read_snapshot(instance)?;
    let mut plan = plan_without_flows(instance, config, &snapshot, on_unserved, choice, already)?;
    if let Some(knobs) = snapshot.knobs.as_ref().filter(|_| snapshot.control.is_some()) {
        let (wanted, new) = (Table::from(config), plan.steps.knobs);
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
    }
    Ok(plan)
}

/// The plan, but for what becomes of flows.
fn plan_without_flows(
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
    let mut plan = plan::plan(snapshot, config, &found.served, &host)?;
    plan.warnings.extend(found.warnings);
    plan.unserved = found.unserved;
    // Before anything is attached, or attached again.
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

/// The CPUs that are to have connection tables, where it cannot be seen now which ones all interfaces need: those that
/// have them, so that an interface that fails moves no flow; for new tables, all that are online.
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

/// Finds out whether a configuration fits the host, its memory above all, with what is known of the
/// interfaces.
pub(crate) fn check_fit(
    instance: &Instance,
    config: &Config,
    interfaces: &[ResolvedInterface],
) -> Result<()> {
    let snapshot = read_snapshot(instance)?;
    plan::plan(&snapshot, config, interfaces, &Host::read(interfaces)?).map(drop)
}
