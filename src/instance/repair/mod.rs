//! Finds pins that somebody removed or replaced by something else, and pins again what runs.
//!
//! Forwarding needs only the pins of links and of program arrays: the kernel empties a program array when only
//! programs hold it. So an instance may run on while commands cannot read it. Each running object can be found by
//! what holds it. The link holds the root program, the root program holds the chain, the chain holds its programs,
//! and these hold their maps. Maps that no instruction names are bound to their program at load time. [`look`]
//! follows these references and compares them with the pins; [`recover`] pins again what it finds.
//!
//! Leftovers of interrupted commands are not handled here, but by [`crate::instance::chain::slots::Chain::settle`]
//! and the plan.

mod look;
mod recover;

use std::thread;
use std::time::Duration;

pub(crate) use look::look;
pub(crate) use recover::recover;

use crate::instance::Instance;
use crate::model::error::Error;
use crate::model::error::Result;
pub use crate::model::lost_pins::LostPin;
pub use crate::model::lost_pins::LostPins;
pub(crate) use crate::model::lost_pins::Object;

/// How often to look again, and after how long: a running command renames pins.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// The pins that are lost. Leaves out those that a running command is changing.
pub(crate) fn lost(instance: &Instance) -> Result<LostPins> {
    let mut lost = look(instance)?;
    for _ in 1..LOOKS {
        if lost.is_empty() {
            break;
        }
        thread::sleep(BETWEEN_LOOKS);
        lost = look(instance)?;
    }
    Ok(lost)
}

/// The same, for what the balancer needs.
pub(crate) fn lost_of_balancer(instance: &Instance) -> Result<LostPins> {
    lost(instance).map(LostPins::of_balancer)
}

/// Whether programs besides the balancer and captures run, with or without a pin.
pub(crate) fn others_run(instance: &Instance) -> bool {
    look(instance).is_ok_and(|found| found.has_decap || found.has_others)
}

/// Refuses an instance if pins of the balancer are lost.
pub(crate) fn refuse_lost_of_balancer(instance: &Instance) -> Result<()> {
    refuse(lost_of_balancer(instance)?)
}

/// Refuses an instance if pins are lost.
pub(crate) fn refuse_lost(instance: &Instance) -> Result<()> {
    refuse(lost(instance)?)
}

fn refuse(lost: LostPins) -> Result<()> {
    if lost.is_empty() { Ok(()) } else { Err(Error::LostPins(Box::new(lost))) }
}

/// As [`refuse_lost`], for a caller that holds the lock and will remove programs without a name from the chain.
pub(crate) fn refuse_lost_programs(instance: &Instance) -> Result<()> {
    let lost = look(instance)?;
    let is_program = |lost: &LostPin| matches!(lost.object, Some(Object::Program(_)));
    if lost.pins.iter().any(is_program) { Err(Error::LostPins(Box::new(lost))) } else { Ok(()) }
}
