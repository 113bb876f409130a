//! Compares the rings and reals that packets use with the records of the control plane.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::Dataplane;
use super::with_rings;
use crate::kernel::bpf::ArrayMemory;
use crate::kernel::maps::MapError;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::error::Result;
use crate::model::parallel;
use crate::model::real_way::WAY_FLAGS;
use crate::plan::diff::Running;
use crate::plan::rings::RingImage;
use crate::plan::rings::Rings;
use crate::plan::rings::slots_of;

/// How closely to check the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// By their checksums. This takes some ten microseconds for each.
    Checksums,
    /// Slot by slot against Maglev's result. This takes some milliseconds for each.
    Slots,
}

/// How often to read again because a command changed the maps meanwhile.
const ATTEMPTS: usize = 5;

impl Dataplane {
    /// As [`Self::read_table`], and compares rings and reals with it. A VIP that a command is just changing has no
    /// mismatch: it is checked again in its new state.
    pub(crate) fn read_checked(&self, next_serial: u32, check: Check) -> Result<Running> {
        let mut running = self.read_table(next_serial)?;
        for _ in 0..ATTEMPTS {
            self.compare_rings(&mut running, check)?;
            running.wrong_reals = self.wrong_reals()?;
            if running.wrong_rings.is_empty()
                && running.wrong_reals.is_empty()
                && !running.stale_index
            {
                return Ok(running);
            }
            let again = self.read_table(next_serial)?;
            if again.vips == running.vips
                && again.reals == running.reals
                && again.stale_index == running.stale_index
            {
                return Ok(running);
            }
            running = again;
        }
        // Another command holds the lock and keeps changing the maps. A later check will find any mismatch.
        Ok(running)
    }

    fn compare_rings(&self, running: &mut Running, check: Check) -> Result<()> {
        let ids = running.live_ids();
        let settled = running.vips.values().filter(|vip| !vip.changing);
        let rings: Vec<_> = settled.map(|vip| (vip.id, vip.flags, vip.ring(&ids))).collect();
        let looked = parallel::map(&rings, |(id, _, image)| self.looks_right(*id, image.as_ref()));
        let mut suspects = Vec::new();
        for ((id, flags, image), right) in rings.into_iter().zip(looked) {
            if !right? || check == Check::Slots {
                if let Some(image) = image {
                    suspects.push((id, flags, image));
                    continue;
                }
                let slots = self.slots_in_use(id)?;
                if slots != 0 {
                    running.wrong_rings.insert(id, slots);
                }
            }
        }
        let flags: HashMap<_, _> = suspects.iter().map(|(id, flags, _)| (*id, *flags)).collect();
        let images: Vec<_> = suspects.into_iter().map(|(id, _, image)| (id, image)).collect();
        let compared = with_rings(&images, &Rings::default(), |id, content| {
            Ok((id, self.differing_slots(id, &content)?))
        })?;
        let images: HashMap<_, _> = images.into_iter().collect();
        for (id, slots) in compared {
            if slots != 0 {
                running.wrong_rings.insert(id, slots);
                continue;
            }
            let Some(image) = images.get(&id) else { continue };
            match self.checksums(id, image)? {
                Some(sums) if sums.written == sums.computed => {}
                // The slots are right. If packets look at the barred reals, these are wrong. If not, the checksum
                // itself is wrong.
                Some(sums) if sums.written != 0 && flags[&id] & consts::VIP_BARRED != 0 => {
                    running.wrong_rings.insert(id, 0);
                }
                _ => drop(running.unsigned_rings.insert(id)),
            }
        }
        Ok(())
    }

    /// Whether a ring is the one that was written for this image, by its checksum.
    fn looks_right(&self, id: u32, image: Option<&RingImage>) -> Result<bool> {
        match image {
            Some(image) => {
                Ok(self.checksums(id, image)?.is_some_and(|sums| sums.written == sums.computed))
            }
            None => Ok(self.rings.id_at(id)?.is_none()),
        }
    }

    fn checksums(&self, id: u32, image: &RingImage) -> Result<Option<Checksums>> {
        let Some(memory) = self.ring_memory(id)? else { return Ok(None) };
        let words = memory.words();
        let value = |at: usize| words[at].load(Ordering::Relaxed);
        let last = words.get(consts::RING_VALUES as usize - 1);
        let written = last.map_or(0, |last| last.load(Ordering::Relaxed));
        Ok(Some(Checksums {
            written: written >> consts::RING_CHECKSUM_SHIFT,
            computed: image.checksum(words.len(), value),
        }))
    }

    /// How many slots of a ring differ from what they should be; all, if there is no ring.
    fn differing_slots(&self, id: u32, content: &[u64]) -> Result<u32> {
        let memory = self.ring_memory(id)?;
        let words = memory.as_ref().map_or(&[][..], ArrayMemory::words);
        let slots = content.iter().enumerate().take(consts::RING_VALUES as usize);
        Ok(slots
            .map(|(at, wanted)| {
                let wanted = slots_of(at, *wanted);
                let there = words.get(at).map(|word| slots_of(at, word.load(Ordering::Relaxed)));
                // Without a ring, no slot leads anywhere.
                differing(wanted, there.unwrap_or_default())
            })
            .sum())
    }

    /// How many slots of a ring lead to a real.
    fn slots_in_use(&self, id: u32) -> Result<u32> {
        self.differing_slots(id, &vec![0; consts::RING_VALUES as usize])
    }

    fn ring_memory(&self, id: u32) -> Result<Option<ArrayMemory>> {
        let ring = match self.rings.at(id) {
            // The ring was replaced between the two calls.
            Err(error) if error.is_not_found() => self.rings.at(id)?,
            ring => ring?,
        };
        let map = |ring| {
            ArrayMemory::new(&ring)
                .map_err(|source| MapError::new("ring", "map its memory to read", source).into())
        };
        ring.map(map).transpose()
    }

    /// Reals whose entry for packets does not match their address.
    fn wrong_reals(&self) -> Result<BTreeSet<u32>> {
        let mut wrong = BTreeSet::new();
        self.reals.each_value(|id, real: abi::real| {
            let right = abi::real::live(real.addr.into(), real.generation);
            let differs = real.flags & !WAY_FLAGS != right.flags || real.csum != right.csum;
            // A cleared entry gets no packets.
            if real.generation != 0 && real.flags & consts::REAL_LIVE != 0 && differs {
                wrong.insert(id);
            }
        })?;
        Ok(wrong)
    }
}

/// The checksum stored in a ring, and the checksum of its content.
struct Checksums {
    written: u64,
    computed: u64,
}

/// How many of four slots differ.
fn differing(one: u64, other: u64) -> u32 {
    let bits = one ^ other;
    [0, 16, 32, 48].into_iter().map(|shift| u32::from(bits >> shift & 0xffff != 0)).sum()
}
