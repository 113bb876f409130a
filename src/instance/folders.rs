//! Checks who owns the folders of pins. If the bpf filesystem is open to everybody (`mount -t bpf` makes it so, mode
//! 1777), any user can create `l4lb` first, and the owner of a folder can replace what is in it.
//!
//! From the mount downwards, `lbctl` opens each folder without following a link and checks the handle. The owner must
//! be the caller or root, and nobody else may write to it. After this check, only the owner of the folder or of the
//! folder above could rename it. So `lbctl` can then use the paths of its contents.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::Metadata;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::BPF_FS_MAGIC;
use nix::sys::statfs::fstatfs;

use super::Instance;
use super::pin_error;
use crate::kernel::bpf::write_point;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::error::UntrustedFolder;

/// The mode of new folders: a user who cannot open a folder cannot lock it either.
const MODE: u32 = 0o700;

/// Group or others may write.
const WRITABLE: u32 = 0o022;

/// Group or others have any permission.
const OPEN: u32 = 0o077;

fn untrusted(path: &Path, why: impl Into<String>, remedy: impl Into<String>) -> Error {
    let folder = UntrustedFolder { path: path.to_owned(), why: why.into(), remedy: remedy.into() };
    Error::UntrustedFolder(Box::new(folder))
}

fn mode(found: &Metadata) -> u32 {
    found.mode() & 0o7777
}

/// Opens a folder safely, whatever others do at the same time; `None`: nothing is there.
fn open(path: &Path) -> Result<Option<File>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    match File::options().read(true).custom_flags(flags.bits()).open(path) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let strange = [Errno::ENOTDIR, Errno::ELOOP].map(|errno| Some(errno as i32));
            if strange.contains(&error.raw_os_error()) {
                let remedy =
                    format!("lbctl makes folders only; remove it with 'rm {}'", path.display());
                return Err(untrusted(path, "is no folder", remedy));
            }
            Err(pin_error("open", path, error))
        }
    }
}

/// Whether a user's folders can be trusted: those of the caller or of root, who could do anything anyway. The caller
/// need not be root if it has the capabilities.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == nix::unistd::geteuid().as_raw()
}

/// Refuses what belongs to another user, or what others can write to.
fn check(path: &Path, found: &Metadata) -> Result<()> {
    let shown = path.display();
    if !is_trusted(found.uid()) {
        let why = format!("belongs to user {}, who could exchange what is in it", found.uid());
        let remedy = format!(
            "find out who that is and what it is for, remove it with 'rm -r {shown}', and keep others out of the bpf \
             filesystem by 'chmod 0700' of the folder that it is mounted on"
        );
        return Err(untrusted(path, why, remedy));
    }
    if found.is_dir() && mode(found) & WRITABLE != 0 {
        let why = format!("can be written to by others (mode {:04o})", mode(found));
        let remedy = format!(
            "check that all in it is root's ('find {shown} ! -user root' prints nothing), then 'chmod 0700 {shown}'"
        );
        return Err(untrusted(path, why, remedy));
    }
    if found.is_symlink() {
        let remedy = format!("lbctl makes none; remove it with 'rm {shown}'");
        return Err(untrusted(path, "is a symbolic link", remedy));
    }
    Ok(())
}

/// Checks the mount of the bpf filesystem. In a sticky folder, nobody else can rename root's files.
fn check_mount(path: &Path) -> Result<()> {
    let missing = || Error::NoBpffs { path: path.to_owned() };
    // Who may only enter it (mode 0711) cannot open it otherwise.
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH;
    let mount = File::options().read(true).custom_flags(flags.bits()).open(path);
    let mount = mount.map_err(|_| missing())?;
    if !fstatfs(&mount).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC) {
        return Err(missing());
    }
    let found = mount.metadata().map_err(|source| pin_error("look at", path, source))?;
    let sticky = Mode::S_ISVTX.bits();
    let shown = path.display();
    if !is_trusted(found.uid()) {
        let why = format!("belongs to user {}, who could exchange what is in it", found.uid());
        let remedy = format!("'chown root {shown}', or mount a bpf filesystem without uid=");
        return Err(untrusted(path, why, remedy));
    }
    if mode(&found) & WRITABLE != 0 && mode(&found) & sticky == 0 {
        let why = format!(
            "lets others rename what is root's (mode {:04o}, without the sticky bit)",
            mode(&found)
        );
        return Err(untrusted(path, why, format!("'chmod 0700 {shown}'")));
    }
    Ok(())
}

/// Checks everything of an instance that exists.
pub(super) fn check_all(instance: &Instance) -> Result<()> {
    check_mount(&instance.bpffs)?;
    for path in [instance.parent(), instance.dir()] {
        let Some(folder) = open(&path)? else { return Ok(()) };
        let found = folder.metadata().map_err(|source| pin_error("look at", &path, source))?;
        check(&path, &found)?;
    }
    // So far only the folder itself is checked. Others may have created its contents while they could write there.
    each(&instance.dir(), &mut |path, found| check(path, found))
}

/// Calls `visit` for each pin and folder below a folder, the outer ones first. Skips what vanishes meanwhile.
fn each(folder: &Path, visit: &mut impl FnMut(&Path, &Metadata) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else { continue };
        let path = entry.path();
        visit(&path, &found)?;
        if found.is_dir() {
            each(&path, visit)?;
        }
    }
    Ok(())
}

/// Removes others' permissions on the folders of an instance. The caller has checked all of them.
pub(super) fn close_all(instance: &Instance) -> Result<()> {
    each(&instance.dir(), &mut |path, found| {
        if found.is_dir() && mode(found) != MODE {
            open_own(path)?;
        }
        Ok(())
    })
}

/// Opens a folder of an instance to lock it; `None`: there is none. Others cannot open it afterwards.
pub(super) fn open_own(path: &Path) -> Result<Option<File>> {
    let Some(folder) = open(path)? else { return Ok(None) };
    let found = folder.metadata().map_err(|source| pin_error("look at", path, source))?;
    check(path, &found)?;
    if mode(&found) != MODE {
        write_point();
        folder
            .set_permissions(Permissions::from_mode(MODE))
            .map_err(|source| pin_error("close to others", path, source))?;
    }
    Ok(Some(folder))
}

/// Creates a folder, whatever the umask, unless it exists. The caller must have checked its parent.
pub(crate) fn make(path: &Path) -> Result<()> {
    // Tries twice: the previous holder may have removed it in between.
    for _ in 0..2 {
        if open_own(path)?.is_some() {
            return Ok(());
        }
        write_point();
        match DirBuilder::new().mode(MODE).create(path) {
            // Another user may have created the folder, so it is opened and checked next.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(pin_error("create", path, source)),
        }
    }
    open_own(path).map(drop)
}

/// The parts of an instance that others can open and thus lock, and whether they can create folders beside it.
pub(crate) fn open_to_others(instance: &Instance) -> (Vec<PathBuf>, bool) {
    let is_open =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| mode(&found) & OPEN != 0);
    let mut open: Vec<_> =
        [instance.parent(), instance.dir()].into_iter().filter(|path| is_open(path)).collect();
    if open.contains(&instance.parent()) {
        // Others cannot reach the contents of a closed folder.
        let _ = each(&instance.dir(), &mut |path, found| {
            if found.is_dir() && mode(found) & OPEN != 0 {
                open.push(path.to_owned());
            }
            Ok(())
        });
    } else {
        open.clear();
    }
    let everybodys = fs::metadata(&instance.bpffs).is_ok_and(|found| mode(&found) & WRITABLE != 0);
    (open, everybodys)
}
