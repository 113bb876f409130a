//! Other programs in the chain of a balancer: as many as a measurement wants, for as long as it runs.

use std::fs;
use std::ops::RangeInclusive;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Object;

use crate::Result;
use crate::lab::Site;
use crate::programs::load;
use crate::programs::program;
use crate::programs::set;
use crate::programs::set_program;
use crate::programs::set_rodata;

/// The balancer's slot: `LB_SLOT_BALANCER`.
const BALANCER: u32 = 8;

/// How many slots a chain has: `L4LB_CHAIN_SLOTS`.
pub(crate) const SLOTS: u32 = 16;

/// How many programs the chains have that are measured beside each other.
pub(crate) const LENGTHS: [u32; 3] = [1, 4, SLOTS];

/// Which slots a chain of so many programs fills: those right in front of the balancer, and if these are not enough, those
/// behind it as well.
pub(crate) fn slots(programs: u32) -> RangeInclusive<u32> {
    let others = programs - 1;
    let in_front = others.min(BALANCER);
    BALANCER - in_front..=(BALANCER + others - in_front).min(SLOTS - 1)
}

/// The chain of a site, with programs that hand on in slots that were empty. Whoever drops it has to [`Self::end`] it
/// before.
#[derive(Debug)]
pub(crate) struct Neighbours<'s> {
    site: &'s Site<'s>,
    chain: MapHandle,
    next: MapHandle,
    /// The values of `chain_next` before.
    before: Vec<Vec<u8>>,
    loaded: Vec<(u32, Object)>,
}

impl<'s> Neighbours<'s> {
    /// Fills those of these slots that are empty. No packet reaches the programs until [`Self::lead`].
    pub(crate) fn fill(site: &'s Site<'s>, slots: RangeInclusive<u32>) -> Result<Self> {
        let chain = MapHandle::from_pinned_path(site.map("chain"))?;
        let next = MapHandle::from_pinned_path(site.map("chain_next"))?;
        let before = values(&next)?;
        let mut loaded = load_neighbours(site, &chain, slots)?;
        for (slot, object) in &mut loaded {
            // Programs of a chain are pinned; l4lb takes one that is not for one whose pin somebody removed.
            for mut program in object.progs_mut() {
                program.pin(site.pin(&name(*slot)))?;
            }
            set_program(&chain, *slot, &program(object, "neighbour")?)?;
        }
        Ok(Self { site, chain, next, before, loaded })
    }

    /// Lets packets pass through the programs in these slots, and through no others.
    pub(crate) fn lead(&self, slots: &RangeInclusive<u32>) -> Result {
        let end = self.chain.max_entries();
        let there =
            |slot: u32| Ok(self.chain.lookup(&slot.to_ne_bytes(), MapFlags::ANY)?.is_some());
        let filled: Vec<bool> = (0..end).map(there).collect::<Result<_>>()?;
        // Each place leads to the next filled slot; here, places are slots.
        for at in 0..self.next.max_entries() {
            let reached = |slot: &u32| slots.contains(slot) && filled[*slot as usize];
            let behind = (at..end).find(reached).unwrap_or(end);
            set(&self.next, &at.to_ne_bytes(), &behind.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Takes the programs out again.
    pub(crate) fn end(self) -> Result {
        for (at, value) in (0_u32..).zip(&self.before) {
            set(&self.next, &at.to_ne_bytes(), value)?;
        }
        for (slot, _) in &self.loaded {
            self.chain.delete(&slot.to_ne_bytes())?;
            fs::remove_file(self.site.pin(&name(*slot)))?;
        }
        Ok(())
    }
}

fn name(slot: u32) -> String {
    format!("neighbour{slot}")
}

/// Loads a program for each of these slots of the chain that is empty.
fn load_neighbours(
    site: &Site<'_>,
    chain: &MapHandle,
    slots: RangeInclusive<u32>,
) -> Result<Vec<(u32, Object)>> {
    let mut neighbours = Vec::new();
    for slot in slots {
        if chain.lookup(&slot.to_ne_bytes(), MapFlags::ANY)?.is_some() {
            continue;
        }
        let mut object = site.link.programs().open("neighbour")?;
        set_rodata(&mut object, &slot.to_ne_bytes())?;
        for mut map in object.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if !name.contains('.') {
                map.reuse_pinned_map(site.map(&name))?;
            }
        }
        neighbours.push((slot, load(object)?));
    }
    Ok(neighbours)
}

/// The values of an array.
fn values(array: &MapHandle) -> Result<Vec<Vec<u8>>> {
    let value = |at: u32| -> Result<Vec<u8>> {
        let value = array.lookup(&at.to_ne_bytes(), MapFlags::ANY)?;
        Ok(value.ok_or("an array has no value")?)
    };
    (0..array.max_entries()).map(value).collect()
}
