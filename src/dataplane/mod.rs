//! The balancer's maps: reads what runs, and carries out ordered writes.

pub(crate) mod balancer;
mod check;
pub(crate) mod decap;
pub(crate) mod flow_moves;
mod flow_view;
pub(crate) mod health;
mod interface_places;
pub(crate) mod interfaces;
pub(crate) mod real_counters;
pub(crate) mod tables;
mod tunnel_ends;
pub(crate) mod vip_reals;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use rustc_hash::FxHashSet;

use crate::dataplane::health::HealthStore;
use crate::dataplane::real_counters::RealCounters;
use crate::dataplane::tunnel_ends::TunnelEndMaps;
use crate::dataplane::vip_reals::VipReals;
use crate::instance::Instance;
use crate::kernel::bpf::ArrayMemory;
use crate::kernel::bpf::write_point;
use crate::kernel::maps;
use crate::kernel::maps::ArrayOfMaps;
use crate::kernel::maps::Map;
use crate::kernel::maps::MapError;
use crate::kernel::maps::PerCpuArray;
use crate::kernel::maps::create_inner;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::model::error::Result;
use crate::model::health::RealHealth;
use crate::model::health::policies::Policies;
use crate::model::maglev::ring::Ring;
use crate::model::parallel;
use crate::model::real_way::Neighbour;
use crate::model::real_way::RealWay;
use crate::model::tunnel_end::TunnelEnds;
use crate::model::vip_index;
use crate::model::vip_key::VipKey;
use crate::model::vip_real::STATE_CHANGING;
use crate::model::vip_real::STATE_DRAIN;
use crate::model::vip_real::STATE_UP;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::VipSpec;
use crate::plan::counter_change::CounterChange;
use crate::plan::diff::Running;
use crate::plan::diff::RunningReal;
use crate::plan::diff::RunningVip;
use crate::plan::diff::TableDiff;
use crate::plan::rings::RING_MAP_VALUES;
use crate::plan::rings::RINGS_AT_ONCE;
use crate::plan::rings::RingImage;
use crate::plan::rings::Rings;
use crate::plan::writes::Write;

pub(crate) use check::Check;
pub use flow_view::FlowState;
pub(crate) use flow_view::View;
pub(crate) use flow_view::ViewVip;
pub(crate) use interface_places::InterfacePlaces;

/// The values of a ring that one write point covers. Tests kill a command at each point: a ring has a few of these,
/// not thousands.
const RING_VALUES_PER_POINT: usize = 8192;

/// The balancer's maps.
#[derive(Debug)]
pub(crate) struct Dataplane {
    pub(crate) vips: Map<abi::vip_key, abi::vip>,
    pub(crate) vip_index: ArrayOfMaps,
    pub(crate) rings: ArrayOfMaps,
    pub(crate) reals: Map<u32, abi::real>,
    pub(crate) neighbours: Map<u32, abi::neighbour>,
    flows4: ArrayOfMaps,
    flows6: ArrayOfMaps,
    pub(crate) connections: ArrayOfMaps,
    pub(crate) server_ids: Map<u32, u32>,
    tunnel_ends: TunnelEndMaps,
    pub(crate) interfaces: Map<u32, abi::interface>,
    pub(crate) cpu_states: PerCpuArray<abi::cpu_state>,
    pub(crate) vip_counts: PerCpuArray<abi::vip_count>,
    pub(crate) real_counters: RealCounters,
    pub(crate) vip_reals: VipReals,
    pub(crate) control: Map<u32, abi::control>,
    /// `None`: the maps are not pinned.
    pub(crate) health: Option<HealthStore>,
}

impl Dataplane {
    /// Opens the pinned maps.
    pub(crate) fn open(instance: &Instance) -> Result<Self> {
        let opened = Self::of(|name| maps::open(&instance.map(name)))?;
        Ok(Self { health: Some(HealthStore::of(instance)), ..opened })
    }

    /// Takes over the maps of a newly loaded program.
    pub(crate) fn of_loaded(maps: Vec<MapHandle>) -> Result<Self> {
        let mut maps: HashMap<String, MapHandle> =
            maps.into_iter().map(|map| (map.name().to_string_lossy().into_owned(), map)).collect();
        Self::of(|name| {
            maps.remove(name).ok_or_else(|| {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                MapError::new(name, "find it in the object", missing)
            })
        })
    }

    /// Takes the maps that `find` returns for their names.
    fn of(mut find: impl FnMut(&str) -> Result<MapHandle, MapError>) -> Result<Self> {
        Ok(Self {
            vips: Map::new(find("vips")?)?,
            vip_index: ArrayOfMaps::new(find("vip_index")?),
            rings: ArrayOfMaps::new(find("rings")?),
            reals: Map::new(find("reals")?)?,
            neighbours: Map::new(find("neighbours")?)?,
            flows4: ArrayOfMaps::new(find("flows4")?),
            flows6: ArrayOfMaps::new(find("flows6")?),
            connections: ArrayOfMaps::new(find("connections")?),
            server_ids: Map::new(find("server_ids")?)?,
            tunnel_ends: TunnelEndMaps::new(find("tunnel_ends")?, find("tunnel_sources")?)?,
            interfaces: Map::new(find("interfaces")?)?,
            cpu_states: PerCpuArray::new(find("cpu_states")?)?,
            vip_counts: PerCpuArray::new(find("vip_counts")?)?,
            real_counters: RealCounters::new(find("real_counts")?, find("count_starts")?)?,
            vip_reals: VipReals::new(find("vip_reals")?)?,
            control: Map::new(find("control")?)?,
            health: None,
        })
    }

    /// The control record; `None` until the first apply has written it.
    pub(crate) fn control(&self) -> Result<Option<abi::control>> {
        Ok(self.control.get(&0)?.filter(|control| control.abi != 0))
    }

    /// Reads the reals: every id that was ever used.
    pub(crate) fn read_reals(&self) -> Result<BTreeMap<u32, RunningReal>> {
        let mut reals = Vec::new();
        self.reals.each_value(|id, abi::real { addr, generation, flags, .. }| {
            if generation != 0 {
                let (address, live) = (IpAddr::from(addr), flags & consts::REAL_LIVE != 0);
                let way = RealWay::from_flags(flags);
                reals.push((id, RunningReal { address, generation, live, way }));
            }
        })?;
        Ok(reals.into_iter().collect())
    }

    /// Where frames for reals go, by the ids of the reals.
    pub(crate) fn read_neighbours(&self) -> Result<BTreeMap<u32, Neighbour>> {
        let mut neighbours = BTreeMap::new();
        self.neighbours.each_value(|id, raw| {
            neighbours.extend(Neighbour::from_raw(&raw).map(|neighbour| (id, neighbour)));
        })?;
        Ok(neighbours)
    }

    /// The id of each VIP.
    pub(crate) fn vip_ids(&self) -> Result<Vec<(Vip, u32)>> {
        let entries = self.vips.entries()?.into_iter();
        let vips = entries.filter(|(_, vip)| vip.flags & consts::VIP_MARKER == 0);
        Ok(vips.filter_map(|(key, vip)| Some((key.vip()?, u32::from(vip.id)))).collect())
    }

    /// The addresses at which tunnels end.
    pub(crate) fn read_tunnel_ends(&self) -> Result<TunnelEnds> {
        Ok(self.tunnel_ends.read()?.0)
    }

    /// Reads VIPs, reals and server ids.
    pub(crate) fn read_table(&self, next_serial: u32) -> Result<Running> {
        let mut running = Running { next_serial, ..Running::default() };
        running.policies = self.policies()?;
        running.reals = self.read_reals()?;
        running.server_ids = self.server_ids.entries()?.into_iter().collect();
        (running.decapsulate, running.stray_sources) = self.tunnel_ends.read()?;
        running.neighbours = self.read_neighbours()?;

        let mut vips: Vec<Option<FoundVip>> = Vec::new();
        vips.resize_with(consts::MAX_VIPS as usize, || None);
        let entries = self.vips.entries()?;
        running.stale_index = !self.is_index(&vip_index::build(&entries))?;
        for (key, vip) in entries {
            let place =
                vips.get_mut(usize::from(vip.id)).filter(|_| vip.flags & consts::VIP_MARKER == 0);
            match (key.vip(), place) {
                (Some(address), Some(place)) => {
                    *place = Some(FoundVip { address, vip, changing: false, reals: Vec::new() });
                }
                _ => drop(running.markers.insert(VipKey::from(key), vip.flags)),
            }
        }
        for (id, vip) in (0..).zip(&vips) {
            if vip.is_none() && self.rings.id_at(id)?.is_some() {
                running.stray_rings.insert(id);
            }
        }
        self.read_vip_reals(&mut running, &mut vips)?;
        for found in vips.into_iter().flatten() {
            let FoundVip { address, vip, changing, reals } = found;
            let abi::vip { serial, flags, .. } = vip;
            let (id, counters) = (u32::from(vip.id), u32::from(vip.counters));
            let mut spec = VipSpec::from_flags(flags);
            spec.reals = reals.into_iter().collect();
            spec.health = running.policies.of(&address);
            let barred = if flags & consts::VIP_BARRED == 0 {
                BTreeSet::new()
            } else {
                self.read_barred(id)?
            };
            let of_vip = RunningVip { id, counters, serial, flags, changing, spec, barred };
            running.vips.insert(address, of_vip);
        }
        Ok(running)
    }

    /// The checks, and what VIPs say about them.
    fn policies(&self) -> Result<Policies> {
        self.health.as_ref().map_or_else(|| Ok(Policies::default()), HealthStore::policies)
    }

    /// Reads which reals the VIPs have, by id. Entries that belong to no VIP are noted as stray.
    fn read_vip_reals(&self, running: &mut Running, vips: &mut [Option<FoundVip>]) -> Result<()> {
        let mut addresses = vec![None; consts::REAL_IDS as usize];
        for (id, real) in running.reals.iter().filter(|(_, real)| real.live) {
            addresses[*id as usize] = Some((real.address, real.way.said));
        }
        self.vip_reals.each(|entry| {
            let address = addresses.get(entry.real as usize).copied().flatten();
            match (vips.get_mut(entry.vip as usize), address) {
                (Some(Some(vip)), Some((address, delivery))) => {
                    let state = match entry.state {
                        STATE_UP => RealState::Up,
                        STATE_DRAIN => RealState::Drain,
                        _ => RealState::Down,
                    };
                    let health = RealHealth::from_raw(entry.health, entry.missing_share);
                    let spec = RealSpec { health, delivery, ..RealSpec::new(entry.weight, state) };
                    vip.reals.push((address, spec));
                }
                (Some(Some(vip)), None) if entry.state == STATE_CHANGING => {
                    vip.changing = true;
                }
                _ => running.stray_vip_reals.push(entry.key()),
            }
        })?;
        Ok(())
    }

    fn read_barred(&self, vip: u32) -> Result<BTreeSet<u32>> {
        let Some(ring) = self.rings.at(vip)? else { return Ok(BTreeSet::new()) };
        let ring: Map<u32, u64> = Map::new(ring)?;
        let mut barred = BTreeSet::new();
        ring.each_value(|at, bits| {
            let Some(word) = at.checked_sub(consts::RING_VALUES) else { return };
            barred.extend((0..64).filter(|bit| bits >> bit & 1 != 0).map(|bit| word * 64 + bit));
        })?;
        Ok(barred)
    }

    /// Carries out the writes of a difference, in their order.
    pub(crate) fn write_all(&self, diff: &TableDiff) -> Result<()> {
        let mut vip_reals = self.vip_reals_writer(diff)?;
        let leaving = diff.writes.iter().filter_map(|write| match write {
            Write::RemoveVip(key) => Some(*key),
            _ => None,
        });
        let mut leaving = Leaving { keys: leaving.collect(), gone: false };
        diff.writes
            .iter()
            .try_for_each(|write| self.write(write, &diff.rings, &mut vip_reals, &mut leaving))?;
        // These rings already have the right slots, so their order does not matter.
        self.rewrite_rings(&diff.unsigned, &diff.rings)
    }

    /// Prepares the writes of those VIPs' reals that change.
    fn vip_reals_writer(&self, diff: &TableDiff) -> Result<vip_reals::Writer<'_>> {
        let (mut vips, mut more) = (FxHashSet::default(), 0);
        for write in &diff.writes {
            match write {
                Write::VipReals(entries) => {
                    vips.extend(entries.iter().map(|entry| entry.vip));
                    more += entries.len();
                }
                Write::RemoveVipReals(keys) => vips.extend(keys.iter().map(|(vip, _)| vip)),
                _ => {}
            }
        }
        Ok(self.vip_reals.writer(&vips, more)?)
    }

    fn write(
        &self,
        write: &Write,
        rings: &Rings,
        vip_reals: &mut vip_reals::Writer<'_>,
        leaving: &mut Leaving,
    ) -> Result<()> {
        match write {
            Write::VipIndex => self.sync_index(leaving)?,
            Write::ForgetReals(ids) => self.forget_flows(&|flow| ids.contains(&flow.real))?,
            Write::ForgetVipsBut(serials) => {
                self.forget_flows(&|flow| !serials.contains(&flow.key.vip))?;
            }
            Write::Serials { next_serial } => {
                let control = self.control.get(&0)?.unwrap_or_default();
                self.control.set(&0, &abi::control { next_serial: *next_serial, ..control })?;
            }
            Write::Reals(reals) => {
                // The counters of a reused id have counted for another real.
                let reused = reals.iter().filter(|(_, real)| real.generation > 1);
                let begin: Vec<_> = reused.map(|(id, _)| CounterChange::Begin(*id)).collect();
                self.real_counters.change(&begin)?;
                let entries: Vec<_> =
                    reals.iter().map(|(id, real)| (*id, raw_real(real))).collect();
                self.reals.set_many(&entries)?;
            }
            Write::SetReal { id, real } => self.reals.set(id, &raw_real(real))?,
            Write::Neighbours(of) => {
                let entries = of.iter().map(|(id, neighbour)| (*id, Neighbour::raw(*neighbour)));
                self.neighbours.set_many(&entries.collect::<Vec<_>>())?;
            }
            Write::ServerIds(entries) => self.server_ids.set_many(entries)?,
            Write::RemoveServerId(id) => drop(self.server_ids.remove(id)?),
            Write::TunnelEnds(ends) => self.tunnel_ends.set(ends)?,
            Write::RemoveTunnelEnds(addresses) => self.tunnel_ends.remove(addresses)?,
            Write::TunnelSources(sources) => self.tunnel_ends.add_sources(sources)?,
            Write::RemoveTunnelSources(sources) => self.tunnel_ends.remove_sources(sources)?,
            Write::Vips(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, value)| (key.0, *value)).collect();
                self.vips.set_many(&entries)?;
                self.sync_index(leaving)?;
            }
            Write::RemoveVip(key) => {
                if !leaving.gone {
                    self.sync_index(leaving)?;
                }
                self.vips.remove(&key.0)?;
                leaving.keys.remove(key);
            }
            Write::Counters(changes) => self.real_counters.change(changes)?,
            Write::ClearVipCounts(id) => self.vip_counts.clear(*id)?,
            Write::Rings(images) => {
                // Each ring is an open file until it is in its place.
                for images in images.chunks(RINGS_AT_ONCE) {
                    let new = |vip, content| Ok((vip, new_ring(&content)?));
                    self.rings.set_many(&with_rings(images, rings, new)?)?;
                }
            }
            Write::RewriteRings(images) => self.rewrite_rings(images, rings)?,
            Write::RemoveRings(vips) => self.rings.remove_many(vips)?,
            Write::VipReals(entries) => vip_reals.set(entries)?,
            Write::RemoveVipReals(keys) => {
                vip_reals.remove(keys)?;
                if let Some(health) = &self.health {
                    health.remove_found(keys)?;
                }
            }
            Write::Policies(policies) => {
                if let Some(health) = &self.health {
                    health.set_policies(policies)?;
                }
            }
        }
        Ok(())
    }

    fn rewrite_rings(&self, images: &[(u32, RingImage)], rings: &Rings) -> Result<()> {
        with_rings(images, rings, |vip, content| match self.rings.at(vip)? {
            Some(ring) => fill_ring(&ring, &content),
            None => Ok(self.rings.set(vip, &new_ring(&content)?)?),
        })?;
        Ok(())
    }

    /// Makes the index that packets use match `vips`, except for the keys in `but`.
    fn sync_index(&self, but: &mut Leaving) -> Result<()> {
        let mut entries = self.vips.entries()?;
        entries.retain(|(key, _)| !but.keys.contains(&VipKey::from(*key)));
        but.gone = true;
        let buckets = vip_index::build(&entries);
        if self.is_index(&buckets)? {
            return Ok(());
        }
        let map = create_inner(
            "vip_buckets",
            MapType::Array,
            size_of::<u32>(),
            size_of::<abi::vip_bucket>(),
            consts::VIP_BUCKETS,
            libbpf_sys::BPF_F_MMAPABLE,
            0,
        )?;
        write_point();
        let memory = index_memory(&map)?;
        for (word, value) in memory.words().iter().zip(vip_index::words(&buckets)) {
            word.store(value, Ordering::Relaxed);
        }
        Ok(self.vip_index.set(0, &map)?)
    }

    /// Whether the index that packets use has this content.
    fn is_index(&self, buckets: &[abi::vip_bucket]) -> Result<bool> {
        let Some(map) = self.vip_index.at(0)? else {
            // Without an index, packets look up keys in `vips`.
            return Ok(buckets.iter().all(|bucket| bucket.entry[0].key.proto == 0));
        };
        let memory = index_memory(&map)?;
        let mut words = memory.words().iter().zip(vip_index::words(buckets));
        Ok(words.all(|(word, value)| word.load(Ordering::Relaxed) == value))
    }

    /// The entry of each interface that the balancer serves.
    pub(crate) fn read_interfaces(&self) -> Result<Vec<abi::interface>> {
        let entries = self.interfaces.entries()?;
        Ok(entries.into_iter().map(|(_, entry)| entry).filter(|entry| entry.ifindex != 0).collect())
    }

    /// Adds an interface, or changes its entry.
    pub(crate) fn set_interface(&self, entry: &abi::interface) -> Result<()> {
        let place = self.interface_places()?.put(entry.ifindex)?;
        Ok(self.interfaces.set(&place, entry)?)
    }

    /// Which index each interface has in the map.
    pub(crate) fn interface_places(&self) -> Result<InterfacePlaces> {
        let entries = self.interfaces.entries()?.into_iter();
        let held = entries.filter(|(_, entry)| entry.ifindex != 0);
        Ok(InterfacePlaces(held.map(|(place, entry)| (place, entry.ifindex)).collect()))
    }

    /// Stops serving an interface.
    pub(crate) fn remove_interface(&self, ifindex: u32) -> Result<()> {
        for (place, entry) in self.interfaces.entries()? {
            if entry.ifindex == ifindex {
                self.interfaces.set(&place, &abi::interface::default())?;
            }
        }
        Ok(())
    }
}

fn index_memory(map: &MapHandle) -> Result<ArrayMemory> {
    Ok(ArrayMemory::new(map).map_err(|source| MapError::new("vip_buckets", "map it", source))?)
}

fn raw_real(real: &RunningReal) -> abi::real {
    let mut raw = abi::real::live(real.address, real.generation);
    raw.flags |= real.way.flags();
    if !real.live {
        raw.flags &= !consts::REAL_LIVE;
    }
    raw
}

/// The keys that later writes remove from `vips`. The index drops them all at once, because the kernel waits for
/// running programs at every swap.
struct Leaving {
    keys: BTreeSet<VipKey>,
    /// The index no longer has them.
    gone: bool,
}

/// A VIP that is being read.
struct FoundVip {
    address: Vip,
    vip: abi::vip,
    changing: bool,
    reals: Vec<(IpAddr, RealSpec)>,
}

/// Computes each ring of the images once, and calls `work` with it for each image.
fn with_rings<R: Send>(
    images: &[(u32, RingImage)],
    known: &Rings,
    work: impl Fn(u32, RingContent) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let mut of_members: HashMap<_, Vec<_>> = HashMap::new();
    for (vip, image) in images {
        of_members.entry(&image.members).or_default().push((*vip, image));
    }
    let alike: Vec<_> = of_members.into_iter().collect();
    let done = parallel::map(&alike, |(members, images)| {
        let ring = known.get_or_build(members);
        let each = images.iter().map(|(vip, image)| work(*vip, content(ring.as_deref(), image)));
        each.collect::<Result<Vec<_>>>()
    });
    Ok(done.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Creates a ring map.
fn new_ring(content: &RingContent) -> Result<MapHandle> {
    let map = create_inner(
        "ring",
        MapType::Array,
        size_of::<u32>(),
        size_of::<u64>(),
        RING_MAP_VALUES,
        libbpf_sys::BPF_F_MMAPABLE,
        0,
    )?;
    fill_ring(&map, content)?;
    Ok(map)
}

/// Writes what differs in a ring, directly to its memory. One write to memory replaces a system call for every value,
/// and unchanged values stay in packets' caches. The ring may be in use: each value is written in one step.
fn fill_ring(map: &MapHandle, content: &RingContent) -> Result<()> {
    let memory =
        ArrayMemory::new(map).map_err(|source| MapError::new("ring", "map its memory", source))?;
    for (at, (word, value)) in memory.words().iter().zip(content).enumerate() {
        if at % RING_VALUES_PER_POINT == 0 {
            write_point();
        }
        if word.load(Ordering::Relaxed) != *value {
            // A packet that reads this value also sees the reals that it names.
            word.store(*value, Ordering::Release);
        }
    }
    Ok(())
}

/// The values of a ring map, in the layout of abi/ring.h.
type RingContent = Vec<u64>;

/// Ids of 16 bits in slot order, four to a value. The rest of the last value holds the checksum. The barred bitmap
/// follows.
fn content(ring: Option<&Ring>, image: &RingImage) -> RingContent {
    let per_value = consts::RING_IDS_PER_VALUE as usize;
    let id = |member: &u16| image.ids.get(usize::from(*member)).copied().unwrap_or_default();
    let pack = |members: &[u16]| {
        (0..).zip(members).fold(0, |packed, (n, member)| packed | u64::from(id(member)) << (16 * n))
    };
    let slots = ring.map(Ring::slots).unwrap_or_default();
    let mut content: Vec<u64> = slots.chunks(per_value).map(pack).collect();
    content.resize(RING_MAP_VALUES as usize, 0);
    let bitmap = &mut content[consts::RING_VALUES as usize..];
    for id in &image.barred {
        if let Some(word) = bitmap.get_mut((*id / 64) as usize) {
            *word |= 1 << (id % 64);
        }
    }
    let checksum = image.checksum(content.len(), |at| content[at]);
    content[consts::RING_VALUES as usize - 1] |= checksum << consts::RING_CHECKSUM_SHIFT;
    content
}
