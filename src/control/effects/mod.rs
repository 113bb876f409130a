//! What a change does to flows: which share of new ones goes elsewhere, and how many established ones do.
//!
//! A plan is made without asking the tables; this is put into it afterwards. Every entry of the connection
//! tables is judged by what runs and what is wanted (`judge`, pure), in large tables a sample of them.

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

/// How often tables are read again that another command replaced meanwhile.
const ATTEMPTS: usize = 3;

/// What is asked about.
pub(crate) struct Question<'a> {
    pub(crate) running: &'a Running,
    pub(crate) wanted: &'a Table,
    /// Of the program that runs, and of the one that is to.
    pub(crate) knobs: Option<(&'a abi::knobs, &'a abi::knobs)>,
    /// Interfaces that are served no longer: they are gone, or their link is.
    pub(crate) dead_interfaces: BTreeSet<String>,
}

/// Whether a plan touches flows that there can be.
fn concerns_flows(question: &Question<'_>, plan: &Plan) -> bool {
    let takes_over = |vip: &Vip| question.running.vips.contains_key(&Vip { port: 0, ..*vip });
    let vips = plan.vips.iter();
    plan.program.is_some()
        || !plan.connection_table.is_empty()
        || !plan.interfaces.is_empty()
        || !plan.server_ids.is_empty()
        || vips.into_iter().any(|change| change.action != VipAction::Add || takes_over(&change.vip))
}

/// Finds out what a plan does to the flows of a balancer that runs. If that takes longer than it may, it is an error.
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
