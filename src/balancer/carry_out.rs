//! Carrying a plan out: attaching first, then the program, then the maps.

use std::os::fd::AsFd;

use super::PROGRAM;
use super::open_dataplane;
use super::remove_maps;
use crate::abi::consts;
use crate::attach::follow_names;
use crate::attach::remove_link;
use crate::chain::Attaching;
use crate::chain::Chain;
use crate::dataplane::Dataplane;
use crate::error::Result;
use crate::instance::Instance;
use crate::maps;
use crate::object;
use crate::object::Loaded;
use crate::plan::Plan;
use crate::plan::Steps;

pub(super) fn carry_out(
    instance: &Instance,
    plan: &Plan,
    adopt: Option<u32>,
    announce: impl FnOnce(&Plan),
) -> Result<()> {
    let steps = &plan.steps;
    let chain = Chain::open_or_create(instance)?;
    if adopt.is_some() {
        chain.settle()?;
    }
    follow_names(instance)?;
    // First what is most likely to fail: an interface without an entry passes its packets on.
    let mut attaching = Attaching::default();
    let done = attaching.attach(instance, &chain, &steps.interfaces(), adopt).and_then(|()| {
        announce(plan);
        program(instance, &chain, steps)
    });
    if done.is_err() {
        attaching.undo(instance, &chain);
    }
    done.map_err(|error| match &plan.memory {
        Some(memory) => memory.explain(error),
        None => error,
    })
}

/// Loads the program and writes the maps.
fn program(instance: &Instance, chain: &Chain, steps: &Steps) -> Result<()> {
    if open_dataplane(instance)?.is_none() {
        remove_maps(instance)?;
    }
    let (slot, place) = chain.home(PROGRAM, consts::SLOT_BALANCER)?;
    let loaded = steps
        .replace_program
        .then(|| object::load_balancer(Some(instance), place, &steps.knobs))
        .transpose()?;
    let dataplane = Dataplane::open(instance)?;
    let before = dataplane.read_interfaces()?;
    let loaded = loaded.as_ref().map(|loaded| (slot, loaded));
    let done = write(&dataplane, chain, steps, loaded);
    if done.is_err() {
        for entry in &steps.entries {
            match before.iter().find(|before| before.ifindex == entry.ifindex) {
                Some(before) => dataplane.set_interface(before)?,
                None => dataplane.remove_interface(entry.ifindex)?,
            }
        }
    }
    done?;
    for name in &steps.detach {
        remove_link(&instance.link(name))?;
    }
    for entry in &steps.remove_entries {
        dataplane.remove_interface(entry.ifindex)?;
    }
    Ok(())
}

/// Writes the maps: first the interfaces, for which there may be no place. The program takes the packets
/// over before rings change, and all flows that are in use by then are in its tables: those that were not
/// yet go where they went before.
fn write(
    dataplane: &Dataplane,
    chain: &Chain,
    steps: &Steps,
    loaded: Option<(u32, &Loaded)>,
) -> Result<()> {
    for entry in &steps.entries {
        dataplane.set_interface(entry)?;
    }
    let running = &steps.running_tables;
    let tables = steps.tables.as_ref().unwrap_or(running);
    if steps.stray_tables {
        dataplane.release_claims(running)?;
    }
    let since = dataplane.prepare_tables(running, tables, &steps.knobs, &steps.nodes)?;
    if let Some((slot, loaded)) = loaded {
        chain.put(slot, loaded.program.as_fd(), PROGRAM)?;
        if steps.tables.is_some() && !running.own.is_empty() {
            maps::wait_for_packets()?;
            // The new program has the packets: what is left of the change is better done than not.
            if let Err(error) = dataplane.copy_latest_flows(running, tables, &steps.knobs, since) {
                tracing::warn!(
                    "flows that began while the connection tables were changed may move; all others were taken \
                     along: {error}"
                );
            }
        }
    }
    if steps.tables.is_some() || steps.stray_tables {
        dataplane.remove_tables_but(tables)?;
    }
    if let Some(control) = &steps.control {
        dataplane.control.set(&0, control)?;
    }
    dataplane.write_all(&steps.table)
}
