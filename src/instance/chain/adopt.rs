//! Interfaces that get the root program, and the programs that they run already.

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

/// An interface: its name, its index, and how the root program is to be attached.
type Interface<'a> = (&'a str, u32, XdpMode);

/// Finds out whose programs are on interfaces that are to be attached, and whether they can be taken into the
/// chain, if they may.
pub(crate) fn refuse_foreign_programs(
    instance: &Instance,
    interfaces: &[Interface<'_>],
    adopt: Option<u32>,
) -> Result<()> {
    find(instance, interfaces, adopt).map(drop)
}

/// The one program that is to be taken into the chain.
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
            // An interrupted command may have put it there.
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

/// Attaches the root program to interfaces, and knows what it takes to undo that.
#[derive(Debug, Default)]
pub(crate) struct Attaching {
    changes: Vec<Change>,
    /// Slot and name.
    adopted: Option<(u32, String)>,
}

impl Attaching {
    /// Attaches to interfaces in the course of a change. If the change fails, all are as before.
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
        done
    }

    /// Attaches to interfaces. A program that one of them runs goes into the slot `adopt` first, and leaves the
    /// interface in the moment in which the root program comes.
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

    /// One interface as before, as it cannot be served after all.
    pub(crate) fn undo_of(&mut self, instance: &Instance, chain: &Chain, ifindex: u32) {
        if let Some(at) = self.changes.iter().position(|change| change.is_of(ifindex)) {
            self.changes.swap_remove(at).undo(instance, chain.root());
        }
    }

    /// All as before. What goes wrong is a warning: that there is something to undo is the error.
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
