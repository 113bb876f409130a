//! A background thread reads what takes long. Its [`Pace`] bounds how much of a CPU it uses.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::model::error::Result;

/// How often to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How old a sample may become. If reading takes so long that this would use more than one part in `share_of_cpu` of
    /// a CPU, samples become older.
    pub(super) interval: Duration,
    pub(super) share_of_cpu: u32,
}

/// The same for a sample that is outdated, as by a change of what runs.
const OUTDATED: Pace = Pace { interval: Duration::from_secs(1), share_of_cpu: 10 };

impl Pace {
    /// How long to wait after a reading that took so long.
    fn pause(self, took: Duration) -> Duration {
        (took * self.share_of_cpu).max(self.interval)
    }
}

/// How long a caller waits if there is no sample yet.
const FIRST: Duration = Duration::from_secs(1);

/// A value, and when it was read.
#[derive(Debug)]
pub(super) struct Sample<T> {
    pub(super) value: T,
    at: Instant,
}

impl<T> Sample<T> {
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

/// The last sample of a value. If a caller asks for it and it is too old, a thread reads it again.
#[derive(Debug)]
pub(super) struct Background<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    pace: Pace,
    state: Mutex<State<T>>,
    read: Condvar,
}

#[derive(Debug)]
struct State<T> {
    sample: Option<Arc<Sample<T>>>,
    /// Why the last attempt failed.
    error: Option<String>,
    reading: bool,
    /// When the last attempt ended, and how long it took.
    last: Option<(Instant, Duration)>,
}

impl<T> State<T> {
    /// Whether it is time to read the value again.
    fn is_due(&self, pace: Pace, outdated: impl Fn(&T) -> bool) -> bool {
        let Some((end, took)) = self.last else { return true };
        let since = end.elapsed();
        if since < OUTDATED.pause(took) {
            return false;
        }
        since >= pace.pause(took)
            || self.sample.as_ref().is_none_or(|sample| outdated(&sample.value))
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync + 'static> Background<T> {
    pub(super) fn new(pace: Pace) -> Self {
        let state = State { sample: None, error: None, reading: false, last: None };
        Self { shared: Arc::new(Shared { pace, state: Mutex::new(state), read: Condvar::new() }) }
    }

    /// The last sample. If it is too old, or `outdated` by other changes, a thread begins to read it again. The caller
    /// waits for that only if there is no sample yet, and not for long.
    pub(super) fn get(
        &self,
        outdated: impl Fn(&T) -> bool,
        read: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> std::result::Result<Option<Arc<Sample<T>>>, String> {
        let mut state = self.shared.lock();
        if !state.reading && state.is_due(self.shared.pace, outdated) {
            state.reading = true;
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("l4lb-reader".to_owned()).spawn(move || {
                let _done = Done(&shared);
                let start = Instant::now();
                let read = read();
                let mut state = shared.lock();
                state.last = Some((Instant::now(), start.elapsed()));
                match read {
                    Ok(value) => {
                        state.sample = Some(Arc::new(Sample { value, at: start }));
                        state.error = None;
                    }
                    Err(error) => state.error = Some(error.to_string()),
                }
            });
            if let Err(error) = started {
                state.reading = false;
                state.error = Some(format!("cannot start a thread to read it: {error}"));
            }
        }
        if state.sample.is_none() && state.reading {
            let missing = |state: &mut State<T>| state.sample.is_none() && state.reading;
            let waited = self.shared.read.wait_timeout_while(state, FIRST, missing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(state.sample.clone()),
        }
    }
}

/// Marks the end of a reading when it is dropped, also by a panic.
struct Done<'a, T>(&'a Shared<T>);

impl<T> Drop for Done<'_, T> {
    fn drop(&mut self) {
        self.0.lock().reading = false;
        self.0.read.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    use super::Background;
    use super::Pace;

    const SELDOM: Pace = Pace { interval: std::time::Duration::from_secs(60), share_of_cpu: 100 };

    #[test]
    fn it_is_read_once_for_many() {
        let background = Background::new(SELDOM);
        let reads = Arc::new(AtomicU32::new(0));
        let read = || {
            let reads = Arc::clone(&reads);
            move || Ok(reads.fetch_add(1, Ordering::Relaxed) + 1)
        };
        for _ in 0..10 {
            let sample = background.get(|_| false, read()).unwrap().expect("waits for the first");
            assert_eq!(sample.value, 1);
        }
        // Outdated, but just read.
        assert_eq!(background.get(|_| true, read()).unwrap().expect("a sample").value, 1);
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_failure_is_told_and_not_repeated_at_once() {
        let background = Background::<u32>::new(SELDOM);
        let fail = || Err(crate::Error::KernelTooOld { release: "2.6".to_owned() });
        let why = background.get(|_| false, fail).expect_err("it fails");
        assert_eq!(background.get(|_| false, || unreachable!()).expect_err("still"), why);
    }
}
