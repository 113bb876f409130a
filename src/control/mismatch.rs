//! Finds maps that do not match each other, and writes them anew.

use crate::dataplane::Check;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::mismatch::Mismatch;
use crate::plan::diff::Running;
use crate::plan::diff::diff;

impl Balancer {
    /// The places where the maps of the packet path differ from the control plane's own records. Only root can have
    /// written there, or l4lb has a fault. [`Self::rewrite_mismatches`] fixes it, and so does the next apply.
    ///
    /// Rings are compared by their checksums, which takes some ten microseconds for each ring.
    pub fn mismatches(&self) -> Result<Vec<Mismatch>> {
        let running = self.dataplane.read_checked(self.next_serial()?, Check::Checksums)?;
        Ok(mismatches(&running))
    }

    /// As [`Self::mismatches`], but compares rings slot by slot with what Maglev gives, which takes a millisecond or
    /// more for each ring. Also finds what interrupted commands have left.
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

    /// Writes anew what [`Self::mismatches`] finds, while packets are forwarded. Locks the instance only if there is
    /// something to write. An instance that does not run has nothing to write.
    ///
    /// If the entry of a real is wrong, its address may be wrong, and rings are made from addresses. Then nothing is
    /// written: only an apply knows the address.
    pub fn rewrite_mismatches(instance: &Instance) -> Result<Rewritten> {
        let open = || match Self::open(instance) {
            Err(Error::NotRunning { .. }) => Ok(None),
            opened => opened.map(Some),
        };
        let Some(balancer) = open()? else { return Ok(Rewritten::default()) };
        if balancer.mismatches()?.is_empty() {
            return Ok(Rewritten::default());
        }
        // Another command may have fixed it meanwhile.
        let Some(_lock) = instance.lock_existing()? else { return Ok(Rewritten::default()) };
        let Some(balancer) = open()? else { return Ok(Rewritten::default()) };
        let running = balancer.dataplane.read_checked(balancer.next_serial()?, Check::Checksums)?;
        let diff = diff(&running, &running.table());
        if !running.wrong_reals.is_empty() {
            return Ok(Rewritten { left: diff.repairs, ..Rewritten::default() });
        }
        if !diff.repairs.is_empty() {
            balancer.dataplane.write_all(&diff)?;
        }
        Ok(Rewritten { done: diff.repairs, ..Rewritten::default() })
    }
}

/// What [`Balancer::rewrite_mismatches`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// What was written anew.
    pub done: Vec<Mismatch>,
    /// What only an apply can fix.
    pub left: Vec<Mismatch>,
}

fn mismatches(running: &Running) -> Vec<Mismatch> {
    diff(running, &running.table()).repairs
}
