//! Which flows to read.

use std::net::IpAddr;
use std::time::Duration;

use super::Flow;
use super::FlowState;
use crate::dataplane::View;
use crate::dataplane::tables;
use crate::model::address::Vip;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::prefix::Prefix;

/// Which flows to read: those that match every field. The default matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Flows of this VIP, which must exist.
    pub vip: Option<Vip>,
    /// Flows of this real, even if it was removed.
    pub real: Option<IpAddr>,
    /// Flows of clients in this network. Matches no flow of a VIP whose hash mode leaves the address out.
    pub client: Option<Prefix>,
    /// Flows from this port, in host order. Matches no flow of a VIP whose hash mode leaves the port out.
    pub client_port: Option<u16>,
    /// Flows whose age is above this.
    pub older_than: Option<Duration>,
    /// Flows whose age is below this.
    pub younger_than: Option<Duration>,
    /// Flows in one of these states; empty: in any.
    pub states: Vec<FlowState>,
}

/// A filter whose VIP and real are known.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    filter: FlowFilter,
    serial: Option<u32>,
}

impl FlowFilter {
    /// Whether it matches all flows.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn resolve(&self, view: &View) -> Result<Resolved> {
        let serial = match &self.vip {
            Some(vip) => Some(view.vip(vip).ok_or(Error::NoSuchVip(*vip))?.serial),
            None => None,
        };
        if let Some(real) = self.real.filter(|real| !view.knows_real(*real)) {
            return Err(Error::UnknownReal(real));
        }
        Ok(Resolved { filter: self.clone(), serial })
    }
}

impl Resolved {
    /// A cheap first check that most entries fail.
    pub(super) fn may_match(&self, raw: &tables::Flow) -> bool {
        self.serial.is_none_or(|serial| serial == raw.key.vip)
            && self.filter.client_port.is_none_or(|port| port.to_be() == raw.key.sport)
    }

    /// Whether a flow that passed [`Self::may_match`] matches.
    pub(super) fn matches(&self, flow: &Flow) -> bool {
        let FlowFilter { vip: _, real, client, client_port, older_than, younger_than, states } =
            &self.filter;
        real.is_none_or(|real| flow.real == Some(real))
            && client.is_none_or(|net| flow.client.is_some_and(|client| net.contains(client)))
            && client_port.is_none_or(|port| flow.client_port == Some(port))
            && older_than.is_none_or(|age| flow.age > age)
            && younger_than.is_none_or(|age| flow.age < age)
            && (states.is_empty() || states.contains(&flow.state))
    }
}
