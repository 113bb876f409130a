//! The places that captures have in an instance.
//!
//! `include/l4lb/watch/captures.h` says how packets get from one place to the next. Each capture holds a lock on a
//! folder of its own, `<instance>/captures/<capture>`. The kernel releases the lock when the process ends, in whatever
//! way. The next command then removes what the capture has left. Until then its filters run without effect.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use libbpf_rs::MapHandle;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::captures::any;
use crate::instance::captures::folders_of;
use crate::instance::chain::slots::Chain;
use crate::instance::folders;
use crate::instance::own_programs::CAPTURE_NEXT;
use crate::instance::own_programs::CAPTURES;
use crate::instance::own_programs::OwnProgram;
use crate::instance::own_programs::ROOT;
use crate::instance::pin_error;
use crate::instance::programs;
use crate::instance::programs::CaptureProgram;
use crate::kernel::bpf::ArrayMemory;
use crate::kernel::bpf::write_point;
use crate::kernel::maps;
use crate::kernel::maps::MapError;
use crate::kernel::maps::ProgramArray;
use crate::model::abi::consts;
use crate::model::error::CaptureError;
use crate::model::error::Error;
use crate::model::error::Result;

/// How many tail calls the kernel follows for a packet (`MAX_TAIL_CALL_CNT`).
const MOST_TAIL_CALLS: u32 = 33;

/// Each capture takes two tail calls: its filter, and the program that copies. At each point another program follows
/// the last capture. This leaves room for a full chain.
const MOST_HOOKS: usize = ((MOST_TAIL_CALLS - consts::CHAIN_SLOTS - 2) / 2) as usize;

/// How long a capture that ends waits for another writer. The user waits as long.
const TIME_TO_LEAVE: Duration = Duration::from_secs(3);

/// The capture points.
const POINTS: [(u32, u32); 2] = [
    (consts::CAPTURE_ENTRY, consts::CAPTURE_ENTRY_END),
    (consts::CAPTURE_EXIT, consts::CAPTURE_EXIT_END),
];

/// The places of an instance.
#[derive(Debug)]
pub(super) struct Places {
    programs: ProgramArray,
    next: MapHandle,
    memory: ArrayMemory,
}

impl Places {
    /// The places, if the instance has had a capture.
    pub(super) fn open(instance: &Instance) -> Result<Self> {
        let programs = ProgramArray::open(&instance.map(CAPTURES))?;
        let next = maps::open(&instance.map(CAPTURE_NEXT))?;
        let memory = ArrayMemory::new(&next)
            .map_err(|source| MapError::new(CAPTURE_NEXT, "map its memory", source))?;
        if memory.words().len() < consts::CAPTURE_PLACES as usize {
            return Err(MapError::layout(CAPTURE_NEXT).into());
        }
        Ok(Self { programs, next, memory })
    }

    /// The places, prepared for captures.
    pub(super) fn prepare(instance: &Instance) -> Result<(Self, CaptureProgram)> {
        let loaded = programs::load_capture(instance)?;
        let places = Self::open(instance)?;
        places.programs.set(consts::CAPTURE_ENTRY_END, loaded.entry_end.as_fd())?;
        places.programs.set(consts::CAPTURE_EXIT_END, loaded.exit_end.as_fd())?;
        places.relink(&[])?;
        Ok((places, loaded))
    }

    pub(super) fn programs(&self) -> BorrowedFd<'_> {
        self.programs.handle().as_fd()
    }

    pub(super) fn next(&self) -> BorrowedFd<'_> {
        self.next.as_fd()
    }

    /// The kernel's id of the array of programs.
    pub(super) fn id(&self) -> Result<u32> {
        Ok(maps::id(self.programs.handle())?)
    }

    /// Whether the place has this program and packets reach it.
    pub(super) fn has(&self, place: u32, program: u32) -> Result<bool> {
        let wanted = self.links(&[])?;
        let linked = wanted
            .into_iter()
            .all(|(at, next)| self.memory.words()[at as usize].load(Ordering::Relaxed) == next);
        Ok(linked && self.programs.id_at(place)? == Some(program))
    }

    /// Puts programs into places. Packets that are being processed may miss them.
    pub(super) fn put(&self, programs: &[(u32, BorrowedFd<'_>)]) -> Result<()> {
        for (place, program) in programs {
            self.programs.set(*place, *program)?;
        }
        self.relink(&[])
    }

    /// Removes the programs of a capture from their places.
    fn remove(&self, capture: u32) -> Result<()> {
        let places = POINTS.map(|(first, _)| first + capture);
        self.relink(&places)?;
        for place in places {
            if self.programs.id_at(place)?.is_some() {
                self.programs.remove(place)?;
            }
        }
        Ok(())
    }

    /// Makes room for this many programs more, or says that there is none.
    pub(super) fn refuse_too_many(&self, more: usize) -> Result<()> {
        let mut hooks = more;
        for (first, end) in POINTS {
            for place in first..end {
                hooks += usize::from(self.programs.id_at(place)?.is_some());
            }
        }
        if hooks > MOST_HOOKS {
            return Err(CaptureError::TooManyPrograms.into());
        }
        Ok(())
    }

    fn any_at_entry(&self) -> Result<bool> {
        for place in consts::CAPTURE_ENTRY..consts::CAPTURE_ENTRY_END {
            if self.programs.id_at(place)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Word → the value that `capture_next` needs there, as if the places `without` were empty.
    fn links(&self, without: &[u32]) -> Result<Vec<(u32, u64)>> {
        let mut links = Vec::new();
        for (first, end) in POINTS {
            let mut next = end;
            for place in (first..=end).rev() {
                if !without.contains(&place) && self.programs.id_at(place)?.is_some() {
                    next = place;
                }
                links.push((place, next.into()));
            }
        }
        // The balancer reads this: no capture.
        if let Some((_, next)) = links.iter_mut().find(|(at, _)| *at == consts::CAPTURE_EXIT)
            && *next == u64::from(consts::CAPTURE_EXIT_END)
        {
            *next = 0;
        }
        Ok(links)
    }

    fn relink(&self, without: &[u32]) -> Result<()> {
        let words = self.memory.words();
        for (at, next) in self.links(without)? {
            if words[at as usize].load(Ordering::Relaxed) != next {
                write_point();
                words[at as usize].store(next, Ordering::Release);
            }
        }
        Ok(())
    }
}

/// The place of a running capture, held as long as it runs.
#[derive(Debug)]
pub(super) struct Place {
    instance: Instance,
    pub(super) capture: u32,
    dir: Flock<File>,
}

impl Place {
    /// Takes a free place.
    pub(super) fn take(instance: &Instance, _lock: &Lock) -> Result<Self> {
        for capture in 0..consts::MAX_CAPTURES {
            let path = instance.capture(capture);
            if path.exists() {
                continue;
            }
            folders::make(&instance.captures())?;
            folders::make(&path)?;
            let open = |source| pin_error("lock", &path, source);
            let dir = File::open(&path).map_err(open)?;
            // Other commands lock it for a moment to look at it.
            let dir = instance.flock(dir, &path, Instant::now())?;
            return Ok(Self { instance: instance.clone(), capture, dir });
        }
        Err(CaptureError::TooMany { instance: instance.name().to_owned() }.into())
    }

    /// Whether the instance still has the place.
    pub(super) fn is_there(&self) -> bool {
        let inode = |meta: io::Result<std::fs::Metadata>| meta.map(|meta| meta.ino()).ok();
        let path = self.instance.capture(self.capture);
        inode(self.dir.metadata()) == inode(std::fs::metadata(path))
    }

    /// Gives the place back. If another writer is busy, the next command does so: the lock on the folder ends here.
    pub(super) fn leave(&self) -> Result<()> {
        let lock = match self.instance.leaving(TIME_TO_LEAVE).lock_existing() {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(()),
            Err(error @ Error::Locked { .. }) => {
                tracing::warn!("the next command removes the capture: {error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.is_there() { remove(&self.instance, self.capture, &lock) } else { Ok(()) }
    }
}

/// Removes a capture.
pub(super) fn remove(instance: &Instance, capture: u32, lock: &Lock) -> Result<()> {
    remove_capture(instance, capture)?;
    settle(instance, lock)
}

/// Removes what captures whose processes were killed have left. Returns whether there was anything.
///
/// Every `lbctl` command does so, except those that only look (`plan`, `trace`, `doctor`, `test`). A capture that was
/// killed copies nothing any more and delays no packet: only its filter still runs. So this takes no time from the
/// command: if another writer is busy, the next command does it.
pub fn remove_abandoned(instance: &Instance) -> Result<bool> {
    // If there is none, a process was killed while it removed the folder of captures.
    let nothing = || any(instance) && abandoned(instance).is_empty();
    if !instance.captures().exists() || nothing() {
        return Ok(false);
    }
    let Some(lock) = instance.try_lock_existing()? else { return Ok(false) };
    remove_abandoned_locked(instance, &lock)
}

pub(super) fn remove_abandoned_locked(instance: &Instance, lock: &Lock) -> Result<bool> {
    let abandoned = abandoned(instance);
    for capture in &abandoned {
        remove_capture(instance, *capture)?;
    }
    settle(instance, lock)?;
    Ok(!abandoned.is_empty())
}

/// The captures whose folders nobody has locked.
fn abandoned(instance: &Instance) -> Vec<u32> {
    let is_free = |path: &PathBuf| {
        // A shared lock: two commands that look at the same time do not take each other for a capture.
        File::open(path).is_ok_and(|dir| Flock::lock(dir, FlockArg::LockSharedNonblock).is_ok())
    };
    folders_of(instance).filter(|(_, path)| is_free(path)).map(|(capture, _)| capture).collect()
}

fn remove_capture(instance: &Instance, capture: u32) -> Result<()> {
    if instance.map(CAPTURES).exists() && instance.map(CAPTURE_NEXT).exists() {
        Places::open(instance)?.remove(capture)?;
    }
    let path = instance.capture(capture);
    write_point();
    match std::fs::remove_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(pin_error("remove", &path, error))
        }
        _ => Ok(()),
    }
}

/// Removes what only captures need, if there are none any more.
fn settle(instance: &Instance, _lock: &Lock) -> Result<()> {
    let at_entry = instance.map(CAPTURES).exists()
        && instance.map(CAPTURE_NEXT).exists()
        && Places::open(instance)?.any_at_entry()?;
    if !at_entry && instance.program(ROOT).exists() {
        Chain::open(instance)?.remove_named(OwnProgram::Captures.name())?;
    }
    if !any(instance) {
        // Another capture may start at any time; it only matters that the folder is empty.
        let _ = std::fs::remove_dir(instance.captures());
    }
    Ok(())
}

/// Puts the program that runs captures at entry into the chain, unless it is there.
pub(super) fn enter_chain(instance: &Instance, program: BorrowedFd<'_>) -> Result<()> {
    let (slot, name) = (OwnProgram::Captures.slot(), OwnProgram::Captures.name());
    let chain = Chain::open(instance)?;
    if chain.in_place(slot, name)? {
        return Ok(());
    }
    chain.refuse_taken(slot, name)?;
    chain.put(slot, program, name)
}
