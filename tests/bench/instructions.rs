//! The CPU's own counter of instructions, where the machine has one. Most virtual machines have none.

use perf_event::Builder;
use perf_event::events::Hardware;

use crate::Result;

/// Counts what the CPU retires for the thread that has opened it, in the kernel too.
#[derive(Debug)]
pub(crate) struct Counter(perf_event::Counter);

impl Counter {
    /// Opens it for the calling thread. The error says in a line why that is not possible.
    pub(crate) fn open() -> std::result::Result<Self, String> {
        Builder::new(Hardware::INSTRUCTIONS).exclude_kernel(false).build().map(Self).map_err(
            |error| {
                let why = match error.raw_os_error() {
                    Some(nix::libc::ENOENT | nix::libc::EOPNOTSUPP | nix::libc::ENODEV) => {
                        "this machine has no performance counters, as most virtual ones"
                    }
                    _ => "perf_event_open refused",
                };
                format!("Instructions are not counted: {why} ({error}).")
            },
        )
    }

    /// Counts during `work`.
    pub(crate) fn during<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
        self.0.reset()?;
        self.0.enable()?;
        let done = work();
        self.0.disable()?;
        Ok((done?, self.0.read()?))
    }
}
