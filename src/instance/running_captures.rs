//! The captures that run, and whose they are.

use std::fs::File;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use serde::Serialize;

use crate::instance::Instance;
use crate::instance::captures::folders_of;
use crate::instance::lock::holder_id;

/// A capture that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RunningCapture {
    /// Its place.
    pub(crate) capture: u32,
    /// Its process; `None`: it cannot be seen from here. Not its arguments: they may name clients.
    pub(crate) pid: Option<u32>,
    /// When it began, in seconds since 1970; `None`: not known.
    pub(crate) since: Option<u64>,
}

/// The captures that run: those that hold the lock on their folder.
pub(crate) fn running(instance: &Instance) -> Vec<RunningCapture> {
    let running = |(capture, path): (u32, PathBuf)| {
        let folder = File::open(path).ok()?;
        let made = folder.metadata().ok().and_then(|meta| meta.modified().ok());
        let since = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        // A shared lock, as others who only look take it.
        let Err((folder, _)) = Flock::lock(folder, FlockArg::LockSharedNonblock) else {
            return None;
        };
        Some(RunningCapture {
            capture,
            pid: holder_id(&folder),
            since: since.map(|since| since.as_secs()),
        })
    };
    folders_of(instance).filter_map(running).collect()
}
