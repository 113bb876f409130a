//! Interfaces, routes and neighbours, read and watched over netlink: which MAC an interface's
//! frames go to, and what it takes to keep that answer true.
//!
//! The data plane sends every frame to a gateway's MAC and never asks the kernel's stack, so no traffic of ours keeps
//! the kernel's neighbour entry of that gateway alive. [`resolve_blocking`] finds the MAC, and makes the kernel check
//! it. A caller that wants to notice a gateway's new MAC calls it every [`CHECK_INTERVAL`], and whenever [`Changes`]
//! says so. All entries that this leaves in the kernel expire by themselves. This module knows nothing of BPF: its
//! callers put the MAC into the maps.
//!
//! A netlink socket belongs to the network namespace of the thread that opens it, and everything
//! here opens its own.

mod changes;
mod client;
mod ethtool_features;
mod gateway;
mod inspect;
mod link;
mod local;
mod message;
mod namespace;
mod near;
mod neighbour;
mod next_hop;
pub(crate) mod nexthop_objects;
mod observe;
mod on_link;
mod refused;
mod route;
mod rules;
#[cfg(test)]
mod tests;
mod ways;

use std::time::Duration;

pub use crate::model::error::NetlinkError;
pub use crate::model::error::NetlinkRefusal;
pub use crate::model::next_hop::NextHop;
pub use crate::model::next_hop::RouteFamily;
pub use changes::Changes;
pub(crate) use ethtool_features::Channels;
pub(crate) use ethtool_features::Features;
pub(crate) use ethtool_features::channels_blocking;
pub(crate) use ethtool_features::features_blocking;
pub use gateway::Gateway;
pub use gateway::ResolvedGateway;
pub(crate) use gateway::Wanted;
pub(crate) use gateway::resolve_all_blocking;
pub use gateway::resolve_blocking;
pub(crate) use inspect::LinkFacts;
pub(crate) use inspect::RouteFacts;
pub(crate) use inspect::links_blocking;
pub(crate) use inspect::peer_blocking;
pub(crate) use inspect::route_blocking;
pub use link::Link;
pub use link::link_blocking;
pub use link::own_name;
pub(crate) use link::own_names_blocking;
pub(crate) use local::local_prefixes_blocking;
pub(crate) use namespace::namespace_blocking;
pub(crate) use near::Near;
pub(crate) use near::near_blocking;
pub(crate) use neighbour::Known;
pub(crate) use next_hop::Choice;
pub(crate) use observe::InUse;
pub(crate) use observe::Observed;
pub(crate) use observe::Which;
pub(crate) use observe::observe_blocking;
pub(crate) use rules::MarkRule;
pub(crate) use rules::mark_rules_blocking;
pub(crate) use ways::Ways;
pub(crate) use ways::has_clsact_blocking;
pub(crate) use ways::has_filters_blocking;
pub(crate) use ways::silent_blocking;
pub(crate) use ways::ways_blocking;

/// How often [`resolve_blocking`] is to be called for a gateway in use.
///
/// The kernel checks neighbours that it keeps resolved at the same interval.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(5);
