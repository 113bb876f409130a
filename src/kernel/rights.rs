//! The rights that a user needs: two capabilities, whatever the user's id.

use std::path::Path;

use crate::kernel::capabilities;
use crate::kernel::outside::read_system;
use crate::model::error::Error;
pub use crate::model::error::MissingRights;
use crate::model::error::Result;

/// Numbers and names. `CAP_SYS_ADMIN` stands for `CAP_BPF` and `CAP_PERFMON` (Linux 5.8), which load programs and read
/// maps. Beyond that, it alone opens maps, programs and links by their ids, up to Linux 6.18 at least: an array of maps
/// tells its maps, and one of programs its programs, by ids only. So rings, connection tables and the chain cannot be read
/// without it. `CAP_NET_ADMIN` is for XDP, interfaces, neighbours and routes.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// The user ids of the host's own user namespace.
const ALL_USERS: [&str; 3] = ["0", "0", "4294967295"];

/// The rights that this process lacks to run a balancer, or to read from it; `None`: it has them.
///
/// # Errors
///
/// The kernel does not tell the capabilities of this process.
pub fn missing() -> Result<Option<MissingRights>> {
    let effective = capabilities::effective().map_err(|source| Error::Host {
        operation: "ask for the capabilities of this process",
        source,
    })?;
    // Without /proc this is not known. Then the kernel refuses later.
    let users = read_system(Path::new("/proc/self/uid_map"));
    let in_user_namespace = users.is_ok_and(|map| !map.split_whitespace().eq(ALL_USERS));
    let is_root = nix::unistd::geteuid().is_root();
    Ok(missing_of(effective, is_root, in_user_namespace))
}

fn missing_of(effective: u64, is_root: bool, in_user_namespace: bool) -> Option<MissingRights> {
    let lacks = |(number, _): &&(u32, &str)| effective & 1 << number == 0;
    let capabilities: Vec<_> = NEEDED.iter().filter(lacks).map(|(_, name)| *name).collect();
    // If they are missing there too, name them first.
    let in_user_namespace = in_user_namespace && capabilities.is_empty();
    (in_user_namespace || !capabilities.is_empty()).then_some(MissingRights {
        capabilities,
        is_root,
        in_user_namespace,
    })
}

/// An error if the rights are missing.
pub(crate) fn check() -> Result<()> {
    match missing()? {
        Some(missing) => Err(Error::MissingRights(Box::new(missing))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let says = |effective, is_root, namespace| {
            missing_of(effective, is_root, namespace).map(|missing| missing.to_string())
        };
        let both = 1 << 12 | 1 << 21;
        assert_eq!(says(both, true, false), None);
        assert_eq!(says(both, false, false), None, "whoever has them");
        assert_eq!(says(both | 1 << 39, false, false), None);
        for (effective, is_root, namespace, words) in [
            (0, false, false, "not root, and without CAP_NET_ADMIN and CAP_SYS_ADMIN"),
            (0, true, true, "root without CAP_NET_ADMIN and CAP_SYS_ADMIN"),
            (
                !(1 << 21),
                true,
                false,
                "root without CAP_SYS_ADMIN, for which alone the kernel opens",
            ),
            (!(1 << 21), false, false, "give it to the service (systemd: AmbientCapabilities="),
            (1 << 21, true, false, "root without CAP_NET_ADMIN, which XDP, interfaces"),
            (1 << 21, true, false, "docker: --cap-add NET_ADMIN)"),
            (0, false, false, "sudo"),
            (both, true, true, "of a user namespace do not count"),
        ] {
            let text = says(effective, is_root, namespace).unwrap();
            assert!(text.contains(words), "{text}");
        }
    }
}
