//! The Unix socket of the control API: who may connect, and which paths can be trusted.
//!
//! Root and this process's user may change the balancer through it. So nobody else may be able to put another socket at
//! its path: all folders of the path must be theirs. The kernel lets a client connect only if the permissions of the
//! socket say so. They are set before this process listens, and until then the kernel refuses everybody.
//!
//! The kernel records who a client is at the moment when it connects (`SO_PEERCRED`). Each connection has one request:
//! so whoever gets an open connection from somebody else can do one thing in that user's name, as with an open file.

use std::fs;
use std::fs::DirBuilder;
use std::fs::Metadata;
use std::fs::Permissions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::Backlog;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::UnixAddr;
use nix::sys::socket::bind;
use nix::sys::socket::connect;
use nix::sys::socket::getsockopt;
use nix::sys::socket::listen;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::Gid;
use nix::unistd::Group;
use nix::unistd::chown;

use crate::agent::trusted::is_trusted;
use crate::instance::Instance;
use crate::instance::SOCKETS;
use crate::instance::named;
use crate::model::config::ControlConfig;
use crate::model::config::ControlSocket;
use crate::model::config::SocketMode;
use crate::model::text::quote;

/// How many clients may wait to be accepted. If there are more, the kernel refuses whoever comes, also root.
const BACKLOG: i32 = 1024;

/// Group or others may write.
const WRITABLE: u32 = 0o022;

/// Others may pass through a folder.
const PASSABLE: u32 = 0o001;

const STICKY: u32 = 0o1000;

/// Where a socket is to be, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    mode: SocketMode,
    group: Option<String>,
}

impl Place {
    /// What a configuration says for an instance; `None`: there is to be no socket.
    pub(super) fn of(instance: &Instance, config: &ControlConfig) -> Option<Self> {
        let path = match &config.socket {
            ControlSocket::Off => return None,
            ControlSocket::At(path) => path.clone(),
            ControlSocket::Auto => instance.control_socket()?,
        };
        Some(Self { path, mode: config.mode(), group: config.group.clone() })
    }
}

/// A socket at its path. Dropping it removes the path, unless somebody else's file is there by now.
#[derive(Debug)]
pub(super) struct Bound {
    place: Place,
    file: PathBuf,
    id: (u64, u64),
}

impl Bound {
    /// Makes the socket, in place of one that a killed process left. The error is one line. It may block.
    pub(super) fn make(place: &Place) -> Result<(Self, UnixListener), String> {
        let Place { path, mode, group } = place;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("'{}' names no file in a folder", path.display()));
        };
        let group = group.as_deref().map(gid).transpose()?;
        let file = trusted(folder, *mode)?.join(name);
        remove_stale(&file)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(AddressFamily::Unix, SockType::Stream, flags, None);
        let socket = made.map_err(|errno| format!("cannot make a socket: {errno}"))?;
        let failed = |what: &str| {
            let shown = file.display().to_string();
            let what = what.to_owned();
            move |error: io::Error| format!("cannot {what} {shown}: {error}")
        };
        let address = UnixAddr::new(&file).map_err(|e| failed("bind")(e.into()))?;
        bind(socket.as_raw_fd(), &address).map_err(|e| failed("make")(e.into()))?;
        let found = fs::symlink_metadata(&file).map_err(failed("look at"))?;
        let bound = Self { place: place.clone(), file: file.clone(), id: id(&found) };
        // From here on, dropping `bound` removes the path.
        if let Some(gid) = group {
            chown(&file, None, Some(gid)).map_err(|errno| {
                let name = place.group.as_deref().unwrap_or_default();
                let right = if errno == Errno::EPERM { "; that needs CAP_CHOWN" } else { "" };
                format!("cannot give {} to group {}: {errno}{right}", file.display(), quote(name))
            })?;
        }
        fs::set_permissions(&file, Permissions::from_mode(place.mode.bits()))
            .map_err(failed("set the mode of"))?;
        let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
        listen(&socket, backlog).map_err(|e| failed("listen at")(e.into()))?;
        Ok((bound, UnixListener::from(socket)))
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the socket still is at its path.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.file).is_ok_and(|found| id(&found) == self.id)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.file)
        {
            tracing::debug!("cannot remove {}: {error}", self.file.display());
        }
    }
}

fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn gid(group: &str) -> Result<Gid, String> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let unknown = |why: &str| format!("group '{}' {why}", quote(group));
    let found = Group::from_name(group).map_err(|e| unknown(&format!("cannot be found: {e}")))?;
    found.map(|group| group.gid).ok_or_else(|| unknown("does not exist"))
}

/// The folder of a socket without links, once nobody else can exchange what is in it. Makes the folder if only that is
/// missing.
fn trusted(folder: &Path, mode: SocketMode) -> Result<PathBuf, String> {
    let others = if mode == SocketMode::Group { PASSABLE | PASSABLE << 3 } else { 0 };
    let found = match fs::canonicalize(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = folder.parent().unwrap_or(Path::new("/"));
            let parent = fs::canonicalize(parent)
                .map_err(|error| format!("cannot open {}: {error}", parent.display()))?;
            check_all(&parent)?;
            match DirBuilder::new().mode(0o700 | others).create(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(format!("cannot make {}: {error}", folder.display()));
                }
                _ => fs::canonicalize(folder),
            }
        }
        found => found,
    };
    let found = found.map_err(|error| format!("cannot open {}: {error}", folder.display()))?;
    check_all(&found)?;
    // Another instance, whose socket is only for its owner, may have made the folder that they share.
    if others != 0 && found == Path::new(SOCKETS) {
        let now = look(&found)?.mode() & 0o7777;
        if now & others != others {
            fs::set_permissions(&found, Permissions::from_mode(now | others))
                .map_err(|error| format!("cannot let the group pass {SOCKETS}: {error}"))?;
        }
    }
    Ok(found)
}

fn look(path: &Path) -> Result<Metadata, String> {
    fs::symlink_metadata(path)
        .map_err(|error| format!("cannot look at {}: {error}", path.display()))
}

/// Checks a folder and all folders that it is in.
fn check_all(folder: &Path) -> Result<(), String> {
    folder.ancestors().try_for_each(|folder| check(folder, &look(folder)?))
}

fn check(folder: &Path, found: &Metadata) -> Result<(), String> {
    let shown = folder.display();
    let (user, mode) = (found.uid(), found.mode() & 0o7777);
    if !found.is_dir() {
        return Err(format!("{shown} is no folder"));
    }
    let why = if !is_trusted(user) {
        format!("belongs to user {user}")
    } else if mode & WRITABLE != 0 && mode & STICKY == 0 {
        format!("can be written to by others (mode {mode:04o})")
    } else {
        return Ok(());
    };
    Err(format!(
        "folder {shown} {why}, who could put another socket there; use a folder that only root can write to, such as \
         {SOCKETS}"
    ))
}

/// Removes a socket at which nobody listens.
fn remove_stale(file: &Path) -> Result<(), String> {
    let shown = file.display();
    let found = match fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| format!("cannot look at {shown}: {error}"))?,
    };
    if !found.file_type().is_socket() {
        return Err(format!("{shown} exists, and is no socket; remove it or use another path"));
    }
    if !is_trusted(found.uid()) {
        return Err(format!(
            "{shown} belongs to user {}; find out what it is for, and remove it or use another path",
            found.uid()
        ));
    }
    if let Some(holder) = listening(file).map_err(|e| format!("cannot try {shown}: {e}"))? {
        return Err(format!("{holder} listens at {shown}; use another path, or end it"));
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {shown}, which a killed process left: {error}"))
        }
        _ => Ok(()),
    }
}

/// The process that listens at a socket, in words; `None`: nobody does.
fn listening(file: &Path) -> io::Result<Option<String>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(client.as_raw_fd(), &UnixAddr::new(file)?) {
        Ok(()) => {
            let peer = getsockopt(&client, PeerCredentials).ok();
            let pid = peer.and_then(|peer| u32::try_from(peer.pid()).ok()).filter(|pid| *pid != 0);
            Ok(Some(named(pid)))
        }
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
        // Its queue is full, or it is a socket of another type.
        Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Ok(Some("another process".to_owned())),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn place(path: PathBuf) -> Place {
        Place { path, mode: SocketMode::Owner, group: None }
    }

    /// A folder that the tests' user owns, in one that only it can write to.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_socket_is_made_and_removed() {
        let folder = folder();
        let path = folder.path().join("new/a.sock");
        let (bound, listener) = Bound::make(&place(path.clone())).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        UnixStream::connect(&path).expect("it listens");
        let error = Bound::make(&place(path.clone())).unwrap_err();
        assert!(error.contains(&format!("process {} ", std::process::id())), "{error}");
        // A killed process leaves the path, and nobody listens.
        drop(listener);
        std::mem::forget(bound);
        assert!(path.exists());
        let (bound, _listener) = Bound::make(&place(path.clone())).unwrap();
        assert!(bound.is_there());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        assert!(!bound.is_there());
        drop(bound);
        assert!(path.exists(), "it is another's");
        let error = Bound::make(&place(path)).unwrap_err();
        assert!(error.contains("is no socket"), "{error}");
    }

    #[test]
    fn folders_that_others_can_write_to_are_refused() {
        let folder = folder();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let link = folder.path().join("link");
        symlink(&open, &link).unwrap();
        for path in [open.join("a"), open.join("new/a"), link.join("a")] {
            let error = Bound::make(&place(path.clone())).unwrap_err();
            assert!(error.contains("can be written to by others (mode 0777)"), "{error}");
        }
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        Bound::make(&place(link.join("a"))).expect("as in /tmp");
        let missing = Bound::make(&place(folder.path().join("a/b/c"))).unwrap_err();
        assert!(missing.contains("cannot open"), "{missing}");
        let unknown = Some("no-such-group".to_owned());
        let group = Place { group: unknown, ..place(folder.path().join("a")) };
        let error = Bound::make(&group).unwrap_err();
        assert_eq!(error, "group 'no-such-group' does not exist");
    }
}
