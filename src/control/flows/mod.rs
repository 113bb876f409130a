//! The flows in the connection tables: listing, finding, counting and forgetting them.
//!
//! Reading takes no lock and disturbs no packet. Flows are returned one by one, so memory does not depend on their
//! number:
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
//! Every CPU has its own tables, so a flow whose packets came to several CPUs has several entries. Packets change the
//! tables while they are read: this is not a snapshot. An entry that does not change meanwhile is returned exactly
//! once.

mod count;
mod filter;
mod find;
mod left;
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
pub use left::DrainWatch;
pub use left::FlowsLeft;
pub use read::Flows;

pub use crate::dataplane::FlowState;

/// The greatest age of entries in set-associative tables, about 19 h 31 min. After that it starts over at 0.
pub const MAX_SET_AGE: Duration =
    Duration::from_nanos((0xffff - crate::dataplane::tables::FUTURE as u64) << consts::SEEN_SHIFT);

/// An entry of a connection table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The VIP; `None`: no packet finds the entry any more. The VIP was removed, or removed and added again, or its
    /// hash mode was changed, or its connection table was switched off and on.
    pub vip: Option<Vip>,
    /// The client's address; `None`: the VIP's hash mode leaves it out.
    pub client: Option<IpAddr>,
    /// The client's port, in host order; `None`: the VIP's hash mode leaves it out.
    pub client_port: Option<u16>,
    /// The destination port, in host order; `None`: the VIP is for every port and its flows do not depend on the port.
    pub port: Option<u16>,
    /// The real that the flow was given to; `None`: it was removed, and its id was given to another real.
    pub real: Option<IpAddr>,
    /// The CPU whose table has the entry; `None`: the table that CPUs without a table of their own share.
    pub cpu: Option<u32>,
    /// The time since the event in [`Self::age_of`]. Set-associative tables count it in units of about a second, up to
    /// [`MAX_SET_AGE`]. For TCP it may be too large there: by as long as its CPU has seen neither a new flow nor UDP.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// What the age counts from.
    pub age_of: AgeOf,
    /// What the next packet does with the entry.
    pub state: FlowState,
}

fn seconds<S: Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(age.as_secs())
}

/// What an age counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgeOf {
    /// The last packet: all flows in set-associative tables, and UDP flows in all tables.
    LastPacket,
    /// The entry's insertion: TCP flows in LRU tables, which include the shared one.
    Insert,
}

impl Balancer {
    /// Reads the flows that match a filter, table by table, as the iterator asks for them. VIPs and reals are read now.
    pub fn flows(&self, filter: &FlowFilter) -> Result<Flows<'_>> {
        let view = self.flow_view()?;
        let filter = filter.resolve(&view)?;
        Flows::new(&self.dataplane, &self.tables()?, view, filter)
    }

    /// Whether connection tables have ages up to [`MAX_SET_AGE`] only. The shared table has no such limit.
    pub fn flow_ages_are_limited(&self) -> Result<bool> {
        Ok(self.tables()?.kind == TableKind::SetAssociative)
    }

    /// Deletes the entries that match a filter, and returns their number. An empty filter matches all. The ring decides
    /// where the next packet of such a flow goes, and a new entry remembers it.
    ///
    /// An entry whose flow has no packet meanwhile is gone afterwards. If a packet comes in the same instant, the entry
    /// may stay or come back. No other entry changes. Each CPU writes to its set-associative tables without locks, so
    /// this thread must be allowed to run on each of these CPUs.
    pub fn delete_flows(&self, filter: &FlowFilter) -> Result<u64> {
        let _lock = self.instance().lock_existing()?;
        // Another command may have replaced the maps before this one got the lock.
        let current = Self::open(self.instance())?;
        let view = current.flow_view()?;
        let filter = filter.resolve(&view)?;
        let tables = current.tables()?;
        // The kind of table does not matter to ages here: both count from `last_seen`.
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
