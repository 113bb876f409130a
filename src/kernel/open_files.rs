//! How many files a process may have open: maps, programs and links are some, and a skeleton opens all of its own at once.

use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;

use crate::model::error::Error;
use crate::model::error::Result;

/// As many files as any command needs, but for captures on hundreds of CPUs: rings are made some hundred at a time.
pub const ENOUGH_FILES: u64 = 512;

/// Lets this process open as many files as it may without asking anybody (the hard limit), and refuses to go on with fewer
/// than [`ENOUGH_FILES`]: what fails in the middle of a change for want of one leaves that change half done.
pub fn raise_limit() -> Result<()> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    // Some programs close all that they might have open: for those, a limit of a billion is none.
    let enough = hard.min(soft.max(ENOUGH_FILES * 8));
    if soft < enough {
        // If not, what is said below is right.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, enough, hard);
    }
    let limit = limit();
    if limit < ENOUGH_FILES {
        return Err(Error::OpenFiles { what: "go on".to_owned(), limit });
    }
    Ok(())
}

/// How many this process may have.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// Whether an error is about that. Libbpf hands its number on in texts only.
pub(crate) fn are_too_many(text: &str) -> bool {
    ["EMFILE", "os error 24"].iter().any(|sign| text.contains(sign))
}
