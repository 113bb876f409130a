//! Pins the balancer's objects again if somebody removed pins, and takes the balancer down.

use crate::control::healthcheck_path::refuse_filters_elsewhere;
use crate::control::make_plan::plan_without_flows;
use crate::control::make_plan::read_snapshot;
use crate::control::options::OnUnserved;
use crate::control::own_host;
use crate::control::resolve::Already;
use crate::control::unusable_checks;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::interfaces::running_interfaces;
use crate::instance::Instance;
use crate::instance::captures;
use crate::instance::chain::is_needed_without;
use crate::instance::chain::slots::Chain;
use crate::instance::claim::remove_abandoned;
use crate::instance::egress;
use crate::instance::egress::Egress;
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
    /// Pins again the objects whose pins somebody removed, if something that runs still holds them. Traffic is not
    /// interrupted. Returns the pins that were missing.
    ///
    /// If the kernel has freed an object, that is [`Error::LostPins`]:
    /// [`ApplyOptions::repair`](crate::ApplyOptions::repair) sets the balancer up anew.
    pub fn pin_again(instance: &Instance) -> Result<LostPins> {
        instance.check_host()?;
        let lost = repair::lost(instance)?;
        if lost.is_empty() {
            return Ok(lost);
        }
        let Some(_lock) = instance.lock_existing()? else { return Ok(LostPins::default()) };
        recover(instance, false, || Ok(()))
    }

    /// Takes the balancer out of the chain and removes all its pins. If no other program needs the chain, the root
    /// program leaves the interfaces, and nothing stays. Returns whether there was anything to remove.
    ///
    /// It works whichever pins are left. Other programs of the chain stay. If they need the chain and it cannot be
    /// opened, that is an error, and nothing is removed.
    pub fn down(instance: &Instance) -> Result<bool> {
        instance.check_host()?;
        let Some(lock) = instance.lock_existing()? else {
            // A process that was killed leaves its folder behind, even if the instance is gone.
            remove_abandoned(instance);
            return Ok(false);
        };
        refuse_filters_elsewhere(instance)?;
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

/// The chain, if programs besides the balancer need it. If they do and it cannot be opened, that is an error: without
/// the chain, the others' programs would not run.
fn stays(instance: &Instance) -> Result<Option<Chain>> {
    // Pins programs again first: a program without a pin would not count as one that needs the chain.
    let recovered = repair::recover(instance).err();
    let opened = Chain::open_existing(instance);
    let is_needed =
        is_needed_without(instance, OwnProgram::Balancer.name()) || repair::others_run(instance);
    match (opened, recovered) {
        (opened, recovered) if !is_needed => {
            if let Some(error) = recovered.or(opened.err()) {
                tracing::warn!("not all pins could be opened; all of them are removed: {error}");
            }
            Ok(None)
        }
        (Ok(chain), recovered) => {
            if let Some(error) = recovered {
                tracing::warn!(
                    "other programs of the chain have lost pins that cannot be restored: {error}"
                );
            }
            Ok(chain)
        }
        (Err(error), recovered) => Err(recovered.unwrap_or(error)),
    }
}

/// Takes the balancer out of a chain that others need.
fn take_out(instance: &Instance, chain: &Chain) -> Result<()> {
    egress::remove(Egress::Healthcheck, instance)?;
    // From here on the balancer does not count as set up, and its program does not count as missing.
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
    // Captures of other programs' packets go on.
    if !captures::any(instance) {
        OwnProgram::Captures.remove_maps(instance)?;
    }
    Ok(())
}

/// Pins again what runs. If the kernel has freed an object that the balancer needs, that is an error. With `anew`, this
/// takes the balancer down instead, if `possible` succeeds; the caller then sets it up from its file. Returns the pins
/// that were missing. The caller has the lock.
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

/// Checks, before the balancer is taken down, that it can be set up anew.
pub(crate) fn can_be_set_up(
    instance: &Instance,
    config: &Config,
    on_unserved: OnUnserved,
    choice: Choice,
    already: Already,
) -> Result<()> {
    own_host::check(config)?;
    unusable_checks::check(config)?;
    let fresh = Snapshot { interfaces: running_interfaces(instance)?, ..Snapshot::default() };
    match plan_without_flows(instance, config, &fresh, on_unserved, choice, already) {
        // Taking the balancer down frees the memory of its maps.
        Err(error @ Error::Memory { .. }) => {
            let Ok(running) = read_snapshot(instance) else { return Err(error) };
            plan_without_flows(instance, config, &running, on_unserved, choice, already).map(drop)
        }
        planned => planned.map(drop),
    }
}

/// The plan while pins are missing. The rest of the plan needs the maps, which can be read once they are pinned again.
pub(crate) fn plan(instance: &Instance) -> Result<Option<Plan>> {
    let lost = repair::lost_of_balancer(instance)?;
    Ok((!lost.is_empty()).then(|| Plan { lost, ..Plan::default() }))
}
