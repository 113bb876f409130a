//! Rules of a chain: which programs are in it, and which slots a program may have.

pub(crate) mod adopt;
pub(crate) mod direct;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod pins;
pub(crate) mod place;
pub(crate) mod slots;

use std::collections::BTreeSet;

use crate::instance::Instance;
use crate::instance::chain::slots::Chain;
use crate::instance::own_programs::OwnProgram;
use crate::model::abi::consts;
use crate::model::error::ChainError;
use crate::model::error::Result;

/// The programs in the chain that are not l4lb's.
pub(crate) fn others(instance: &Instance) -> BTreeSet<String> {
    let mut names = pins::programs(instance);
    names.retain(|name| OwnProgram::named(name).is_none());
    names
}

/// Whether programs besides this one need the chain. A capture alone does not.
pub(crate) fn is_needed_without(instance: &Instance, name: &str) -> bool {
    let needs = |other: &str| OwnProgram::named(other).is_none_or(OwnProgram::needs_chain);
    pins::programs(instance).iter().any(|other| other != name && needs(other))
}

/// Checks that programs other than captures may have this slot.
pub(crate) fn check_slot(slot: u32, what: &'static str) -> Result<()> {
    if (1..consts::CHAIN_SLOTS).contains(&slot) {
        return Ok(());
    }
    Err(ChainError::NoSlot { slot, what }.into())
}

/// Refuses a program that never hands packets on, if its slot is in front of the balancer's or of decapsulation's. It
/// does not matter whether these are loaded yet.
pub(crate) fn refuse_end_before_own(chain: Option<&Chain>, name: &str, slot: u32) -> Result<()> {
    let to_come = Some(OwnProgram::Balancer.slot());
    for (own, home) in [(OwnProgram::Balancer, to_come), (OwnProgram::Decap, None)] {
        let own = own.name();
        let running = chain.map(|chain| chain.slot_of(own)).transpose()?.flatten();
        if let Some(own_slot) = running.or(home).filter(|own_slot| slot < *own_slot) {
            let (name, own) = (name.to_owned(), own.to_owned());
            return Err(ChainError::EndsBefore { name, slot, own, own_slot }.into());
        }
    }
    Ok(())
}

/// Refuses one of our programs, if its slot is behind a program that never hands packets on.
pub(crate) fn refuse_behind_end(chain: &Chain, own: &str, own_slot: u32) -> Result<()> {
    let mut names = chain.names()?;
    for (slot, filled) in (0..own_slot).zip(chain.filled()?) {
        if let Some(filled) = filled.filter(|filled| filled.place.is_none()) {
            let name = names.remove(&filled.id).unwrap_or_else(|| "a program".to_owned());
            return Err(ChainError::EndsBefore { name, slot, own: own.to_owned(), own_slot }.into());
        }
    }
    Ok(())
}
