//! What a change does to flows: which share of new ones goes elsewhere, and how many established ones do.
//!
//! A plan is made without asking the tables; this is put into it afterwards. Every entry of the connection
//! tables is judged by what runs and what is wanted (`judge`, pure), in large tables a sample of them.

mod fit;
mod judge;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;

use crate::abi;
use crate::addr::Vip;
use crate::balancer::Balancer;
use crate::diff::Running;
use crate::diff::VipAction;
use crate::error::Error;
use crate::error::Result;
use crate::plan::Plan;
use crate::table::Table;

use judge::Judge;

/// How often tables are read again that another command replaced meanwhile.
const ATTEMPTS: usize = 3;

/// Which change of a plan does it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Changed {
    /// [`Plan::program`]
    Program,
    /// [`Plan::connection_table`]
    ConnectionTable,
    /// One of [`Plan::interfaces`]
    Interface(String),
    /// One of [`Plan::vips`]
    Vip(Vip),
    /// One of [`Plan::server_ids`]
    ServerId(u32),
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("program"),
            Self::ConnectionTable => f.write_str("connection table"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Vip(vip) => write!(f, "vip {vip}"),
            Self::ServerId(id) => write!(f, "server id {id}"),
        }
    }
}

/// How well a number is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Counted.
    #[default]
    Exact,
    /// Expected, as entries do not hold all that decides; or counted in a sample of a large table.
    About,
    /// No more than that: the tables do not tell which of them.
    AtMost,
}

/// A number of flows: entries of the connection tables, of which a flow whose packets come to several CPUs has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flows {
    /// How many.
    pub flows: u64,
    /// How well that is known.
    pub precision: Precision,
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.precision {
            Precision::Exact => "",
            Precision::About => "about ",
            Precision::AtMost => "at most ",
        })?;
        write!(f, "{}", self.flows)
    }
}

/// What a change does to the established flows of one real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RealFlows {
    /// The real that they go to so far.
    pub real: IpAddr,
    /// How many do.
    pub established: u64,
    /// How many of those go elsewhere at once.
    pub moved: u64,
}

/// What one change of a plan does to flows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowEffect {
    /// Which change.
    pub change: Changed,
    /// The share of new flows, 0 to 1, that go to another real than so far; `None`: the change is not about that.
    pub new_moved: Option<f64>,
    /// The established flows that it is about, as far as tables hold them; `None`: no table tells.
    pub established: Option<Flows>,
    /// Those of them that go to another real at once or are served no more: these connections break.
    pub moved: Option<Flows>,
    /// The reals of a VIP of which flows move.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reals: Vec<RealFlows>,
    /// All of it in one line.
    pub what: String,
}

impl FlowEffect {
    fn new(change: Changed) -> Self {
        Self {
            change,
            new_moved: None,
            established: None,
            moved: None,
            reals: Vec::new(),
            what: String::new(),
        }
    }

    /// Whether established flows break, or may.
    pub fn breaks(&self) -> bool {
        self.moved.is_some_and(|moved| moved.flows != 0)
    }
}

/// Changes that break established flows, as an error names them.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaking(pub Vec<FlowEffect>);

impl fmt::Display for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Changes that are named.
        const NAMED: usize = 3;
        for (at, effect) in self.0.iter().take(NAMED).enumerate() {
            let sign = if at == 0 { "" } else { ", " };
            let moved = effect.moved.unwrap_or_default();
            write!(f, "{sign}{moved}")?;
            if let Some(established) = effect.established {
                write!(f, " of {established}")?;
            }
            write!(f, " ({})", effect.change)?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and those of {more} more changes"),
        }
    }
}

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
