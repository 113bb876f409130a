//! Attaches the root program to interfaces, and takes over a program that an interface already runs.

use std::os::fd::AsFd;

use crate::instance::Instance;
use crate::instance::chain::check_slot;
use crate::instance::chain::names::free_name;
use crate::instance::chain::place;
use crate::instance::chain::refuse_end_before_own;
use crate::instance::chain::slots::Chain;
use crate::instance::links;
use crate::instance::links::Change;
use crate::instance::links::Foreign;
use crate::instance::links::ensure_attached;
use crate::instance::own_programs::OwnProgram;
use crate::model::config::XdpMode;
use crate::model::error::ChainError;
use crate::model::error::Result;

/// An interface: its name, its index, and the mode to attach the root program in.
type Interface<'a> = (&'a str, u32, XdpMode);

/// Finds the programs that the interfaces already run. Fails if the caller gave no slot for one of them, or if the
/// chain cannot hold it.
pub(crate) fn refuse_foreign_programs(
    instance: &Instance,
    interfaces: &[Interface<'_>],
    adopt: Option<u32>,
) -> Result<()> {
    find(instance, interfaces, adopt).map(drop)
}

/// Finds the one program that the chain takes over.
fn find(
    instance: &Instance,
    interfaces: &[Interface<'_>],
    adopt: Option<u32>,
) -> Result<Option<Foreign>> {
    let names: Vec<_> = interfaces.iter().map(|(name, ..)| *name).collect();
    let running = links::links(instance)?;
    links::refuse_links_elsewhere(instance, &running, &names)?;
    let ours = |ifindex: u32| running.values().any(|link| link.ifindex() == Some(ifindex));
    let mut found: Option<Foreign> = None;
    for (name, ifindex, _) in interfaces.iter().filter(|(_, ifindex, _)| !ours(*ifindex)) {
        let Some(foreign) = Foreign::find(instance, name, *ifindex)? else { continue };
        let Some(slot) = adopt else { return Err(foreign.refusal(instance)) };
        let refused = |why: String| ChainError::CannotAdopt {
            program: foreign.name.clone(),
            id: foreign.id,
            interface: foreign.interface.clone(),
            why,
        };
        if let Some(first) = found.as_ref().filter(|first| first.id != foreign.id) {
            return Err(refused(format!(
                "slot {slot} is for '{}' (id {}) of interface {}; add one interface at a time",
                first.name, first.id, first.interface
            ))
            .into());
        }
        check_slot(slot, "programs that are taken over")?;
        if let Some(why) = place::misfit(foreign.open()?.as_fd())? {
            return Err(refused(why).into());
        }
        let chain = Chain::open_existing(instance)?;
        if let Some(chain) = &chain {
            // An interrupted command may have put the program into the slot already.
            let there = chain.slots()?.get(slot as usize).copied().flatten();
            if there.is_some_and(|id| id != foreign.id) {
                chain.refuse_taken(slot, "")?;
            }
        }
        if OwnProgram::of_slot(slot).is_some() {
            return Err(refused(format!("slot {slot} is kept for a program of l4lb")).into());
        }
        refuse_end_before_own(chain.as_ref(), &foreign.name, slot)?;
        found = Some(foreign);
    }
    Ok(found)
}

/// Attaches the root program to interfaces, and keeps what it needs to undo that.
#[derive(Debug, Default)]
pub(crate) struct Attaching {
    changes: Vec<Change>,
    /// Slot and name of the program that was taken over.
    adopted: Option<(u32, String)>,
}

impl Attaching {
    /// Attaches to interfaces as part of a change. If the change fails, everything is undone.
    pub(crate) fn or_undo<T>(
        instance: &Instance,
        chain: &Chain,
        change: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let mut attaching = Self::default();
        let done = change(&mut attaching);
        if done.is_err() {
            attaching.undo(instance, chain);
        }
        chain.settle_links();
        done
    }

    /// Attaches to interfaces. If one of them already runs a program, this first puts that program into the slot
    /// `adopt`. Then the root program replaces it on the interface.
    pub(crate) fn attach(
        &mut self,
        instance: &Instance,
        chain: &Chain,
        interfaces: &[Interface<'_>],
        adopt: Option<u32>,
    ) -> Result<()> {
        let foreign = find(instance, interfaces, adopt)?;
        if let (Some(foreign), Some(slot)) = (&foreign, adopt) {
            if chain.names()?.contains_key(&foreign.id) {
                tracing::info!("program '{}' is in the chain already", foreign.name);
            } else {
                let name = free_name(instance, &foreign.name);
                chain.put_settled(slot, foreign.open()?.as_fd(), &name)?;
                self.adopted = Some((slot, name.clone()));
                tracing::warn!(
                    "interface {}: program '{}' (id {}) is in slot {slot} now, as '{name}'; it does not hand on: \
                     what it passes goes to the kernel, past the programs behind slot {slot}",
                    foreign.interface,
                    foreign.name,
                    foreign.id
                );
            }
        }
        let may_displace = foreign.map(|foreign| foreign.id);
        for (name, ifindex, mode) in interfaces {
            let change =
                ensure_attached(instance, chain.root(), name, *ifindex, *mode, may_displace)?;
            self.changes.extend(change);
        }
        Ok(())
    }

    /// Undoes the change of one interface that turns out not to be servable.
    pub(crate) fn undo_of(&mut self, instance: &Instance, chain: &Chain, ifindex: u32) {
        if let Some(at) = self.changes.iter().position(|change| change.is_of(ifindex)) {
            self.changes.swap_remove(at).undo(instance, chain.root());
        }
    }

    /// Undoes all changes. A failure here is only logged: the caller returns the error that made it undo them.
    fn undo(&self, instance: &Instance, chain: &Chain) {
        for change in &self.changes {
            change.undo(instance, chain.root());
        }
        if let Some((slot, name)) = &self.adopted
            && let Err(error) = chain.remove(*slot, name)
        {
            tracing::warn!("slot {slot} of the chain is not as before: {error}");
        }
    }
}
