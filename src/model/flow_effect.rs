//! What a change does to flows, in numbers. Pure data: plans and errors hold it.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::address::Vip;

/// The change of a plan that has the effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Changed {
    /// [`Plan::program`](crate::Plan::program)
    Program,
    /// [`Plan::connection_table`](crate::Plan::connection_table)
    ConnectionTable,
    /// One of the interfaces of a [`Plan`](crate::Plan)
    Interface(String),
    /// One of the VIPs of a [`Plan`](crate::Plan)
    Vip(Vip),
    /// One of [`Plan::server_ids`](crate::Plan::server_ids)
    ServerId(u32),
    /// One of [`Plan::decapsulate`](crate::Plan::decapsulate)
    Decapsulate(IpAddr),
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("program"),
            Self::ConnectionTable => f.write_str("connection table"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Vip(vip) => write!(f, "vip {vip}"),
            Self::ServerId(id) => write!(f, "server id {id}"),
            Self::Decapsulate(address) => write!(f, "decapsulate {address}"),
        }
    }
}

/// How exact a number is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Counted.
    #[default]
    Exact,
    /// Estimated, because entries do not hold everything that decides; or counted in a sample of a large table.
    About,
    /// An upper bound: the tables do not tell which flows.
    AtMost,
}

/// A number of flows: entries of the connection tables. A flow has several if its packets come to several CPUs.
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
    /// The real that they go to now.
    pub real: IpAddr,
    /// How many do.
    pub established: u64,
    /// How many of those move to another real at once.
    pub moved: u64,
}

/// The effect of one change of a plan on flows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowEffect {
    /// Which change.
    #[serde(skip)]
    pub change: Changed,
    /// The share of new flows, 0 to 1, that go to another real than before; `None`: the change does not affect that.
    pub new_moved: Option<f64>,
    /// The established flows that it concerns, as far as tables hold them; `None`: no table tells.
    pub established: Option<Flows>,
    /// Established flows that go to another real at once or are no longer served: these connections break.
    pub moved: Option<Flows>,
    /// The reals of a VIP whose flows move.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reals: Vec<RealFlows>,
    /// All of it in one line.
    #[serde(rename = "text")]
    pub what: String,
}

impl FlowEffect {
    pub(crate) fn new(change: Changed) -> Self {
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
