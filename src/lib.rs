//! An XDP layer-4 load balancer that agrees with Katran about every flow: the library that `lbctl` is a
//! thin shell around, and that other services embed.

/// The Rust in the README and in docs/library.md compiles.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/library.md")]
    struct Library;
}

pub mod agent;
pub mod capture;
mod control;
mod dataplane;
mod instance;
mod kernel;
mod model;
mod observe;
mod plan;
mod report;

pub use control::chain;
pub use control::decap;
pub use control::effects;
pub use control::flows;
pub use control::mismatch::Rewritten;
pub use control::options::ApplyOptions;
pub use control::options::OnUnserved;
pub use dataplane::balancer::Balancer;
pub use instance::DEFAULT_BPFFS;
pub use instance::DEFAULT_INSTANCE;
pub use instance::DEFAULT_LOCK_TIMEOUT;
pub use instance::Instance;
pub use instance::MINIMUM_KERNEL;
pub use instance::UntrustedFolder;
pub use instance::repair::LostPin;
pub use instance::repair::LostPins;
pub use instance::serving;
pub use kernel::maps::MapError;
pub use kernel::netlink;
pub use kernel::nic::NicStatistics;
pub use kernel::open_files::ENOUGH_FILES;
pub use kernel::open_files::raise_limit as raise_limit_of_open_files;
pub use kernel::outside;
pub use kernel::rights::MissingRights;
pub use model::address::Mac;
pub use model::address::Protocol;
pub use model::address::Vip;
pub use model::address::VipParseError;
pub use model::config::*;
pub use model::error::Error;
pub use model::error::Result;
pub use model::maglev::hash;
pub use model::maglev::ring;
pub use model::mismatch::Mismatch;
pub use model::outweighed::OutweighedReal;
pub use model::reason::Named;
pub use model::reason::Reason;
pub use model::reason::Verdict;
pub use model::reason::decap_results;
pub use model::reason::reasons;
pub use model::reason::table_events;
pub use model::tied::TiedReals;
pub use model::tied::Ties;
pub use model::vip_table::RealSpec;
pub use model::vip_table::Table;
pub use model::vip_table::VipSpec;
pub use model::vip_table::config_name;
pub use observe::flood_guard::FloodGuard;
pub use observe::interfaces::InterfaceStatus;
pub use observe::memory::MapMemory;
pub use observe::memory::MapsMemory;
pub use observe::packet_test;
pub use observe::rates::Rate;
pub use observe::rates::Rates;
pub use observe::rates::ReasonRate;
pub use observe::rates::VipRate;
pub use observe::readiness::GatewayState;
pub use observe::readiness::InterfaceState;
pub use observe::readiness::LinkState;
pub use observe::readiness::Unready;
pub use observe::readiness::readiness;
pub use observe::rings::RunningRing;
pub use observe::stats::ChainRuns;
pub use observe::stats::Count;
pub use observe::stats::CpuCount;
pub use observe::stats::ReasonCount;
pub use observe::stats::Stats;
pub use observe::stats::VipCount;
pub use observe::tables::TableStatus;
pub use observe::trace;
pub use observe::vips::VipRealStatus;
pub use observe::vips::VipStatus;
pub use plan::AddressChange;
pub use plan::InterfaceAction;
pub use plan::InterfaceChange;
pub use plan::Plan;
pub use plan::ProgramChange;
pub use plan::Unserved;
pub use plan::diff::ServerIdChange;
pub use plan::diff::VipAction;
pub use plan::diff::VipChange;
pub use plan::memory::MemoryPlan;
pub use plan::memory::TableMemory;
pub use report::doctor;
pub use report::health;
pub use report::health::Health;
pub use report::metrics;
pub use report::status::Status;
