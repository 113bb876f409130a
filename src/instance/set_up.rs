//! Runs a change on an instance that may not exist yet.

use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::links::remove_all;
use crate::model::error::Result;

/// Changes an instance under its lock. Creates the instance if it does not exist; if the change then fails, removes
/// it again.
///
/// `fits` checks whether the change can work before anything is created. The lock is returned, too, for callers that
/// read the result before the next command can change it.
pub(crate) fn set_up<T>(
    instance: &Instance,
    fits: impl FnOnce() -> Result<()>,
    change: impl FnOnce() -> Result<T>,
) -> Result<(T, Lock)> {
    if !instance.exists() {
        let fits = fits();
        // If another command has begun to create the instance, the error may come from that command's work: then go on.
        if fits.is_err() && !instance.exists() {
            fits?;
        }
    }
    let lock = instance.lock()?;
    let fresh = instance.is_empty(&lock);
    match change() {
        Ok(done) => Ok((done, lock)),
        Err(error) => {
            if fresh {
                remove_all(instance, lock)?;
            }
            Err(error)
        }
    }
}
