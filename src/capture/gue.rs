//! At which ports an instance's packets are GUE.

use crate::dataplane::balancer::running_knobs;
use crate::dataplane::decap;
use crate::instance::Instance;
use crate::model::error::Result;
use crate::model::gue::GuePorts;

/// The ports of the instance's balancer and of its decapsulation; the usual ones, if it has neither.
pub(super) fn gue_ports(instance: &Instance) -> Result<GuePorts> {
    let knobs = running_knobs(instance)?;
    let decap = decap::gue_ports(instance)?;
    if knobs.is_none() && decap.is_none() {
        return Ok(GuePorts::default());
    }
    let sent = knobs.as_ref().map(GuePorts::of_knobs);
    let sent = sent.iter().flat_map(|ports| ports.each());
    Ok(sent.chain(decap.into_iter().flatten()).collect())
}
