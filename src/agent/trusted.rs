//! Who may do anything to this process.

use nix::unistd::geteuid;

/// `/proc/sys/kernel/overflowuid`, unless somebody changed it.
const OVERFLOW_USER: u32 = 65_534;

/// Whether a user could do anything to this process anyway: root, and the user that it runs as.
pub(super) fn is_trusted(user: u32) -> bool {
    // The kernel shows all users of other user namespaces by this one number, whose owner they need not be.
    let own = Some(geteuid().as_raw()).filter(|own| *own != OVERFLOW_USER);
    user == 0 || Some(user) == own
}
