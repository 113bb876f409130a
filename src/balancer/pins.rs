//! Pins of the balancer that somebody removed, and removing all of them.

use super::Balancer;
use super::MAPS;
use super::PROGRAM;
use super::remove_maps;
use super::running_interfaces;
use crate::abi;
use crate::attach::remove_all;
use crate::attach::remove_link;
use crate::attach::remove_pins;
use crate::capture;
use crate::chain;
use crate::chain::Chain;
use crate::decap;
use crate::error::Error;
use crate::error::Result;
use crate::instance::Instance;
use crate::instance::remove_pin;
use crate::maps::Map;
use crate::plan::Plan;
use crate::repair;
use crate::repair::LostPins;

impl Balancer {
    /// Pins again what somebody removed the pins of, as far as what runs still holds it; traffic goes on. Returns what
    /// was lost.
    ///
    /// What nothing holds any more is [`Error::LostPins`]: [`ApplyOptions::repair`](crate::ApplyOptions::repair) sets
    /// the balancer up anew.
    pub fn mend(instance: &Instance) -> Result<LostPins> {
        instance.check_host()?;
        let lost = repair::lost(instance)?;
        if lost.is_empty() {
            return Ok(lost);
        }
        let Some(_lock) = instance.lock_existing()? else { return Ok(LostPins::default()) };
        recover(instance, false)
    }

    /// Takes the balancer out of the chain and removes every pin of it. If no other program needs the chain, the
    /// root program leaves the interfaces, and nothing stays. Whether there was anything to remove.
    ///
    /// It works whichever pins are there. Where what other programs need cannot be found any more, they go as well.
    pub fn down(instance: &Instance) -> Result<bool> {
        instance.check_host()?;
        let Some(lock) = instance.lock_existing()? else { return Ok(false) };
        let found = MAPS.iter().any(|name| instance.map(name).exists());
        match stays(instance) {
            Some(chain) => {
                take_out(instance, &chain)?;
                Ok(found)
            }
            None => remove_all(instance, lock).map(|()| true),
        }
    }
}

/// The chain, if programs besides the balancer need it.
fn stays(instance: &Instance) -> Option<Chain> {
    // Else a program without a pin would not be known to need it.
    let chain = repair::recover(instance).and_then(|_| Chain::open_existing(instance));
    let chain = chain.unwrap_or_else(|error| {
        tracing::warn!("the chain cannot be read, and goes with all of its programs: {error}");
        None
    });
    chain.filter(|_| chain::is_needed_without(instance, PROGRAM))
}

/// Takes the balancer out of a chain that others need.
fn take_out(instance: &Instance, chain: &Chain) -> Result<()> {
    // From here on it does not count as set up, and its program is not missed.
    if let Ok(control) = Map::<u32, abi::control>::open(&instance.map("control")) {
        control.set(&0, &abi::control::default())?;
    }
    chain.remove_named(PROGRAM)?;
    for interface in running_interfaces(instance)?.into_values() {
        if let Some(pin) = interface.pin.filter(|_| !interface.needed_by_others) {
            remove_link(&instance.link(&pin))?;
        }
    }
    remove_maps(instance)?;
    // Captures of what other programs get to see go on.
    if !capture::any(instance) {
        capture::MAPS.iter().try_for_each(|name| remove_pin(&instance.map(name)))?;
    }
    Ok(())
}

/// Pins again what runs. What nothing holds any more is an error; with `anew`, the balancer is taken down, to be set
/// up from its file. Returns what was lost. The caller has the lock.
pub(super) fn recover(instance: &Instance, anew: bool) -> Result<LostPins> {
    let (lost, left) = repair::recover(instance)?;
    let of_decap = |pin: &str| decap::MAPS.iter().any(|map| pin == format!("map/{map}"));
    if !left.pins.iter().any(|lost| !lost.held && !of_decap(&lost.pin)) {
        return Ok(lost);
    }
    if !anew {
        return Err(Error::LostPins(Box::new(left)));
    }
    match stays(instance) {
        Some(chain) => take_out(instance, &chain)?,
        None => remove_pins(instance)?,
    }
    Ok(lost)
}

/// The plan where pins are lost: what is in the maps besides can be read when they are back.
pub(super) fn plan(instance: &Instance) -> Result<Option<Plan>> {
    let lost = repair::lost(instance)?;
    Ok((!lost.is_empty()).then(|| Plan { lost, ..Plan::default() }))
}
