//! The condition of the instance. A background thread reads it, as that takes long if tables are large.

use std::io;
use std::panic;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::TryRecvError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::Condition;
use l4lb::Instance;

/// Time from the end of a reading to the next one.
const PAUSE: Duration = Duration::from_secs(5);

/// Readings take at most 1/`PARTS` of the time.
const PARTS: u32 = 5;

/// The condition, or why it is not known.
pub(super) type Reading = Result<Condition, String>;

/// Reads the condition again and again, until this is dropped.
#[derive(Debug)]
pub(super) struct Readings {
    received: Receiver<Reading>,
    thread: Option<JoinHandle<()>>,
}

impl Readings {
    pub(super) fn start(instance: &Instance) -> io::Result<Self> {
        let (sender, received) = mpsc::channel();
        let instance = instance.clone();
        let thread = thread::Builder::new().name("condition".to_owned()).spawn(move || {
            loop {
                let begun = Instant::now();
                let status = Balancer::open(&instance).and_then(|balancer| balancer.status());
                let condition =
                    status.map(|status| status.condition).map_err(|error| error.to_string());
                if sender.send(condition).is_err() {
                    return;
                }
                thread::sleep(PAUSE.max(begun.elapsed() * (PARTS - 1)));
            }
        })?;
        Ok(Self { received, thread: Some(thread) })
    }

    /// The latest reading since the last call.
    pub(super) fn latest(&mut self) -> Option<Reading> {
        let mut latest = None;
        loop {
            match self.received.try_recv() {
                Ok(reading) => latest = Some(reading),
                Err(TryRecvError::Empty) => return latest,
                // Only a panic ends the thread, and it has restored the terminal already.
                Err(TryRecvError::Disconnected) => {
                    if let Some(Err(panicked)) = self.thread.take().map(JoinHandle::join) {
                        panic::resume_unwind(panicked);
                    }
                    return latest;
                }
            }
        }
    }
}
