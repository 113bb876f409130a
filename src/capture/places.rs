//! The places that captures have in an instance.
//!
//! `include/l4lb/watch/captures.h` says how packets get from one to the next. Each capture holds a lock on a folder of
//! its own, `<instance>/captures/<capture>`: the kernel lets go of it when the process ends, however that may be,
//! and the next command takes away what such a one has left. Until then its filters run in vain.

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
use crate::instance::links::ROOT;
use crate::instance::own_programs::CAPTURE_NEXT;
use crate::instance::own_programs::CAPTURES;
use crate::instance::own_programs::OwnProgram;
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

/// A capture is a filter and the program that copies; behind the last one at each point is another program.
/// The chain may be full.
const MOST_HOOKS: usize = ((MOST_TAIL_CALLS - consts::CHAIN_SLOTS - 2) / 2) as usize;

/// How long the end of a capture waits for another writer: whoever has ended it is waiting.
const TIME_TO_LEAVE: Duration = Duration::from_secs(3);

/// Where captures are.
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
    /// Those of an instance in which there was a capture before.
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

    /// Those of an instance, ready for captures.
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

    /// Whether the place has this program, and packets get there.
    pub(super) fn has(&self, place: u32, program: u32) -> Result<bool> {
        let wanted = self.links(&[])?;
        let linked = wanted
            .into_iter()
            .all(|(at, next)| self.memory.words()[at as usize].load(Ordering::Relaxed) == next);
        Ok(linked && self.programs.id_at(place)? == Some(program))
    }

    /// Puts programs into places. Packets that are under way may miss them.
    pub(super) fn put(&self, programs: &[(u32, BorrowedFd<'_>)]) -> Result<()> {
        for (place, program) in programs {
            self.programs.set(*place, *program)?;
        }
        self.relink(&[])
    }

    /// Takes the programs of a capture out of their places.
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

    /// Makes room for that many programs more, or says that there is none.
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

    /// Word → what `capture_next` is to have there, as if there were nothing in the places `without`.
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
        // What the balancer looks at: nobody captures.
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

/// The place of a capture that runs. Held for as long as it does.
#[derive(Debug)]
pub(super) struct Place {
    instance: Instance,
    pub(super) capture: u32,
    dir: Flock<File>,
}

impl Place {
    /// Takes a free one.
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
            // Others look at it for a moment.
            let dir = instance.flock(dir, &path, Instant::now())?;
            return Ok(Self { instance: instance.clone(), capture, dir });
        }
        Err(CaptureError::TooMany { instance: instance.name().to_owned() }.into())
    }

    /// Whether the instance still has it.
    pub(super) fn is_there(&self) -> bool {
        let inode = |meta: io::Result<std::fs::Metadata>| meta.map(|meta| meta.ino()).ok();
        let path = self.instance.capture(self.capture);
        inode(self.dir.metadata()) == inode(std::fs::metadata(path))
    }

    /// Gives it back; while another writer is at work, to the next command, for which the folder's lock ends.
    pub(super) fn leave(&self) -> Result<()> {
        let lock = match self.instance.leaving(TIME_TO_LEAVE).lock_existing() {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(()),
            Err(error @ Error::Locked { .. }) => {
                tracing::warn!("the capture is left to the next command to remove: {error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.is_there() { remove(&self.instance, self.capture, &lock) } else { Ok(()) }
    }
}

/// Takes a capture away.
pub(super) fn remove(instance: &Instance, capture: u32, lock: &Lock) -> Result<()> {
    remove_capture(instance, capture)?;
    settle(instance, lock)
}

/// Takes away what captures have left whose processes were killed. Whether there was anything.
///
/// `lbctl` does so with every command but those that only look (`plan`, `trace`, `doctor`, `test`). A capture
/// that was killed copies nothing any more, and holds up no packet: what is left is a filter that is run for
/// nothing. So it waits for nobody: while another writer is at work, it leaves this to who comes next.
pub fn remove_abandoned(instance: &Instance) -> Result<bool> {
    // Without any, a process was killed that was about to remove the folder of captures.
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
        // Shared: two that look at the same time do not take each other for a capture.
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

/// Takes away what is there for captures only, where there are none any more.
fn settle(instance: &Instance, _lock: &Lock) -> Result<()> {
    let at_entry = instance.map(CAPTURES).exists()
        && instance.map(CAPTURE_NEXT).exists()
        && Places::open(instance)?.any_at_entry()?;
    if !at_entry && instance.program(ROOT).exists() {
        Chain::open(instance)?.remove_named(OwnProgram::Captures.name())?;
    }
    if !any(instance) {
        // Another may come at any time: that it is empty is all that matters.
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
