//! An XDP layer-4 load balancer that agrees with Katran about every flow: the library that `lbctl` is a
//! thin shell around, and that other services embed.

/// The Rust in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod abi;
mod addr;
mod attach;
mod balancer;
mod chain;
mod config;
mod cpus;
mod dataplane;
pub mod decap;
mod diff;
mod error;
mod flood_guard;
mod frame;
pub mod hash;
mod host;
mod instance;
mod maps;
mod memory;
pub mod metrics;
pub mod netlink;
mod object;
pub mod packet_test;
mod parallel;
mod plan;
mod reason;
pub mod ring;
mod rings;
mod skel;
mod stats;
mod status;
mod sys;
mod table;
mod tables;
mod vip_index;
mod vip_reals;

pub use addr::Mac;
pub use addr::Protocol;
pub use addr::Vip;
pub use addr::VipParseError;
pub use balancer::Balancer;
pub use balancer::OnUnresolved;
pub use config::*;
pub use diff::ServerIdChange;
pub use diff::VipAction;
pub use diff::VipChange;
pub use error::Error;
pub use error::Result;
pub use flood_guard::FloodGuard;
pub use instance::DEFAULT_BPFFS;
pub use instance::DEFAULT_INSTANCE;
pub use instance::Instance;
pub use instance::MINIMUM_KERNEL;
pub use maps::MapError;
pub use memory::MemoryPlan;
pub use memory::TableMemory;
pub use plan::InterfaceAction;
pub use plan::InterfaceChange;
pub use plan::Plan;
pub use plan::ProgramChange;
pub use reason::Named;
pub use reason::Reason;
pub use reason::Verdict;
pub use reason::decap_results;
pub use reason::reasons;
pub use reason::table_events;
pub use stats::Count;
pub use stats::ReasonCount;
pub use stats::Stats;
pub use stats::VipCount;
pub use status::InterfaceStatus;
pub use status::MapsMemory;
pub use status::SlotStatus;
pub use status::Status;
pub use status::TableStatus;
pub use status::VipRealStatus;
pub use status::VipStatus;
pub use table::RealSpec;
pub use table::Table;
pub use table::VipSpec;
pub use table::config_name;
