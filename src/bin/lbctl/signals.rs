//! Signals for commands that run until they are told to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;

/// Set at the first SIGINT, SIGTERM or SIGHUP. A second signal ends the process at once, in case it waits for a reader
/// that does not read. The kernel then removes what the process had in it.
///
/// Call it before other threads start: they would get the signals otherwise.
pub(crate) fn interruption() -> io::Result<Arc<AtomicBool>> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    // Every thread blocks these signals, except the one that waits for them.
    signals.thread_block()?;
    let interrupted = Arc::<AtomicBool>::default();
    let set = Arc::clone(&interrupted);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while signals.wait().is_ok() {
            if set.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
        }
    })?;
    Ok(interrupted)
}
