//! The lock that admits one writer to an instance: `flock` on its folder, which other users cannot open.
//!
//! The lock ends with the process that holds it, for whatever reason. Every wait for it is bounded.

use std::fmt::Display;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use nix::sys::stat::major;
use nix::sys::stat::minor;

use super::Instance;
use super::folders;
use super::pin_error;
use crate::model::error::Error;
use crate::model::error::Result;

/// How long a command waits for another one by default.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest pause between two attempts: nothing reports that a lock is free.
const PAUSE: Duration = Duration::from_millis(20);

/// After how long a waiting command says so.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// How often to read `/proc/locks` before the holder counts as a process that cannot be seen.
const LOOKS: u32 = 3;

/// How much of `/proc/locks` is read at most.
const MOST_LOCKS: u64 = 4 << 20;

/// The lock that the one writer of an instance holds.
#[derive(Debug)]
pub(crate) struct Lock {
    _dir: Flock<File>,
}

/// How long to wait for the lock, and what ends the wait.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    timeout: Duration,
    interrupt: Option<Arc<AtomicBool>>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: DEFAULT_LOCK_TIMEOUT, interrupt: None }
    }
}

impl Patience {
    /// The same, with the timeout within these bounds.
    pub(super) fn clamped(&self, least: Duration, most: Duration) -> Self {
        Self { timeout: self.timeout.clamp(least, most), ..self.clone() }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|interrupt| interrupt.load(Ordering::Relaxed))
    }

    /// Locks a folder, within the time that remains since `since`. `does` describes what the holder does. Returns the
    /// folder if another process still holds it or the wait was interrupted.
    pub(super) fn flock(
        &self,
        mut dir: File,
        path: &Path,
        since: Instant,
        does: impl Display,
    ) -> Result<Result<Flock<File>, File>> {
        let mut pause = Duration::from_millis(1);
        let mut told = false;
        loop {
            dir = match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(Ok(locked)),
                Err((dir, Errno::EWOULDBLOCK)) => dir,
                Err((_, errno)) => return Err(pin_error("lock", path, errno.into())),
            };
            let left = self.timeout.saturating_sub(since.elapsed());
            if self.is_interrupted() || left.is_zero() {
                return Ok(Err(dir));
            }
            if !told && since.elapsed() >= TELL_AFTER {
                told = true;
                tracing::info!("waiting for {}, which {does}", holder(&dir));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE);
        }
    }
}

impl Instance {
    /// The same instance, with another limit on how long a call waits for a command that changes it
    /// ([`DEFAULT_LOCK_TIMEOUT`] by default; zero: not at all). After that the call fails with [`Error::Locked`],
    /// which names the process that holds the lock. Readers never wait.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.patience.timeout = timeout;
        self
    }

    /// How long a call waits for a command that changes the instance.
    pub fn lock_timeout(&self) -> Duration {
        self.patience.timeout
    }

    /// The same instance, but no call waits for another command once `interrupt` is set, for example by a signal
    /// handler: it fails with [`Error::LockInterrupted`]. A call that already holds the lock goes on.
    #[must_use]
    pub fn with_interrupt(mut self, interrupt: Arc<AtomicBool>) -> Self {
        self.patience.interrupt = Some(interrupt);
        self
    }

    /// The same instance, for a process that is about to end: it waits at most this long, interrupted or not.
    pub(crate) fn leaving(&self, most: Duration) -> Self {
        let timeout = self.patience.timeout.min(most);
        Self { patience: Patience { timeout, interrupt: None }, ..self.clone() }
    }

    /// Waits until no other writer is at work. Creates the instance's folders.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let since = Instant::now();
        folders::check_all(self)?;
        let lock = loop {
            folders::make(&self.parent())?;
            folders::make(&self.dir())?;
            if let Some(lock) = self.lock_dir(since)? {
                break lock;
            }
        };
        // Creates them under the lock: the previous holder may have removed them.
        super::PARTS.iter().try_for_each(|part| folders::make(&self.dir().join(part)))?;
        Ok(lock)
    }

    /// As [`Self::lock`], but `None` if the instance does not exist.
    pub(crate) fn lock_existing(&self) -> Result<Option<Lock>> {
        let since = Instant::now();
        folders::check_all(self)?;
        while self.exists() {
            if let Some(lock) = self.lock_dir(since)? {
                return Ok(Some(lock));
            }
        }
        Ok(None)
    }

    /// As [`Self::lock_existing`], but without waiting: `None` also if another writer is at work.
    pub(crate) fn try_lock_existing(&self) -> Result<Option<Lock>> {
        folders::check_all(self)?;
        match self.leaving(Duration::ZERO).lock_dir(Instant::now()) {
            Err(Error::Locked { .. }) => Ok(None),
            done => done,
        }
    }

    /// `None`: the previous holder removed the folder meanwhile.
    fn lock_dir(&self, since: Instant) -> Result<Option<Lock>> {
        let path = self.dir();
        if folders::open_own(&self.parent())?.is_none() {
            return Ok(None);
        }
        let Some(dir) = folders::open_own(&path)? else { return Ok(None) };
        let locked = self.flock(dir, &path, since)?;
        if inode(locked.metadata()) != inode(fs::metadata(&path)) {
            return Ok(None);
        }
        folders::close_all(self)?;
        Ok(Some(Lock { _dir: locked }))
    }

    /// Locks a folder, within the time that remains.
    pub(crate) fn flock(&self, dir: File, path: &Path, since: Instant) -> Result<Flock<File>> {
        let (instance, timeout) = (self.name().to_owned(), self.patience.timeout);
        // A statement of its own: before Rust 1.89, a variable cannot hold `format_args!`.
        let locked = self.patience.flock(
            dir,
            path,
            since,
            format_args!("is changing instance '{instance}'"),
        );
        match locked? {
            Ok(locked) => Ok(locked),
            Err(dir) => {
                let holder = holder(&dir);
                Err(if self.patience.is_interrupted() {
                    Error::LockInterrupted { instance, holder }
                } else {
                    Error::Locked { instance, holder, timeout }
                })
            }
        }
    }
}

pub(super) fn inode(meta: io::Result<fs::Metadata>) -> Option<u64> {
    meta.map(|meta| meta.ino()).ok()
}

/// The process that has locked a file, in words.
fn holder(file: &File) -> String {
    named(holder_id(file))
}

/// The process that has locked a file; `None`: it cannot be seen from here.
pub(super) fn holder_id(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let inode = format!("{:02x}:{:02x}:{}", major(found.dev()), minor(found.dev()), found.ino());
    let look = || {
        let mut text = Vec::new();
        let _ = File::open("/proc/locks").ok()?.take(MOST_LOCKS).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        text.lines().find_map(|line| locked_by(line, &inode)).filter(|pid| *pid != 0)
    };
    // The kernel returns the list in pieces, and may leave out some of it while others lock and unlock.
    (0..LOOKS).find_map(|_| look())
}

/// The holder of a lock, in words.
pub(crate) fn named(holder: Option<u32>) -> String {
    holder.map_or_else(
        || "a process that cannot be seen from here (in another container?)".to_owned(),
        process,
    )
}

/// The process of a line of `/proc/locks` (`proc_locks(5)`), if it holds a lock of this kind on this inode: `1: FLOCK
/// ADVISORY  WRITE 1234 00:2b:5678 0 EOF`. Waiting processes have an arrow in front.
fn locked_by(line: &str, inode: &str) -> Option<u32> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "FLOCK", _, _, pid, of, ..] if of == inode => Some(pid.parse().unwrap_or(0)),
        _ => None,
    }
}

/// A process and its command line.
fn process(pid: u32) -> String {
    let read = |file: &str| {
        let mut text = Vec::new();
        let opened = File::open(format!("/proc/{pid}/{file}")).ok()?;
        opened.take(4096).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    match read("cmdline").or_else(|| read("comm")) {
        Some(command) => format!("process {pid} ({})", crate::model::text::quote(&command)),
        // The lock belongs to the open file, which a child process may have inherited.
        None => format!("a child of process {pid}, which has ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::DEFAULT_LOCK_TIMEOUT;
    use super::locked_by;

    /// docs/limits.md states the same time.
    #[test]
    fn documentation_tells_how_long_is_waited() {
        let text = include_str!("../../docs/limits.md").replace('\n', " ");
        assert!(text.contains(&format!("(default {})", DEFAULT_LOCK_TIMEOUT.as_secs())));
    }

    #[test]
    fn holders_are_found_in_the_kernels_list() {
        let inode = "00:2b:5678";
        for (line, pid) in [
            ("1: FLOCK  ADVISORY  WRITE 1234 00:2b:5678 0 EOF", Some(1234)),
            ("12: FLOCK  ADVISORY  READ 7 00:2b:5678 0 EOF", Some(7)),
            ("1: FLOCK  ADVISORY  WRITE 0 00:2b:5678 0 EOF", Some(0)),
            ("1: -> FLOCK  ADVISORY  WRITE 1235 00:2b:5678 0 EOF", None),
            ("1: POSIX  ADVISORY  WRITE 1234 00:2b:5678 0 EOF", None),
            ("1: FLOCK  ADVISORY  WRITE 1234 00:2b:56789 0 EOF", None),
            ("", None),
        ] {
            assert_eq!(locked_by(line, inode), pid, "{line}");
        }
    }
}
