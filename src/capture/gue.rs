//! At which ports an instance's packets are GUE.

use crate::dataplane::balancer::running_knobs;
use crate::instance::Instance;
use crate::model::error::Result;
use crate::model::gue::GuePorts;

/// The ports of the instance's balancer and of its decapsulation.
pub(super) fn gue_ports(instance: &Instance) -> Result<GuePorts> {
    let knobs = running_knobs(instance)?;
    Ok(knobs.as_ref().map_or_else(GuePorts::default, GuePorts::of_knobs))
}
