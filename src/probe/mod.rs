//! One check of one real: is it healthy, and if not, why?
//!
//! A [`Prepared`] check is made once from its configuration, and serves any number of runs. A [`Probe`] says what is
//! checked with it: a VIP's real. [`run`] does so within the check's timeout; [`explain`] also tells each step with its
//! time, for `lbctl probe`. Neither decides what follows: rise, fall and schedules are the caller's.
//!
//! A run takes no thread of its own; only `exec` starts a process. What comes from the network is hostile: every read
//! has a bound, and so has the time over all.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use l4lb::{CheckConfig, CheckKind, Via};
//! use l4lb::probe::{Outcome, Prepared, Probe};
//!
//! # async fn check() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = CheckConfig::new(CheckKind::Http);
//! config.via = Some(Via::Direct);
//! let probe = Probe {
//!     check: Arc::new(Prepared::new(&config)?),
//!     vip: "tcp://10.200.1.1:80".parse()?,
//!     real: "10.0.3.1".parse()?,
//!     mark: None,
//! };
//! let report = l4lb::probe::run(&probe).await;
//! if report.outcome == Outcome::Unhealthy {
//!     println!("{}", report.reason); // HTTP 503
//! }
//! # Ok(())
//! # }
//! ```

mod agent;
mod connect;
mod dns;
mod exec;
mod failure;
mod http;
mod prepared;
mod quic;
mod report;
mod run;
mod session;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;
mod wire;

pub use crate::model::error::CheckError;
pub use prepared::Prepared;
pub use report::Class;
pub use report::MAX_REASON;
pub use report::Outcome;
pub use report::Report;
pub use report::Step;
pub use run::Probe;
pub use run::explain;
pub use run::run;

/// The most bytes that a run reads of an answer, or of a part of it.
const MAX_READ: usize = 64 * 1024;
