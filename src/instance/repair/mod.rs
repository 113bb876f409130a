//! Pins that somebody removed, or put something else in the place of.
//!
//! Forwarding needs no pin but those of links and of arrays of programs, which the kernel empties when nobody
//! outside of programs holds them. So an instance may run on while commands cannot read it. Each object that runs
//! is found by what holds it: the link holds the root program, the root program holds the chain, the chain its
//! programs, and these their maps; maps that no instruction names are bound to their program when it is loaded.
//! [`look`] follows that and compares it with the pins; [`recover`] pins again what it finds.
//!
//! What an interrupted command leaves is none of this: [`crate::instance::chain::slots::Chain::settle`] and the plan see to that.

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

/// How often it is looked again, and after how long: a command that is at work renames pins.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// What is lost, apart from what a command that is at work just changes.
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

/// The same, of what the balancer needs.
pub(crate) fn lost_of_balancer(instance: &Instance) -> Result<LostPins> {
    lost(instance).map(LostPins::of_balancer)
}

/// Whether programs besides the balancer and captures run, with or without a pin.
pub(crate) fn others_run(instance: &Instance) -> bool {
    look(instance).is_ok_and(|found| found.has_decap || found.has_others)
}

/// Refuses an instance of which the balancer misses pins.
pub(crate) fn refuse_lost_of_balancer(instance: &Instance) -> Result<()> {
    refuse(lost_of_balancer(instance)?)
}

/// Refuses an instance of which pins are lost.
pub(crate) fn refuse_lost(instance: &Instance) -> Result<()> {
    refuse(lost(instance)?)
}

fn refuse(lost: LostPins) -> Result<()> {
    if lost.is_empty() { Ok(()) } else { Err(Error::LostPins(Box::new(lost))) }
}

/// As [`refuse_lost`], for who has the lock and is about to take programs without a name out of the chain.
pub(crate) fn refuse_lost_programs(instance: &Instance) -> Result<()> {
    let lost = look(instance)?;
    let is_program = |lost: &LostPin| matches!(lost.object, Some(Object::Program(_)));
    if lost.pins.iter().any(is_program) { Err(Error::LostPins(Box::new(lost))) } else { Ok(()) }
}
