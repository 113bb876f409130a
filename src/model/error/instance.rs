//! What an instance needs of its host.

use std::path::PathBuf;

/// The oldest kernel that has all that is needed.
pub const MINIMUM_KERNEL: (u32, u32) = (5, 15);

/// A folder that another user can change, or could have changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {why}: {remedy}", path.display())]
pub struct UntrustedFolder {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}
