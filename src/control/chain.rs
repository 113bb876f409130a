//! The chain: the programs that share the interfaces of an instance. They run in the order of their slots.
//!
//! `include/l4lb/chain.h` is the contract for the programs; this is its control side. The balancer, decapsulation and
//! captures are in the chain like any other program.
//!
//! ```no_run
//! use l4lb::Instance;
//! use l4lb::chain;
//!
//! # fn main() -> l4lb::Result<()> {
//! let instance = Instance::default();
//! let options = chain::InsertOptions { interfaces: vec!["eth0".to_owned()], ..Default::default() };
//! chain::insert(&instance, 4, "drop_list.bpf.o".as_ref(), &options)?;
//! for program in chain::list(&instance)? {
//!     println!("{}: {} (id {})", program.slot, program.name, program.id);
//! }
//! # Ok(())
//! # }
//! ```

use crate::instance::chain::place;
use crate::observe::chain;
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;

use nix::sys::statfs::BPF_FS_MAGIC;
use nix::sys::statfs::statfs;

use crate::dataplane::balancer;
use crate::dataplane::decap;
use crate::dataplane::interfaces::decapsulated_interfaces;
use crate::dataplane::interfaces::refuse_other_mode;
use crate::dataplane::interfaces::served_interfaces;
use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::chain::adopt::Attaching;
use crate::instance::chain::adopt::refuse_foreign_programs;
use crate::instance::chain::check_slot;
use crate::instance::chain::direct;
use crate::instance::chain::is_needed_without;
use crate::instance::chain::names::check_name;
use crate::instance::chain::objects::Object;
use crate::instance::chain::objects::Objects;
use crate::instance::chain::others;
use crate::instance::chain::refuse_behind_end;
use crate::instance::chain::refuse_end_before_own;
use crate::instance::chain::slots::Chain;
use crate::instance::links;
use crate::instance::own_programs::OwnProgram;
use crate::instance::programs as own;
use crate::instance::remove_pin;
use crate::instance::repair;
use crate::instance::set_up::set_up;
use crate::kernel::bpf;
use crate::kernel::netlink;
use crate::model::abi::consts;
use crate::model::config::XdpMode;
pub use crate::model::error::ChainError;
use crate::model::error::Result;
use crate::model::text::quote;
pub use crate::observe::chain::OnInterface;
pub use crate::observe::chain::Origin;
pub use crate::observe::chain::SlotStatus;
pub use crate::observe::chain::interfaces;
pub use crate::observe::chain::list;

/// How a program is put into the chain. By default it gets the name of its file, and runs on the interfaces that the
/// instance has.
#[derive(Clone, Debug, Default)]
pub struct InsertOptions {
    /// The program's name in the chain; `None`: the file's name up to the first dot.
    pub name: Option<String>,
    /// The C function of the program, if the object has several programs.
    pub program: Option<String>,
    /// Interfaces to attach the root program to, unless it is attached already.
    pub interfaces: Vec<String>,
    /// The XDP mode on these interfaces.
    pub mode: XdpMode,
    /// The slot for the XDP program that such an interface has already; `None`: that is an error.
    pub adopt: Option<u32>,
}

/// Which program of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one in this slot.
    Slot(u32),
    /// The one of this name.
    Name(String),
}

impl FromStr for Which {
    type Err = std::convert::Infallible;

    /// A number is a slot, as names begin with a letter.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Slot))
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "in slot {slot}"),
            Self::Name(name) => write!(f, "'{}'", quote(name)),
        }
    }
}

/// What is to be inserted.
enum Source {
    Object(Object),
    Pinned(OwnedFd),
}

impl Source {
    fn open(path: &Path, program: Option<&str>) -> Result<Self> {
        if statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC) {
            let program = bpf::pinned(path)
                .map_err(|source| ChainError::Read { path: path.to_owned(), source })?;
            return Ok(Self::Pinned(program));
        }
        Object::read(path, program).map(Self::Object)
    }
}

/// Puts a program into a slot of the chain. `source` is an object file that was built against `include/l4lb/chain.h`,
/// or a pinned program that follows the contract and shares this chain's maps.
///
/// If this slot has a program of the same name, it is replaced in one step, and a program from an object keeps the maps
/// of its predecessor. Otherwise the slot must be empty. Slots are 1 to 15: captures have slot 0.
///
/// Errors leave the chain as it was.
pub fn insert(
    instance: &Instance,
    slot: u32,
    source: &Path,
    options: &InsertOptions,
) -> Result<SlotStatus> {
    instance.check_host()?;
    check_slot(slot, "programs")?;
    let name = options.name.clone().unwrap_or_else(|| default_name(source));
    check_name(&name)?;
    let program = Source::open(source, options.program.as_deref())?;
    let interfaces: Vec<_> = options
        .interfaces
        .iter()
        .map(|name| Ok(netlink::link_blocking(name)?))
        .collect::<Result<_>>()?;
    let interfaces: Vec<_> =
        interfaces.iter().map(|link| (link.name.as_str(), link.index, options.mode)).collect();
    let ((), _lock) = set_up(
        instance,
        || refuse_foreign_programs(instance, &interfaces, options.adopt),
        || insert_locked(instance, slot, &name, &program, &interfaces, options.adopt),
    )?;
    chain::find(instance, &name)
}

fn default_name(source: &Path) -> String {
    let file = source.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().to_owned()
}

fn insert_locked(
    instance: &Instance,
    slot: u32,
    name: &str,
    source: &Source,
    interfaces: &[(&str, u32, XdpMode)],
    adopt: Option<u32>,
) -> Result<()> {
    if interfaces.is_empty() && links::links(instance)?.is_empty() {
        return Err(ChainError::NoInterface { instance: instance.name().to_owned() }.into());
    }
    for (interface, ifindex, mode) in interfaces {
        refuse_other_mode(instance, interface, *ifindex, *mode)?;
    }
    repair::recover(instance)?;
    let chain = Chain::open_or_create(instance)?;
    chain.settle()?;
    chain.refuse_taken(slot, name)?;
    let running = chain.slot_of(name)?;
    if let Some(slot) = running.filter(|running| *running != slot) {
        return Err(ChainError::NameTaken { name: name.to_owned(), slot }.into());
    }
    if adopt == Some(slot) {
        let what = "the program that is taken over as well as the one that is inserted";
        return Err(ChainError::NoSlot { slot, what }.into());
    }
    refuse_foreign_programs(instance, interfaces, adopt)?;
    let objects = Objects::new(instance);
    let done = Attaching::or_undo(instance, &chain, |attaching| {
        let (program, maps) = load(instance, &chain, slot, name, source)?;
        attaching.attach(instance, &chain, interfaces, adopt)?;
        chain.put_settled(slot, program.as_fd(), name)?;
        if let Source::Pinned(_) = source {
            // The object that an earlier program of this name was loaded from is not what runs now.
            remove_pin(&instance.object(name))?;
        }
        objects.remove_maps_but(name, &maps)
    });
    if done.is_err() {
        chain.settle()?;
    }
    done
}

/// Loads the program for the slot, or checks a pinned one. Also returns the names of its maps.
fn load(
    instance: &Instance,
    chain: &Chain,
    slot: u32,
    name: &str,
    source: &Source,
) -> Result<(OwnedFd, BTreeSet<String>)> {
    match source {
        Source::Object(object) => {
            let place = match chain.place_in(slot)? {
                Some(place) => place,
                None => chain.free_place(slot, name)?,
            };
            Objects::new(instance).keep(name, object)?;
            object.load(instance, name, place, None)
        }
        Source::Pinned(program) => {
            let program = own::clone_fd(program.as_fd())?;
            check_pinned(chain, name, &program)?;
            Ok((program, BTreeSet::new()))
        }
    }
}

/// Checks that a program that somebody else has loaded follows the contract.
fn check_pinned(chain: &Chain, name: &str, program: &OwnedFd) -> Result<()> {
    let misfit = |why: String| ChainError::Misfit { program: name.to_owned(), why };
    let Ok(info) = bpf::program_info(program.as_fd()) else {
        return Err(misfit("the pin is not a program".to_owned()).into());
    };
    if !info.is_xdp {
        return Err(misfit("it is not an XDP program".to_owned()).into());
    }
    if let Some(why) = place::misfit(program.as_fd())? {
        return Err(misfit(why).into());
    }
    if !chain.map_ids()?.iter().all(|map| info.maps.contains(map)) {
        let why = "it does not use the maps 'chain' and 'chain_next' of this instance; its loader must share them \
                   (l4lb/chain.h), or load its object with 'lbctl chain insert'";
        return Err(misfit(why.to_owned()).into());
    }
    let place = place::of(info.id)?.filter(|place| *place < consts::CHAIN_SLOTS);
    let Some(place) = place else {
        let why = format!(
            "its l4lb_slot cannot be read, or is out of range; its loader must set it to a number below {}, and load \
             it with BTF",
            consts::CHAIN_SLOTS
        );
        return Err(misfit(why).into());
    };
    if let Some(own) = OwnProgram::of_slot(place) {
        let (name, holder) = (name.to_owned(), own.name().to_owned());
        return Err(ChainError::PlaceTaken { name, place, holder }.into());
    }
    chain.refuse_taken_place(place, name)
}

/// Opens the chain of an instance to change it. Also returns the name and the slot of the program.
fn open(instance: &Instance, which: &Which) -> Result<(Chain, String, u32)> {
    let missing = || ChainError::NoSuchProgram(which.to_string());
    repair::recover(instance)?;
    let chain = Chain::open_existing(instance)?.ok_or_else(missing)?;
    chain.settle()?;
    let found = match which {
        Which::Name(name) => chain.slot_of(name)?.map(|slot| (name.clone(), slot)),
        Which::Slot(slot) => {
            let id = chain.slots()?.get(*slot as usize).copied().flatten();
            let mut names = chain.names()?;
            id.and_then(|id| names.remove(&id)).map(|name| (name, *slot))
        }
    };
    let (name, slot) = found.ok_or_else(missing)?;
    Ok((chain, name, slot))
}

/// Ends the detour by way of the root program that a killed command has left, where the chain has one program only.
/// Locks the instance only if there is something to do, and leaves it to the next call if a command is at work.
#[cfg(feature = "agent")]
pub(crate) fn end_detours(instance: &Instance) -> Result<()> {
    if chain::detours(instance)?.is_empty() {
        return Ok(());
    }
    let Some(_lock) = instance.try_lock_existing()? else { return Ok(()) };
    direct::settle(instance)
}

/// Takes somebody else's program out of the chain, and removes its maps. After the last program, the root program
/// leaves the interfaces. Returns the program's name.
pub fn remove(instance: &Instance, which: &Which) -> Result<String> {
    instance.check_host()?;
    let Some(lock) = instance.lock_existing()? else {
        return Err(ChainError::NoSuchProgram(which.to_string()).into());
    };
    let (chain, name, slot) = open(instance, which)?;
    if let Some(own) = OwnProgram::named(&name) {
        return Err(match own.removed_by() {
            Some(command) => ChainError::OwnProgram { name, command },
            None => ChainError::Capture(name),
        }
        .into());
    }
    if !is_needed_without(instance, &name) {
        links::remove_all(instance, lock)?;
        return Ok(name);
    }
    chain.remove(slot, &name)?;
    leave_interfaces(instance, &lock)?;
    Ok(name)
}

/// Detaches from the interfaces that no program needs.
fn leave_interfaces(instance: &Instance, _lock: &Lock) -> Result<()> {
    if !others(instance).is_empty() {
        return Ok(());
    }
    let mut needed = served_interfaces(instance)?;
    needed.extend(decapsulated_interfaces(instance)?);
    for link in links::links(instance)?.into_values() {
        if !link.index.is_some_and(|ifindex| needed.contains(&ifindex)) {
            links::remove_link(&instance.link(&link.pin))?;
        }
    }
    Ok(())
}

/// Moves a program to another slot, which must be empty.
///
/// If this library loaded the program, every packet meets it; a packet that is being processed may meet it twice. A
/// program that somebody else has loaded cannot be copied. If others lie between the two slots, packets bypass it for
/// some milliseconds, and a warning is logged.
pub fn relocate(instance: &Instance, which: &Which, slot: u32) -> Result<SlotStatus> {
    instance.check_host()?;
    check_slot(slot, "programs")?;
    let Some(_lock) = instance.lock_existing()? else {
        return Err(ChainError::NoSuchProgram(which.to_string()).into());
    };
    let (chain, name, from) = open(instance, which)?;
    let own = OwnProgram::named(&name);
    if own == Some(OwnProgram::Captures) {
        return Err(ChainError::Capture(name).into());
    }
    if from != slot {
        chain.refuse_taken(slot, &name)?;
        if own.is_some() {
            refuse_behind_end(&chain, &name, slot)?;
        } else if chain.place_in(from)?.is_none() {
            refuse_end_before_own(Some(&chain), &name, slot)?;
        }
        let program = chain.program(&name)?;
        let copy = if chain.is_beside(from, slot)? {
            None
        } else {
            copy(instance, &chain, &name, slot, &program)?
        };
        match copy {
            Some(copy) => chain.put_copy(copy.as_fd(), &name, slot)?,
            None => chain.shift(from, program.as_fd(), slot)?,
        }
    }
    chain::find(instance, &name)
}

/// Loads a program a second time, for a place of its own; `None`: only the process that loaded it can do that.
fn copy(
    instance: &Instance,
    chain: &Chain,
    name: &str,
    slot: u32,
    running: &OwnedFd,
) -> Result<Option<OwnedFd>> {
    let place = chain.free_place(slot, name)?;
    let program = match OwnProgram::named(name) {
        Some(OwnProgram::Balancer) => balancer::load_copy(instance, place)?,
        Some(OwnProgram::Decap) => Some(decap::load_copy(instance, place)?),
        Some(OwnProgram::Captures) | None => match Objects::new(instance).read(name)? {
            Some(object) => Some(object.load(instance, name, place, Some(running.as_fd()))?.0),
            None => None,
        },
    };
    if program.is_none() {
        tracing::warn!(
            "'{name}' was loaded by somebody else and cannot be copied: packets bypass it for some milliseconds while \
             it moves"
        );
    }
    Ok(program)
}
