//! An XDP layer-4 load balancer that agrees with Katran about every flow. `lbctl` parses arguments, calls this library
//! and prints; other services embed it. `docs/library.md` has whole programs.
//!
//! # What you can do, and where to start
//!
//! | you want to | start at |
//! | --- | --- |
//! | read a configuration | [`Config::from_file`]; [`Config`], [`VipConfig`], [`RealConfig`] |
//! | see what a change would do, also to established flows | [`Balancer::plan`], [`Plan`], [`effects`] |
//! | balance, and end that | [`Balancer::apply`], [`Balancer::down`] |
//! | change VIPs and reals of what runs | [`Balancer::open`], [`Balancer::edit`], [`Table`] |
//! | do what `lbctl serve` does in a service of your own | [`agent`] |
//! | ask a process that serves for a reload | [`serving`] |
//! | read counters, rates, and everything that `lbctl status` shows | [`Stats`], [`Rates`], [`Status`] |
//! | know whether an instance does well, and what to do if not | [`Condition`], [`readiness()`] |
//! | know what on a host would hurt a balancer or a real | [`doctor`] |
//! | export metrics | [`metrics::Collector`] |
//! | capture packets, which tcpdump does not see below XDP | [`capture::Capture`] |
//! | ask what the balancer would do with one packet | [`Balancer::trace`], [`trace`] |
//! | run the packet tests | [`packet_test`] |
//! | check whether a real is healthy, and see why not | [`probe`] |
//! | list, count or delete flows | [`Balancer::flows`], [`flows`] |
//! | decapsulate on a real | [`decap`] |
//! | run other XDP programs before or behind the balancer | [`chain`] |
//!
//! # What it needs
//!
//! - The kernel: [`MINIMUM_KERNEL`] or later.
//! - The capabilities `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`. [`MissingRights`] says which are missing.
//! - A bpf filesystem, at [`DEFAULT_BPFFS`] or where [`Instance::new`] is told.
//!
//! An [`Error`] says in one line what failed, where, and what to do.
//!
//! # The pins are the state
//!
//! An [`Instance`] is a folder of pins in the bpf filesystem. There is no state file, and packets are balanced while no
//! process lives. [`Balancer::open`] reads what runs from the pins. A function that changes VIPs, reals or interfaces takes
//! the lock of the instance, writes the maps and releases the lock.
//!
//! # The code
//!
//! The code is in rooms on floors. A room uses only rooms below it, and two rooms of one floor do not know each other.
//! `tests/layers` names the line that breaks this. `docs/architecture.md` tells the way of a packet and of a command.
//!
//! | floor | room | holds | may use |
//! | --- | --- | --- | --- |
//! | 8 | `bin/lbctl` | the command line: it parses arguments, calls the library, prints | the library |
//! | 7 | `lib.rs` | the public face: `pub use` only, opened by a page that shows a newcomer around | all |
//! | 6 | `agent/` | what `lbctl serve` and `lbctl decap serve` do: follow the kernel, reload, check reals, answer Prometheus | capture, report and below |
//! | 5 | `report/` | judgements: doctor, status, the condition of an instance, metrics | control and below |
//! | 5 | `capture/` | captures: session, places, filter, decode, pcapng | dataplane and below |
//! | 4 | `control/` | verbs: apply, edit, follow, resolve, decap, chain, flows | observe and below |
//! | 3 | `observe/` | readings: stats, rates, readiness, trace, packet tests; what rings, tables, interfaces and memory are like now | dataplane and below |
//! | 3 | `probe/` | one check of one real, for tokio: TCP, TLS, HTTP, DNS, QUIC, UDP, programs, agents | kernel, model |
//! | 2 | `dataplane/` | the balancer's maps and connection tables; the handle `Balancer` | instance, plan, kernel, model |
//! | 1 | `instance/` | pins, lock, links, l4lb's own programs as they are loaded, chain slots | kernel, model |
//! | 1 | `plan/` | what an apply changes, the ordered writes, memory: pure | model |
//! | 0 | `kernel/` | bpf(2), typed maps, netlink, sysfs and procfs, libpcap; it knows no balancer | model |
//! | 0 | `model/` | ABI, addresses, configuration, VIPs and reals, Maglev, facts about a host, errors as data: pure | nothing |

#![cfg_attr(
    not(feature = "agent"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "what only the features that are off use"
    )
)]

/// The Rust in the README and in docs/library.md compiles.
#[cfg(all(doctest, feature = "agent"))]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/library.md")]
    struct Library;
}

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "capture")]
pub mod capture;
mod control;
mod dataplane;
mod instance;
mod kernel;
mod model;
mod observe;
mod plan;
#[cfg(feature = "agent")]
pub mod probe;
mod report;

pub use control::chain;
pub use control::decap;
pub use control::effects;
pub use control::flows;
pub use control::health::Flaps;
pub use control::health::HealthResult;
pub use control::health::LONGEST_LIFETIME;
pub use control::health::RealHealthStatus;
pub use control::healthcheck_path::TunnelPath;
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
pub use kernel::audit;
pub use kernel::clock::time_in_words;
pub use kernel::heap::share_heap;
pub use kernel::maps::MapError;
pub use kernel::netlink;
pub use kernel::nic::NicStatistics;
pub use kernel::open_files::ENOUGH_FILES;
pub use kernel::open_files::raise_limit as raise_limit_of_open_files;
pub use kernel::outside;
pub use kernel::rights::MissingRights;
pub use kernel::rights::missing as missing_rights;
pub use model::address::Mac;
pub use model::address::Protocol;
pub use model::address::Vip;
pub use model::address::VipParseError;
pub use model::config::*;
pub use model::error::ControlApiError;
pub use model::error::Error;
pub use model::error::Result;
pub use model::error::TunnelObstacle;
pub use model::health::Health;
pub use model::health::RealHealth;
pub use model::maglev::hash;
pub use model::maglev::ring;
pub use model::mismatch::Mismatch;
pub use model::outweighed::OutweighedReal;
pub use model::prefix::Prefix;
pub use model::prefix::PrefixParseError;
pub use model::real_change::RealChange;
pub use model::reason::Named;
pub use model::reason::Reason;
pub use model::reason::Verdict;
pub use model::reason::decap_results;
pub use model::reason::healthcheck_results;
pub use model::reason::mss_results;
pub use model::reason::reasons;
pub use model::reason::table_events;
pub use model::tied::TiedReals;
pub use model::tied::Ties;
pub use model::tunnel_end::TunnelEnd;
pub use model::versions::JSON_FORMAT;
pub use model::vip_table::RealSpec;
pub use model::vip_table::Table;
pub use model::vip_table::VipSpec;
pub use model::vip_table::config_name;
pub use observe::flood_guard::FloodGuard;
pub use observe::health::HealthDetails;
pub use observe::health_summary::HealthSummary;
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
pub use observe::versions::Versions;
pub use observe::versions::versions;
pub use observe::vips::VipRealStatus;
pub use observe::vips::VipStatus;
pub use plan::Action;
pub use plan::AddressChange;
pub use plan::Change;
pub use plan::Detail;
pub use plan::InterfaceAction;
pub use plan::InterfaceChange;
pub use plan::Object;
pub use plan::Plan;
pub use plan::ProgramChange;
pub use plan::Unserved;
pub use plan::diff::DecapsulateChange;
pub use plan::diff::ServerIdChange;
pub use plan::diff::VipAction;
pub use plan::diff::VipChange;
pub use plan::memory::MemoryPlan;
pub use plan::memory::TableMemory;
pub use report::condition;
pub use report::condition::Condition;
pub use report::doctor;
#[cfg(feature = "metrics")]
pub use report::metrics;
pub use report::status::Status;
