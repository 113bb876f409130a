//! The flows in the connection tables: listing, finding, counting and forgetting them.
//!
//! Reading needs no lock and disturbs no packet. Flows are handed out one by one, so that memory does not
//! depend on how many there are:
//!
//! ```no_run
//! use l4lb::flows::{FlowFilter, FlowState};
//! use l4lb::{Balancer, Instance};
//!
//! let balancer = Balancer::open(&Instance::default())?;
//! let filter = FlowFilter { vip: Some("tcp://10.200.1.1:80".parse()?), ..FlowFilter::default() };
//! for flow in balancer.flows(&filter)? {
//!     let flow = flow?;
//!     if flow.state == FlowState::Live {
//!         println!("{:?} goes to {:?}", flow.client, flow.real);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every CPU has tables of its own, so that a flow whose packets came to several CPUs has several entries.
//! Packets go on changing tables while they are read: it is no snapshot. An entry that nothing touches
//! meanwhile is handed out exactly once.

mod count;
mod filter;
mod find;
mod read;
mod sample;
mod view;

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde::Serializer;

use crate::dataplane::View;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::running_knobs;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::config::TableKind;
use crate::model::error::Result;

pub use count::FlowCount;
pub use count::FlowCounts;
pub use count::FlowGroup;
pub use count::GroupBy;
pub use filter::FlowFilter;
pub use find::FiveTuple;
pub use find::FoundFlow;
pub use read::Flows;

pub use crate::dataplane::FlowState;

/// The greatest age that entries of set-associative tables tell, about 19 h 31 min: then it starts over at 0.
pub const MAX_SET_AGE: Duration =
    Duration::from_nanos((0xffff - crate::dataplane::tables::FUTURE as u64) << consts::SEEN_SHIFT);

/// An entry of a connection table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The VIP; `None`: it was removed since, or removed and added again, or its hash mode was changed, or its
    /// connection table switched off and on: what is left of its flows is found by no packet.
    pub vip: Option<Vip>,
    /// The client's address; `None`: the VIP's hash mode leaves it out.
    pub client: Option<IpAddr>,
    /// The client's port, in host order; `None`: the VIP's hash mode leaves it out.
    pub client_port: Option<u16>,
    /// The destination port, in host order; `None`: it does not count, as the VIP is for every port.
    pub port: Option<u16>,
    /// The real that the flow was given to; `None`: it was removed, and its id belongs to another one.
    pub real: Option<IpAddr>,
    /// The CPU whose table it is; `None`: the one that CPUs without a table of their own share.
    pub cpu: Option<u32>,
    /// How long ago what [`Self::age_of`] tells. In a set-associative table in units of about a second, up to
    /// [`MAX_SET_AGE`]; of TCP it may be up to as much more as its CPU has seen neither a new flow nor UDP.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// What the age counts from.
    pub age_of: AgeOf,
    /// What the next packet does with it.
    pub state: FlowState,
}

fn seconds<S: Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(age.as_secs())
}

/// What an age counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgeOf {
    /// The last packet: in set-associative tables, and UDP flows in all tables.
    LastPacket,
    /// The entry's insertion: TCP flows in tables of kind LRU, which includes the shared one.
    Insert,
}

impl Balancer {
    /// Reads the flows that a filter lets through, table by table, as the iterator asks for them. VIPs and reals
    /// are those of this moment.
    pub fn flows(&self, filter: &FlowFilter) -> Result<Flows<'_>> {
        let view = self.flow_view()?;
        let filter = filter.resolve(&view)?;
        Flows::new(&self.dataplane, &self.tables()?, view, filter)
    }

    /// Whether connection tables tell ages up to [`MAX_SET_AGE`] only; the shared one tells all.
    pub fn flow_ages_are_limited(&self) -> Result<bool> {
        Ok(self.tables()?.kind == TableKind::SetAssociative)
    }

    /// Deletes the entries that a filter lets through, and tells how many; an empty filter lets all through.
    /// The next packet of such a flow is balanced by the ring, and remembered anew.
    ///
    /// An entry of which no packet comes meanwhile is gone afterwards; one of which a packet comes in the same
    /// instant may stay, or come back. No other entry is changed. Set-associative tables are written to
    /// by their CPU without locks, so that this must be allowed to run on each of these CPUs.
    pub fn delete_flows(&self, filter: &FlowFilter) -> Result<u64> {
        let _lock = self.instance().lock_existing()?;
        // The maps may have been replaced before the lock was free.
        let current = Self::open(self.instance())?;
        let view = current.flow_view()?;
        let filter = filter.resolve(&view)?;
        let tables = current.tables()?;
        // The tables' own kind does not matter to ages: the age of either is that of `last_seen`.
        let unwanted = |raw: &crate::dataplane::tables::Flow| {
            filter.may_match(raw) && {
                let now = crate::kernel::bpf::monotonic_ns().unwrap_or_default();
                filter.matches(&Flow::new(raw, &view, None, AgeOf::LastPacket, now))
            }
        };
        current.dataplane.forget_flows_in(&tables, &unwanted)
    }

    fn flow_view(&self) -> Result<View> {
        let running = self.dataplane.read_table(0)?;
        Ok(View::new(running, running_knobs(self.instance())?.as_ref()))
    }
}
