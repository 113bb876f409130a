//! Changing an instance that may not be there yet.

use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::links::remove_all;
use crate::model::error::Result;

/// Changes an instance under its lock. One that is not there is made; if the change fails, nothing of it remains.
///
/// `fits` finds out whether the change can work, before anything is created. Returns the lock, too, for who reads
/// what has become of the instance before the next command changes it.
pub(crate) fn set_up<T>(
    instance: &Instance,
    fits: impl FnOnce() -> Result<()>,
    change: impl FnOnce() -> Result<T>,
) -> Result<(T, Lock)> {
    if !instance.exists() {
        let fits = fits();
        // Unless another command has begun to create it: what is in the way may be its work.
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
