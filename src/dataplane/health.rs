//! What the control plane keeps about the health of reals: the policies, and details of what was found. Both are in
//! maps that are made when there is something to keep. The packet path reads neither.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapType;

use crate::instance::Instance;
use crate::instance::own_programs::CHECKS;
use crate::instance::own_programs::CHECKS_NEXT;
use crate::instance::own_programs::HEALTH;
use crate::instance::pin_error;
use crate::instance::remove_pin;
use crate::kernel::bpf;
use crate::kernel::bpf::write_point;
use crate::kernel::maps;
use crate::kernel::maps::Map;
use crate::kernel::maps::MapError;
use crate::kernel::maps::create_inner;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::error::Result;
use crate::model::health::policies::Policies;
use crate::model::vip_real::VipRealKey;

/// The key of the entry that says when somebody last checked. No VIP has this id.
const LAST_CHECK: abi::HealthKey = abi::HealthKey { vip: u32::MAX, real: 0 };

/// Where an instance keeps it.
#[derive(Clone, Debug)]
pub(crate) struct HealthStore {
    checks: PathBuf,
    next: PathBuf,
    found: PathBuf,
}

type Found = Map<abi::HealthKey, abi::HealthRecord>;

impl HealthStore {
    pub(crate) fn of(instance: &Instance) -> Self {
        Self {
            checks: instance.map(CHECKS),
            next: instance.map(CHECKS_NEXT),
            found: instance.map(HEALTH),
        }
    }

    /// Whether there is anything: somebody has made checks, or told how a real does.
    pub(crate) fn is_in_use(&self) -> bool {
        self.checks.exists() || self.found.exists()
    }

    /// Reads the policies.
    pub(crate) fn policies(&self) -> Result<Policies> {
        if !self.checks.exists() {
            return Ok(Policies::default());
        }
        let map = maps::open(&self.checks)?;
        let wrong = |error: io::Error| MapError::new(CHECKS, "read", error);
        let value = map
            .lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| MapError::new(CHECKS, "read", error))?
            .unwrap_or_default();
        let misfit = || wrong(io::Error::new(io::ErrorKind::InvalidData, "no policies are in it"));
        let (length, text) = value.split_first_chunk().ok_or_else(misfit)?;
        let text = text.get(..u32::from_ne_bytes(*length) as usize).ok_or_else(misfit)?;
        Policies::from_bytes(text)
            .map_err(|error| wrong(io::Error::new(io::ErrorKind::InvalidData, error)).into())
    }

    /// Replaces the policies in one step.
    pub(crate) fn set_policies(&self, policies: &Policies) -> Result<()> {
        if policies.is_empty() {
            return remove_pin(&self.checks);
        }
        let wrong = |error: io::Error| MapError::new(CHECKS, "write", error);
        let text = policies.to_bytes().map_err(|error| wrong(error.into()))?;
        let length = u32::try_from(text.len())
            .map_err(|_| wrong(io::Error::from(io::ErrorKind::FileTooLarge)))?;
        let mut value = [&length.to_ne_bytes()[..], &text].concat();
        value.resize(value.len().next_multiple_of(8), 0);
        // Readers find the old map or the new one, and never a part of one.
        let map = create_inner(CHECKS, MapType::Array, size_of::<u32>(), value.len(), 1, 0, 0)?;
        map.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(|error| MapError::new(CHECKS, "write", error))?;
        remove_pin(&self.next)?;
        bpf::pin(map.as_fd(), &self.next).map_err(|source| pin_error("pin", &self.next, source))?;
        write_point();
        fs::rename(&self.next, &self.checks)
            .map_err(|source| pin_error("replace", &self.checks, source))
    }

    fn open(&self) -> Result<Option<Found>> {
        if !self.found.exists() {
            return Ok(None);
        }
        Ok(Some(Map::open(&self.found)?))
    }

    fn open_or_create(&self) -> Result<Found> {
        if let Some(map) = self.open()? {
            return Ok(map);
        }
        let (key, value) = (size_of::<abi::HealthKey>(), size_of::<abi::HealthRecord>());
        let flags = libbpf_sys::BPF_F_NO_PREALLOC;
        let map =
            create_inner(HEALTH, MapType::Hash, key, value, consts::VIP_REAL_PLACES, flags, 0)?;
        bpf::pin(map.as_fd(), &self.found)
            .map_err(|source| pin_error("pin", &self.found, source))?;
        Ok(Map::new(map)?)
    }

    /// The details of all reals, by the ids of VIP and real.
    pub(crate) fn found(&self) -> Result<HashMap<VipRealKey, abi::HealthRecord>> {
        let Some(map) = self.open()? else { return Ok(HashMap::new()) };
        let entries = map.entries()?.into_iter().filter(|(key, _)| key.vip != LAST_CHECK.vip);
        Ok(entries.map(|(key, record)| ((key.vip, key.real), record)).collect())
    }

    /// Writes details.
    pub(crate) fn set_found(&self, records: &[(VipRealKey, abi::HealthRecord)]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let map = self.open_or_create()?;
        let records: Vec<_> = records
            .iter()
            .map(|((vip, real), record)| (abi::HealthKey { vip: *vip, real: *real }, *record))
            .collect();
        Ok(map.set_many(&records)?)
    }

    /// Removes details. Skips those that do not exist.
    pub(crate) fn remove_found(&self, keys: &[VipRealKey]) -> Result<()> {
        let Some(map) = self.open()? else { return Ok(()) };
        for (vip, real) in keys {
            map.remove(&abi::HealthKey { vip: *vip, real: *real })?;
        }
        Ok(())
    }

    /// When somebody last checked, in seconds since 1970.
    pub(crate) fn last_check(&self) -> Result<Option<u64>> {
        let Some(map) = self.open()? else { return Ok(None) };
        Ok(map.get(&LAST_CHECK)?.map(|record| record.since))
    }

    /// Notes that somebody checks.
    pub(crate) fn set_last_check(&self, since: u64) -> Result<()> {
        let record = abi::HealthRecord { since, ..abi::HealthRecord::default() };
        Ok(self.open_or_create()?.set(&LAST_CHECK, &record)?)
    }
}
