//! Keeping a thread on a CPU: each has a connection table and counters of its own.

use nix::sched::CpuSet;
use nix::sched::sched_getaffinity;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use crate::error::Error;
use crate::error::Result;

/// Keeps the thread that made it on one CPU, until it is dropped.
#[derive(Debug)]
pub(crate) struct OnCpu {
    before: CpuSet,
    on: u32,
}

impl OnCpu {
    /// On the first CPU that the thread may run on.
    pub(crate) fn any() -> Result<Self> {
        let before = sched_getaffinity(this_thread()).map_err(error)?;
        let mut this = Self { before, on: 0 };
        this.move_to(this.cpus().next().unwrap_or_default())?;
        Ok(this)
    }

    /// The CPUs that the thread may run on.
    pub(crate) fn cpus(&self) -> impl Iterator<Item = u32> + use<> {
        let before = self.before;
        (0..)
            .zip(0..CpuSet::count())
            .filter(move |(_, at)| before.is_set(*at) == Ok(true))
            .map(|(cpu, _)| cpu)
    }

    /// The CPU that the thread is on.
    pub(crate) fn now(&self) -> u32 {
        self.on
    }

    /// Goes on on another of them.
    pub(crate) fn move_to(&mut self, cpu: u32) -> Result<()> {
        self.on = cpu;
        let mut one = CpuSet::new();
        one.set(cpu as usize).map_err(error)?;
        sched_setaffinity(this_thread(), &one).map_err(error)
    }
}

impl Drop for OnCpu {
    fn drop(&mut self) {
        let _ = sched_setaffinity(this_thread(), &self.before);
    }
}

fn this_thread() -> Pid {
    Pid::from_raw(0)
}

fn error(errno: nix::Error) -> Error {
    Error::Host { operation: "stay on one CPU", source: errno.into() }
}
