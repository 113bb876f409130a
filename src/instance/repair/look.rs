//! Compares what runs with what is pinned, and lists the pins that are lost.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;

use super::LostPin;
use super::LostPins;
use super::Object;
use crate::instance::Instance;
use crate::instance::chain::names::free_name;
use crate::instance::chain::objects::KEPT;
use crate::instance::chain::objects::Objects;
use crate::instance::chain::pins::GONE;
use crate::instance::chain::pins::NEXT;
use crate::instance::chain::pins::base;
use crate::instance::chain::pins::pins;
use crate::instance::chain::place;
use crate::instance::linked;
use crate::instance::linked::own_name;
use crate::instance::own_programs::CHAIN;
use crate::instance::own_programs::CHAIN_MAPS;
use crate::instance::own_programs::CHAIN_NEXT;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::instance::programs::is_own_data;
use crate::instance::programs::pin_name;
use crate::kernel::bpf;
use crate::kernel::bpf::ProgramInfo;
use crate::kernel::maps;
use crate::kernel::maps::Map;
use crate::kernel::maps::ProgramArray;
use crate::kernel::objects::Kind;
use crate::kernel::objects::kind;
use crate::model::abi::consts;
use crate::model::error::Result;

/// How many bytes of a name the kernel keeps.
const KERNEL_NAME: usize = 15;

/// Finds the lost pins of an instance; none, if it does not run.
pub(crate) fn look(instance: &Instance) -> Result<LostPins> {
    let mut look = Look {
        instance,
        found: LostPins { instance: instance.name().to_owned(), ..LostPins::default() },
        direct: BTreeSet::new(),
    };
    look.all()?;
    look.found.pins.sort_by(|a, b| a.pin.cmp(&b.pin));
    Ok(look.found)
}

/// What is at the place of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinned {
    Nothing,
    This(Object),
    Other,
}

fn pinned(path: &Path) -> Pinned {
    if !path.is_file() {
        let is_there = fs::symlink_metadata(path).is_ok();
        return if is_there { Pinned::Other } else { Pinned::Nothing };
    }
    let Ok(pin) = bpf::pinned(path) else {
        return if path.exists() { Pinned::Other } else { Pinned::Nothing };
    };
    match kind(pin.as_fd()) {
        Ok(Kind::Map(id)) => Pinned::This(Object::Map(id)),
        Ok(Kind::Program(id)) => Pinned::This(Object::Program(id)),
        _ => Pinned::Other,
    }
}

/// What the kernel says about a program; `None`: it is gone.
fn program(id: u32) -> Option<ProgramInfo> {
    bpf::program_by_id(id).and_then(|program| bpf::program_info(program.as_fd())).ok()
}

/// The maps of a program, by their kernel names. Leaves out those that are gone.
fn maps_of(program: &ProgramInfo) -> Vec<(u32, MapHandle)> {
    let open = |id: &u32| Some((*id, MapHandle::from_map_id(*id).ok()?));
    program.maps.iter().filter_map(open).collect()
}

struct Look<'i> {
    instance: &'i Instance,
    found: LostPins,
    /// The programs of the chain that links hold themselves. They get packets whether or not they are in a slot.
    direct: BTreeSet<u32>,
}

/// A program that runs, or would run.
struct Running {
    name: String,
    /// The pin says that a command is working on it.
    begun: bool,
    info: ProgramInfo,
}

impl Look<'_> {
    fn all(&mut self) -> Result<()> {
        let Some(root) = self.first() else {
            // In this case nothing is attached. The next command that sets up the instance removes the leftovers.
            return Ok(());
        };
        let mut chain = None;
        let mut next = None;
        for (id, map) in maps_of(&root) {
            let name = map.name().to_string_lossy().into_owned();
            match name.as_str() {
                CHAIN => chain = Some(ProgramArray::new(map)),
                CHAIN_NEXT => next = Some(Map::<u32, u32>::new(map)?),
                _ => continue,
            }
            self.expect(format!("map/{name}"), Some(Object::Map(id)));
        }
        let (Some(chain), Some(next)) = (chain, next) else { return Ok(()) };
        let slots = (0..consts::CHAIN_SLOTS).map(|slot| Ok(chain.id_at(slot)?));
        let slots = slots.collect::<Result<Vec<_>>>()?;
        let running = self.programs(&slots);
        self.passed_by(&slots, &running, &next)?;
        for program in &running {
            if let Some(own) = OwnProgram::named(&program.name) {
                self.found.has_balancer |= own == OwnProgram::Balancer;
                self.found.has_decap |= own == OwnProgram::Decap;
                self.own_maps(own, program);
            } else {
                self.found.has_others = true;
                self.maps_of_others(program);
            }
        }
        self.balancer_without_program(&running);
        Ok(())
    }

    /// Notes the pin as lost if it does not hold this object. `None`: nothing holds the object any more.
    fn expect(&mut self, pin: String, object: Option<Object>) {
        let pinned = pinned(&self.instance.dir().join(&pin));
        let is_well = match (pinned, object) {
            (Pinned::This(pinned), Some(object)) => pinned == object,
            (Pinned::This(Object::Map(_)), None) => true,
            _ => false,
        };
        if !is_well && !self.found.pins.iter().any(|lost| lost.pin == pin) {
            let replaced = pinned != Pinned::Nothing;
            let of_decap =
                OwnProgram::Decap.maps().iter().any(|map| pin.strip_prefix("map/") == Some(map));
            let held = object.is_some();
            self.found.pins.push(LostPin { pin, replaced, held, object, of_decap });
        }
    }

    /// The program that tells the chain: the root program, found by its pin or by a link, or else a program that a
    /// link holds itself.
    fn first(&mut self) -> Option<ProgramInfo> {
        let pinned = linked::pinned_root(self.instance);
        let linked = linked::linked_programs(self.instance).into_iter().filter_map(program);
        let (attached, direct): (Vec<_>, Vec<_>) = linked.partition(linked::is_root);
        self.direct = direct.iter().map(|info| info.id).collect();
        let chain = direct.first().and_then(|info| linked::map_of(info, CHAIN));
        let fits = |root: &ProgramInfo| chain.is_none_or(|chain| root.maps.contains(&chain));
        // The attached program is the one that runs, whatever is pinned.
        let is_attached =
            pinned.as_ref().is_some_and(|root| attached.iter().any(|other| other.id == root.id));
        let root = if is_attached {
            pinned
        } else {
            attached.into_iter().next().or_else(|| pinned.filter(fits))
        };
        let object = root.as_ref().map_or(Object::Root, |root| Object::Program(root.id));
        let first = root.or_else(|| direct.into_iter().next())?;
        self.expect(format!("prog/{ROOT}"), Some(object));
        Some(first)
    }

    /// The programs in slots, and the pinned ones. Notes those in slots that have no pin.
    fn programs(&mut self, slots: &[Option<u32>]) -> Vec<Running> {
        let mut in_slot: BTreeSet<u32> = slots.iter().copied().flatten().collect();
        in_slot.extend(&self.direct);
        let mut named = BTreeMap::new();
        for pin in pins(self.instance) {
            let Pinned::This(Object::Program(id)) = pinned(&self.instance.program(&pin)) else {
                continue;
            };
            let Some(info) = program(id) else { continue };
            // If not, somebody has pinned another program in place of ours, or ours under another name.
            let fits = match own_name(&info) {
                Some(name) => name == base(&pin),
                None => OwnProgram::named(base(&pin)).is_none(),
            };
            if fits {
                named.insert(pin, info);
            }
        }
        let ids: BTreeSet<u32> = named.values().map(|info| info.id).collect();
        let mut running: Vec<Running> = Vec::new();
        // Of several programs of a name, one in a slot comes first: a program that a command has just replaced is in no
        // slot.
        let mut order: Vec<_> = named.iter().collect();
        order.sort_by_key(|(_, info)| !in_slot.contains(&info.id));
        for (pin, info) in order {
            let (name, begun) = (base(pin).to_owned(), base(pin) != pin);
            let is_in_slot = in_slot.contains(&info.id);
            if (!begun || is_in_slot) && !running.iter().any(|other| other.name == name) {
                running.push(Running { name, begun, info: info.clone() });
            }
        }
        for id in in_slot.difference(&ids) {
            let Some(info) = program(*id) else { continue };
            let is_copy = |(pin, other): (&String, &ProgramInfo)| {
                own_name(&info) == Some(base(pin))
                    || (&other.name, other.tag) == (&info.name, info.tag)
            };
            // A command that moved the program of this name was killed.
            if named.iter().any(is_copy) {
                continue;
            }
            let name = self.name_of(&info, &named);
            self.expect(format!("prog/{name}"), Some(Object::Program(*id)));
            running.push(Running { name, begun: false, info });
        }
        running
    }

    /// The former name of a program that has no pin any more.
    fn name_of(&self, info: &ProgramInfo, named: &BTreeMap<String, ProgramInfo>) -> String {
        if let Some(name) = own_name(info) {
            return name.to_owned();
        }
        let objects = Objects::new(self.instance);
        for name in objects.names() {
            let has_pin = named.keys().any(|pin| base(pin) == name);
            if let (false, Ok(Some(object))) = (has_pin, objects.read(&name))
                && is_kernel_name(&info.name, object.program())
            {
                return name;
            }
        }
        free_name(self.instance, &info.name)
    }

    /// Notes the programs that have a pin but no slot, if the chain still shows which slot they had.
    fn passed_by(
        &mut self,
        slots: &[Option<u32>],
        running: &[Running],
        next: &Map<u32, u32>,
    ) -> Result<()> {
        let is_in_slot = |program: &&Running| slots.contains(&Some(program.info.id));
        let begun = |program: &&Running| {
            let pin = |state| self.instance.program(&format!("{}{state}", program.name)).exists();
            program.begun || pin(NEXT) || pin(GONE)
        };
        if running.iter().all(|program| is_in_slot(&program)) {
            return Ok(());
        }
        // Each program leads to the next one in the chain's order. The last one may lead nowhere.
        let mut order = Vec::new();
        for program in running {
            let place = place::of(program.info.id)?.filter(|place| *place < consts::CHAIN_SLOTS);
            let behind = match place {
                Some(place) => next.get(&(place + 1))?.unwrap_or(consts::CHAIN_SLOTS),
                None => u32::MAX,
            };
            order.push((behind, place, program));
        }
        order.sort_by_key(|(behind, ..)| *behind);
        let mut led_to = next.get(&0)?.unwrap_or(consts::CHAIN_SLOTS);
        for (behind, place, program) in order {
            let by_order = std::mem::replace(&mut led_to, behind);
            if is_in_slot(&program) || begun(&program) {
                continue;
            }
            let is_free = |slot: u32| slots.get(slot as usize).is_some_and(Option::is_none);
            // If another program is missing, the order differs from that of the slots.
            let is_anothers =
                |slot: u32| OwnProgram::of_slot(slot).is_some_and(|own| own.name() != program.name);
            let slot = Some(by_order).filter(|slot| is_free(*slot) && !is_anothers(*slot));
            if let Some(slot) = slot.or(place.filter(|place| is_free(*place))) {
                if !self.direct.contains(&program.info.id) {
                    self.found.passed_by.push(program.name.clone());
                }
                self.found.slots.push((slot, program.name.clone()));
            }
        }
        Ok(())
    }

    /// The maps of one of our programs: those that it holds, and those that it should hold.
    fn own_maps(&mut self, own: OwnProgram, program: &Running) {
        let Some(version) = own.version() else { return };
        let mut held = BTreeSet::new();
        for (id, map) in maps_of(&program.info) {
            let Some(name) = pin_name(map.name()) else { continue };
            if !CHAIN_MAPS.contains(&name.as_str()) {
                self.expect(format!("map/{name}"), Some(Object::Map(id)));
                held.insert(name);
            }
        }
        // Another build has other maps.
        if matches!(self.version(version), Some(version) if version != 0 && version != consts::ABI_VERSION)
        {
            return;
        }
        for name in own.maps().iter().filter(|name| !held.contains(**name)) {
            self.expect(format!("map/{name}"), None);
        }
    }

    /// The ABI version in a map's first word.
    fn version(&self, map: &str) -> Option<u32> {
        let path = self.instance.map(map);
        matches!(pinned(&path), Pinned::This(Object::Map(_))).then_some(())?;
        maps::first_word(&maps::open(&path).ok()?).ok()
    }

    /// The maps of another program that were pinned for it, and its object.
    fn maps_of_others(&mut self, program: &Running) {
        let Running { name, begun, info } = program;
        let maps = maps_of(info);
        let kept = maps.iter().find(|(_, map)| map.name() == KEPT).map(|(id, _)| *id);
        // The process that loaded the program has its maps.
        if *begun || (kept.is_none() && !self.instance.object(name).exists()) {
            return;
        }
        if let Some(kept) = kept {
            self.expect(format!("object/{name}"), Some(Object::Map(kept)));
        }
        let is_cut = |(_, map): &(u32, MapHandle)| map.name().len() >= KERNEL_NAME;
        let names = if maps.iter().any(is_cut) {
            Objects::new(self.instance).map_names(name, kept)
        } else {
            Vec::new()
        };
        for (id, map) in maps {
            let kernels = map.name().to_string_lossy().into_owned();
            if is_own_data(map.name()) || kernels == KEPT || CHAIN_MAPS.contains(&kernels.as_str())
            {
                continue;
            }
            let full = names.iter().find(|full| is_kernel_name(&kernels, full));
            let full = full.cloned().unwrap_or(kernels);
            self.expect(format!("map/{name}/{full}"), Some(Object::Map(id)));
        }
    }

    /// Notes that the balancer's maps exist, but no program that uses them.
    fn balancer_without_program(&mut self, running: &[Running]) {
        let balancer = OwnProgram::Balancer;
        let version = balancer.version().and_then(|map| self.version(map));
        if version == Some(consts::ABI_VERSION)
            && !running.iter().any(|program| program.name == balancer.name())
        {
            self.found.has_balancer = true;
            self.expect(format!("prog/{}", balancer.name()), None);
        }
    }
}

/// Whether the kernel's name is the truncated form of this name.
fn is_kernel_name(kernels: &str, name: &str) -> bool {
    kernels.as_bytes() == &name.as_bytes()[..name.len().min(KERNEL_NAME)]
}
