//! The chain: the programs that share an interface, run in slot order by the root program.
//!
//! `include/l4lb/chain.h` is the contract for the programs; this is the control side of it.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use crate::abi::consts::CHAIN_SLOTS;
use crate::attach::ROOT;
use crate::attach::remove_pins;
use crate::error::Result;
use crate::instance::Instance;
use crate::instance::pin_error;
use crate::instance::remove_pin;
use crate::maps::Map;
use crate::maps::ProgramArray;
use crate::object;
use crate::sys;

/// Where a program is pinned before it takes the place of another. The bpf filesystem takes no dots.
fn replacement(name: &str) -> String {
    format!("{name}-next")
}

/// The chain of an instance.
#[derive(Debug)]
pub(crate) struct Chain {
    instance: Instance,
    root: OwnedFd,
    programs: ProgramArray,
    next: Map<u32, u32>,
}

impl Chain {
    /// Opens the chain, loading the root program where there is none.
    pub(crate) fn open_or_create(instance: &Instance) -> Result<Self> {
        let pin = instance.program(ROOT);
        if pin.exists() {
            return Self::open(instance);
        }
        remove_pins(instance)?;
        let root = object::load_root(instance)?;
        let chain = Self {
            instance: instance.clone(),
            root,
            programs: ProgramArray::open(&instance.map("chain"))?,
            next: Map::open(&instance.map("chain_next"))?,
        };
        chain.relink(None)?;
        sys::pin(chain.root.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))?;
        Ok(chain)
    }

    /// Opens the chain of an instance that has one.
    pub(crate) fn open(instance: &Instance) -> Result<Self> {
        let pin = instance.program(ROOT);
        Ok(Self {
            instance: instance.clone(),
            root: sys::pinned(&pin).map_err(|source| pin_error("open", &pin, source))?,
            programs: ProgramArray::open(&instance.map("chain"))?,
            next: Map::open(&instance.map("chain_next"))?,
        })
    }

    /// The program that is attached to interfaces.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The kernel's id of the program in each slot.
    pub(crate) fn slots(&self) -> Result<Vec<Option<u32>>> {
        (0..CHAIN_SLOTS).map(|slot| Ok(self.programs.id_at(slot)?)).collect()
    }

    /// Puts a program into a slot, replacing what is there in one step, and pins it under `name`.
    ///
    /// Interrupted at any point, the slot holds the old program or the new one, and the pin may lag
    /// behind; [`Self::in_place`] tells.
    pub(crate) fn put(&self, slot: u32, program: BorrowedFd<'_>, name: &str) -> Result<()> {
        let pin = self.instance.program(name);
        let new = self.instance.program(&replacement(name));
        remove_pin(&new)?;
        sys::pin(program, &new).map_err(|source| pin_error("pin", &new, source))?;
        self.programs.set(slot, program)?;
        self.relink(None)?;
        sys::write_point();
        std::fs::rename(&new, &pin).map_err(|source| pin_error("rename", &new, source))
    }

    /// Whether the slot holds the program that is pinned under `name`, and leads to it.
    pub(crate) fn in_place(&self, slot: u32, name: &str) -> Result<bool> {
        let pin = self.instance.program(name);
        if !pin.exists() || self.instance.program(&replacement(name)).exists() {
            return Ok(false);
        }
        let info = sys::pinned(&pin)
            .and_then(|program| sys::program_info(program.as_fd()))
            .map_err(|source| pin_error("open", &pin, source))?;
        let slots = self.slots()?;
        Ok(slots.get(slot as usize) == Some(&Some(info.id)) && self.is_linked(&slots)?)
    }

    /// Takes a program out of its slot and removes its pin.
    pub(crate) fn remove(&self, slot: u32, name: &str) -> Result<()> {
        self.relink(Some(slot))?;
        self.programs.remove(slot)?;
        remove_pin(&self.instance.program(name))?;
        remove_pin(&self.instance.program(&replacement(name)))
    }

    /// Points every place of the chain at the next slot that holds a program, leaving out `without`.
    fn relink(&self, without: Option<u32>) -> Result<()> {
        let mut slots = self.slots()?;
        if let Some(slot) = without.and_then(|slot| slots.get_mut(slot as usize)) {
            *slot = None;
        }
        for (at, next) in next_slots(&slots) {
            if self.next.get(&at)? != Some(next) {
                self.next.set(&at, &next)?;
            }
        }
        Ok(())
    }

    fn is_linked(&self, slots: &[Option<u32>]) -> Result<bool> {
        for (at, next) in next_slots(slots) {
            if self.next.get(&at)? != Some(next) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// For each place of the chain (0: the root, slot + 1: a slot) the next slot that holds a program.
fn next_slots(slots: &[Option<u32>]) -> Vec<(u32, u32)> {
    let filled = |slot: &u32| slots.get(*slot as usize).is_some_and(Option::is_some);
    (0..=CHAIN_SLOTS)
        .map(|at| (at, (at..CHAIN_SLOTS).find(filled).unwrap_or(CHAIN_SLOTS)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::CHAIN_SLOTS;
    use super::next_slots;

    #[test]
    fn empty_slots_are_skipped() {
        let mut slots = vec![None; CHAIN_SLOTS as usize];
        assert!(next_slots(&slots).iter().all(|(_, next)| *next == CHAIN_SLOTS));
        slots[3] = Some(7);
        slots[15] = Some(8);
        let next: Vec<u32> = next_slots(&slots).into_iter().map(|(_, next)| next).collect();
        assert_eq!(next[0..=3], [3; 4]);
        assert_eq!(next[4..=15], [15; 12]);
        assert_eq!(next[16], CHAIN_SLOTS);
    }
}
