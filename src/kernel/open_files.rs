//! The limit of open files. Maps, programs and links count as open files, and a skeleton opens all of its maps and
//! programs at once.

use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;

use crate::model::error::Error;
use crate::model::error::Result;

/// Enough files for any command, except captures on hundreds of CPUs. Rings are made some hundred at a time.
pub const ENOUGH_FILES: u64 = 512;

/// Raises this process's limit of open files to the hard limit. An error, if that is less than [`ENOUGH_FILES`]: a
/// change that fails halfway for lack of a file stays half done.
pub fn raise_limit() -> Result<()> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    // Some programs close every file that they might have open. For them, a limit of a billion files is too high.
    let enough = hard.min(soft.max(ENOUGH_FILES * 8));
    if soft < enough {
        // If this fails, the check below reports it.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, enough, hard);
    }
    let limit = limit();
    if limit < ENOUGH_FILES {
        return Err(Error::OpenFiles { what: "go on".to_owned(), limit });
    }
    Ok(())
}

/// How many files this process may have open.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// Whether an error is about this limit. Libbpf passes the error number only in texts.
pub(crate) fn are_too_many(text: &str) -> bool {
    ["EMFILE", "os error 24"].iter().any(|sign| text.contains(sign))
}
