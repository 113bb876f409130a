//! Which programs the links of an instance hold: the root program, or the only program of its chain
//! (`chain/direct.rs` says when).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;

use crate::instance::Instance;
use crate::instance::chain::pins;
use crate::instance::own_programs::CHAIN;
use crate::instance::own_programs::CHAIN_MAPS;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::kernel::bpf;
use crate::kernel::bpf::ProgramInfo;
use crate::kernel::objects::Kind;
use crate::kernel::objects::kind;

/// The kernel's name for the root program.
const ROOT_FUNCTION: &str = "l4lb_root";

/// Whether a program has a map of this kernel name.
pub(crate) fn has_map(info: &ProgramInfo, map: &str) -> bool {
    map_of(info, map).is_some()
}

/// The kernel's id of a program's map of this name.
pub(crate) fn map_of(info: &ProgramInfo, map: &str) -> Option<u32> {
    let is_it = |id: &u32| MapHandle::from_map_id(*id).is_ok_and(|found| found.name() == map);
    info.maps.iter().copied().find(is_it)
}

/// Whether this is a root program of any instance and build. Programs in a chain are no root programs.
pub(crate) fn is_root(info: &ProgramInfo) -> bool {
    info.name == ROOT_FUNCTION && is_of_chain(info)
}

/// Whether this is a root program or one of a chain, of any instance and build. Such programs are what links of
/// instances hold.
pub(crate) fn is_of_chain(info: &ProgramInfo) -> bool {
    info.is_xdp && CHAIN_MAPS.iter().all(|map| has_map(info, map))
}

/// The name of a program, if it is one of ours. Other programs may have functions of the same name.
pub(crate) fn own_name(info: &ProgramInfo) -> Option<&str> {
    let own = OwnProgram::named(&info.name)?;
    has_map(info, own.mark()).then_some(&info.name)
}

/// Whether an instance, of whatever bpf filesystem, holds this program on interfaces.
pub(crate) fn is_of_some_instance(info: &ProgramInfo) -> bool {
    let has_root =
        |chain: u32| bpf::programs().any(|other| other.maps.contains(&chain) && is_root(&other));
    is_of_chain(info)
        && (is_root(info) || own_name(info).is_some() || map_of(info, CHAIN).is_some_and(has_root))
}

/// Whether this is a program of the instance: its root program, or one that shares its chain.
pub(crate) fn is_of_instance(instance: &Instance, info: &ProgramInfo) -> bool {
    pinned_root(instance).is_some_and(|root| root.id == info.id)
        || pinned_chain(instance).is_some_and(|chain| info.maps.contains(&chain))
}

/// The kernel's id of the map of programs that is pinned.
fn pinned_chain(instance: &Instance) -> Option<u32> {
    let chain = bpf::pinned(&instance.map(CHAIN)).ok()?;
    match kind(chain.as_fd()) {
        Ok(Kind::Map(id)) => Some(id),
        _ => None,
    }
}

/// The pinned root program; `None`: none is pinned, or something else is.
pub(crate) fn pinned_root(instance: &Instance) -> Option<ProgramInfo> {
    pinned_program(instance, ROOT).filter(is_root)
}

fn pinned_program(instance: &Instance, pin: &str) -> Option<ProgramInfo> {
    let program = bpf::pinned(&instance.program(pin)).ok()?;
    matches!(kind(program.as_fd()), Ok(Kind::Program(_))).then_some(())?;
    bpf::program_info(program.as_fd()).ok()
}

/// Opens the pin of one of our links; `None`: it is gone, or it is something else, such as a foreign link.
pub(crate) fn pinned_link(path: &Path) -> io::Result<Option<OwnedFd>> {
    pinned_link_of(path, &mut BTreeMap::new())
}

/// The same, for several pins: `known` says of programs whether they are ours, by the kernel's ids.
pub(super) fn pinned_link_of(
    path: &Path,
    known: &mut BTreeMap<u32, bool>,
) -> io::Result<Option<OwnedFd>> {
    if !path.is_file() {
        return Ok(None);
    }
    match bpf::pinned(path) {
        Ok(link) => {
            if kind(link.as_fd())? != Kind::XdpLink {
                return Ok(None);
            }
            let id = bpf::link_info(link.as_fd())?.program;
            let is_ours = match known.get(&id) {
                Some(is_ours) => *is_ours,
                None => is_of_chain(&bpf::program_info(bpf::program_by_id(id)?.as_fd())?),
            };
            known.insert(id, is_ours);
            Ok(is_ours.then_some(link))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The programs of all pinned links.
pub(crate) fn linked_programs(instance: &Instance) -> BTreeSet<u32> {
    let pins = instance.links().unwrap_or_default().into_iter();
    let links = pins.filter_map(|pin| pinned_link(&instance.link(&pin)).ok()?);
    links.filter_map(|link| Some(bpf::link_info(link.as_fd()).ok()?.program)).collect()
}

/// The programs that links of an instance may hold, also if neither they nor the links are pinned: its root programs,
/// and those of its chain that `lbctl` has loaded. A program that somebody else has loaded may be on an interface by
/// a link of that loader's.
pub(crate) fn linkable(instance: &Instance) -> BTreeSet<u32> {
    let mut known: Vec<_> = linked_programs(instance)
        .into_iter()
        .filter_map(|id| bpf::program_info(bpf::program_by_id(id).ok()?.as_fd()).ok())
        .collect();
    known.extend(pinned_root(instance));
    let mut chains: BTreeSet<_> = known.iter().filter_map(|info| map_of(info, CHAIN)).collect();
    chains.extend(pinned_chain(instance));
    let objects = pins::pins(instance).into_iter().filter(|pin| instance.object(pin).exists());
    known.extend(objects.filter_map(|pin| pinned_program(instance, &pin)));
    let shares = |info: &ProgramInfo| info.maps.iter().any(|map| chains.contains(map));
    known.extend(
        bpf::programs().filter(|info| {
            info.is_xdp && shares(info) && (is_root(info) || own_name(info).is_some())
        }),
    );
    known.into_iter().filter(is_of_chain).map(|info| info.id).collect()
}
