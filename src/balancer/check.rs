//! Whether the maps match each other, and writing anew what does not.

use super::Balancer;
use crate::dataplane::Check;
use crate::diff::Running;
use crate::diff::diff;
use crate::error::Error;
use crate::error::Result;
use crate::instance::Instance;
use crate::mismatch::Mismatch;

impl Balancer {
    /// Where what packets are handled by is not what the control plane's own records give: nobody but root can have
    /// written there, or a fault of l4lb. [`Self::repair`] mends it, and so does the next apply.
    ///
    /// Rings are compared by their checksums, which takes some ten microseconds for each.
    pub fn mismatches(&self) -> Result<Vec<Mismatch>> {
        let running = self.dataplane.read_checked(self.next_serial()?, Check::Checksums)?;
        Ok(mismatches(&running))
    }

    /// As [`Self::mismatches`], but compares rings slot by slot with what Maglev gives: a millisecond and more for each.
    /// Also finds what interrupted commands have left.
    pub fn all_mismatches(&self) -> Result<Vec<Mismatch>> {
        let running = self.dataplane.read_checked(self.next_serial()?, Check::Slots)?;
        let mut all = mismatches(&running);
        let as_if_right = Running {
            wrong_rings: [].into(),
            unsigned_rings: [].into(),
            wrong_reals: [].into(),
            stale_index: false,
            ..running
        };
        if !diff(&as_if_right, &as_if_right.table()).writes.is_empty() {
            all.push(Mismatch::Leftovers);
        }
        Ok(all)
    }

    /// Writes anew what [`Self::mismatches`] finds. Packets go on meanwhile. The instance is locked only if there is
    /// something; one that does not run has nothing.
    ///
    /// Where the entry of a real is wrong, its address may be, which the rings are made from: then nothing is written,
    /// and an apply, which knows the address, has to.
    pub fn repair(instance: &Instance) -> Result<Repair> {
        let open = || match Self::open(instance) {
            Err(Error::NotRunning { .. }) => Ok(None),
            opened => opened.map(Some),
        };
        let Some(balancer) = open()? else { return Ok(Repair::default()) };
        if balancer.mismatches()?.is_empty() {
            return Ok(Repair::default());
        }
        // Another command may have been at it, and have mended it by now.
        let Some(_lock) = instance.lock_existing()? else { return Ok(Repair::default()) };
        let Some(balancer) = open()? else { return Ok(Repair::default()) };
        let running = balancer.dataplane.read_checked(balancer.next_serial()?, Check::Checksums)?;
        let diff = diff(&running, &running.table());
        if !running.wrong_reals.is_empty() {
            return Ok(Repair { left: diff.repairs, ..Repair::default() });
        }
        if !diff.repairs.is_empty() {
            balancer.dataplane.write_all(&diff)?;
        }
        Ok(Repair { done: diff.repairs, ..Repair::default() })
    }
}

/// What [`Balancer::repair`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// What was written anew.
    pub done: Vec<Mismatch>,
    /// What only an apply can mend.
    pub left: Vec<Mismatch>,
}

fn mismatches(running: &Running) -> Vec<Mismatch> {
    diff(running, &running.table()).repairs
}
