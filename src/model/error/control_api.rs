//! Why the control API of a process that serves cannot be used.

use std::path::PathBuf;

use strum::IntoStaticStr;
use strum::VariantNames;

/// Why the control API of a process that serves cannot be used.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum ControlApiError {
    /// There is no socket by default in this bpf filesystem.
    #[error(
        "with another --bpffs than /sys/fs/bpf, lbctl serve has a socket only if [control] socket says where; name it by --socket, or \
         run it with sudo"
    )]
    NoDefault,

    /// Nobody listens.
    #[error(
        "nobody listens at {}: lbctl serve does not run, or [control] socket names another path (--socket); start it, or run this \
         with sudo",
        socket.display()
    )]
    Nobody {
        /// The socket.
        socket: PathBuf,
    },

    /// The permissions of the socket, or of a folder of its path, keep this user out.
    #[error("this user may not use {}: {}, or run it with sudo", socket.display(), remedy(group.as_deref()))]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// The group that may use it, as far as that can be seen.
        group: Option<String>,
    },

    /// As many clients as the kernel lets wait are waiting to be accepted.
    #[error(
        "too many clients wait at {} already, for {seconds} s at least: end those that hang there, then try again, or run it with sudo",
        socket.display()
    )]
    Busy {
        /// The socket.
        socket: PathBuf,
        /// For how long it was tried, in seconds.
        seconds: u64,
    },

    /// It did not answer, or refused.
    #[error("{}: {what}", socket.display())]
    Failed {
        /// The socket.
        socket: PathBuf,
        /// What it said, or what happened.
        what: String,
    },
}

fn remedy(group: Option<&str>) -> String {
    match group {
        Some(group) => {
            format!("join group '{group}' (usermod -aG {group} USER, then log in again)")
        }
        None => "have [control] group name a group of yours in the file of lbctl serve".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::ControlApiError;

    #[test]
    fn texts_say_what_to_do() {
        let socket = || "/run/l4lb/default.sock".into();
        let denied = |group| ControlApiError::Denied { socket: socket(), group }.to_string();
        assert!(denied(Some("operators".to_owned())).contains("join group 'operators'"));
        assert!(denied(None).contains("[control] group"), "{}", denied(None));
        let nobody = ControlApiError::Nobody { socket: socket() }.to_string();
        assert!(nobody.contains("nobody listens at /run/l4lb/default.sock"), "{nobody}");
    }
}
