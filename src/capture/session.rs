//! A running capture.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use libbpf_rs::MapHandle;
use serde::Serialize;

use super::event;
use super::event::Clock;
use super::filter::Exits;
use super::filter::Filter;
use super::filter::FilterError;
use super::filter::follow;
use super::filter::tail_call;
use super::filter::verdict;
use super::filter::whole_program;
use super::gue::gue_ports;
use super::names::Names;
use super::options::CaptureOptions;
use super::options::Points;
use super::packet::Packet;
use super::places;
use super::places::Place;
use super::places::Places;
use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::chain::slots::Chain;
use crate::instance::links;
use crate::instance::own_programs::CAPTURES;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::instance::pin_error;
use crate::instance::programs;
use crate::instance::programs::CaptureMaps;
use crate::instance::repair::refuse_lost;
use crate::kernel::bpf;
use crate::kernel::bpf::ArrayMemory;
use crate::kernel::host::Files;
use crate::kernel::maps;
use crate::kernel::maps::MapError;
use crate::kernel::maps::PerCpuArray;
use crate::kernel::maps::ProgramArray;
use crate::kernel::netlink;
use crate::kernel::perf::PerfReader;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::error::CaptureError;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::gue::GuePorts;

/// How often a capture checks that it is still in its place.
const UPKEEP: Duration = Duration::from_secs(1);

/// How long events may wait in a buffer before they are read, however few they are.
const LATENCY: Duration = Duration::from_millis(50);

/// How long an instance may lack what captures need, for example while it is set up anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// The filter's name in the kernel.
const FILTER: &str = "capture_filter";

/// What happened to the packets that a capture matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CaptureCounts {
    /// Packets that matched: the sum of the other counts.
    pub matched: u64,
    /// Copied, and returned.
    pub captured: u64,
    /// Not copied, as the buffer was full. The packets themselves went on.
    pub dropped_by_buffer: u64,
    /// Not copied, as sampling left them out.
    pub left_out_by_sampling: u64,
}

/// The compiled filters.
#[derive(Debug)]
struct Filters {
    frame: Filter,
    inner: Option<Filter>,
    /// Where `inner` looks for packets in GUE.
    gue: GuePorts,
}

impl Filters {
    /// One program for both.
    fn load(&self, exits: Exits) -> Result<OwnedFd, FilterError> {
        let Some(inner) = &self.inner else { return self.frame.load(FILTER, &exits) };
        let on_match = whole_program(&inner.clone().with_gue(self.gue).translate(&exits)?);
        self.frame.load(FILTER, &Exits { on_match, otherwise: exits.otherwise })
    }
}

/// What a capture has in the kernel.
#[derive(Debug)]
struct Installed {
    place: Place,
    places: Places,
    /// The program array that it is in.
    array: u32,
    /// The place, and the filter in it.
    filters: Vec<(u32, u32)>,
    /// Only this process holds it: when the process ends, its filters no longer find the programs that copy.
    _copiers: ProgramArray,
}

/// A running capture. It ends when it is dropped, or when the process ends in any way.
///
/// A packet is in the buffer, or counted as dropped, before it goes on. The reader can never delay it.
#[derive(Debug)]
pub struct Capture {
    instance: Instance,
    options: CaptureOptions,
    filters: Filters,
    maps: CaptureMaps,
    counts: PerCpuArray<abi::capture_count>,
    wanted: ArrayMemory,
    reader: PerfReader,
    names: Names,
    clock: Clock,
    installed: Option<Installed>,
    checked: Instant,
    /// Since when it is not in its place.
    lost: Option<Instant>,
    /// The filter in its place looks for GUE at other ports than it should.
    stale: bool,
}

impl Capture {
    /// Starts a capture in an instance that runs a balancer, decapsulates, or has other programs in its chain.
    pub fn start(instance: &Instance, options: &CaptureOptions) -> Result<Self> {
        options.check()?;
        instance.check_host()?;
        refuse_lost(instance)?;
        if !instance.program(ROOT).exists() {
            return Err(not_running(instance));
        }
        let mut options = options.clone();
        if let Some(interface) = &mut options.interface {
            *interface = netlink::own_name(interface)?;
        }
        let options = &options;
        // Compile before taking the lock: libpcap may be slow.
        let (frame, inner) = options.filters(netmask(instance, options)?)?;
        let filters = Filters { frame, inner, gue: gue_ports(instance)? };
        let cpus = buffered_cpus(options)?;

        let lock = instance.lock_existing()?.ok_or_else(|| not_running(instance))?;
        refuse_missing(instance, options)?;
        let names = Names::read(instance, options)?;
        names.check(&options.decision)?;
        let open = |maps: &CaptureMaps| {
            let opened = open(maps, options, &cpus)?;
            names.write_wanted(options, &opened.wanted)?;
            Ok(opened)
        };
        let (installed, maps, opened) = install(instance, options, &filters, None, &lock, open)?;
        let Opened { counts, wanted, reader } = opened;
        Ok(Self {
            instance: instance.clone(),
            options: options.clone(),
            filters,
            maps,
            counts,
            wanted,
            reader,
            names,
            clock: Clock::now()?,
            installed: Some(installed),
            checked: Instant::now(),
            lost: None,
            stale: false,
        })
    }

    /// The packets that were captured since the last call, in the order of their times. Waits for packets, at most for
    /// `timeout`.
    ///
    /// Call it again and again: it also keeps the capture in its place, for example when the instance is set up anew.
    /// Once the instance is taken down and all packets are read, it returns [`CaptureError::TakenDown`].
    pub fn next_batch(&mut self, timeout: Duration) -> Result<Vec<Packet>> {
        let end = Instant::now() + timeout;
        loop {
            if self.checked.elapsed() >= UPKEEP {
                self.checked = Instant::now();
                self.clock.follow()?;
                if let Err(error) = self.upkeep() {
                    let rest = self.read()?;
                    return if rest.is_empty() { Err(error) } else { Ok(rest) };
                }
            }
            let packets = self.read()?;
            let left = end.saturating_duration_since(Instant::now());
            if !packets.is_empty() || left.is_zero() {
                return Ok(packets);
            }
            let wait = left.min(LATENCY);
            self.reader.wait(wait).map_err(buffer_error("wait for"))?;
        }
    }

    /// Ends the capture, and returns the packets that were captured before.
    pub fn stop(&mut self) -> Result<Vec<Packet>> {
        if let Some(installed) = self.installed.take() {
            installed.place.leave()?;
        }
        self.read()
    }

    /// The ports at which it takes packets for GUE: those of the instance's balancer and of its decapsulation.
    pub fn gue_ports(&self) -> GuePorts {
        self.filters.gue
    }

    /// How many packets there were so far.
    pub fn counts(&self) -> Result<CaptureCounts> {
        let mut sum = CaptureCounts::default();
        for abi::capture_count { captured, sampled_out, buffer_full } in self.counts.get(0)? {
            sum.matched += captured + sampled_out + buffer_full;
            sum.captured += captured;
            sum.dropped_by_buffer += buffer_full;
            sum.left_out_by_sampling += sampled_out;
        }
        Ok(sum)
    }

    fn read(&mut self) -> Result<Vec<Packet>> {
        let events = self.reader.read().map_err(buffer_error("read"))?;
        // Read names after the events: then everything that the events name exists.
        if self.names.follow()? {
            self.names.write_wanted(&self.options, &self.wanted)?;
        }
        event::packets(events, self.clock, &mut self.names)
    }

    /// Follows changes of VIPs, reals, interfaces and the instance itself.
    fn upkeep(&mut self) -> Result<()> {
        self.follow_gue_ports();
        if self.is_in_place() {
            self.lost = None;
            self.names.refresh()?;
            return self.names.write_wanted(&self.options, &self.wanted);
        }
        if !self.instance.exists() {
            return Err(taken_down(&self.instance));
        }
        match self.install_again() {
            Ok(()) => {
                self.lost = None;
                Ok(())
            }
            // The instance may be about to be set up.
            Err(error) if self.lost.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {
                tracing::debug!("not capturing for now: {error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes over the ports of GUE. If a filter depends on them, the capture no longer is in its place.
    fn follow_gue_ports(&mut self) {
        // While the instance is set up anew, nobody knows.
        let Ok(gue) = gue_ports(&self.instance) else { return };
        self.stale |= gue != self.filters.gue && self.filters.inner.is_some();
        self.filters.gue = gue;
    }

    fn is_in_place(&self) -> bool {
        if self.stale {
            return false;
        }
        let Some(installed) = &self.installed else { return false };
        let check = || -> Result<bool> {
            let Installed { place, places, array, filters, .. } = installed;
            if !place.is_there() || maps::id(&maps::open(&self.instance.map(CAPTURES))?)? != *array
            {
                return Ok(false);
            }
            for (at, filter) in filters {
                if !places.has(*at, *filter)? {
                    return Ok(false);
                }
            }
            // The balancer may have gone while other programs of the chain stay.
            if self.options.at.exit()
                && !self.instance.program(OwnProgram::Balancer.name()).exists()
            {
                return Ok(false);
            }
            let chain = Chain::open(&self.instance)?;
            let own = OwnProgram::Captures;
            Ok(!self.options.at.entry() || chain.in_place(own.slot(), own.name())?)
        };
        check().unwrap_or(false)
    }

    fn install_again(&mut self) -> Result<()> {
        let instance = &self.instance;
        let lock = instance.lock_existing()?.ok_or_else(|| taken_down(instance))?;
        refuse_lost(instance)?;
        // Another capture may have been starting or ending.
        if self.is_in_place() {
            return Ok(());
        }
        if let Some(old) = self.installed.take()
            && old.place.is_there()
        {
            places::remove(instance, old.place.capture, &lock)?;
        }
        refuse_missing(instance, &self.options)?;
        self.names = Names::read(instance, &self.options)?;
        let tell = |_: &CaptureMaps| self.names.write_wanted(&self.options, &self.wanted);
        let maps = Some(&self.maps);
        let (installed, maps, ()) =
            install(instance, &self.options, &self.filters, maps, &lock, tell)?;
        (self.installed, self.maps) = (Some(installed), maps);
        let stale = std::mem::take(&mut self.stale);
        if stale {
            tracing::info!("GUE goes to another port now; the capture looks there");
        } else {
            let name = self.instance.name();
            tracing::info!("instance '{name}' was set up anew; the capture goes on there");
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Some(installed) = self.installed.take()
            && let Err(error) = installed.place.leave()
        {
            tracing::warn!("the next command removes the capture: {error}");
        }
    }
}

/// What belongs to one capture only.
struct Opened {
    counts: PerCpuArray<abi::capture_count>,
    wanted: ArrayMemory,
    reader: PerfReader,
}

fn open(maps: &CaptureMaps, options: &CaptureOptions, cpus: &[u32]) -> Result<Opened> {
    let CaptureMaps { events, counts, wanted } = maps;
    let counts = MapHandle::try_from(counts)
        .map_err(|error| MapError::new("capture_counts", "open it", error))?;
    let wanted = ArrayMemory::new(wanted)
        .map_err(|source| MapError::new("capture_wanted", "map its memory", source))?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|page| u64::try_from(page).ok()).unwrap_or(4096);
    let pages = options.buffer.div_ceil(page).next_power_of_two();
    let pages = usize::try_from(pages).unwrap_or(usize::MAX);
    let reader = PerfReader::new(events.as_fd(), pages, cpus).map_err(buffer_error("make"))?;
    Ok(Opened { counts: PerCpuArray::new(counts)?, wanted, reader })
}

/// Puts a capture into its place. `prepare` gets its maps before any packet does.
fn install<T>(
    instance: &Instance,
    options: &CaptureOptions,
    filters: &Filters,
    maps: Option<&CaptureMaps>,
    lock: &Lock,
    prepare: impl FnOnce(&CaptureMaps) -> Result<T>,
) -> Result<(Installed, CaptureMaps, T)> {
    places::remove_abandoned_locked(instance, lock)?;
    let (places, capture) = Places::prepare(instance)?;
    places.refuse_too_many(if options.at == Points::Both { 2 } else { 1 })?;
    let place = Place::take(instance, lock)?;
    let done = load(instance, options, filters, maps, &places, place.capture).and_then(|loaded| {
        let filters: Vec<_> =
            loaded.filters.iter().map(|(at, filter)| (*at, filter.as_fd())).collect();
        let prepared = prepare(&loaded.maps)?;
        places.put(&filters)?;
        if options.at.entry() {
            places::enter_chain(instance, capture.program.as_fd())?;
        }
        let id = |(at, filter): &(u32, BorrowedFd<'_>)| match bpf::program_info(*filter) {
            Ok(info) => Ok((*at, info.id)),
            Err(source) => Err(Error::Host { operation: "ask the kernel about a filter", source }),
        };
        let filters = filters.iter().map(id).collect::<Result<_>>()?;
        Ok((filters, places.id()?, loaded, prepared))
    });
    match done {
        Ok((filters, array, Loaded { maps, copiers, .. }, prepared)) => {
            Ok((Installed { place, places, array, filters, _copiers: copiers }, maps, prepared))
        }
        Err(error) => {
            places::remove(instance, place.capture, lock)?;
            Err(error)
        }
    }
}

/// The programs of a capture.
struct Loaded {
    /// The place, and the filter for it.
    filters: Vec<(u32, OwnedFd)>,
    copiers: ProgramArray,
    maps: CaptureMaps,
}

fn load(
    instance: &Instance,
    options: &CaptureOptions,
    filters: &Filters,
    maps: Option<&CaptureMaps>,
    places: &Places,
    capture: u32,
) -> Result<Loaded> {
    let (programs, maps) = programs::load_copy(instance, &options.raw(capture)?, options.at, maps)?;
    let copiers = maps::create_program_array("capture_copiers", 2)?;
    let points = [
        (programs.entry, consts::CAPTURE_ENTRY, consts::CAPTURE_ENTRY_END, libbpf_sys::XDP_PASS),
        (programs.exit, consts::CAPTURE_EXIT, consts::CAPTURE_EXIT_END, libbpf_sys::XDP_DROP),
    ];
    let mut loaded = Vec::new();
    for (index, (program, first, end, last_resort)) in (0..).zip(points) {
        let Some(program) = program else { continue };
        copiers.set(index, program.as_fd())?;
        let place = first + capture;
        let mut otherwise = follow(places.programs(), places.next(), place + 1, end);
        otherwise.extend(verdict(last_resort));
        let on_match = tail_call(copiers.handle().as_fd(), index);
        loaded.push((place, filters.load(Exits { on_match, otherwise })?));
    }
    Ok(Loaded { filters: loaded, copiers, maps })
}

/// Refuses what the instance does not have.
fn refuse_missing(instance: &Instance, options: &CaptureOptions) -> Result<()> {
    if let Some(interface) = &options.interface {
        let links = links::links(instance)?;
        if !links.contains_key(interface) {
            return Err(CaptureError::NoSuchInterface {
                instance: instance.name().to_owned(),
                interface: interface.clone(),
                interfaces: links.into_keys().collect(),
            }
            .into());
        }
    }
    if !options.at.exit() {
        return Ok(());
    }
    let name = || instance.name().to_owned();
    let pin = instance.program(OwnProgram::Balancer.name());
    if !pin.exists() {
        return Err(CaptureError::NoBalancer { instance: name() }.into());
    }
    let array = instance.map(CAPTURES);
    let info = bpf::pinned(&pin)
        .and_then(|program| bpf::program_info(program.as_fd()))
        .map_err(|source| pin_error("open", &pin, source))?;
    if !array.exists() || !info.maps.contains(&maps::id(&maps::open(&array)?)?) {
        return Err(CaptureError::NoExit { instance: name() }.into());
    }
    Ok(())
}

/// The netmask for `ip broadcast`: that of the given interface, or of the only one.
fn netmask(instance: &Instance, options: &CaptureOptions) -> Result<Option<Ipv4Addr>> {
    let links = links::links(instance)?;
    // This namespace's addresses are not those of the instance.
    let elsewhere: Vec<_> = links
        .iter()
        .filter(|(_, link)| link.elsewhere().is_some())
        .map(|(name, _)| name.clone())
        .collect();
    let mut links = links.into_keys();
    let name = match (&options.interface, links.next(), links.next()) {
        (Some(name), ..) => name.clone(),
        (None, Some(name), None) => name,
        _ => return Ok(None),
    };
    if elsewhere.contains(&name) {
        return Ok(None);
    }
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else { return Ok(None) };
    let mut netmasks = addresses
        .filter(|address| address.interface_name == name)
        .filter_map(|address| Some(address.netmask?.as_sockaddr_in()?.ip()));
    Ok(netmasks.next())
}

/// The CPUs that get a buffer.
fn buffered_cpus(options: &CaptureOptions) -> Result<Vec<u32>> {
    let online = Files::host().online_cpus()?;
    let wanted = |cpu: &u32| options.cpus.as_ref().is_none_or(|wanted| wanted.contains(cpu));
    let cpus: Vec<u32> = online.iter().copied().filter(wanted).collect();
    if cpus.is_empty() { Err(CaptureError::NoCpu { online }.into()) } else { Ok(cpus) }
}

fn not_running(instance: &Instance) -> Error {
    Error::NotRunning { instance: instance.name().to_owned(), path: instance.dir() }
}

fn taken_down(instance: &Instance) -> Error {
    CaptureError::TakenDown { instance: instance.name().to_owned() }.into()
}

fn buffer_error(operation: &'static str) -> impl Fn(std::io::Error) -> CaptureError {
    move |source| CaptureError::Buffer { operation, source }
}
