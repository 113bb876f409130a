//! Pins of the balancer that somebody removed, and removing all of them.

use crate::control::make_plan::plan_without_flows;
use crate::control::make_plan::read_snapshot;
use crate::control::options::OnUnserved;
use crate::control::own_host;
use crate::control::resolve::Already;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::interfaces::running_interfaces;
use crate::instance::Instance;
use crate::instance::captures;
use crate::instance::chain::is_needed_without;
use crate::instance::chain::slots::Chain;
use crate::instance::claim::remove_abandoned;
use crate::instance::links::remove_all;
use crate::instance::links::remove_link;
use crate::instance::links::remove_pins;
use crate::instance::own_programs::OwnProgram;
use crate::instance::repair;
use crate::instance::repair::LostPins;
use crate::kernel::maps::Map;
use crate::kernel::netlink::Choice;
use crate::model::abi;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::plan::Plan;
use crate::plan::Snapshot;

impl Balancer {
    /// Pins again what somebody removed the pins of, as far as what runs still holds it; traffic goes on. Returns what
    /// was lost.
    ///
    /// What the kernel has freed is [`Error::LostPins`]: [`ApplyOptions::repair`](crate::ApplyOptions::repair) sets
    /// the balancer up anew.
    pub fn pin_again(instance: &Instance) -> Result<LostPins> {
        instance.check_host()?;
        let lost = repair::lost(instance)?;
        if lost.is_empty() {
            return Ok(lost);
        }
        let Some(_lock) = instance.lock_existing()? else { return Ok(LostPins::default()) };
        recover(instance, false, || Ok(()))
    }

    /// Takes the balancer out of the chain and removes every pin of it. If no other program needs the chain, the
    /// root program leaves the interfaces, and nothing stays. Whether there was anything to remove.
    ///
    /// It works whichever pins are there. Other programs in the chain stay: if they need it and it cannot be opened,
    /// that is an error, and nothing is removed.
    pub fn down(instance: &Instance) -> Result<bool> {
        instance.check_host()?;
        let Some(lock) = instance.lock_existing()? else {
            // A process that was killed leaves its folder, also where the instance was gone by then.
            remove_abandoned(instance);
            return Ok(false);
        };
        let found = OwnProgram::Balancer.maps().iter().any(|name| instance.map(name).exists());
        match stays(instance)? {
            Some(chain) => {
                take_out(instance, &chain)?;
                remove_abandoned(instance);
                Ok(found)
            }
            None => remove_all(instance, lock).map(|()| true),
        }
    }
}

/// The chain, if programs besides the balancer need it. An error, if they do and it cannot be opened: to remove all of it
/// would end what others run.
fn stays(instance: &Instance) -> Result<Option<Chain>> {
    // Else a program without a pin would not be known to need it.
    let recovered = repair::recover(instance).err();
    let opened = Chain::open_existing(instance);
    let is_needed =
        is_needed_without(instance, OwnProgram::Balancer.name()) || repair::others_run(instance);
    match (opened, recovered) {
        (opened, recovered) if !is_needed => {
            if let Some(error) = recovered.or(opened.err()) {
                tracing::warn!("not all pins could be opened, and all are removed: {error}");
            }
            Ok(None)
        }
        (Ok(chain), recovered) => {
            if let Some(error) = recovered {
                tracing::warn!("not everything that other programs need is pinned: {error}");
            }
            Ok(chain)
        }
        (Err(error), recovered) => Err(recovered.unwrap_or(error)),
    }
}

/// Takes the balancer out of a chain that others need.
fn take_out(instance: &Instance, chain: &Chain) -> Result<()> {
    // From here on it does not count as set up, and its program is not missed.
    if let Ok(control) = Map::<u32, abi::control>::open(&instance.map("control")) {
        control.set(&0, &abi::control::default())?;
    }
    chain.remove_named(OwnProgram::Balancer.name())?;
    for interface in running_interfaces(instance)?.into_values() {
        if let Some(pin) = interface.pin.filter(|_| !interface.needed_by_others) {
            remove_link(&instance.link(&pin))?;
        }
    }
    OwnProgram::Balancer.remove_maps(instance)?;
    // Captures of what other programs get to see go on.
    if !captures::any(instance) {
        OwnProgram::Captures.remove_maps(instance)?;
    }
    Ok(())
}

/// Pins again what runs. What the kernel has freed is an error; with `anew`, the balancer is taken down, to be set up
/// from its file, if `possible` says that this can succeed. Returns what was lost. The caller has the lock.
pub(crate) fn recover(
    instance: &Instance,
    anew: bool,
    possible: impl FnOnce() -> Result<()>,
) -> Result<LostPins> {
    let (lost, left) = repair::recover(instance)?;
    if !left.balancer_needs_repair() {
        return Ok(lost);
    }
    if !anew {
        return Err(Error::LostPins(Box::new(left)));
    }
    possible()?;
    match stays(instance)? {
        Some(chain) => take_out(instance, &chain)?,
        None => remove_pins(instance)?,
    }
    Ok(lost)
}

/// Finds out, before the balancer is taken down, whether it can be set up anew.
pub(crate) fn can_be_set_up(
    instance: &Instance,
    config: &Config,
    on_unserved: OnUnserved,
    choice: Choice,
    already: Already,
) -> Result<()> {
    own_host::check(config)?;
    let fresh = Snapshot { interfaces: running_interfaces(instance)?, ..Snapshot::default() };
    match plan_without_flows(instance, config, &fresh, on_unserved, choice, already) {
        // The maps that run give theirs back.
        Err(error @ Error::Memory { .. }) => {
            let Ok(running) = read_snapshot(instance) else { return Err(error) };
            plan_without_flows(instance, config, &running, on_unserved, choice, already).map(drop)
        }
        planned => planned.map(drop),
    }
}

/// The plan where pins are lost: what is in the maps besides can be read when they are back.
pub(crate) fn plan(instance: &Instance) -> Result<Option<Plan>> {
    let lost = repair::lost_of_balancer(instance)?;
    Ok((!lost.is_empty()).then(|| Plan { lost, ..Plan::default() }))
}
