//! The slots of a chain, and the links by which packets get from one slot to the next.
//!
//! Commands find programs by name. The name's pin says which program that is, and what a command was doing with it.
//! If a command is killed, [`Chain::settle`] finishes or undoes what it left.
//!
//! | pin | |
//! | --- | --- |
//! | `prog/NAME` | the program belongs in the chain |
//! | `prog/NAME:next` | it will replace `NAME`; as soon as a slot holds it, it has replaced it |
//! | `prog/NAME:gone` | it is being removed |
//! | none, but a slot | it was replaced or moved, and is being removed |

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use crate::instance::Instance;
use crate::instance::chain::objects::Objects;
use crate::instance::chain::pins::GONE;
use crate::instance::chain::pins::NEXT;
use crate::instance::chain::pins::base;
use crate::instance::chain::pins::pins;
use crate::instance::chain::place;
use crate::instance::links::remove_pins;
use crate::instance::own_programs::CHAIN;
use crate::instance::own_programs::CHAIN_NEXT;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::instance::pin_error;
use crate::instance::programs;
use crate::instance::remove_pin;
use crate::instance::repair::refuse_lost;
use crate::instance::repair::refuse_lost_programs;
use crate::kernel::bpf;
use crate::kernel::maps;
use crate::kernel::maps::Map;
use crate::kernel::maps::ProgramArray;
use crate::model::abi::consts::CHAIN_SLOTS;
use crate::model::error::ChainError;
use crate::model::error::Result;

/// A filled slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    /// The kernel's id of the program.
    pub(crate) id: u32,
    /// Its place; `None`: it never hands packets on.
    pub(crate) place: Option<u32>,
}

/// What each slot holds.
pub(super) type Slots = Vec<Option<Filled>>;

/// The chain of an instance.
#[derive(Debug)]
pub(crate) struct Chain {
    instance: Instance,
    root: OwnedFd,
    programs: ProgramArray,
    next: Map<u32, u32>,
    /// The results of [`place::of`], by the kernel's ids. The kernel does not reuse an id soon.
    places: RefCell<BTreeMap<u32, Option<u32>>>,
    /// Whether this process has led all packets by way of the root program ([`Chain::leave_direct`]).
    pub(super) through_root: Cell<bool>,
}

impl Chain {
    /// Opens the chain, and loads the root program if there is none.
    pub(crate) fn open_or_create(instance: &Instance) -> Result<Self> {
        let pin = instance.program(ROOT);
        if pin.exists() {
            return Self::open(instance);
        }
        remove_pins(instance)?;
        let root = programs::load_root(instance)?;
        let chain = Self {
            instance: instance.clone(),
            root,
            programs: ProgramArray::open(&instance.map(CHAIN))?,
            next: Map::open(&instance.map(CHAIN_NEXT))?,
            places: RefCell::default(),
            through_root: Cell::default(),
        };
        chain.relink(&[])?;
        bpf::pin(chain.root.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))?;
        Ok(chain)
    }

    /// Opens the chain of an instance that has one.
    pub(crate) fn open(instance: &Instance) -> Result<Self> {
        // If the chain cannot be opened, lost pins are the likely cause.
        Self::open_pins(instance).or_else(|error| refuse_lost(instance).and(Err(error)))
    }

    fn open_pins(instance: &Instance) -> Result<Self> {
        let pin = instance.program(ROOT);
        Ok(Self {
            instance: instance.clone(),
            root: bpf::pinned(&pin).map_err(|source| pin_error("open", &pin, source))?,
            programs: ProgramArray::open(&instance.map(CHAIN))?,
            next: Map::open(&instance.map(CHAIN_NEXT))?,
            places: RefCell::default(),
            through_root: Cell::default(),
        })
    }

    /// As [`Self::open`]; `None` if the instance has none.
    pub(crate) fn open_existing(instance: &Instance) -> Result<Option<Self>> {
        if !instance.program(ROOT).exists() {
            refuse_lost(instance)?;
            return Ok(None);
        }
        Self::open(instance).map(Some)
    }

    /// The instance.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The program that is attached to interfaces, unless they hold the only program of the chain themselves.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The kernel's id of the program in each slot.
    pub(crate) fn slots(&self) -> Result<Vec<Option<u32>>> {
        (0..CHAIN_SLOTS).map(|slot| Ok(self.programs.id_at(slot)?)).collect()
    }

    /// What each slot holds.
    pub(crate) fn filled(&self) -> Result<Slots> {
        let filled = |(slot, id): (u32, Option<u32>)| {
            let Some(id) = id else { return Ok(None) };
            Ok(Some(Filled { id, place: self.place_of(slot, id)? }))
        };
        (0..).zip(self.slots()?).map(filled).collect()
    }

    /// The place of a program that is in this slot or will be; `None`: the program never hands packets on.
    fn place_of(&self, slot: u32, id: u32) -> Result<Option<u32>> {
        // Slot 0 is for captures, whatever program they consist of.
        if slot == OwnProgram::Captures.slot() {
            return Ok(Some(slot));
        }
        if let Some(place) = self.places.borrow().get(&id) {
            return Ok(*place);
        }
        let place = place::of(id)?.filter(|place| *place < CHAIN_SLOTS);
        self.places.borrow_mut().insert(id, place);
        Ok(place)
    }

    /// The slot of the program of this name.
    pub(crate) fn slot_of(&self, name: &str) -> Result<Option<u32>> {
        let ids = self.slots()?;
        for state in [NEXT, "", GONE] {
            if let Some(id) = self.pinned_id(&format!("{name}{state}"))? {
                let mut slots = (0..).zip(&ids).filter(|(_, there)| **there == Some(id));
                if let Some((slot, _)) = slots.next() {
                    return Ok(Some(slot));
                }
            }
        }
        Ok(None)
    }

    /// Slot and place of one of our programs: its present ones, or those that it will have.
    pub(crate) fn home(&self, own: OwnProgram) -> Result<(u32, u32)> {
        if let Some(slot) = self.slot_of(own.name())? {
            let filled = self.filled()?.get(slot as usize).copied().flatten();
            return Ok((slot, filled.and_then(|filled| filled.place).unwrap_or(own.slot())));
        }
        self.refuse_taken(own.slot(), own.name())?;
        Ok((own.slot(), own.slot()))
    }

    /// Refuses the slot, if it holds another program than this one.
    pub(crate) fn refuse_taken(&self, slot: u32, name: &str) -> Result<()> {
        let Some(id) = self.programs.id_at(slot)? else { return Ok(()) };
        let holder = self.names()?.remove(&id);
        // A program without a name is about to be removed.
        match holder {
            Some(holder) if holder != name => Err(ChainError::SlotTaken { slot, holder }.into()),
            _ => Ok(()),
        }
    }

    /// The kernel's id of the program that is pinned by this name.
    fn pinned_id(&self, pin: &str) -> Result<Option<u32>> {
        let pin = self.instance.program(pin);
        if !pin.exists() {
            return Ok(None);
        }
        let info = bpf::pinned(&pin).and_then(|program| bpf::program_info(program.as_fd()));
        match info {
            Ok(info) => Ok(Some(info.id)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(pin_error("open", &pin, source)),
        }
    }

    /// The names of the programs that are in the chain or are being put there, by the kernel's ids.
    pub(crate) fn names(&self) -> Result<BTreeMap<u32, String>> {
        let mut names = BTreeMap::new();
        for pin in pins(&self.instance) {
            if !pin.ends_with(GONE)
                && let Some(id) = self.pinned_id(&pin)?
            {
                names.insert(id, base(&pin).to_owned());
            }
        }
        Ok(names)
    }

    /// Puts a program into a slot and pins it under `name`. If the slot holds the program of that name, this replaces
    /// it in one step.
    ///
    /// If the command is interrupted at any point, the chain leads to the old program or to the new one.
    pub(crate) fn put(&self, slot: u32, program: BorrowedFd<'_>, name: &str) -> Result<()> {
        self.settle()?;
        self.put_settled(slot, program, name)
    }

    /// As [`Self::put`], if no interrupted command is left to finish.
    pub(crate) fn put_settled(&self, slot: u32, program: BorrowedFd<'_>, name: &str) -> Result<()> {
        self.refuse_taken(slot, name)?;
        let done = self.enter(slot, program, name).and_then(|()| self.commit(name));
        self.settle_links();
        done
    }

    /// Puts a program into a slot as the replacement of `name`. It gets its successor before packets reach it.
    fn enter(&self, slot: u32, program: BorrowedFd<'_>, name: &str) -> Result<()> {
        let next = format!("{name}{NEXT}");
        let pin = self.instance.program(&next);
        bpf::pin(program, &pin).map_err(|source| pin_error("pin", &pin, source))?;
        let id = self.pinned_id(&next)?;
        let place = id.map_or(Ok(None), |id| self.place_of(slot, id))?;
        if let Some(place) = place {
            let behind = behind(&self.filled()?, slot);
            self.link(place + 1, behind)?;
        }
        if let Err(error) = self.set(slot, program) {
            remove_pin(&pin)?;
            return Err(error);
        }
        self.relink(&[])
    }

    fn set(&self, slot: u32, program: BorrowedFd<'_>) -> Result<()> {
        self.leave_direct()?;
        Ok(self.programs.set(slot, program)?)
    }

    /// The replacement of this name becomes the program of this name.
    fn commit(&self, name: &str) -> Result<()> {
        Objects::new(&self.instance).commit(name)?;
        self.rename(&format!("{name}{NEXT}"), name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let from = self.instance.program(from);
        bpf::write_point();
        std::fs::rename(&from, self.instance.program(to))
            .map_err(|source| pin_error("rename", &from, source))
    }

    /// Whether the slot holds the program that is pinned under `name`, and every slot is linked to the next one.
    pub(crate) fn in_place(&self, slot: u32, name: &str) -> Result<bool> {
        let begun = [NEXT, GONE].map(|state| self.instance.program(&format!("{name}{state}")));
        let (Some(id), false) = (self.pinned_id(name)?, begun.iter().any(|pin| pin.exists()))
        else {
            return Ok(false);
        };
        let slots = self.filled()?;
        let there = slots.get(slot as usize).copied().flatten();
        Ok(there.is_some_and(|filled| filled.id == id) && self.leads(&slots)?)
    }

    /// Whether no interrupted command has left anything.
    pub(crate) fn is_settled(&self) -> Result<bool> {
        let (ids, names) = (self.slots()?, self.names()?);
        let ids: Vec<_> = ids.into_iter().flatten().collect();
        Ok(ids.iter().collect::<BTreeSet<_>>().len() == ids.len()
            && pins(&self.instance).iter().all(|pin| base(pin) == pin)
            && ids.iter().all(|id| names.contains_key(id)))
    }

    /// Takes the program of this name out of the chain, if the slot holds it, and removes its pin. The slot is
    /// emptied when no packet can reach it any more.
    pub(crate) fn remove(&self, slot: u32, name: &str) -> Result<()> {
        self.settle()?;
        let Some(id) = self.pinned_id(name)? else { return Ok(()) };
        let gone = format!("{name}{GONE}");
        self.rename(name, &gone)?;
        if self.programs.id_at(slot)? == Some(id) {
            self.empty(slot)?;
        }
        Objects::new(&self.instance).remove(name)?;
        remove_pin(&self.instance.program(&gone))?;
        self.settle_links();
        Ok(())
    }

    /// Takes the program of this name out of the chain, whichever slot holds it, with what interrupted commands left
    /// of it.
    pub(crate) fn remove_named(&self, name: &str) -> Result<()> {
        self.settle()?;
        if let Some(slot) = self.slot_of(name)? {
            return self.remove(slot, name);
        }
        // Somebody else has emptied its slot.
        remove_pin(&self.instance.program(name))?;
        self.settle_links();
        Ok(())
    }

    /// Moves a program to an empty slot without loading a copy. If other programs lie between ([`Self::is_beside`]
    /// tells), packets bypass this program for some milliseconds.
    pub(crate) fn shift(&self, from: u32, program: BorrowedFd<'_>, to: u32) -> Result<()> {
        self.set(to, program)?;
        if !self.is_beside(from, to)? {
            self.relink(&[from, to])?;
            maps::wait_for_packets()?;
        }
        self.empty(from)?;
        self.settle_links();
        Ok(())
    }

    /// Whether no program lies between two slots.
    pub(crate) fn is_beside(&self, from: u32, to: u32) -> Result<bool> {
        let between = from.min(to) + 1..from.max(to);
        let ids = self.slots()?;
        Ok(between.into_iter().all(|slot| ids.get(slot as usize).is_none_or(Option::is_none)))
    }

    /// Moves a program to another slot by means of a copy, which has its own place. No packet misses the program. A
    /// packet that is in the chain at that moment may meet both.
    pub(crate) fn put_copy(&self, copy: BorrowedFd<'_>, name: &str, to: u32) -> Result<()> {
        self.enter(to, copy, name)?;
        self.commit(name)?;
        self.settle()
    }

    /// The program of this name, by its pin.
    pub(crate) fn program(&self, name: &str) -> Result<OwnedFd> {
        let pin = self.instance.program(name);
        bpf::pinned(&pin).map_err(|source| pin_error("open", &pin, source))
    }

    fn empty(&self, slot: u32) -> Result<()> {
        self.leave_direct()?;
        self.relink(&[slot])?;
        maps::wait_for_packets()?;
        Ok(self.programs.remove(slot)?)
    }

    /// Finishes or undoes what interrupted commands began.
    pub(crate) fn settle(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for slot in self.linked_first()? {
            // A program in two slots was being moved from one to the other.
            if self.programs.id_at(slot)?.is_some_and(|id| !seen.insert(id)) {
                self.empty(slot)?;
            }
        }
        for pin in pins(&self.instance).iter().filter(|pin| pin.ends_with(NEXT)) {
            if self.pinned_id(pin)?.is_some_and(|id| seen.contains(&id)) {
                self.relink(&[])?;
                self.commit(base(pin))?;
            } else {
                remove_pin(&self.instance.program(pin))?;
            }
        }
        let names = self.names()?;
        let has_no_name = |id: Option<u32>| id.is_some_and(|id| !names.contains_key(&id));
        let slots = (0..).zip(self.slots()?).filter(|(_, id)| has_no_name(*id));
        let nameless: Vec<_> = slots.map(|(slot, _)| slot).collect();
        if !nameless.is_empty() {
            // A program in a slot without a pin was replaced, moved or removed, unless somebody removed the pin.
            refuse_lost_programs(&self.instance)?;
        }
        nameless.into_iter().try_for_each(|slot| self.empty(slot))?;
        for pin in pins(&self.instance).iter().filter(|pin| pin.ends_with(GONE)) {
            remove_pin(&self.instance.program(pin))?;
        }
        self.relink(&[])?;
        Objects::new(&self.instance).remove_but(&pins(&self.instance))?;
        self.settle_links();
        Ok(())
    }

    /// The slots, reachable ones first. If two slots hold the same program, the unreachable one is a leftover.
    fn linked_first(&self) -> Result<Vec<u32>> {
        let slots = self.filled()?;
        let mut order = Vec::new();
        let mut at = Some(0);
        while let Some(entry) = at {
            at = None;
            if let Some(slot) = self.next.get(&entry)?
                && let Some(Some(filled)) = slots.get(slot as usize)
                && !order.contains(&slot)
            {
                order.push(slot);
                at = filled.place.map(|place| place + 1);
            }
        }
        let rest: Vec<_> = (0..CHAIN_SLOTS).filter(|slot| !order.contains(slot)).collect();
        order.extend(rest);
        Ok(order)
    }

    /// Links every program of the chain to the next filled slot, except for the slots in `without`. This begins with
    /// the last program: so each program has its successor before another one leads to it.
    fn relink(&self, without: &[u32]) -> Result<()> {
        let mut slots = self.filled()?;
        for slot in without {
            if let Some(slot) = slots.get_mut(*slot as usize) {
                *slot = None;
            }
        }
        entries(&slots).into_iter().try_for_each(|(at, next)| self.link(at, next))
    }

    fn link(&self, at: u32, next: u32) -> Result<()> {
        if self.next.get(&at)? != Some(next) {
            self.leave_direct()?;
            self.next.set(&at, &next)?;
        }
        Ok(())
    }

    /// Whether the entries lead from each program to the next one.
    pub(super) fn leads(&self, slots: &Slots) -> Result<bool> {
        for (at, next) in entries(slots) {
            if self.next.get(&at)? != Some(next) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A place that no program of the chain has, for a program of this name in this slot.
    ///
    /// There are as many places as slots, and only captures may have the place of slot 0. So a place is free for a
    /// copy as long as a slot is free, and the copy needs a slot anyway.
    pub(crate) fn free_place(&self, slot: u32, name: &str) -> Result<u32> {
        let taken: BTreeSet<_> =
            self.filled()?.iter().flatten().filter_map(|filled| filled.place).collect();
        let own = OwnProgram::named(name).map(OwnProgram::slot);
        let kept = |place: &u32| own != Some(*place) && OwnProgram::of_slot(*place).is_some();
        let others = OwnProgram::Captures.slot() + 1..CHAIN_SLOTS;
        // The places of our own programs are given to others only when no other is left.
        let (last, first): (Vec<_>, Vec<_>) =
            [slot].into_iter().chain(own).chain(others).partition(kept);
        let mut candidates = first.into_iter().chain(last).filter(|place| !taken.contains(place));
        candidates.next().ok_or_else(|| ChainError::NoPlace.into())
    }

    /// The place of the program in a slot.
    pub(crate) fn place_in(&self, slot: u32) -> Result<Option<u32>> {
        Ok(self.filled()?.get(slot as usize).copied().flatten().and_then(|filled| filled.place))
    }

    /// Refuses a place that another program has.
    pub(crate) fn refuse_taken_place(&self, place: u32, name: &str) -> Result<()> {
        let slots = self.filled()?;
        let has_it = |filled: &&Filled| filled.place == Some(place);
        let Some(holder) = slots.iter().flatten().find(has_it) else { return Ok(()) };
        match self.names()?.remove(&holder.id) {
            Some(holder) if holder != name => {
                Err(ChainError::PlaceTaken { name: name.to_owned(), place, holder }.into())
            }
            _ => Ok(()),
        }
    }

    /// The kernel's ids of the two maps that programs of the chain share.
    pub(crate) fn map_ids(&self) -> Result<[u32; 2]> {
        Ok([self.programs.id()?, self.next.id()?])
    }
}

/// The first filled slot behind this slot.
fn behind(slots: &Slots, slot: u32) -> u32 {
    let mut filled = (0..).zip(slots).filter(|(at, filled)| *at > slot && filled.is_some());
    filled.next().map_or(CHAIN_SLOTS, |(at, _)| at)
}

/// For each program of the chain, from the last one to the root (0): the index in `chain_next` of its successor, and
/// the successor's slot.
fn entries(slots: &Slots) -> Vec<(u32, u32)> {
    let mut behind = CHAIN_SLOTS;
    let mut entries = Vec::new();
    for (slot, filled) in (0..).zip(slots).collect::<Vec<_>>().into_iter().rev() {
        let Some(filled) = filled else { continue };
        entries.extend(filled.place.map(|place| (place + 1, behind)));
        behind = slot;
    }
    entries.push((0, behind));
    entries
}

#[cfg(test)]
mod tests {
    use super::CHAIN_SLOTS;
    use super::Filled;
    use super::entries;

    #[test]
    fn empty_slots_are_skipped() {
        let mut slots = vec![None; CHAIN_SLOTS as usize];
        assert_eq!(entries(&slots), [(0, CHAIN_SLOTS)]);
        slots[3] = Some(Filled { id: 7, place: Some(3) });
        slots[9] = Some(Filled { id: 8, place: Some(20) });
        slots[15] = Some(Filled { id: 9, place: None });
        assert_eq!(entries(&slots), [(21, 15), (4, 9), (0, 3)]);
    }
}
