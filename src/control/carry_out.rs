//! Carrying a plan out: attaching first, then the program, then the maps.

use std::os::fd::AsFd;

use crate::control::options::OnUnserved;
use crate::control::unserved;
use crate::dataplane::Dataplane;
use crate::dataplane::balancer::open_dataplane;
use crate::instance::Instance;
use crate::instance::chain::adopt::Attaching;
use crate::instance::chain::slots::Chain;
use crate::instance::links::follow_names;
use crate::instance::links::remove_link;
use crate::instance::own_programs::OwnProgram;
use crate::instance::programs;
use crate::instance::programs::Loaded;
use crate::kernel::maps;
use crate::model::error::Result;
use crate::plan::Plan;
use crate::plan::Steps;

/// Carries a plan out. Leaves out interfaces that turn out not to be servable, and notes them in the plan, unless
/// `on_unserved` makes that an error.
pub(crate) fn carry_out(
    instance: &Instance,
    plan: &mut Plan,
    adopt: Option<u32>,
    on_unserved: OnUnserved,
    announce: impl FnOnce(&Plan),
) -> Result<()> {
    let chain = Chain::open_or_create(instance)?;
    if adopt.is_some() {
        chain.settle()?;
    }
    follow_names(instance)?;
    // Attaching is most likely to fail, so it comes first. An interface without an entry passes its packets on.
    let done = Attaching::or_undo(instance, &chain, |attaching| {
        attach_all(instance, &chain, attaching, plan, adopt, on_unserved)?;
        announce(plan);
        program(instance, &chain, attaching, plan, on_unserved)
    });
    done.map_err(|error| match &plan.memory {
        Some(memory) => memory.explain(error),
        None => error,
    })
}

/// Attaches to as many interfaces of the plan as possible.
fn attach_all(
    instance: &Instance,
    chain: &Chain,
    attaching: &mut Attaching,
    plan: &mut Plan,
    adopt: Option<u32>,
    on_unserved: OnUnserved,
) -> Result<()> {
    if on_unserved == OnUnserved::Fail {
        return attaching.attach(instance, chain, &plan.steps.interfaces(), adopt);
    }
    let mut first = None;
    for to in plan.steps.attach.clone() {
        match attaching.attach(instance, chain, &[to.target()], adopt) {
            Err(error) if error.is_of_interface() => {
                plan.leave_out(to.ifindex, &error);
                first.get_or_insert(error);
            }
            done => done?,
        }
    }
    match first {
        Some(error) if on_unserved == OnUnserved::LeaveOut && plan.serves_nothing() => Err(error),
        _ => Ok(()),
    }
}

/// Writes the entries of the interfaces. The map may have no place left for one.
fn set_entries(
    instance: &Instance,
    chain: &Chain,
    attaching: &mut Attaching,
    plan: &mut Plan,
    dataplane: &Dataplane,
    on_unserved: OnUnserved,
) -> Result<()> {
    for entry in plan.steps.entries.clone() {
        match dataplane.set_interface(&entry) {
            Err(error) if on_unserved != OnUnserved::Fail && error.is_of_interface() => {
                attaching.undo_of(instance, chain, entry.ifindex);
                plan.leave_out(entry.ifindex, &error);
            }
            done => done?,
        }
    }
    Ok(())
}

/// Loads the program and writes the maps.
fn program(
    instance: &Instance,
    chain: &Chain,
    attaching: &mut Attaching,
    plan: &mut Plan,
    on_unserved: OnUnserved,
) -> Result<()> {
    let steps = &plan.steps;
    if open_dataplane(instance)?.is_none() {
        OwnProgram::Balancer.remove_maps(instance)?;
    }
    let (slot, place) = chain.home(OwnProgram::Balancer)?;
    let load = |knobs| programs::load_balancer(Some(instance), place, knobs);
    let loaded = steps.replace_program.then(|| load(&steps.knobs)).transpose()?;
    let until_written = steps.until_written.as_ref().map(load).transpose()?;
    let dataplane = Dataplane::open(instance)?;
    let before = dataplane.read_interfaces()?;
    let first = until_written.as_ref().or(loaded.as_ref());
    let first = first.map(|loaded| (slot, loaded));
    let entries = steps.entries.clone();
    let done = set_entries(instance, chain, attaching, plan, &dataplane, on_unserved)
        .and_then(|()| write(&dataplane, chain, &plan.steps, first));
    if done.is_err() {
        for entry in &entries {
            match before.iter().find(|before| before.ifindex == entry.ifindex) {
                Some(before) => dataplane.set_interface(before)?,
                None => dataplane.remove_interface(entry.ifindex)?,
            }
        }
    }
    done?;
    if let Some(last) = loaded.as_ref().filter(|_| until_written.is_some()) {
        chain.put(slot, last.program.as_fd(), OwnProgram::Balancer.name())?;
    }
    // The record comes after the entries. If the process is killed in between, the record may list an interface that is
    // served, but it never misses one.
    if let Err(error) = unserved::write(instance, &plan.records()) {
        // Everything else is in force and must not be undone.
        tracing::warn!("status cannot show which interfaces are not served: {error}");
    }
    for name in &plan.steps.detach {
        remove_link(&instance.link(name))?;
    }
    for entry in &plan.steps.remove_entries {
        dataplane.remove_interface(entry.ifindex)?;
    }
    Ok(())
}

/// Writes the maps, except the entries of the interfaces, which are written already. The new program gets the packets
/// before rings change. Every flow that was in use until then has an entry; other flows go where they went before.
fn write(
    dataplane: &Dataplane,
    chain: &Chain,
    steps: &Steps,
    loaded: Option<(u32, &Loaded)>,
) -> Result<()> {
    let running = &steps.running_tables;
    let tables = steps.tables.as_ref().unwrap_or(running);
    if steps.stray_tables {
        dataplane.release_claims(running)?;
    }
    let since = dataplane.prepare_tables(running, tables, &steps.knobs, &steps.nodes)?;
    if let Some((slot, loaded)) = loaded {
        chain.put(slot, loaded.program.as_fd(), OwnProgram::Balancer.name())?;
        if steps.tables.is_some() && !running.own.is_empty() {
            maps::wait_for_packets()?;
            // The new program already has the packets, so finish the rest of the change even if this fails.
            if let Err(error) = dataplane.copy_latest_flows(running, tables, &steps.knobs, since) {
                tracing::warn!(
                    "flows that began while the connection tables were replaced may move; all others were copied: \
                     {error}"
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
