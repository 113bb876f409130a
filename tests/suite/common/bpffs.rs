//! A BPF filesystem for one test.

use std::fs;
use std::io;
use std::path::Path;
use std::process;
use std::sync::Once;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;
use tempfile::TempDir;

use super::Cleanup;
use super::need_root;

/// How the directories are named: this, the process, a dash, a random part.
const PREFIX: &str = "l4lb-test-";

/// A BPF filesystem on a directory of its own.
///
/// The pins in it end with it, and with the pins the programs, maps and links that nobody else
/// holds.
#[derive(Debug)]
pub(crate) struct Bpffs {
    /// `None` only while dropping.
    directory: Option<TempDir>,
}

impl Bpffs {
    /// Mounts one that is root's alone.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::in_mode("0700")
    }

    /// Mounts one of this mode, in octal digits.
    #[track_caller]
    pub(crate) fn in_mode(mode: &str) -> Self {
        static SWEEP: Once = Once::new();
        need_root();
        SWEEP.call_once(sweep);
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", process::id()))
            .tempdir()
            .expect("make a directory for bpffs");
        let options = format!("mode={mode}");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), Some(&*options))
            .expect("mount a BPF filesystem");
        Self { directory: Some(directory) }
    }

    /// Where it is mounted: what `lbctl --bpffs` wants.
    pub(crate) fn path(&self) -> &Path {
        self.directory.as_ref().expect("not dropped").path()
    }

    /// [`path`](Self::path) as text, for a command line.
    pub(crate) fn text(&self) -> &str {
        self.path().to_str().expect("a temporary directory has a printable path")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else {
            return;
        };
        let mut cleanup = Cleanup::of(format!("bpffs {}", directory.path().display()));
        cleanup.step("unmount", umount2(directory.path(), MntFlags::MNT_DETACH));
        cleanup.step("remove", directory.close());
        cleanup.finish();
    }
}

/// Removes what test processes that were killed left: a mount is the one thing that the kernel does
/// not take back by itself. Errors are passed over: another process may be sweeping too.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some((owner, _)) = owner.and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if matches!(fs::exists(format!("/proc/{owner}")), Ok(false)) {
            let _: nix::Result<()> = umount2(&entry.path(), MntFlags::MNT_DETACH);
            let _: io::Result<()> = fs::remove_dir(entry.path());
        }
    }
}
