//! What the ids in events stand for.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use super::options::CaptureOptions;
use super::options::DecisionFilter;
use crate::dataplane::Dataplane;
use crate::instance::Instance;
use crate::instance::links;
use crate::kernel::bpf::ArrayMemory;
use crate::model::abi;
use crate::model::address::Vip;
use crate::model::error::CaptureError;
use crate::model::error::Error;
use crate::model::error::Result;

/// How long to wait before names are read again for unknown ids, or while VIPs are being added.
const NOT_AGAIN: Duration = Duration::from_millis(20);

/// How long a command may take from the first serial to the last entry. If one takes longer, the regular refresh sees
/// it.
const CHANGE: Duration = Duration::from_secs(1);

/// The names of an instance at the last reading.
#[derive(Debug)]
pub(super) struct Names {
    instance: Instance,
    /// None at entry.
    dataplane: Option<Dataplane>,
    vips: HashMap<u32, Vip>,
    interfaces: HashMap<u32, String>,
    read: Instant,
    /// It changes whenever a VIP was added.
    next_serial: Option<u32>,
    /// Until when entries may still follow the last change of `next_serial`.
    changing: Instant,
}

impl Names {
    pub(super) fn read(instance: &Instance, options: &CaptureOptions) -> Result<Self> {
        let dataplane = options.at.exit().then(|| Dataplane::open(instance)).transpose()?;
        let (vips, interfaces) = (HashMap::new(), HashMap::new());
        let now = Instant::now();
        let mut names = Self {
            instance: instance.clone(),
            dataplane,
            vips,
            interfaces,
            read: now,
            next_serial: None,
            changing: now,
        };
        names.follow()?;
        Ok(names)
    }

    /// Reads the names again if a VIP was added, which may have got the id of another one. Returns whether it did.
    pub(super) fn follow(&mut self) -> Result<bool> {
        let Some(dataplane) = &self.dataplane else { return Ok(false) };
        // The serial is written before the entries of its VIPs.
        let next_serial = Some(dataplane.control()?.map_or(0, |control| control.next_serial));
        let now = Instant::now();
        if next_serial != self.next_serial {
            self.next_serial = next_serial;
            self.changing = now + CHANGE;
        } else if now >= self.changing || self.read.elapsed() <= NOT_AGAIN {
            return Ok(false);
        }
        self.refresh()?;
        Ok(true)
    }

    /// Reads the names again.
    pub(super) fn refresh(&mut self) -> Result<()> {
        self.interfaces.clear();
        self.read = Instant::now();
        if let Some(dataplane) = &self.dataplane {
            self.vips = dataplane.vip_ids()?.into_iter().map(|(vip, id)| (id, vip)).collect();
        }
        Ok(())
    }

    /// The VIP of an id.
    pub(super) fn vip(&mut self, id: u32) -> Result<Option<Vip>> {
        // The VIP may be new: read again. Or it is gone, and many packets for it may follow: do not read for each.
        if !self.vips.contains_key(&id) && self.read.elapsed() > NOT_AGAIN {
            self.refresh()?;
        }
        Ok(self.vips.get(&id).copied())
    }

    /// The present name of an interface. If this is another network namespace than the instance's, the name comes from
    /// the link, as the index may be another interface's here.
    pub(super) fn interface(&mut self, ifindex: u32) -> String {
        let instance = &self.instance;
        let linked = || {
            let links = links::links(instance).ok()?;
            let here = links.iter().find(|(_, link)| link.ifindex() == Some(ifindex));
            let any = || links.iter().find(|(_, link)| link.index == Some(ifindex));
            here.or_else(any).map(|(name, _)| name.clone())
        };
        let name = || {
            let name = linked().or_else(|| links::interface_name(ifindex));
            name.unwrap_or_else(|| format!("index {ifindex}"))
        };
        self.interfaces.entry(ifindex).or_insert_with(name).clone()
    }

    /// Refuses VIPs and reals that do not exist.
    pub(super) fn check(&self, wanted: &DecisionFilter) -> Result<()> {
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let known = |vip: &Vip| self.vips.values().any(|known| known == vip);
        if let Some(vip) = wanted.vips.iter().find(|vip| !known(vip)) {
            return Err(Error::NoSuchVip(*vip));
        }
        let reals = live_reals(dataplane)?;
        match wanted.reals.iter().find(|real| !reals.values().any(|known| known == *real)) {
            Some(real) => Err(CaptureError::NoSuchReal(*real).into()),
            None => Ok(()),
        }
    }

    /// Writes the wanted ids for the program.
    pub(super) fn write_wanted(
        &self,
        options: &CaptureOptions,
        wanted: &ArrayMemory,
    ) -> Result<()> {
        let words = wanted.words();
        let set = |offset: usize, bits: &[u64]| {
            for (word, bits) in words[offset / size_of::<u64>()..].iter().zip(bits) {
                word.store(*bits, Ordering::Relaxed);
            }
        };
        if let Some(name) = &options.interface {
            let links = links::links(&self.instance).unwrap_or_default();
            let ifindex = links.get(name).and_then(|link| link.index).unwrap_or_default();
            set(offset_of!(abi::capture_wanted, ifindex), &[ifindex.into()]);
        }
        let Some(dataplane) = &self.dataplane else { return Ok(()) };
        let abi::capture_wanted { mut vips, mut reals, .. } = abi::capture_wanted::default();
        let vip_ids = self.vips.iter().filter(|(_, vip)| options.decision.vips.contains(vip));
        set_bits(&mut vips, vip_ids.map(|(id, _)| *id));
        if !options.decision.reals.is_empty() {
            let live = live_reals(dataplane)?;
            let ids = live.iter().filter(|(_, real)| options.decision.reals.contains(real));
            set_bits(&mut reals, ids.map(|(id, _)| *id));
        }
        set(offset_of!(abi::capture_wanted, vips), &vips);
        set(offset_of!(abi::capture_wanted, reals), &reals);
        Ok(())
    }
}

fn live_reals(dataplane: &Dataplane) -> Result<BTreeMap<u32, std::net::IpAddr>> {
    let reals = dataplane.read_reals()?.into_iter();
    Ok(reals.filter(|(_, real)| real.live).map(|(id, real)| (id, real.address)).collect())
}

fn set_bits(bits: &mut [u64], ids: impl Iterator<Item = u32>) {
    for id in ids {
        if let Some(word) = bits.get_mut((id / 64) as usize) {
            *word |= 1 << (id % 64);
        }
    }
}
