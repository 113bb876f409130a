//! The signals that end commands which run until they are told to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;

/// Set at the first SIGINT, SIGTERM or SIGHUP. Another one ends the process at once, should it wait for a
/// reader who does not read: what it has in the kernel goes with it.
///
/// To be called before other threads are started: they would take the signals as ever.
pub(crate) fn interruption() -> io::Result<Arc<AtomicBool>> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    // Every thread but the one that waits leaves them alone.
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
