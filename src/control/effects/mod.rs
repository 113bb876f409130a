//! What a change does to flows: which share of new flows goes elsewhere, and how many established flows do.
//!
//! A plan is made without reading the connection tables; the effects are added afterwards. `judge` (pure) decides about
//! every entry from what runs and what is wanted. Large tables are sampled.

mod fit;
mod judge;

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use crate::dataplane::balancer::Balancer;
use crate::model::abi;
use crate::model::address::Vip;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::vip_table::Table;
use crate::plan::Plan;
use crate::plan::diff::Running;
use crate::plan::diff::VipAction;

use judge::Judge;

pub use crate::model::flow_effect::Breaking;
pub use crate::model::flow_effect::Changed;
pub use crate::model::flow_effect::FlowEffect;
pub use crate::model::flow_effect::Flows;
pub use crate::model::flow_effect::Precision;
pub use crate::model::flow_effect::RealFlows;

/// How often to try again if another command replaces the tables meanwhile.
const ATTEMPTS: usize = 3;

/// What to judge.
pub(crate) struct Question<'a> {
    pub(crate) running: &'a Running,
    pub(crate) wanted: &'a Table,
    /// The knobs of the running program and of the new one.
    pub(crate) knobs: Option<(&'a abi::knobs, &'a abi::knobs)>,
    /// Interfaces that can no longer be served: the interface is gone, or its link is.
    pub(crate) dead_interfaces: BTreeSet<String>,
}

/// Whether a plan touches flows that may exist.
fn concerns_flows(question: &Question<'_>, plan: &Plan) -> bool {
    let takes_over = |vip: &Vip| question.running.vips.contains_key(&Vip { port: 0, ..*vip });
    let vips = plan.vips.iter();
    plan.program.is_some()
        || !plan.connection_table.is_empty()
        || !plan.interfaces.is_empty()
        || !plan.server_ids.is_empty()
        || !plan.decapsulate.is_empty()
        || vips.into_iter().any(|change| change.action != VipAction::Add || takes_over(&change.vip))
}

/// Finds out what a plan does to the flows of a running balancer. It is an error if that takes longer than `at_most`.
pub(crate) fn effects(
    balancer: &Balancer,
    question: &Question<'_>,
    plan: &Plan,
    at_most: Option<Duration>,
) -> Result<Vec<FlowEffect>> {
    if !concerns_flows(question, plan) {
        return Ok(Vec::new());
    }
    let until = at_most.and_then(|at_most| Instant::now().checked_add(at_most));
    let mut attempt = 1;
    loop {
        let mut judge = Judge::new(question, plan);
        match balancer.sample_flows(until, &mut |flow, weight| judge.take(flow, weight)) {
            Ok(exact) => return Ok(judge.effects(exact)),
            Err(Error::TablesReplaced) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}
