//! Our programs on the way out of interfaces, and where they are attached.
//!
//! ```text
//! <instance>/healthcheck/<index>          a link (TCX), on Linux 6.6 and later
//!            healthcheck/<index>:filter   the program of a filter, on older kernels
//!            healthcheck/<index>:qdisc    the same, and the filter's clsact qdisc is ours
//!            mss/…                        the same for the other program
//! ```
//!
//! The pins are named after the interfaces' indices, so a new name of an interface changes nothing. A filter holds its
//! program without a pin. Its pin says that there may be one: it is made before the filter and removed after it, and
//! while it is replaced, one of both is there. A command that was killed may leave a pin whose program is not the
//! filter's, so the filter's own program tells whose it is.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::path::PathBuf;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;

use crate::instance::DEFAULT_INSTANCE;
use crate::instance::Instance;
use crate::instance::folders;
use crate::instance::kernel_is_at_least;
use crate::instance::pin_error;
use crate::instance::remove_pin;
use crate::kernel::bpf;
use crate::kernel::bpf::ProgramInfo;
use crate::kernel::netlink::has_clsact_blocking;
use crate::kernel::netlink::has_filters_blocking;
use crate::kernel::objects::Kind;
use crate::kernel::objects::kind;
use crate::kernel::tc;
use crate::model::error::DecapError;
use crate::model::error::Error;
use crate::model::error::Result;

/// The map of the counters of [`Egress::Healthcheck`].
pub(crate) const STATES: &str = "healthcheck_states";

/// The map of the flows that it remembers.
pub(crate) const CHECK_FLOWS: &str = "check_flows";

/// The maps of [`Egress::Mss`]: what segments may ask for, by interface, and its counters.
pub(crate) const MSS_LIMITS: &str = "mss_limits";
pub(crate) const MSS_STATES: &str = "mss_states";

/// One of our programs on the way out of interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Egress {
    /// Encapsulates the packets of health checks.
    Healthcheck,
    /// Lowers the size of segments that a real asks clients for.
    Mss,
}

impl Egress {
    pub(crate) const ALL: [Self; 2] = [Self::Healthcheck, Self::Mss];

    /// The name of the folder, and of the program's function.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Healthcheck => "healthcheck",
            Self::Mss => "mss",
        }
    }

    /// The map of its counters, which tells our program from others of its name. The kernel keeps 15 bytes of it.
    const fn states(self) -> &'static str {
        match self {
            Self::Healthcheck => "healthcheck_sta",
            Self::Mss => MSS_STATES,
        }
    }

    /// A map that the program of each instance has for itself.
    const fn own_map(self) -> &'static str {
        match self {
            Self::Healthcheck => "reals",
            Self::Mss => MSS_LIMITS,
        }
    }

    /// What the handles of its filters begin with: "L4" and "L5", which nobody else has by chance.
    const fn first_handle(self) -> u32 {
        match self {
            Self::Healthcheck => 0x4c34_0000,
            Self::Mss => 0x4c35_0000,
        }
    }
}

/// The first kernel that has links for such programs.
const LINKS_SINCE: (u32, u32) = (6, 6);

const FILTER: &str = ":filter";
const QDISC: &str = ":qdisc";
/// The end of a pin's name that is about to replace another pin.
const NEXT: &str = ":next";

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Link,
    Filter { own_qdisc: bool },
}

/// A pin of this folder.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    path: PathBuf,
    how: How,
    pub(crate) ifindex: u32,
    /// Of the filter, if it is one.
    handle: u32,
    /// The program that the interface runs by it; `None`: the interface is gone or in another network namespace, or
    /// somebody has detached the program.
    pub(crate) program: Option<u32>,
}

/// The handle of an instance's filters. Instances have different ones, because the routes to the VIPs of two may lead by
/// one interface.
fn handle(egress: Egress, instance: &Instance) -> u32 {
    let first = egress.first_handle();
    if instance.name() == DEFAULT_INSTANCE {
        return first | u32::from(u16::from_be_bytes(*b"LB"));
    }
    // FNV-1a, folded: the same in every build.
    let hash = instance
        .name()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    first | (hash >> 16 ^ hash & 0xffff)
}

/// Whether a filter is attached, which only commands in the network namespace of its interface find.
pub(crate) fn has_filters(egress: Egress, instance: &Instance) -> Result<bool> {
    let pins = pins(egress, instance)?;
    Ok(pins.iter().filter_map(|pin| parse(pin)).any(|(_, how)| how != How::Link))
}

fn folder(egress: Egress, instance: &Instance) -> PathBuf {
    instance.dir().join(egress.name())
}

/// What is pinned. Skips what lbctl did not pin there.
pub(crate) fn attachments(egress: Egress, instance: &Instance) -> Result<Vec<Attachment>> {
    let mut found = Vec::new();
    for path in pins(egress, instance)? {
        if let Some((ifindex, how)) = parse(&path) {
            let handle = handle(egress, instance);
            let program = running(egress, &path, ifindex, how, handle)?;
            found.push(Attachment { path, how, ifindex, handle, program });
        }
    }
    Ok(found)
}

fn pins(egress: Egress, instance: &Instance) -> Result<Vec<PathBuf>> {
    let folder = folder(egress, instance);
    match fs::read_dir(&folder) {
        Ok(entries) => Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(pin_error("list", &folder, source)),
    }
}

fn parse(path: &Path) -> Option<(u32, How)> {
    let name = path.file_name()?.to_str()?;
    let (index, how) = if let Some(index) = name.strip_suffix(FILTER) {
        (index, How::Filter { own_qdisc: false })
    } else if let Some(index) = name.strip_suffix(QDISC) {
        (index, How::Filter { own_qdisc: true })
    } else {
        (name, How::Link)
    };
    Some((index.parse().ok()?, how))
}

/// The program that the interface runs by a pin.
fn running(
    egress: Egress,
    path: &Path,
    ifindex: u32,
    how: How,
    handle: u32,
) -> Result<Option<u32>> {
    let failed = |source| pin_error("look at", path, source);
    let pin = match bpf::pinned(path) {
        Ok(pin) => pin,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(pin_error("open", path, source)),
    };
    match (how, kind(pin.as_fd()).map_err(failed)?) {
        (How::Link, Kind::TcxLink) => {
            let info = tc::link_info(pin.as_fd()).map_err(failed)?;
            let info = info.filter(|info| info.ifindex == ifindex);
            let here = info.map(|info| tc::has_link(ifindex, info.id)).transpose();
            Ok(info.filter(|_| matches!(here, Ok(Some(true)))).map(|info| info.program))
        }
        (How::Filter { .. }, Kind::Program(id)) => {
            let runs = tc::filter_program(ifindex, handle).map_err(failed)?;
            let is_ours = |runs: u32| runs == id || info(runs).is_ok_and(|of| is_ours(egress, &of));
            Ok(runs.filter(|runs| is_ours(*runs)))
        }
        _ => Ok(None),
    }
}

/// Attaches a program to an interface, in place of what a pin says.
pub(crate) fn attach(
    egress: Egress,
    instance: &Instance,
    program: BorrowedFd<'_>,
    ifindex: u32,
    name: &str,
) -> Result<()> {
    let failed = |source| {
        let interface = name.to_owned();
        match egress {
            Egress::Healthcheck => Error::AttachHealthcheck { interface, source },
            Egress::Mss => DecapError::AttachMss { interface, source }.into(),
        }
    };
    folders::make(&folder(egress, instance))?;
    if kernel_is_at_least(LINKS_SINCE)? && bpf::fail_point("tcx").is_ok() {
        match tc::attach(program, ifindex) {
            Ok(link) => {
                let path = folder(egress, instance).join(ifindex.to_string());
                remove_pin(&path)?;
                return bpf::pin(link.as_fd(), &path)
                    .map_err(|error| pin_error("pin", &path, error));
            }
            // The kernel was built without them.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {}
            Err(source) => return Err(failed(source)),
        }
    }
    attach_filter(egress, instance, program, ifindex).map_err(|error| match error {
        FilterError::Kernel(source) => failed(source),
        FilterError::Pin(error) => error,
    })
}

enum FilterError {
    Kernel(io::Error),
    Pin(Error),
}

impl From<io::Error> for FilterError {
    fn from(error: io::Error) -> Self {
        Self::Kernel(error)
    }
}

fn attach_filter(
    egress: Egress,
    instance: &Instance,
    program: BorrowedFd<'_>,
    ifindex: u32,
) -> Result<(), FilterError> {
    let (own, others) = [QDISC, FILTER]
        .map(|kind| folder(egress, instance).join(format!("{ifindex}{kind}")))
        .into();
    let pin = |path: &Path| pin_in_place(program, path).map_err(FilterError::Pin);
    // An earlier command may have made the qdisc. If the list of qdiscs cannot be had, making one tells.
    let had_made = own.exists();
    let is_others = !had_made && has_clsact_blocking(ifindex).unwrap_or(false);
    if !is_others {
        pin(&own)?;
    }
    if !is_others && (tc::make_qdisc(ifindex)? || had_made) {
        remove_pin(&others).map_err(FilterError::Pin)?;
    } else {
        pin(&others)?;
        remove_pin(&own).map_err(FilterError::Pin)?;
    }
    Ok(tc::set_filter(program, ifindex, handle(egress, instance))?)
}

/// Where a pin lies that is about to replace another one.
fn next(path: &Path) -> PathBuf {
    let mut next = path.as_os_str().to_owned();
    next.push(NEXT);
    PathBuf::from(next)
}

/// Pins a program, in place of what is pinned there, if anything is: there is always one of both.
fn pin_in_place(program: BorrowedFd<'_>, path: &Path) -> Result<()> {
    if !path.exists() {
        return bpf::pin(program, path).map_err(|source| pin_error("pin", path, source));
    }
    let next = next(path);
    remove_pin(&next)?;
    bpf::pin(program, &next).map_err(|source| pin_error("pin", &next, source))?;
    bpf::write_point();
    fs::rename(&next, path).map_err(|source| pin_error("replace", path, source))
}

/// Puts another program in place of the running one. Each packet meets one of them.
pub(crate) fn replace(attachment: &Attachment, program: BorrowedFd<'_>) -> Result<()> {
    let path = &attachment.path;
    let failed = |source| pin_error("replace the program of", path, source);
    match attachment.how {
        How::Link => {
            let link = bpf::pinned(path).map_err(failed)?;
            bpf::link_update(link.as_fd(), program).map_err(failed)
        }
        How::Filter { .. } => {
            tc::set_filter(program, attachment.ifindex, attachment.handle).map_err(failed)?;
            pin_in_place(program, path)
        }
    }
}

/// Detaches the program from an interface, and removes the pin.
pub(crate) fn detach(attachment: &Attachment) -> Result<()> {
    let Attachment { path, how, ifindex, handle, program } = attachment;
    match how {
        How::Link => {
            // If it fails, the interface is gone. The link goes with its pin anyway.
            let _ = bpf::pinned(path).and_then(|link| bpf::link_detach(link.as_fd()));
        }
        How::Filter { own_qdisc } => {
            if program.is_some() {
                tc::remove_filter(*ifindex, *handle)
                    .map_err(|source| pin_error("remove the filter of", path, source))?;
            }
            if *own_qdisc && !has_filters_blocking(*ifindex)? {
                // If it fails, the interface or the qdisc is gone.
                let _ = tc::remove_qdisc(*ifindex);
            }
        }
    }
    // A command was killed while it replaced the pin.
    remove_pin(&next(path))?;
    remove_pin(path)
}

/// Detaches the program from all interfaces, and removes the folder.
pub(crate) fn remove(egress: Egress, instance: &Instance) -> Result<()> {
    let own = pinned_map(instance, egress.own_map());
    for attachment in attachments(egress, instance)? {
        detach(&attachment)?;
    }
    // Somebody may have removed a pin and hold the link.
    if let Some(own) = own {
        for (link, info) in tc::links().collect::<Vec<_>>() {
            let program = self::info(info.program);
            if program.is_ok_and(|program| is_ours(egress, &program) && program.maps.contains(&own))
            {
                let _ = bpf::link_detach(link.as_fd());
            }
        }
    }
    for path in pins(egress, instance)? {
        remove_pin(&path)?;
    }
    let folder = folder(egress, instance);
    match fs::remove_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(pin_error("remove", &folder, error))
        }
        _ => Ok(()),
    }
}

fn info(program: u32) -> io::Result<ProgramInfo> {
    bpf::program_by_id(program).and_then(|program| bpf::program_info(program.as_fd()))
}

/// Whether a running program uses all of these maps of the instance, as they are pinned.
pub(crate) fn uses(instance: &Instance, program: u32, maps: &[&str]) -> bool {
    let Ok(info) = info(program) else { return false };
    let is_used =
        |map: &&str| pinned_map(instance, map).is_some_and(|map| info.maps.contains(&map));
    maps.iter().all(is_used)
}

/// Whether this is the program of any instance and build.
fn is_ours(egress: Egress, program: &ProgramInfo) -> bool {
    let is_states =
        |id: &u32| MapHandle::from_map_id(*id).is_ok_and(|map| map.name() == egress.states());
    program.name == egress.name() && program.maps.iter().any(is_states)
}

/// The kernel's id of a pinned map.
pub(crate) fn pinned_map(instance: &Instance, name: &str) -> Option<u32> {
    let map = bpf::pinned(&instance.map(name)).ok()?;
    match kind(map.as_fd()) {
        Ok(Kind::Map(id)) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_tell_how() {
        let parsed =
            |name: &str| parse(Path::new("/bpf/l4lb/default/healthcheck").join(name).as_ref());
        assert_eq!(parsed("7"), Some((7, How::Link)));
        assert_eq!(parsed("7:filter"), Some((7, How::Filter { own_qdisc: false })));
        assert_eq!(parsed("12:qdisc"), Some((12, How::Filter { own_qdisc: true })));
        for other in ["eth0", "7:other", "7:filter:next", ":filter", "-1", "4294967296"] {
            assert_eq!(parsed(other), None, "{other}");
        }
        assert!(STATES.starts_with(Egress::Healthcheck.states()));
    }

    #[test]
    fn instances_have_different_handles() {
        let of = |name| handle(Egress::Healthcheck, &Instance::new("/sys/fs/bpf", name).unwrap());
        assert_eq!(of(DEFAULT_INSTANCE), 0x4c34_4c42);
        let handles: std::collections::BTreeSet<_> =
            [DEFAULT_INSTANCE, "edge-1", "edge-2", "real1"].map(of).into();
        assert_eq!(handles.len(), 4);
        assert!(handles.iter().all(|handle| handle >> 16 == 0x4c34), "{handles:x?}");
    }
}
