//! The rings that packets use: what is in the maps, not what should be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::kernel::maps::Map;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::error::Result;
use crate::model::maglev::hash::murmur;
use crate::model::maglev::hash::real_hash;
use crate::model::maglev::ring::RING_SIZE;

/// The ring of a VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunningRing {
    /// A digest of which real has which slot, 48 bits long. Balancers with equal rings have the same digest, whatever
    /// the order in which their reals were added; different rings have different digests. 0: there is no ring, as no
    /// real takes new flows.
    pub digest: u64,
    /// How many of the [`RING_SIZE`] slots each real has. A real that has none is missing.
    pub slots: BTreeMap<IpAddr, u32>,
}

impl RunningRing {
    /// A real's share of new flows, 0 to 1.
    pub fn share(&self, real: IpAddr) -> f64 {
        f64::from(self.slots.get(&real).copied().unwrap_or_default()) / f64::from(RING_SIZE)
    }

    /// Reads the values of a ring map.
    fn new(ring: &Map<u32, u64>, reals: &Reals) -> Result<Self> {
        let mut counts = vec![0_u32; reals.hashes.len()];
        let mut digest = DIGEST_START;
        ring.each_value(|at, value| {
            // The last value holds a single slot. The barred reals come after it.
            let slots = RING_SIZE.saturating_sub(at * consts::RING_IDS_PER_VALUE) as usize;
            for shift in [0, 16, 32, 48].into_iter().take(slots) {
                let id = (value >> shift & 0xffff) as usize;
                if let (Some(count), Some(hash)) = (counts.get_mut(id), reals.hashes.get(id)) {
                    *count += 1;
                    digest = (digest ^ hash).wrapping_mul(DIGEST_PRIME);
                }
            }
        })?;
        let slots: BTreeMap<_, _> = counts
            .iter()
            .zip(&reals.addresses)
            .filter(|(count, _)| **count != 0)
            .filter_map(|(count, address)| Some(((*address)?, *count)))
            .collect();
        // A step of the digest moves no bit downwards. This last mix makes any 48 bits depend on all bits.
        let digest = if slots.is_empty() { 0 } else { murmur(digest, 0, 0) >> 16 };
        Ok(Self { digest, slots })
    }
}

/// FNV's basis and prime for 64 bits. One step takes the hash of a slot's real instead of a byte.
const DIGEST_START: u64 = 0xcbf2_9ce4_8422_2325;
const DIGEST_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The address of each real by its id, and its hash. An id without a real has hash 0.
struct Reals {
    addresses: Vec<Option<IpAddr>>,
    hashes: Vec<u64>,
}

impl Balancer {
    /// Reads the rings of all VIPs from the memory that packets read. This takes a tenth of a millisecond for each.
    pub fn running_rings(&self) -> Result<BTreeMap<Vip, RunningRing>> {
        let mut addresses = vec![None; consts::REAL_IDS as usize];
        for (id, real) in self.dataplane.read_reals()? {
            if let Some(address) = addresses.get_mut(id as usize).filter(|_| real.live) {
                *address = Some(real.address);
            }
        }
        let hash = |address: &Option<IpAddr>| address.map_or(0, real_hash);
        let reals = Reals { hashes: addresses.iter().map(hash).collect(), addresses };
        let mut rings = BTreeMap::new();
        for (vip, id) in self.dataplane.vip_ids()? {
            let ring = match self.dataplane.rings.at(id)? {
                Some(ring) => RunningRing::new(&Map::new(ring)?, &reals)?,
                None => RunningRing::default(),
            };
            rings.insert(vip, ring);
        }
        Ok(rings)
    }
}
