//! What keeps the root program on interfaces: links, and their pins. The balancer and decapsulation
//! share it, and neither is known here.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use libbpf_rs::query::LinkInfo;
use libbpf_rs::query::LinkInfoIter;
use libbpf_rs::query::LinkTypeInfo;

use crate::config::XdpMode;
use crate::error::Error;
use crate::error::Result;
use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::PARTS;
use crate::instance::pin_error;
use crate::instance::remove_folder;
use crate::instance::remove_pin;
use crate::sys;

/// Name of the root program's pin.
pub(crate) const ROOT: &str = "root";

/// A link of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The interface's name when it was pinned.
    pub(crate) pin: String,
    /// What it is attached to; `None`: the interface is gone.
    pub(crate) ifindex: Option<u32>,
    /// How; `None`: its program is not what the interface runs.
    pub(crate) mode: Option<XdpMode>,
}

/// The links of an instance by the names that their interfaces have now; that of an interface which is gone
/// by the name it had, unless another one has taken it.
pub(crate) fn links(instance: &Instance) -> Result<BTreeMap<String, Link>> {
    let (mut links, mut gone) = (BTreeMap::new(), BTreeMap::new());
    for pin in instance.links()? {
        let path = instance.link(&pin);
        let link = sys::pinned(&path)
            .and_then(|link| sys::link_info(link.as_fd()))
            .map_err(|source| pin_error("open", &path, source))?;
        let ifindex = (link.ifindex != 0).then_some(link.ifindex);
        let runs = ifindex.and_then(|ifindex| sys::attached(ifindex).ok().flatten());
        let mode = runs.filter(|runs| runs.program == link.program).map(|runs| runs.mode);
        // In another network namespace the index may be another interface's: there, the pin's name has to do.
        let name = ifindex.filter(|_| mode.is_some()).and_then(interface_name);
        let name = name.unwrap_or_else(|| pin.clone());
        let links = if ifindex.is_some() { &mut links } else { &mut gone };
        links.insert(name, Link { pin, ifindex, mode });
    }
    gone.append(&mut links);
    Ok(gone)
}

/// The name that an interface has now.
pub(crate) fn interface_name(ifindex: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(ifindex).ok()?.into_string().ok()?;
    // Of an interface that is not there, nix returns an empty name.
    (!name.is_empty()).then_some(name)
}

/// Gives pins the names that their interfaces have now.
pub(crate) fn follow_names(instance: &Instance) -> Result<()> {
    let mut renamed = links(instance)?;
    renamed.retain(|name, link| *name != link.pin);
    let rename = |from: &str, to: &str| {
        let path = instance.link(from);
        sys::write_point();
        std::fs::rename(&path, instance.link(to))
            .map_err(|source| pin_error("rename", &path, source))
    };
    // Out of each other's way first: two interfaces may have swapped their names.
    let wanted: Vec<_> = renamed.keys().cloned().collect();
    for link in renamed.values_mut().filter(|link| wanted.contains(&link.pin)) {
        let aside = format!("index-{}", link.ifindex.unwrap_or_default());
        rename(&link.pin, &aside)?;
        link.pin = aside;
    }
    renamed.iter().try_for_each(|(name, link)| rename(&link.pin, name))
}

/// An interface that [`ensure_attached`] attached, or attached in another mode.
#[derive(Debug)]
pub(crate) struct Change {
    name: String,
    ifindex: u32,
    before: Option<XdpMode>,
    /// What was taken off it.
    displaced: Option<(OwnedFd, XdpMode)>,
}

impl Change {
    /// Attaches as before. What goes wrong is a warning: that there is something to undo is the error.
    pub(crate) fn undo(&self, instance: &Instance, root: BorrowedFd<'_>) {
        let Self { name, ifindex, before, displaced } = self;
        let done = remove_link(&instance.link(name)).and_then(|()| match (before, displaced) {
            (Some(mode), _) => create(instance, root, name, *ifindex, *mode),
            // A link that was detached cannot be attached again.
            (None, Some((program, mode))) => {
                sys::attach_without_link(program.as_fd(), *ifindex, *mode).map_err(|source| {
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

/// Sees to it that the root program is attached to an interface, in this mode. If another mode is not
/// possible, the old one stays. A program that is none of ours is displaced if it is the one that may be.
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
    let running = links.iter().find(|(_, link)| link.ifindex == Some(ifindex));
    // The name that its pin has, should the interface be renamed at this moment.
    let name = running.map_or(name, |(name, _)| name.as_str());
    let running = running.map(|(_, link)| link);
    let mut foreign = None;
    match running {
        None => foreign = Foreign::find(instance, name, ifindex)?,
        Some(link) if mode == XdpMode::Auto || link.mode == Some(mode) => return Ok(None),
        Some(_) => {}
    }
    let before = running.and_then(|link| link.mode);
    let mut change = Change { name: name.to_owned(), ifindex, before, displaced: None };
    // Both modes at once the kernel refuses. Without a running one, it is the link of an interface that is gone.
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
    sys::pin(link.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))
}

fn create_link(root: BorrowedFd<'_>, name: &str, ifindex: u32, mode: XdpMode) -> Result<OwnedFd> {
    let create = |mode| sys::link_create(root, ifindex, mode);
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

/// A program on an interface that is none of ours.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) interface: String,
    ifindex: u32,
    pub(crate) id: u32,
    pub(crate) name: String,
    mode: XdpMode,
    /// What holds it there; `None`: it was attached without.
    link: Option<u32>,
}

impl Foreign {
    /// Whose program is on an interface that is to be attached; an error, if it is another instance's.
    pub(crate) fn find(instance: &Instance, name: &str, ifindex: u32) -> Result<Option<Self>> {
        let Ok(Some(attached)) = sys::attached(ifindex) else { return Ok(None) };
        if let Some(owner) = owner(instance, ifindex, attached.program) {
            return Err(Error::OtherInstance { interface: name.to_owned(), owner });
        }
        let program = sys::program_by_id(attached.program)
            .and_then(|program| sys::program_info(program.as_fd()))
            .map_or_else(|_| "unknown".to_owned(), |info| info.name);
        Ok(Some(Self {
            interface: name.to_owned(),
            ifindex,
            id: attached.program,
            name: program,
            mode: attached.mode,
            link: link_of(ifindex, attached.program),
        }))
    }

    /// That it is in the way.
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

    /// The program itself.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let error = |source| Error::Host { operation: "open the program on an interface", source };
        sys::program_by_id(self.id).map_err(error)
    }

    /// Takes it off the interface.
    fn take_off(&self, program: BorrowedFd<'_>) -> std::io::Result<()> {
        match self.link {
            Some(link) => sys::link_detach(sys::link_by_id(link)?.as_fd()),
            None => sys::detach_without_link(program, self.ifindex, self.mode),
        }
    }
}

/// The id of the link that holds a program on an interface; `None`: it was attached without.
fn link_of(ifindex: u32, program: u32) -> Option<u32> {
    let holds = |link: &LinkInfo| match &link.info {
        LinkTypeInfo::Xdp(xdp) => xdp.ifindex == ifindex && link.prog_id == program,
        _ => false,
    };
    LinkInfoIter::default().find(holds).map(|link| link.id)
}

/// The other instance that has a program on the interface. In another network namespace, the index may be another
/// interface's.
fn owner(instance: &Instance, ifindex: u32, program: u32) -> Option<String> {
    let siblings = std::fs::read_dir(instance.dir().parent()?).ok()?;
    siblings.filter_map(Result::ok).find_map(|sibling| {
        let name = sibling.file_name().into_string().ok()?;
        let links = std::fs::read_dir(sibling.path().join("link")).ok()?;
        let mut links = links.filter_map(|link| sys::pinned(&link.ok()?.path()).ok());
        let has = links.any(|link| {
            sys::link_info(link.as_fd())
                .is_ok_and(|info| (info.ifindex, info.program) == (ifindex, program))
        });
        (has && name != instance.name()).then_some(name)
    })
}

/// Detaches a link and removes its pin.
pub(crate) fn remove_link(path: &Path) -> Result<()> {
    if let Ok(link) = sys::pinned(path) {
        // If it fails, the interface is gone; and else the link detaches itself when its pin is gone.
        let _ = sys::link_detach(link.as_fd());
    }
    remove_pin(path)
}

/// Removes every pin: links first, so that no packet meets half a balancer; then the root program, without
/// which everything else is a leftover.
pub(crate) fn remove_pins(instance: &Instance) -> Result<()> {
    for part in PARTS {
        if part == "prog" {
            remove_pin(&instance.program(ROOT))?;
        }
        let Ok(entries) = std::fs::read_dir(instance.dir().join(part)) else { continue };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            match part {
                "link" => remove_link(&path)?,
                _ if path.is_dir() => remove_folder(&path)?,
                _ => remove_pin(&path)?,
            }
        }
    }
    Ok(())
}

/// Removes every pin, and the instance's folders.
pub(crate) fn remove_all(instance: &Instance, lock: Lock) -> Result<()> {
    remove_pins(instance)?;
    instance.remove_dirs(lock)
}
