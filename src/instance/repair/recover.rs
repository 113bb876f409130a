//! Pins again what runs.

use std::cell::LazyCell;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::LostPin;
use super::LostPins;
use super::Object;
use super::look;
use crate::instance::Instance;
use crate::instance::PARTS;
use crate::instance::chain::direct;
use crate::instance::chain::pins::base;
use crate::instance::chain::pins::pins;
use crate::instance::folders;
use crate::instance::linked;
use crate::instance::linked::own_name;
use crate::instance::linked::pinned_link;
use crate::instance::links;
use crate::instance::own_programs::CHAIN;
use crate::instance::own_programs::CHAIN_MAPS;
use crate::instance::own_programs::ROOT;
use crate::instance::pin_error;
use crate::instance::programs;
use crate::instance::remove_pin;
use crate::kernel::bpf;
use crate::kernel::maps;
use crate::kernel::maps::ProgramArray;
use crate::kernel::objects;
use crate::kernel::objects::Kind;
use crate::kernel::objects::kind;
use crate::model::error::Result;

/// How often the chain must be found intact, how often it is checked at most, and after which pause.
const QUIET_LOOKS: u32 = 30;
const MOST_LOOKS: u32 = 200;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Pins again what runs, and puts programs back into the chain. Returns what was lost, and what still is lost because
/// the kernel has freed it.
///
/// The caller holds the lock of the instance. If this is interrupted at any point, the next call finds the rest.
pub(crate) fn recover(instance: &Instance) -> Result<(LostPins, LostPins)> {
    PARTS.iter().try_for_each(|part| folders::make(&instance.dir().join(part)))?;
    pin_links(instance)?;
    if linked::pinned_root(instance).is_none() && linked::linked_programs(instance).is_empty() {
        // No root program runs, even if something is pinned there.
        remove_pin(&instance.program(ROOT))?;
    }
    let lost = look(instance)?;
    // If one pin fails, the others are still pinned.
    let mut failed = Ok(());
    for pin in &lost.pins {
        failed = failed.and(pin_again(instance, pin));
    }
    if !lost.is_empty() {
        failed = failed.and(remove_other_names(instance));
    }
    put_back(instance, &lost)?;
    if lost.has(&format!("map/{CHAIN}")) {
        outlast_emptying(instance)?;
    }
    failed?;
    let left = if lost.is_empty() { LostPins::default() } else { look(instance)? };
    if !lost.is_empty() && left.is_empty() {
        // The command that comes next will say what is wrong.
        let _ = direct::settle(instance);
    }
    Ok((lost, left))
}

fn pin_again(instance: &Instance, lost: &LostPin) -> Result<()> {
    let Some(object) = lost.object else { return Ok(()) };
    let path = instance.dir().join(&lost.pin);
    let open = |source| pin_error("open again what belongs to", &path, source);
    let object = match object {
        Object::Root => return load_root_again(instance, &path),
        Object::Program(id) => bpf::program_by_id(id).map_err(open)?,
        Object::Map(id) => objects::map_by_id(id).map_err(open)?,
    };
    // The folder of the maps of another program.
    if let Some(folder) = path.parent() {
        if folder.is_file() {
            remove_pin(folder)?;
        }
        folders::make(folder)?;
    }
    remove_pin(&path)?;
    bpf::pin(object.as_fd(), &path).map_err(|source| pin_error("pin", &path, source))
}

/// Loads the root program again. While links hold the only program of the chain themselves, its pin alone holds the
/// root program, so that the kernel frees it with the pin.
fn load_root_again(instance: &Instance, path: &Path) -> Result<()> {
    // Without these pins, it would get a chain of its own.
    for map in CHAIN_MAPS.map(|map| instance.map(map)) {
        maps::open(&map)?;
    }
    remove_pin(path)?;
    let root = programs::load_root(instance)?;
    bpf::pin(root.as_fd(), path).map_err(|source| pin_error("pin", path, source))
}

/// Removes pins of our programs under other names: it would be unclear which one counts.
fn remove_other_names(instance: &Instance) -> Result<()> {
    for pin in pins(instance) {
        let path = instance.program(&pin);
        let Ok(program) = bpf::pinned(&path) else { continue };
        if let Ok(Kind::Program(_)) = kind(program.as_fd())
            && let Ok(info) = bpf::program_info(program.as_fd())
            && own_name(&info).is_some_and(|name| name != base(&pin))
        {
            remove_pin(&path)?;
        }
    }
    Ok(())
}

/// Puts programs back until the chain stays intact. The kernel empties an array some time after its last pin is gone,
/// even if the array has been pinned again since.
fn outlast_emptying(instance: &Instance) -> Result<()> {
    let mut looks = 0;
    for _ in 0..MOST_LOOKS {
        thread::sleep(BETWEEN_LOOKS);
        let lost = look(instance)?;
        put_back(instance, &lost)?;
        looks = if lost.slots.is_empty() { looks + 1 } else { 0 };
        if looks == QUIET_LOOKS {
            break;
        }
    }
    Ok(())
}

/// Puts programs back into their slots, beginning with the last one: each program then leads to all behind it.
fn put_back(instance: &Instance, lost: &LostPins) -> Result<()> {
    if lost.slots.is_empty() {
        return Ok(());
    }
    let chain = ProgramArray::open(&instance.map(CHAIN))?;
    let mut slots = lost.slots.clone();
    slots.sort_by_key(|(slot, _)| std::cmp::Reverse(*slot));
    for (slot, name) in slots {
        let pin = instance.program(&name);
        let program = bpf::pinned(&pin).map_err(|source| pin_error("open", &pin, source))?;
        chain.set(slot, program.as_fd())?;
    }
    Ok(())
}

/// Removes what is not a link from the folder of links, and pins our links whose pins were moved elsewhere.
fn pin_links(instance: &Instance) -> Result<()> {
    let mut known = Vec::new();
    for pin in instance.links()? {
        let path = instance.link(&pin);
        match pinned_link(&path).map_err(|source| pin_error("open", &path, source))? {
            None => remove_pin(&path)?,
            Some(link) => known.extend(bpf::link_info(link.as_fd()).ok().map(|info| info.ifindex)),
        }
    }
    let programs = LazyCell::new(|| linked::linkable(instance));
    for (link, info) in bpf::xdp_links().collect::<Vec<_>>() {
        let ifindex = info.ifindex;
        if ifindex == 0 || known.contains(&ifindex) || !programs.contains(&info.program) {
            continue;
        }
        // An index in another network namespace may belong to another interface.
        let runs = bpf::attached(ifindex).ok().flatten();
        let (Some(name), true) =
            (links::interface_name(ifindex), runs.is_some_and(|runs| runs.program == info.program))
        else {
            continue;
        };
        let pin = instance.link(&name);
        remove_pin(&pin)?;
        bpf::pin(link.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))?;
    }
    Ok(())
}
