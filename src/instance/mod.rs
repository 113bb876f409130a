//! An instance: its name, and where its pins are in the bpf filesystem.
//!
//! ```text
//! <bpffs>/l4lb/<instance>/prog/<name>         programs
//!                         object/<name>       the objects of others' programs, in the chain
//!                         map/<name>          maps: the whole state
//!                         map/<name>/<map>    maps of others' programs
//!                         link/<interface>    what keeps the root program attached, or the chain's only program
//!                         healthcheck/<index> what keeps the program for health checks attached, see [`egress`]
//!                         mss/<index>         the same for the program that lowers the MSS, on a real
//!                         dump/<capture>      empty folders that captures have locked
//! <bpffs>/l4lb/<instance>:serve               folders that `lbctl serve` and `lbctl decap serve` have locked,
//!              <instance>:decap:<interface>   see [`claim`]
//! ```
//!
//! Only root can open the folders. Commands check that before they trust the contents, see [`folders`].

pub(crate) mod captures;
pub(crate) mod chain;
pub(crate) mod claim;
pub(crate) mod egress;
pub(crate) mod folders;
pub(crate) mod linked;
pub(crate) mod links;
mod lock;
pub(crate) mod own_programs;
pub(crate) mod programs;
pub(crate) mod repair;
#[cfg(feature = "agent")]
pub(crate) mod running_captures;
pub mod serving;
mod serving_record;
pub(crate) mod set_up;

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use nix::sys::statfs::BPF_FS_MAGIC;
use nix::sys::statfs::statfs;

use crate::instance::egress::Egress;
use crate::kernel::bpf::write_point;
use crate::kernel::rights;
use crate::model::abi::consts::MAX_CAPTURES;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::text::quote;

pub use crate::model::error::MINIMUM_KERNEL;
pub use crate::model::error::UntrustedFolder;
pub use crate::model::part::DEFAULT_INSTANCE;
pub use lock::DEFAULT_LOCK_TIMEOUT;
pub(crate) use lock::Lock;
use lock::Patience;
pub(crate) use lock::named;

/// The default mount of the bpf filesystem.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// The folder of the sockets of control APIs whose path no file says.
pub(crate) const SOCKETS: &str = "/run/l4lb";

/// The folders in an instance's folder.
pub(crate) const PARTS: [&str; 4] = ["link", "prog", "object", "map"];

/// A balancer, a real's decapsulation, or both on one host: a name, and the pins below it.
#[derive(Clone, Debug)]
pub struct Instance {
    bpffs: PathBuf,
    name: String,
    patience: Patience,
}

/// How long a call waits is not part of an instance's identity.
impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        (&self.bpffs, &self.name) == (&other.bpffs, &other.name)
    }
}

impl Eq for Instance {}

impl Default for Instance {
    fn default() -> Self {
        Self {
            bpffs: DEFAULT_BPFFS.into(),
            name: DEFAULT_INSTANCE.to_owned(),
            patience: Patience::default(),
        }
    }
}

impl Instance {
    /// The instances that have pins in a bpf filesystem, by name.
    pub fn all(bpffs: impl Into<PathBuf>) -> Result<Vec<Self>> {
        let bpffs = bpffs.into();
        let folder = bpffs.join("l4lb");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(Error::Pins {
                    operation: "list the instances in",
                    path: folder,
                    source,
                });
            }
        };
        // Beside the folder of an instance are those that its processes have locked: `NAME:serve`.
        let instance = |entry: fs::DirEntry| Self::new(&bpffs, entry.file_name().to_str()?).ok();
        let mut all: Vec<_> = entries.filter_map(|entry| instance(entry.ok()?)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Names an instance. This creates nothing.
    ///
    /// The name becomes a folder's: letters, digits, `-` and `_`. The bpf filesystem accepts no dots.
    pub fn new(bpffs: impl Into<PathBuf>, name: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(Error::InstanceName(quote(name)));
        }
        let patience = Patience::default();
        Ok(Self { bpffs: bpffs.into(), name: name.to_owned(), patience })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the bpf filesystem is mounted.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Where `lbctl serve` answers the control API unless its file says otherwise; `None`: nowhere, because instances
    /// of two bpf filesystems may have the same name.
    pub fn control_socket(&self) -> Option<PathBuf> {
        let usual = self.bpffs == Path::new(DEFAULT_BPFFS);
        usual.then(|| Path::new(SOCKETS).join(format!("{}.sock", self.name)))
    }

    /// The folder of all instances.
    pub(crate) fn parent(&self) -> PathBuf {
        self.bpffs.join("l4lb")
    }

    /// The folder of the instance's pins.
    pub fn dir(&self) -> PathBuf {
        self.parent().join(&self.name)
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir().join("prog").join(name)
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.dir().join("map").join(name)
    }

    /// The object that another program of the chain was loaded from.
    pub(crate) fn object(&self, name: &str) -> PathBuf {
        self.dir().join("object").join(name)
    }

    /// The folder of the maps of another program of the chain.
    pub(crate) fn maps_of(&self, name: &str) -> PathBuf {
        self.dir().join("map").join(name)
    }

    /// The folder of the captures that run.
    pub(crate) fn captures(&self) -> PathBuf {
        self.dir().join("captures")
    }

    /// The folder that a capture has locked.
    pub(crate) fn capture(&self, capture: u32) -> PathBuf {
        self.captures().join(capture.to_string())
    }

    /// The bpf filesystem accepts no dots, but names of VLAN interfaces have some. Names of interfaces have no
    /// colons.
    pub(crate) fn link(&self, interface: &str) -> PathBuf {
        self.dir().join("link").join(interface.replace('.', ":"))
    }

    /// Whether this is one of the folders in the instance's folder.
    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        let egress = Egress::ALL.iter().map(|program| program.name());
        let parts = PARTS.into_iter().chain(egress);
        path == self.captures() || parts.into_iter().any(|part| path == self.dir().join(part))
    }

    /// Whether the instance has any pins.
    pub fn exists(&self) -> bool {
        self.dir().exists()
    }

    /// The interfaces that have a link.
    pub(crate) fn links(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.dir().join("link")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.pin_error("list the links of", source)),
        };
        let mut names: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().into_string().ok()?.replace(':', ".")))
            .collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn pin_error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Pins { operation, path: self.dir(), source }
    }

    /// Checks what every command needs: root's capabilities, the kernel's version, the bpf filesystem, and that no
    /// other user can have changed the folders of the instance.
    pub fn check_host(&self) -> Result<()> {
        rights::check()?;
        let release = kernel_release()?;
        if parse_release(&release).is_none_or(|version| version < MINIMUM_KERNEL) {
            return Err(Error::KernelTooOld { release });
        }
        folders::check_all(self)
    }

    /// Mounts the bpf filesystem if it is missing, for root only.
    pub fn mount_bpffs(&self) -> Result<()> {
        if statfs(&self.bpffs).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC) {
            return Ok(());
        }
        let mount =
            fs::create_dir_all(&self.bpffs).map_err(|error| nix_error(&error)).and_then(|()| {
                nix::mount::mount(
                    Some("bpf"),
                    &self.bpffs,
                    Some("bpf"),
                    nix::mount::MsFlags::empty(),
                    // Without a mode, it would be open to everybody.
                    Some("mode=0700"),
                )
            });
        mount.map_err(|errno| Error::MountBpffs {
            path: self.bpffs.clone(),
            source: errno.into(),
        })?;
        // `ip netns exec` gives each command a mount namespace, and takes the host's /sys away.
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        if let (Some(own), Some(hosts)) = (namespace("self"), namespace("1"))
            && own != hosts
        {
            tracing::warn!(
                "{} is mounted in a mount namespace of this command's own, as 'ip netns exec' makes one: what is pinned \
                 there ends with its last process; 'nsenter --net=/run/netns/NAME lbctl …' has the host's mounts",
                self.bpffs.display()
            );
        }
        Ok(())
    }

    /// Whether nothing is pinned: the instance does not run, or an interrupted command created only its folders.
    pub(crate) fn is_empty(&self, _lock: &Lock) -> bool {
        let empty =
            |part| fs::read_dir(self.dir().join(part)).is_ok_and(|mut pins| pins.next().is_none());
        PARTS.into_iter().all(empty)
    }

    /// Removes the folders, which must hold no pins any more.
    ///
    /// Captures notice that their folders are gone, and end.
    pub(crate) fn remove_dirs(&self, _lock: Lock) -> Result<()> {
        let captures = (0..MAX_CAPTURES).map(|capture| self.capture(capture));
        let parts = PARTS.into_iter().map(|part| self.dir().join(part));
        for dir in captures.chain([self.captures()]).chain(parts).chain([self.dir()]) {
            match fs::remove_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.pin_error("remove folders of", error));
                }
                _ => {}
            }
        }
        claim::remove_abandoned(self);
        Ok(())
    }
}

fn nix_error(error: &io::Error) -> nix::Error {
    nix::Error::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

pub(crate) fn kernel_release() -> Result<String> {
    let uname = nix::sys::utsname::uname().map_err(|errno| Error::Host {
        operation: "ask for the kernel's version",
        source: errno.into(),
    })?;
    Ok(uname.release().to_string_lossy().into_owned())
}

/// Whether the kernel has this version or a later one.
pub(crate) fn kernel_is_at_least(version: (u32, u32)) -> Result<bool> {
    Ok(parse_release(&kernel_release()?).is_some_and(|running| running >= version))
}

/// Major and minor of a kernel release such as `6.1.0-18-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Removes a pin. Returns whether there was one.
fn unpin(path: &Path) -> io::Result<bool> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(false) };
    write_point();
    // No command creates a folder where a pin belongs, but another user may have.
    let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a folder of pins, if it exists.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(pin_error("list", path, source)),
    };
    for entry in entries.filter_map(io::Result::ok) {
        remove_pin(&entry.path())?;
    }
    write_point();
    fs::remove_dir(path).map_err(|source| pin_error("remove", path, source))
}

/// Removes a pin, if it exists.
pub(crate) fn remove_pin(path: &Path) -> Result<()> {
    unpin(path).map(drop).map_err(|source| pin_error("remove", path, source))
}

pub(crate) fn pin_error(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Pins { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::Instance;
    use super::MINIMUM_KERNEL;
    use super::parse_release;

    #[test]
    fn releases_compare() {
        for (release, enough) in [
            ("6.1.0-18-amd64", true),
            ("5.15.0", true),
            ("5.14.21-150500", false),
            ("4.19.0", false),
            ("6.18.44-fc-v595", true),
            ("10.0-rc1", true),
        ] {
            assert_eq!(parse_release(release).unwrap() >= MINIMUM_KERNEL, enough, "{release}");
        }
        assert_eq!(parse_release("Linux"), None);
    }

    #[test]
    fn names_are_folder_names() {
        for name in ["default", "edge-1", "a-b_c"] {
            assert!(Instance::new("/sys/fs/bpf", name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a.b", "a/b", "a b", "ä"] {
            assert!(Instance::new("/sys/fs/bpf", name).is_err(), "{name}");
        }
    }
}
