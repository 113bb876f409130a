//! Claims: one `lbctl serve` follows an instance, and one `lbctl decap serve` follows each interface.
//!
//! A process that follows locks its own folder beside the instance's. `down` can thus remove all pins while the
//! process goes on. The kernel releases the lock when the process ends, for whatever reason. If a process is killed,
//! its folder remains; the next process reuses it, or `down` removes it.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use super::Instance;
use super::folders;
use super::lock::holder_id;
use super::lock::inode;
use super::pin_error;
use super::remove_folder;
use crate::model::config::is_interface_name;
use crate::model::error::Result;
pub(crate) use crate::model::part::Part;

/// The longest wait for a process that was told to end, even if the instance's lock timeout is longer.
const TIME_TO_TAKE_OVER: Duration = Duration::from_secs(10);

/// The shortest wait: another process may hold the lock only to check who has the claim.
const TIME_TO_LOOK: Duration = Duration::from_millis(500);

impl Part {
    /// Its folder; `None`: no interface can have this name.
    pub(crate) fn folder(&self, instance: &Instance) -> Option<PathBuf> {
        let name = match self {
            Self::Balancer => "serve".to_owned(),
            Self::Decap(interface) if !is_interface_name(interface) => return None,
            // The bpf filesystem accepts no dots, as for the pins of links.
            Self::Decap(interface) => format!("decap:{}", interface.replace('.', ":")),
        };
        Some(instance.parent().join(format!("{}:{name}", instance.name())))
    }
}

/// The process that has claimed a part of an instance; `None`: it cannot be seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder(pub(crate) Option<u32>);

/// A part of an instance that this process follows. No other process can follow it while this one lives.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    dir: Flock<File>,
}

impl Claim {
    /// Takes the claim if it is free. Waits briefly for a process that is about to end.
    pub(crate) fn take(instance: &Instance, path: &Path) -> Result<Result<Self, Holder>> {
        let since = Instant::now();
        let patience = instance.patience.clamped(TIME_TO_LOOK, TIME_TO_TAKE_OVER);
        folders::check_all(instance)?;
        loop {
            folders::make(&instance.parent())?;
            folders::make(path)?;
            let Some(dir) = folders::open_own(path)? else { continue };
            match patience.flock(dir, path, since, "serves the same, to end")? {
                // The previous process may have removed the folder.
                Ok(dir) if inode(dir.metadata()) != inode(fs::metadata(path)) => {}
                Ok(dir) => return Ok(Ok(Self { path: path.to_owned(), dir })),
                Err(dir) => return Ok(Err(Holder(holder_id(&dir)))),
            }
        }
    }

    /// A folder in which this process can pin something. It is removed with the claim.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Somebody may have put another folder there: that one stays.
        if inode(self.dir.metadata()) == inode(fs::metadata(&self.path))
            && let Err(error) = remove_folder(&self.path)
        {
            tracing::debug!("{error}");
        }
    }
}

/// Who has claimed a folder.
pub(crate) fn holder(path: &Path) -> Result<Option<Holder>> {
    let Some(dir) = folders::open_own(path)? else { return Ok(None) };
    // A shared lock: two processes that check at the same time do not mistake each other for one that serves.
    match Flock::lock(dir, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(None),
        Err((dir, Errno::EWOULDBLOCK)) => Ok(Some(Holder(holder_id(&dir)))),
        Err((_, errno)) => Err(pin_error("lock", path, errno.into())),
    }
}

/// Removes the folders of processes that were killed.
pub(crate) fn remove_abandoned(instance: &Instance) {
    let prefix = format!("{}:", instance.name());
    for entry in fs::read_dir(instance.parent()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let path = entry.path();
        if let Ok(Some(dir)) = folders::open_own(&path)
            && let Ok(dir) = Flock::lock(dir, FlockArg::LockExclusiveNonblock)
        {
            drop(Claim { path, dir });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Instance;
    use super::Part;

    #[test]
    fn folders_are_beside_that_of_the_instance() {
        let instance = Instance::new("/sys/fs/bpf", "edge").unwrap();
        let name = |part: Part| {
            let path = part.folder(&instance)?;
            assert_eq!(path.parent(), instance.dir().parent());
            Some(path.file_name()?.to_str()?.to_owned())
        };
        assert_eq!(name(Part::Balancer).as_deref(), Some("edge:serve"));
        let decap = |interface: &str| name(Part::Decap(interface.to_owned()));
        assert_eq!(decap("bond0.7").as_deref(), Some("edge:decap:bond0:7"));
        for strange in ["", "a/b", "..//", "a:b", "a b", "\n", &"x".repeat(129)] {
            assert_eq!(decap(strange), None, "{strange}");
        }
    }
}
