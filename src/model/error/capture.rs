//! Why there is no capture.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use strum::IntoStaticStr;
use strum::VariantNames;

use crate::model::abi::consts;

/// A capture that cannot begin, or cannot go on. The text is one line.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum CaptureError {
    /// VIPs, reals, verdicts and reasons are known only at the balancer's exit.
    #[error(
        "VIPs, reals, verdicts and reasons are known at exit only: use --at exit, or --at both"
    )]
    DecisionAtEntry,

    /// No packet has one of these reasons and one of these verdicts.
    #[error("no packet can match: none of the reasons asked for has one of the verdicts asked for")]
    NoReasonLeft,

    /// A number is out of its range.
    #[error("{what} must be {range}")]
    OutOfRange {
        /// The name of the number.
        what: &'static str,
        /// The range.
        range: String,
    },

    /// None of the CPUs asked for is online.
    #[error("none of the CPUs asked for is online; online are {}", list(online))]
    NoCpu {
        /// The CPUs that are online.
        online: BTreeSet<u32>,
    },

    /// The instance has no such interface.
    #[error(
        "instance '{instance}' does not run on interface {interface}; it runs on {}",
        list(interfaces)
    )]
    NoSuchInterface {
        /// The instance.
        instance: String,
        /// The interface that was asked for.
        interface: String,
        /// The interfaces that the instance runs on.
        interfaces: BTreeSet<String>,
    },

    /// No VIP has the real.
    #[error("no VIP has real {0}; 'lbctl real list' shows them")]
    NoSuchReal(IpAddr),

    /// No balancer runs. Only a balancer has an exit.
    #[error(
        "instance '{instance}' has no balancer, and packets are captured at its exit; start it with \
         'lbctl apply -f FILE', or capture with --at entry"
    )]
    NoBalancer {
        /// The instance.
        instance: String,
    },

    /// The balancer that runs was made by an older build.
    #[error(
        "the balancer of instance '{instance}' was loaded by an older lbctl, and does not let captures see \
         what leaves it; run 'lbctl apply -f FILE' first (connections stay), or capture with --at entry"
    )]
    NoExit {
        /// The instance.
        instance: String,
    },

    /// The maximum number of captures runs.
    #[error(
        "{} captures of instance '{instance}' run already, which is the maximum; end one of them",
        consts::MAX_CAPTURES
    )]
    TooMany {
        /// The instance.
        instance: String,
    },

    /// The kernel limits how many programs a packet can run through.
    #[error(
        "too many captures at both entry and exit: a packet would run through more programs than the kernel \
         allows; capture at one of them only"
    )]
    TooManyPrograms,

    /// The instance was taken down while a capture ran.
    #[error("instance '{instance}' was taken down")]
    TakenDown {
        /// The instance.
        instance: String,
    },

    /// The buffers could not be made or read.
    #[error("cannot {operation} the buffers of the capture: {source}")]
    Buffer {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    match items.len() {
        0 => "none".to_owned(),
        _ => items.iter().map(T::to_string).collect::<Vec<_>>().join(", "),
    }
}
