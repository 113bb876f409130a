//! The handle of a running balancer.
//!
//! The maps are the whole state. Any process can open a [`Balancer`] at any time, and forwarding does not need one.
//! Readers take no lock; writers wait for the instance's lock.

use std::os::fd::OwnedFd;

use crate::dataplane::Dataplane;
use crate::instance::Instance;
use crate::instance::chain::place;
use crate::instance::chain::slots::Chain;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::instance::programs;
use crate::instance::repair::refuse_lost_of_balancer;
use crate::kernel::host::possible_cpus;
use crate::kernel::maps;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::Config;
use crate::model::config::Encapsulation;
use crate::model::config::TableKind;
use crate::model::connection_tables::Tables;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::vip_table::Table;
use crate::plan::write_knobs;

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    pub(crate) instance: Instance,
    pub(crate) dataplane: Dataplane,
}

impl Balancer {
    /// Opens the balancer of an instance.
    pub fn open(instance: &Instance) -> Result<Self> {
        instance.check_host()?;
        refuse_lost_of_balancer(instance)?;
        match open_dataplane(instance)? {
            Some(dataplane) => Ok(Self { instance: instance.clone(), dataplane }),
            None => Err(Error::NotRunning {
                instance: instance.name().to_owned(),
                path: instance.dir(),
            }),
        }
    }

    /// The instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The connection tables of the running program.
    pub(crate) fn tables(&self) -> Result<Tables> {
        let knobs = running_knobs(&self.instance)?;
        Ok(read_tables(&self.dataplane, knobs.as_ref())?.0)
    }

    pub(crate) fn next_serial(&self) -> Result<u32> {
        Ok(self.dataplane.control()?.map_or(1, |control| control.next_serial))
    }

    /// The VIPs, reals and server ids of the running balancer.
    pub fn table(&self) -> Result<Table> {
        let mut table = self.dataplane.read_table(self.next_serial()?)?.table();
        table.encapsulation = self.default_encapsulation()?;
        Ok(table)
    }

    /// The encapsulation of VIPs that say none: that of `[packets]`.
    pub(crate) fn default_encapsulation(&self) -> Result<Encapsulation> {
        let mut config = Config::default();
        if let Some(knobs) = running_knobs(&self.instance)? {
            write_knobs(&knobs, &mut config);
        }
        Ok(config.packets.encapsulation)
    }

    /// Whether the chain leads to the balancer that is pinned.
    pub(crate) fn is_in_place(&self) -> Result<bool> {
        let own = OwnProgram::Balancer;
        Chain::open(&self.instance)?.in_place(own.slot(), own.name())
    }
}

pub(crate) fn open_dataplane(instance: &Instance) -> Result<Option<Dataplane>> {
    // The first apply writes the control record before anything depends on the rest.
    let pin = instance.map("control");
    if !pin.exists() || !instance.program(ROOT).exists() {
        return Ok(None);
    }
    // The version is the first word, even if another build lays out the rest differently.
    match maps::first_word(&maps::open(&pin)?)? {
        0 => Ok(None),
        consts::ABI_VERSION => Dataplane::open(instance).map(Some),
        running => Err(Error::Abi {
            instance: instance.name().to_owned(),
            running,
            ours: consts::ABI_VERSION,
        }),
    }
}

/// The knobs of the program in the chain.
pub(crate) fn running_knobs(instance: &Instance) -> Result<Option<abi::knobs>> {
    let chain = Chain::open(instance)?;
    let Some(slot) = chain.slot_of(OwnProgram::Balancer.name())? else { return Ok(None) };
    let Some(Some(id)) = chain.slots()?.get(slot as usize).copied() else { return Ok(None) };
    let offset = std::mem::offset_of!(abi::balancer_rodata, knobs);
    let rodata = place::rodata(id)?;
    Ok(rodata.and_then(|bytes| abi::from_bytes(bytes.get(offset..)?)))
}

/// Loads the running program again, for another place of the chain.
pub(crate) fn load_copy(instance: &Instance, place: u32) -> Result<Option<OwnedFd>> {
    let Some(knobs) = running_knobs(instance)? else { return Ok(None) };
    let knobs = abi::knobs { build: consts::OBJECT_HASH, ..knobs };
    Ok(Some(programs::load_balancer(Some(instance), place, &knobs)?.program))
}

/// The connection tables of a program with these knobs.
pub(crate) fn read_tables(
    dataplane: &Dataplane,
    knobs: Option<&abi::knobs>,
) -> Result<(Tables, bool)> {
    let kind = knobs.map_or_else(TableKind::default, |knobs| TableKind::from_raw(knobs.table_kind));
    let bank = knobs.map_or(0, |knobs| knobs.table_bank % consts::TABLE_BANKS);
    dataplane.read_tables(kind, bank, possible_cpus()?)
}
