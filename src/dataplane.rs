//! The balancer's maps: reading what runs, and carrying out the writes of a table's difference.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use memmap2::MmapOptions;

use crate::abi;
use crate::abi::consts;
use crate::addr::Vip;
use crate::config::RealState;
use crate::diff::Key;
use crate::diff::RingImage;
use crate::diff::Rings;
use crate::diff::Running;
use crate::diff::RunningReal;
use crate::diff::RunningVip;
use crate::diff::Write;
use crate::error::Error;
use crate::error::Result;
use crate::instance::Instance;
use crate::maps::ArrayOfMaps;
use crate::maps::Map;
use crate::maps::MapError;
use crate::maps::PerCpuArray;
use crate::maps::create_inner;
use crate::plan::SHARED_TABLE_ENTRIES;
use crate::ring::Ring;
use crate::sys::write_point;
use crate::table::RealSpec;
use crate::table::VipSpec;

/// Values of a ring map.
const RING_MAP_VALUES: u32 = consts::RING_VALUES + consts::BARRED_VALUES;

/// Ring maps that are open at a time.
const RINGS_AT_ONCE: usize = 256;

/// The balancer's maps.
#[derive(Debug)]
pub(crate) struct Dataplane {
    pub(crate) vips: Map<abi::vip_key, abi::vip>,
    pub(crate) rings: ArrayOfMaps,
    pub(crate) reals: Map<u32, abi::real>,
    pub(crate) connections: ArrayOfMaps,
    pub(crate) server_ids: Map<u32, u32>,
    pub(crate) interfaces: Map<u32, abi::interface>,
    pub(crate) cpu_states: PerCpuArray<abi::cpu_state>,
    pub(crate) vip_counts: PerCpuArray<abi::vip_count>,
    pub(crate) real_counts: PerCpuArray<abi::count>,
    pub(crate) vip_reals: Map<abi::vip_real_key, abi::vip_real>,
    pub(crate) control: Map<u32, abi::control>,
}

impl Dataplane {
    /// Opens the pinned maps.
    pub(crate) fn open(instance: &Instance) -> Result<Self> {
        Ok(Self {
            vips: Map::open(&instance.map("vips"))?,
            rings: ArrayOfMaps::open(&instance.map("rings"))?,
            reals: Map::open(&instance.map("reals"))?,
            connections: ArrayOfMaps::open(&instance.map("connections"))?,
            server_ids: Map::open(&instance.map("server_ids"))?,
            interfaces: Map::open(&instance.map("interfaces"))?,
            cpu_states: PerCpuArray::open(&instance.map("cpu_states"))?,
            vip_counts: PerCpuArray::open(&instance.map("vip_counts"))?,
            real_counts: PerCpuArray::open(&instance.map("real_counts"))?,
            vip_reals: Map::open(&instance.map("vip_reals"))?,
            control: Map::open(&instance.map("control"))?,
        })
    }

    /// Takes over the maps of a program that was just loaded.
    pub(crate) fn of_loaded(maps: Vec<MapHandle>) -> Result<Self> {
        let mut maps: HashMap<String, MapHandle> =
            maps.into_iter().map(|map| (map.name().to_string_lossy().into_owned(), map)).collect();
        let mut take = |name: &str| {
            maps.remove(name).ok_or_else(|| {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                MapError::new(name, "find it in the object", missing)
            })
        };
        Ok(Self {
            vips: Map::new(take("vips")?)?,
            rings: ArrayOfMaps::new(take("rings")?),
            reals: Map::new(take("reals")?)?,
            connections: ArrayOfMaps::new(take("connections")?),
            server_ids: Map::new(take("server_ids")?)?,
            interfaces: Map::new(take("interfaces")?)?,
            cpu_states: PerCpuArray::new(take("cpu_states")?)?,
            vip_counts: PerCpuArray::new(take("vip_counts")?)?,
            real_counts: PerCpuArray::new(take("real_counts")?)?,
            vip_reals: Map::new(take("vip_reals")?)?,
            control: Map::new(take("control")?)?,
        })
    }

    /// The control record; `None` before the first apply finished making one.
    pub(crate) fn control(&self) -> Result<Option<abi::control>> {
        Ok(self.control.get(&0)?.filter(|control| control.abi != 0))
    }

    /// Reads the reals: every id that was ever used.
    pub(crate) fn read_reals(&self) -> Result<BTreeMap<u32, RunningReal>> {
        let entries = self.reals.entries()?.into_iter().filter(|(_, real)| real.generation != 0);
        let running = entries.map(|(id, real)| {
            let live = real.flags & consts::REAL_LIVE != 0;
            let address = IpAddr::from(real.addr);
            (id, RunningReal { address, generation: real.generation, live })
        });
        Ok(running.collect())
    }

    /// The id of each VIP.
    pub(crate) fn vip_ids(&self) -> Result<Vec<(Vip, u32)>> {
        let entries = self.vips.entries()?.into_iter();
        let vips = entries.filter(|(_, vip)| vip.flags & consts::VIP_MARKER == 0);
        Ok(vips.filter_map(|(key, vip)| Some((key.vip()?, vip.id))).collect())
    }

    /// Reads VIPs, reals and server ids.
    pub(crate) fn read_table(&self, next_serial: u32) -> Result<Running> {
        let mut running = Running { next_serial, ..Running::default() };
        running.reals = self.read_reals()?;
        running.server_ids = self.server_ids.entries()?.into_iter().collect();

        let mut of_id = BTreeMap::new();
        for (key, vip) in self.vips.entries()? {
            match key.vip() {
                Some(address) if vip.flags & consts::VIP_MARKER == 0 => {
                    of_id.insert(vip.id, (address, vip, VipSpec::from_flags(vip.flags)));
                }
                _ => {
                    running.markers.insert(Key::from(key));
                }
            }
        }
        for (key, entry) in self.vip_reals.entries()? {
            let real = running.reals.get(&key.real).filter(|real| real.live);
            match (of_id.get_mut(&key.vip), real) {
                (Some((_, _, spec)), Some(real)) => {
                    let state = match entry.state {
                        consts::STATE_UP => RealState::Up,
                        consts::STATE_DRAIN => RealState::Drain,
                        _ => RealState::Down,
                    };
                    spec.reals.insert(real.address, RealSpec { weight: entry.weight, state });
                }
                _ => running.stray_vip_reals.push(key),
            }
        }
        for id in 0..consts::MAX_VIPS {
            if !of_id.contains_key(&id) && self.rings.id_at(id)?.is_some() {
                running.stray_rings.insert(id);
            }
        }
        for (id, (address, vip, spec)) in of_id {
            let barred = if vip.flags & consts::VIP_BARRED == 0 {
                BTreeSet::new()
            } else {
                self.read_barred(id)?
            };
            let vip = RunningVip { id, serial: vip.serial, flags: vip.flags, spec, barred };
            running.vips.insert(address, vip);
        }
        Ok(running)
    }

    fn read_barred(&self, vip: u32) -> Result<BTreeSet<u32>> {
        let Some(ring) = self.rings.at(vip)? else { return Ok(BTreeSet::new()) };
        let ring: Map<u32, u64> = Map::new(ring)?;
        let mut barred = BTreeSet::new();
        for word in 0..consts::BARRED_VALUES {
            let bits = ring.get(&(consts::RING_VALUES + word))?.unwrap_or_default();
            barred.extend((0..64).filter(|bit| bits >> bit & 1 != 0).map(|bit| word * 64 + bit));
        }
        Ok(barred)
    }

    /// Carries out writes, in their order.
    pub(crate) fn write_all(&self, writes: &[Write]) -> Result<()> {
        let mut rings = Rings::default();
        writes.iter().try_for_each(|write| self.write(write, &mut rings))
    }

    fn write(&self, write: &Write, rings: &mut Rings) -> Result<()> {
        match write {
            Write::Serials { next_serial } => {
                let control = self.control.get(&0)?.unwrap_or_default();
                self.control.set(&0, &abi::control { next_serial: *next_serial, ..control })?;
            }
            Write::Reals(reals) => {
                // The counters of an id that was used before are another real's.
                for (id, _) in reals.iter().filter(|(_, real)| real.generation > 1) {
                    self.real_counts.clear(*id)?;
                }
                let entries: Vec<_> =
                    reals.iter().map(|(id, real)| (*id, raw_real(real))).collect();
                self.reals.set_many(&entries)?;
            }
            Write::ClearReal { id, real } => self.reals.set(id, &raw_real(real))?,
            Write::ServerIds(entries) => self.server_ids.set_many(entries)?,
            Write::RemoveServerId(id) => drop(self.server_ids.remove(id)?),
            Write::Vips(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, value)| (key.0, *value)).collect();
                self.vips.set_many(&entries)?;
            }
            Write::RemoveVip(key) => drop(self.vips.remove(&key.0)?),
            Write::ClearVipCounts(id) => self.vip_counts.clear(*id)?,
            Write::Rings(images) => {
                // Each is an open file until it is in its place.
                for images in images.chunks(RINGS_AT_ONCE) {
                    let maps = images.iter().map(|(vip, image)| {
                        let ring = rings.of(&image.members);
                        Ok((*vip, new_ring(ring.as_deref(), image)?))
                    });
                    self.rings.set_many(&maps.collect::<Result<Vec<_>>>()?)?;
                }
            }
            Write::RemoveRing(vip) => drop(self.rings.remove(*vip)?),
            Write::VipReals(entries) => self.vip_reals.set_many(entries)?,
            Write::RemoveVipReals(keys) => self.vip_reals.remove_many(keys)?,
        }
        Ok(())
    }

    /// Size of each CPU's own table, and whether the shared one is there.
    pub(crate) fn read_tables(&self, possible_cpus: u32) -> Result<(BTreeMap<u32, u32>, bool)> {
        let shared = self.connections.id_at(consts::SHARED_TABLE)?;
        let mut own = BTreeMap::new();
        for cpu in 0..possible_cpus {
            let id = self.connections.id_at(cpu)?;
            if id.is_some()
                && id != shared
                && let Some(table) = self.connections.at(cpu)?
            {
                own.insert(cpu, table.max_entries());
            }
        }
        Ok((own, shared.is_some()))
    }

    /// Gives every CPU its table. The flows of a table that is replaced move into the new one.
    pub(crate) fn set_tables(&self, wanted: &BTreeMap<u32, u32>, possible_cpus: u32) -> Result<()> {
        let (own, shared_there) = self.read_tables(possible_cpus)?;
        if !shared_there {
            self.connections.set(consts::SHARED_TABLE, &new_table(SHARED_TABLE_ENTRIES)?)?;
        }
        for cpu in 0..possible_cpus {
            if wanted.get(&cpu) == own.get(&cpu) && self.connections.id_at(cpu)?.is_some() {
                continue;
            }
            let new = match wanted.get(&cpu) {
                Some(entries) => new_table(*entries)?,
                None => match self.connections.at(consts::SHARED_TABLE)? {
                    Some(shared) => shared,
                    None => new_table(SHARED_TABLE_ENTRIES)?,
                },
            };
            self.replace_table(cpu, new)?;
        }
        Ok(())
    }

    fn replace_table(&self, cpu: u32, new: MapHandle) -> Result<()> {
        let new: FlowTable = Map::new(new)?;
        let Some(old) = self.connections.at(cpu)? else {
            return Ok(self.connections.set(cpu, new.handle())?);
        };
        let old: FlowTable = Map::new(old)?;
        let copied = old.entries()?;
        new.set_many(&copied)?;
        self.connections.set(cpu, new.handle())?;
        // Packets went on using the old table while it was copied.
        let known: HashMap<[u8; 24], abi::flow> =
            copied.iter().map(|(key, flow)| (key_bytes(key), *flow)).collect();
        for (key, flow) in old.entries()? {
            match known.get(&key_bytes(&key)) {
                None => new.add(&key, &flow)?,
                Some(before) if abi::bytes_of(before) == abi::bytes_of(&flow) => {}
                // Given to another real, or seen again, after the copy and before the swap; since the
                // swap, packets may have done the same in the new table.
                Some(before) => {
                    if new
                        .get(&key)?
                        .is_some_and(|now| abi::bytes_of(&now) == abi::bytes_of(before))
                    {
                        new.set(&key, &flow)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The entry of each interface that the balancer serves.
    pub(crate) fn read_interfaces(&self) -> Result<Vec<abi::interface>> {
        let entries = self.interfaces.entries()?;
        Ok(entries.into_iter().map(|(_, entry)| entry).filter(|entry| entry.ifindex != 0).collect())
    }

    /// Where an interface's entry lies or may go; `name` is for the error.
    fn interface_place(&self, ifindex: u32, name: &str) -> Result<u32> {
        let places =
            || (0..consts::INTERFACE_PROBES).map(|n| (ifindex + n) % consts::INTERFACE_PLACES);
        let mut free = None;
        for place in places() {
            let holder = self.interfaces.get(&place)?.unwrap_or_default().ifindex;
            if holder == ifindex {
                return Ok(place);
            }
            if holder == 0 && free.is_none() {
                free = Some(place);
            }
        }
        free.ok_or_else(|| Error::InterfaceTable { interface: name.to_owned(), ifindex })
    }

    /// Serves an interface, or changes how.
    pub(crate) fn set_interface(&self, entry: &abi::interface, name: &str) -> Result<()> {
        let place = self.interface_place(entry.ifindex, name)?;
        Ok(self.interfaces.set(&place, entry)?)
    }

    /// Serves an interface no longer.
    pub(crate) fn remove_interface(&self, ifindex: u32) -> Result<()> {
        for (place, entry) in self.interfaces.entries()? {
            if entry.ifindex == ifindex {
                self.interfaces.set(&place, &abi::interface::default())?;
            }
        }
        Ok(())
    }
}

/// A CPU's connection table.
pub(crate) type FlowTable = Map<abi::flow_key, abi::flow>;

fn raw_real(real: &RunningReal) -> abi::real {
    let mut raw = abi::real::live(real.address, real.generation);
    if !real.live {
        raw.flags &= !consts::REAL_LIVE;
    }
    raw
}

fn key_bytes(key: &abi::flow_key) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes.copy_from_slice(abi::bytes_of(key));
    bytes
}

fn new_table(entries: u32) -> Result<MapHandle> {
    let (key, value) = (size_of::<abi::flow_key>(), size_of::<abi::flow>());
    Ok(create_inner("flows", MapType::LruHash, key, value, entries, 0)?)
}

/// Makes a ring map. Its content is written to memory, not by a system call for every value.
fn new_ring(ring: Option<&Ring>, image: &RingImage) -> Result<MapHandle> {
    let map = create_inner(
        "ring",
        MapType::Array,
        size_of::<u32>(),
        size_of::<u64>(),
        RING_MAP_VALUES,
        libbpf_sys::BPF_F_MMAPABLE,
    )?;
    write_point();
    let bytes = RING_MAP_VALUES as usize * size_of::<u64>();
    let mut memory =
        map_memory(&map, bytes).map_err(|source| MapError::new("ring", "map it", source))?;
    fill_ring(&mut memory, ring, image);
    Ok(map)
}

#[expect(unsafe_code, reason = "memory maps are")]
fn map_memory(map: &MapHandle, bytes: usize) -> std::io::Result<memmap2::MmapMut> {
    use std::os::fd::AsFd;
    use std::os::fd::AsRawFd;

    // SAFETY: the map was just created and is in no other map yet: nothing else writes to its memory.
    unsafe { MmapOptions::new().len(bytes).map_mut(map.as_fd().as_raw_fd()) }
}

/// Lays a ring out as abi.h says: ids of 16 bits in slot order, four to a value, then the barred bitmap.
fn fill_ring(memory: &mut [u8], ring: Option<&Ring>, image: &RingImage) {
    let (slots, bitmap) = memory.split_at_mut(consts::RING_VALUES as usize * size_of::<u64>());
    if let Some(ring) = ring {
        let per_value = consts::RING_IDS_PER_VALUE as usize;
        for (value, members) in
            slots.chunks_exact_mut(size_of::<u64>()).zip(ring.slots().chunks(per_value))
        {
            let mut packed = 0_u64;
            for (n, member) in members.iter().enumerate() {
                let id = image.ids.get(usize::from(*member)).copied().unwrap_or_default();
                packed |= u64::from(id) << (16 * n);
            }
            value.copy_from_slice(&packed.to_ne_bytes());
        }
    }
    for id in &image.barred {
        let start = (*id / 64) as usize * size_of::<u64>();
        let Some(word) = bitmap.get_mut(start..start + size_of::<u64>()) else { continue };
        let mut bits = [0; size_of::<u64>()];
        bits.copy_from_slice(word);
        let bits = u64::from_ne_bytes(bits) | 1 << (id % 64);
        word.copy_from_slice(&bits.to_ne_bytes());
    }
}
