//! Finds the folders of the captures that run.

use std::path::PathBuf;

use crate::instance::Instance;
use crate::model::abi::consts;

/// Whether a capture runs.
pub(crate) fn any(instance: &Instance) -> bool {
    folders_of(instance).next().is_some()
}

/// The number of each capture that has a folder, and the folder.
pub(crate) fn folders_of(instance: &Instance) -> impl Iterator<Item = (u32, PathBuf)> {
    (0..consts::MAX_CAPTURES)
        .map(|capture| (capture, instance.capture(capture)))
        .filter(|(_, path)| path.exists())
}
