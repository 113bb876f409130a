//! Capabilities that a process needs and does not have.

use std::fmt;

/// Why BPF and network administration are not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRights {
    /// The names of the capabilities that are missing.
    pub capabilities: Vec<&'static str>,
    /// Whether the user is root nevertheless, as in a container.
    pub is_root: bool,
    /// Whether the process has the capabilities in a user namespace only. For BPF, only those of the host count.
    pub in_user_namespace: bool,
}

impl MissingRights {
    /// What to do.
    pub(crate) fn remedy(&self) -> String {
        if self.in_user_namespace {
            return "run it as root of the host, or in a container without a user namespace of its own".to_owned();
        }
        // Who has some of them is no user at a terminal.
        if !self.is_root && self.capabilities.len() > 1 {
            return "run it with sudo".to_owned();
        }
        let names = self.capabilities.join(" ");
        let added: Vec<_> =
            self.capabilities.iter().map(|name| name.trim_start_matches("CAP_")).collect();
        let (it, setting) = match (self.capabilities.len(), self.is_root) {
            (1, true) => ("it", "CapabilityBoundingSet"),
            (_, true) => ("them", "CapabilityBoundingSet"),
            (_, false) => ("it", "AmbientCapabilities"),
        };
        format!(
            "give {it} to the service (systemd: {setting}={names}) or the container (docker: --cap-add {})",
            added.join(" --cap-add ")
        )
    }
}

impl fmt::Display for MissingRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.capabilities.join(" and ");
        let remedy = self.remedy();
        if self.in_user_namespace {
            return write!(
                f,
                "the capabilities of a user namespace do not count for BPF; {remedy}"
            );
        }
        let who = if self.is_root { "root" } else { "not root, and" };
        let why = match self.capabilities.as_slice() {
            ["CAP_SYS_ADMIN"] => {
                "for which alone the kernel opens programs, and maps in maps, by their ids (CAP_BPF does not do)"
            }
            ["CAP_NET_ADMIN"] => "which XDP, interfaces and routes need",
            _ => "which BPF programs and interfaces need",
        };
        write!(f, "{who} without {names}, {why}; {remedy}")
    }
}
