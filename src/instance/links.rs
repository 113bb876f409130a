//! The links that keep the root program attached to interfaces, or the only program of the chain, and their pins. The
//! balancer and decapsulation share this file, which knows neither of them.
//!
//! An instance belongs to the network namespace of its interfaces. Indices and names are valid in one namespace only,
//! and a link reports an index but no namespace. But while a link has an interface, that interface runs the link's
//! program. If the interface of this index here does not run it, the link's interface is in another namespace.
//! Commands leave such a link alone, except to take the instance down.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::PARTS;
use crate::instance::egress;
use crate::instance::egress::Egress;
use crate::instance::linked::is_of_instance;
use crate::instance::linked::is_of_some_instance;
use crate::instance::linked::linkable;
use crate::instance::linked::pinned_link;
use crate::instance::linked::pinned_link_of;
use crate::instance::own_programs::ROOT;
use crate::instance::pin_error;
use crate::instance::remove_folder;
use crate::instance::remove_pin;
use crate::kernel::bpf;
use crate::model::config::XdpMode;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::error::detach_command;

/// A link of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The interface's name at the time of pinning.
    pub(crate) pin: String,
    /// The kernel's number of the link.
    id: u32,
    /// The index of the interface that it is attached to, in whatever network namespace; `None`: the interface is
    /// gone, or somebody has detached the link.
    pub(crate) index: Option<u32>,
    /// The kernel's id of the program that it holds.
    pub(crate) program: u32,
    /// The mode; `None`: it is attached to no interface of this network namespace.
    pub(crate) mode: Option<XdpMode>,
}

impl Link {
    /// The index of its interface, if that is in this network namespace.
    pub(crate) fn ifindex(&self) -> Option<u32> {
        self.index.filter(|_| self.mode.is_some())
    }

    /// The index of its interface, if that is in another network namespace.
    pub(crate) fn elsewhere(&self) -> Option<u32> {
        self.index.filter(|_| self.mode.is_none())
    }

    fn read(instance: &Instance, pin: String) -> Result<Self> {
        let path = instance.link(&pin);
        let failed = |source| pin_error("open", &path, source);
        let link = bpf::pinned(&path).map_err(failed)?;
        let mut found = bpf::link_info(link.as_fd()).map_err(failed)?;
        for _ in 0..LOOKS {
            let runs = match found.ifindex {
                0 => Ok(None),
                index => bpf::runs(index, found.program),
            };
            let mode = runs.map_err(|source| Error::Host {
                operation: "ask for the XDP program of an interface",
                source,
            })?;
            let before = found;
            // The interface may have vanished or moved between the two system calls.
            found = bpf::link_info(link.as_fd()).map_err(failed)?;
            if mode.is_some() || found == before {
                let index = (before.ifindex != 0).then_some(before.ifindex);
                return Ok(Self { pin, id: found.id, index, program: before.program, mode });
            }
        }
        Err(failed(std::io::Error::other("its interface moves all the time")))
    }
}

/// How often to read a link whose interface vanishes or moves at the same time.
const LOOKS: u32 = 8;

/// The links of an instance, by the present names of their interfaces. If the interface is gone or in another network
/// namespace, the key is its former name. If another interface has that name now, a link without an interface is left
/// out, and one in another namespace gets the number of its link as its name.
pub(crate) fn links(instance: &Instance) -> Result<BTreeMap<String, Link>> {
    // Another user may have pinned something else there.
    let mut known = BTreeMap::new();
    let mut is_link =
        |pin: &String| !matches!(pinned_link_of(&instance.link(pin), &mut known), Ok(None));
    let pins: Vec<_> = instance.links()?.into_iter().filter(|pin| is_link(pin)).collect();
    let pins = pins.into_iter();
    let found = pins.map(|pin| Link::read(instance, pin));
    let mut found = found.collect::<Result<Vec<_>>>()?;
    keep_one_each(&mut found);
    let (here, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|link| link.ifindex().is_some());
    let named = here.into_iter().map(|link| {
        let name = link.ifindex().and_then(interface_name);
        (name.unwrap_or_else(|| link.pin.clone()), link)
    });
    let mut links: BTreeMap<_, _> = named.collect();
    for link in others {
        let taken = links.contains_key(&link.pin);
        if taken && link.elsewhere().is_some() {
            links.insert(format!("link-{}", link.id), link);
        } else if !taken {
            links.insert(link.pin.clone(), link);
        }
    }
    Ok(links)
}

/// An interface that was moved to another network namespace may have the same index there as another interface of the
/// instance has here, and both run the root program. Each interface keeps one link: the one that is pinned under its
/// name.
fn keep_one_each(links: &mut [Link]) {
    let mut kept: BTreeMap<u32, String> = BTreeMap::new();
    for link in links.iter() {
        let Some(ifindex) = link.ifindex() else { continue };
        let by_name = || interface_name(ifindex).is_some_and(|name| name == link.pin);
        if !kept.contains_key(&ifindex) || by_name() {
            kept.insert(ifindex, link.pin.clone());
        }
    }
    for link in links {
        if link.ifindex().is_some_and(|ifindex| kept.get(&ifindex) != Some(&link.pin)) {
            link.mode = None;
        }
    }
}

/// Refuses to work on the instance's interfaces in a network namespace that has none of them, if another namespace has
/// some. Also refuses to attach to interfaces that have the names of the instance's interfaces in another namespace.
pub(crate) fn refuse_other_namespace(instance: &Instance, wanted: &[&str]) -> Result<()> {
    refuse_links_elsewhere(instance, &links(instance)?, wanted)
}

/// The same, for links that the caller has read.
pub(crate) fn refuse_links_elsewhere(
    instance: &Instance,
    links: &BTreeMap<String, Link>,
    wanted: &[&str],
) -> Result<()> {
    let is_here = links.values().any(|link| link.ifindex().is_some());
    let mut elsewhere = links.iter().filter(|(_, link)| link.elsewhere().is_some());
    match elsewhere.find(|(name, _)| !is_here || wanted.contains(&name.as_str())) {
        Some((name, link)) => Err(other_namespace(instance, name, link)),
        None => Ok(()),
    }
}

fn other_namespace(instance: &Instance, interface: &str, link: &Link) -> Error {
    let here = std::fs::read_link("/proc/thread-self/ns/net");
    Error::OtherNamespace {
        instance: instance.name().to_owned(),
        interface: interface.to_owned(),
        ifindex: link.index.unwrap_or_default(),
        link: link.id,
        here: here.map_or_else(|_| "this one".to_owned(), |here| here.display().to_string()),
    }
}

/// The present name of an interface.
pub(crate) fn interface_name(ifindex: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(ifindex).ok()?.into_string().ok()?;
    // If there is no such interface, nix returns an empty name.
    (!name.is_empty()).then_some(name)
}

/// Renames pins to the present names of their interfaces.
pub(crate) fn follow_names(instance: &Instance) -> Result<()> {
    let mut renamed = links(instance)?;
    renamed.retain(|name, link| *name != link.pin);
    let rename = |from: &str, to: &str| {
        let path = instance.link(from);
        bpf::write_point();
        std::fs::rename(&path, instance.link(to))
            .map_err(|source| pin_error("rename", &path, source))
    };
    // Renames to temporary names first: two interfaces may have swapped names.
    let wanted: Vec<_> = renamed.keys().cloned().collect();
    for link in renamed.values_mut().filter(|link| wanted.contains(&link.pin)) {
        let aside = format!("aside-{}", link.id);
        rename(&link.pin, &aside)?;
        link.pin = aside;
    }
    renamed.iter().try_for_each(|(name, link)| rename(&link.pin, name))
}

/// An interface that [`ensure_attached`] attached, or switched to another mode.
#[derive(Debug)]
pub(crate) struct Change {
    name: String,
    ifindex: u32,
    before: Option<XdpMode>,
    /// The foreign program that was removed from it, and its mode.
    displaced: Option<(OwnedFd, XdpMode)>,
}

impl Change {
    pub(crate) fn is_of(&self, ifindex: u32) -> bool {
        self.ifindex == ifindex
    }

    /// Restores the previous state. A failure here is only logged: the caller returns the error that made it undo
    /// this.
    pub(crate) fn undo(&self, instance: &Instance, root: BorrowedFd<'_>) {
        let Self { name, ifindex, before, displaced } = self;
        let done = remove_link(&instance.link(name)).and_then(|()| match (before, displaced) {
            (Some(mode), _) => create(instance, root, name, *ifindex, *mode),
            // A link that was detached cannot be attached again.
            (None, Some((program, mode))) => {
                bpf::attach_without_link(program.as_fd(), *ifindex, *mode).map_err(|source| {
                    Error::Attach { interface: name.clone(), mode: *mode, source }
                })
            }
            (None, None) => Ok(()),
        });
        if let Err(error) = done {
            tracing::warn!("interface {name} is not as before: {error}");
        }
    }
}

/// Ensures that the root program is attached to an interface, in this mode. If the mode is not possible, the old one
/// stays. A foreign program is displaced if it is `may_displace`.
pub(crate) fn ensure_attached(
    instance: &Instance,
    root: BorrowedFd<'_>,
    name: &str,
    ifindex: u32,
    mode: XdpMode,
    may_displace: Option<u32>,
) -> Result<Option<Change>> {
    follow_names(instance)?;
    let links = links(instance)?;
    let running = links.iter().find(|(_, link)| link.ifindex() == Some(ifindex));
    // Uses the pin's name: somebody may rename the interface at this moment.
    let name = running.map_or(name, |(name, _)| name.as_str());
    let running = running.map(|(_, link)| link);
    let mut foreign = None;
    match running {
        None => foreign = Foreign::find(instance, name, ifindex)?,
        Some(link) if mode == XdpMode::Auto || link.mode == Some(mode) => return Ok(None),
        Some(_) => {}
    }
    // The pin of this name may belong to an interface in another network namespace.
    refuse_other_namespace(instance, &[name])?;
    let before = running.and_then(|link| link.mode);
    let mut change = Change { name: name.to_owned(), ifindex, before, displaced: None };
    // The kernel refuses both modes at once, so the old link goes first. If nothing runs, that link's interface is
    // gone.
    remove_link(&instance.link(name))?;
    if let Some(foreign) = foreign {
        if may_displace != Some(foreign.id) {
            return Err(foreign.refusal(instance));
        }
        let program = foreign.open()?;
        foreign.take_off(program.as_fd()).map_err(|source| Error::Host {
            operation: "take the program off the interface",
            source,
        })?;
        change.displaced = Some((program, foreign.mode));
    }
    if let Err(error) = create(instance, root, name, ifindex, mode) {
        change.undo(instance, root);
        return Err(error);
    }
    Ok(Some(change))
}

/// Attaches the root program, and pins the link.
fn create(
    instance: &Instance,
    root: BorrowedFd<'_>,
    name: &str,
    ifindex: u32,
    mode: XdpMode,
) -> Result<()> {
    let link = create_link(root, name, ifindex, mode)?;
    let pin = instance.link(name);
    bpf::pin(link.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))
}

fn create_link(root: BorrowedFd<'_>, name: &str, ifindex: u32, mode: XdpMode) -> Result<OwnedFd> {
    let create = |mode| bpf::link_create(root, ifindex, mode);
    let interface = name.to_owned();
    match mode {
        XdpMode::Native => create(mode).map_err(|source| Error::NativeMode { interface, source }),
        XdpMode::Generic => {
            create(mode).map_err(|source| Error::Attach { interface, mode, source })
        }
        XdpMode::Auto => create(XdpMode::Native).or_else(|error| {
            let mode = XdpMode::Generic;
            let link = create(mode).map_err(|source| Error::Attach { interface, mode, source })?;
            tracing::warn!(
                "interface {name}: native XDP is not possible ({error}); generic mode is slower"
            );
            Ok(link)
        }),
    }
}

/// A foreign program on an interface.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) interface: String,
    ifindex: u32,
    pub(crate) id: u32,
    pub(crate) name: String,
    mode: XdpMode,
    /// The link that holds it there; `None`: it was attached without a link.
    link: Option<u32>,
}

impl Foreign {
    /// The foreign program on an interface that is to be attached. If it is another instance's, that is an error.
    pub(crate) fn find(instance: &Instance, name: &str, ifindex: u32) -> Result<Option<Self>> {
        let Ok(Some(attached)) = bpf::attached(ifindex) else { return Ok(None) };
        if let Some(owner) = owner(instance, ifindex, attached.program) {
            return Err(Error::OtherInstance { interface: name.to_owned(), owner });
        }
        let info = bpf::program_by_id(attached.program)
            .and_then(|program| bpf::program_info(program.as_fd()))
            .ok();
        let link = link_of(ifindex, attached.program);
        if let Some(info) = info.as_ref().filter(|info| is_of_some_instance(info))
            && !is_of_instance(instance, info)
        {
            return Err(Error::OtherRoot {
                interface: name.to_owned(),
                id: info.id,
                detach: detach_command(name, attached.mode, link),
            });
        }
        Ok(Some(Self {
            interface: name.to_owned(),
            ifindex,
            id: attached.program,
            name: info.map_or_else(|| "unknown".to_owned(), |info| info.name),
            mode: attached.mode,
            link,
        }))
    }

    /// The error that names this program as the obstacle.
    pub(crate) fn refusal(self, instance: &Instance) -> Error {
        Error::ForeignProgram {
            interface: self.interface,
            program: self.name,
            id: self.id,
            mode: self.mode,
            link: self.link,
            instance: instance.name().to_owned(),
        }
    }

    /// Opens the program.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let error = |source| Error::Host { operation: "open the program on an interface", source };
        bpf::program_by_id(self.id).map_err(error)
    }

    /// Detaches it from the interface.
    fn take_off(&self, program: BorrowedFd<'_>) -> std::io::Result<()> {
        match self.link {
            Some(link) => bpf::link_detach(bpf::link_by_id(link)?.as_fd()),
            None => bpf::detach_without_link(program, self.ifindex, self.mode),
        }
    }
}

/// The id of the link that holds a program on an interface; `None`: it was attached without a link.
fn link_of(ifindex: u32, program: u32) -> Option<u32> {
    let mut links = bpf::xdp_links().map(|(_, info)| info);
    links.find(|info| (info.ifindex, info.program) == (ifindex, program)).map(|info| info.id)
}

/// The other instance whose program the interface runs. An index in another network namespace may belong to another
/// interface.
fn owner(instance: &Instance, ifindex: u32, program: u32) -> Option<String> {
    let siblings = std::fs::read_dir(instance.dir().parent()?).ok()?;
    siblings.filter_map(Result::ok).find_map(|sibling| {
        let name = sibling.file_name().into_string().ok()?;
        let links = std::fs::read_dir(sibling.path().join("link")).ok()?;
        let mut links = links.filter_map(|link| bpf::pinned(&link.ok()?.path()).ok());
        let has = links.any(|link| {
            bpf::link_info(link.as_fd())
                .is_ok_and(|info| (info.ifindex, info.program) == (ifindex, program))
        });
        (has && name != instance.name()).then_some(name)
    })
}

/// Detaches a link and removes its pin.
pub(crate) fn remove_link(path: &Path) -> Result<()> {
    if let Ok(Some(link)) = pinned_link(path) {
        // If detaching fails, the interface is gone. Otherwise the link detaches itself when its pin is gone.
        let _ = bpf::link_detach(link.as_fd());
    }
    remove_pin(path)
}

/// Detaches links without a pin that hold one of these programs. Somebody has removed the pin and holds the link
/// open.
fn detach_unpinned(programs: &BTreeSet<u32>) {
    let ours = |info: &bpf::LinkInfo| info.ifindex != 0 && programs.contains(&info.program);
    for (link, _) in bpf::xdp_links().filter(|(_, info)| ours(info)).collect::<Vec<_>>() {
        // If it fails, the interface is gone.
        let _ = bpf::link_detach(link.as_fd());
    }
}

/// Removes every pin. Links go first, so that no packet meets half a balancer; before them, the programs on the way
/// out. The root program is next; without it,
/// everything else is a leftover.
///
/// Pins may be missing or be something else: even then this detaches all programs from interfaces, and removes
/// everything.
pub(crate) fn remove_pins(instance: &Instance) -> Result<()> {
    let programs = linkable(instance);
    for program in Egress::ALL {
        egress::remove(program, instance)?;
    }
    for part in PARTS {
        if part == "prog" {
            detach_unpinned(&programs);
            remove_pin(&instance.program(ROOT))?;
        }
        for path in entries(&instance.dir().join(part)) {
            match part {
                "link" => remove_link(&path)?,
                _ if path.is_dir() => remove_folder(&path)?,
                _ => remove_pin(&path)?,
            }
        }
    }
    // Foreign files beside these folders.
    let beside = entries(&instance.dir()).filter(|path| !instance.is_folder(path));
    let in_captures = entries(&instance.captures()).filter(|path| path.is_file());
    beside.chain(in_captures).try_for_each(|path| remove_pin(&path))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// Removes every pin, and the instance's folders.
pub(crate) fn remove_all(instance: &Instance, lock: Lock) -> Result<()> {
    remove_pins(instance)?;
    instance.remove_dirs(lock)
}
