//! Loads the BPF objects. A skeleton lives only during a call; the caller gets owned descriptors.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::OpenMapMut;
use libbpf_rs::OpenObject;
use libbpf_rs::skel::OpenSkel;
use libbpf_rs::skel::Skel;
use libbpf_rs::skel::SkelBuilder;

use crate::instance::Instance;
use crate::instance::egress::Egress;
use crate::instance::own_programs::CAPTURE_NEXT;
use crate::instance::own_programs::CAPTURE_VERDICT;
use crate::instance::own_programs::CAPTURES;
use crate::instance::own_programs::CHAIN;
use crate::instance::own_programs::CHAIN_NEXT;
use crate::instance::own_programs::OwnProgram;
use crate::instance::pin_error;
use crate::kernel::bpf;
use crate::kernel::bpf::write_point;
use crate::kernel::objects;
use crate::kernel::open_files;
use crate::kernel::print::Level;
use crate::kernel::print::Messages;
use crate::model::abi;
use crate::model::capture_points::Points;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::host::MapShape;
use crate::model::skel::balancer::BalancerSkelBuilder;
use crate::model::skel::capture::CaptureSkelBuilder;
use crate::model::skel::copy::CopySkelBuilder;
use crate::model::skel::decap::DecapSkelBuilder;
use crate::model::skel::healthcheck::HealthcheckSkelBuilder;
use crate::model::skel::mss::MssSkelBuilder;
use crate::model::skel::root::RootSkelBuilder;
use crate::model::text::lines;
use crate::model::text::quote;

/// How libbpf marks the start of the verifier's log.
const LOG_BEGINS: &str = "BEGIN PROG LOAD LOG";

thread_local! {
    /// Libbpf's last warning in this thread. Its error codes alone do not say why.
    static LAST_WARNING: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Sends libbpf's messages to `tracing` as long as the returned value lives, and keeps the last warning for the
/// error.
#[must_use]
pub(crate) fn route_messages() -> Messages {
    Messages::to(|level, message| {
        let message = message.trim_end();
        match level {
            Level::Warning => {
                tracing::info!(target: "libbpf", "{}", lines(message));
                LAST_WARNING.with_borrow_mut(|last| {
                    // What follows the verifier's log only repeats that loading failed.
                    if !last.contains(LOG_BEGINS) {
                        message.clone_into(last);
                    }
                });
            }
            Level::Other => tracing::debug!(target: "libbpf", "{}", lines(message)),
        }
    })
}

pub(crate) fn load_error(program: &str) -> impl Fn(libbpf_rs::Error) -> Error {
    move |error| {
        let warning = LAST_WARNING.take();
        let noise = ["--", "processed ", "verification time", "stack depth"];
        let last = warning.lines().rev().find(|line| {
            !line.trim().is_empty() && !noise.iter().any(|start| line.starts_with(start))
        });
        let why = match last {
            Some(line) => format!("{error}: {}", quote(line)),
            None => format!("{error:#}"),
        };
        if open_files::are_too_many(&why) || open_files::are_too_many(&warning) {
            let what = format!("load program {program}");
            return Error::OpenFiles { what, limit: open_files::limit() };
        }
        Error::Load {
            program: program.to_owned(),
            why: why.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

/// Whether a map is a program's data section.
pub(crate) fn is_own_data(map: &OsStr) -> bool {
    map.as_encoded_bytes().contains(&b'.')
}

/// The section of `capture_next` (watch/captures.h): data that programs share.
const SHARED_DATA: &str = ".data.capture";

/// The name of a map's pin; `None`: the map is the program's own data, which its successor does not share.
pub(crate) fn pin_name(map: &OsStr) -> Option<String> {
    let name = map.to_string_lossy();
    // The bpf filesystem accepts no dots.
    if name == SHARED_DATA {
        return Some(CAPTURE_NEXT.to_owned());
    }
    (!is_own_data(map)).then(|| name.into_owned())
}

/// One of our objects while it is opened and loaded. Libbpf's messages go to `tracing`, and its errors get a reason.
struct Loading {
    name: &'static str,
    _messages: Messages,
}

impl Loading {
    fn of(name: &'static str) -> Self {
        Self { name, _messages: route_messages() }
    }

    fn error(&self) -> impl Fn(libbpf_rs::Error) -> Error {
        load_error(self.name)
    }

    fn open<'o, B: SkelBuilder<'o>>(
        &self,
        builder: B,
        storage: &'o mut MaybeUninit<OpenObject>,
    ) -> Result<B::Output> {
        builder.open(storage).map_err(self.error())
    }

    /// Loads an opened object. Every map is pinned below the instance; if the pin exists, that map is used. Without
    /// an instance, nothing is pinned.
    fn load<'o, S: OpenSkel<'o>>(
        &self,
        mut open: S,
        instance: Option<&Instance>,
    ) -> Result<S::Output> {
        write_point();
        if let Some(instance) = instance {
            for mut map in open.open_object_mut().maps_mut() {
                if let Some(name) = pin_name(map.name()) {
                    map.set_pin_path(instance.map(&name)).map_err(self.error())?;
                }
            }
        }
        open.load().map_err(self.error())
    }

    /// The parts of an object that outlive it: a program, and the maps.
    fn keep(&self, program: BorrowedFd<'_>, object: &libbpf_rs::Object) -> Result<Loaded> {
        let maps: Result<Vec<_>, _> = object.maps().map(|map| MapHandle::try_from(&map)).collect();
        let maps = maps.map_err(self.error())?;
        let pinned = maps.iter().filter(|map| pin_name(map.name()).is_some());
        bind(program, pinned.filter_map(|map| MapHandle::try_from(map).ok()));
        Ok(Loaded { program: clone_fd(program)?, maps })
    }
}

/// The maps that every balancer has, without the inner maps, which are created later.
pub(crate) fn balancer_maps() -> Result<Vec<MapShape>> {
    let loading = Loading::of(OwnProgram::Balancer.name());
    let mut storage = MaybeUninit::uninit();
    let open = loading.open(BalancerSkelBuilder::default(), &mut storage)?;
    let shapes =
        open.open_object().maps().filter(|map| pin_name(map.name()).is_some()).map(|map| {
            MapShape {
                kind: map.map_type(),
                flags: map.map_flags(),
                key_size: map.key_size(),
                value_size: map.value_size(),
                max_entries: map.max_entries(),
            }
        });
    Ok(shapes.collect())
}

/// Loads the root program, and pins its maps.
pub(crate) fn load_root(instance: &Instance) -> Result<OwnedFd> {
    let loading = Loading::of("root");
    let mut storage = MaybeUninit::uninit();
    let open = loading.open(RootSkelBuilder::default(), &mut storage)?;
    let skel = loading.load(open, Some(instance))?;
    clone_fd(skel.progs.l4lb_root.as_fd())
}

/// A loaded program and its maps by name.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) program: OwnedFd,
    pub(crate) maps: Vec<MapHandle>,
}

/// Loads the balancer with these knobs for a place in the chain. Pins its maps. Without an instance, this pins nothing,
/// and the maps are the program's own.
pub(crate) fn load_balancer(
    instance: Option<&Instance>,
    place: u32,
    knobs: &abi::knobs,
) -> Result<Loaded> {
    let loading = Loading::of(OwnProgram::Balancer.name());
    let mut storage = MaybeUninit::uninit();
    let mut open = loading.open(BalancerSkelBuilder::default(), &mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.l4lb_slot = place;
        rodata.knobs = *knobs;
    }
    let skel = loading.load(open, instance)?;
    loading.keep(skel.progs.balancer.as_fd(), skel.object())
}

/// The maps that the tracing copy of the balancer has for itself: its counters, the chain that packets would be
/// handed on to, and tables of kind LRU, which a program's look-up changes.
const TRACE_OWN_MAPS: [&str; 8] = [
    CHAIN,
    CHAIN_NEXT,
    "cpu_states",
    "vip_counts",
    "real_counts",
    "connections",
    CAPTURES,
    CAPTURE_VERDICT,
];

/// Loads the tracing copy of the balancer (`watch/trace.h`). It uses the running balancer's maps, except for
/// [`TRACE_OWN_MAPS`].
pub(crate) fn load_trace(instance: &Instance, knobs: &abi::knobs) -> Result<Loaded> {
    let loading = Loading::of(OwnProgram::Balancer.name());
    let error = loading.error();
    let mut storage = MaybeUninit::uninit();
    let mut open = loading.open(BalancerSkelBuilder::default(), &mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.knobs = *knobs;
        rodata.tracing = 1;
    }
    for mut map in open.open_object_mut().maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if is_own_data(map.name()) || TRACE_OWN_MAPS.contains(&name.as_str()) {
            continue;
        }
        let running = bpf::pinned(&instance.map(&name))
            .map_err(|source| pin_error("open", &instance.map(&name), source))?;
        map.reuse_fd(running.as_fd()).map_err(&error)?;
    }
    let skel = open.load().map_err(loading.error())?;
    loading.keep(skel.progs.balancer.as_fd(), skel.object())
}

/// Loads the decapsulation program for a place in the chain. Pins its maps. Without an instance, this pins nothing, and
/// the maps are the program's own.
pub(crate) fn load_decap(instance: Option<&Instance>, place: u32) -> Result<Loaded> {
    let loading = Loading::of(OwnProgram::Decap.name());
    let mut storage = MaybeUninit::uninit();
    let mut open = loading.open(DecapSkelBuilder::default(), &mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.l4lb_slot = place;
    }
    let skel = loading.load(open, instance)?;
    loading.keep(skel.progs.decap.as_fd(), skel.object())
}

/// The programs that run in front of captures and behind them.
#[derive(Debug)]
pub(crate) struct CaptureProgram {
    /// The program for the chain.
    pub(crate) program: OwnedFd,
    pub(crate) entry_end: OwnedFd,
    pub(crate) exit_end: OwnedFd,
}

/// Loads the programs that run in front of captures and behind them, and pins their maps.
pub(crate) fn load_capture(instance: &Instance) -> Result<CaptureProgram> {
    let loading = Loading::of(OwnProgram::Captures.name());
    let mut storage = MaybeUninit::uninit();
    let mut open = loading.open(CaptureSkelBuilder::default(), &mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.l4lb_slot = OwnProgram::Captures.slot();
    }
    let skel = loading.load(open, Some(instance))?;
    Ok(CaptureProgram {
        program: clone_fd(skel.progs.capture.as_fd())?,
        entry_end: clone_fd(skel.progs.entry_end.as_fd())?,
        exit_end: clone_fd(skel.progs.exit_end.as_fd())?,
    })
}

/// A capture's own maps.
#[derive(Debug)]
pub(crate) struct CaptureMaps {
    pub(crate) events: MapHandle,
    pub(crate) counts: MapHandle,
    pub(crate) wanted: MapHandle,
}

/// The programs that copy packets, at the points that were asked for.
#[derive(Debug)]
pub(crate) struct CopyPrograms {
    pub(crate) entry: Option<OwnedFd>,
    pub(crate) exit: Option<OwnedFd>,
}

/// Loads the programs of a capture that copy packets. The capture gets new maps, or keeps its existing ones.
pub(crate) fn load_copy(
    instance: &Instance,
    options: &abi::capture_options,
    points: Points,
    maps: Option<&CaptureMaps>,
) -> Result<(CopyPrograms, CaptureMaps)> {
    let loading = Loading::of("copy");
    let error = loading.error();
    let mut storage = MaybeUninit::uninit();
    let mut open = loading.open(CopySkelBuilder::default(), &mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.options = *options;
    }
    open.progs.capture_entry.set_autoload(points.entry());
    open.progs.capture_exit.set_autoload(points.exit());
    let pin = |map: &mut OpenMapMut<'_>, name| map.set_pin_path(instance.map(name));
    pin(&mut open.maps.captures, CAPTURES).map_err(&error)?;
    pin(&mut open.maps.data_capture, CAPTURE_NEXT).map_err(&error)?;
    if points.exit() {
        pin(&mut open.maps.capture_verdict, CAPTURE_VERDICT).map_err(&error)?;
        pin(&mut open.maps.reals, "reals").map_err(&error)?;
    } else {
        open.maps.capture_verdict.set_autocreate(false).map_err(&error)?;
        open.maps.reals.set_autocreate(false).map_err(&error)?;
    }
    if let Some(CaptureMaps { events, counts, wanted }) = maps {
        open.maps.capture_events.reuse_fd(events.as_fd()).map_err(&error)?;
        open.maps.capture_counts.reuse_fd(counts.as_fd()).map_err(&error)?;
        open.maps.capture_wanted.reuse_fd(wanted.as_fd()).map_err(&error)?;
    }
    let skel = loading.load(open, None)?;
    let maps = CaptureMaps {
        events: MapHandle::try_from(&skel.maps.capture_events).map_err(&error)?,
        counts: MapHandle::try_from(&skel.maps.capture_counts).map_err(&error)?,
        wanted: MapHandle::try_from(&skel.maps.capture_wanted).map_err(&error)?,
    };
    let entry = points.entry().then(|| clone_fd(skel.progs.capture_entry.as_fd())).transpose()?;
    let exit = points.exit().then(|| clone_fd(skel.progs.capture_exit.as_fd())).transpose()?;
    Ok((CopyPrograms { entry, exit }, maps))
}

/// Loads the program for health checks (tc). It shares the balancer's maps and its knobs, and pins its counters.
pub(crate) fn load_healthcheck(
    instance: &Instance,
    knobs: &abi::knobs,
    options: abi::healthcheck_options,
) -> Result<OwnedFd> {
    let loading = Loading::of(Egress::Healthcheck.name());
    let mut storage = MaybeUninit::uninit();
    let mut open = loading.open(HealthcheckSkelBuilder::default(), &mut storage)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.knobs = abi::from_bytes(abi::bytes_of(knobs)).unwrap_or_default();
        rodata.options = options;
    }
    let skel = loading.load(open, Some(instance))?;
    clone_fd(skel.progs.healthcheck.as_fd())
}

/// Loads the program that lowers the MSS (tc). It shares a map with decapsulation, and pins its own.
pub(crate) fn load_mss(instance: &Instance) -> Result<OwnedFd> {
    let loading = Loading::of(Egress::Mss.name());
    let mut storage = MaybeUninit::uninit();
    let open = loading.open(MssSkelBuilder::default(), &mut storage)?;
    let skel = loading.load(open, Some(instance))?;
    clone_fd(skel.progs.mss.as_fd())
}

/// Binds maps to a program whose instructions do not name them. Maps that only the control plane needs then live as
/// long as the program. If somebody removes their pins, commands find them by the program.
///
/// If this fails, everything else still works.
pub(crate) fn bind(program: BorrowedFd<'_>, maps: impl IntoIterator<Item = MapHandle>) {
    for map in maps {
        if let Err(error) = objects::bind(program, map.as_fd()) {
            tracing::debug!(
                "map {} is not bound to its program: {error}",
                map.name().to_string_lossy()
            );
        }
    }
}

pub(crate) fn clone_fd(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned()
        .map_err(|source| Error::Host { operation: "duplicate a descriptor", source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::instance::own_programs::CHAIN_MAPS;

    /// The pinned maps of an object, without the chain's.
    fn pinned(open: &OpenObject) -> BTreeSet<String> {
        let mut pinned: BTreeSet<_> = open.maps().filter_map(|map| pin_name(map.name())).collect();
        pinned.retain(|name| !CHAIN_MAPS.contains(&name.as_str()));
        pinned
    }

    fn names(own: &[OwnProgram]) -> BTreeSet<String> {
        own.iter().flat_map(|own| own.maps()).map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn objects_have_the_maps_of_the_table() {
        let mut storage = MaybeUninit::uninit();
        let open = Loading::of("balancer").open(BalancerSkelBuilder::default(), &mut storage);
        let all = [OwnProgram::Balancer, OwnProgram::Captures];
        assert_eq!(pinned(open.unwrap().open_object()), names(&all));

        let mut storage = MaybeUninit::uninit();
        let open = Loading::of("decap").open(DecapSkelBuilder::default(), &mut storage);
        assert_eq!(pinned(open.unwrap().open_object()), names(&[OwnProgram::Decap]));
    }
}
