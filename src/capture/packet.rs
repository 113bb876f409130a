//! A captured packet.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use crate::model::address::Vip;
use crate::model::reason::Reason;

/// The point of the chain where a packet is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CapturePoint {
    /// As it came in, before any other program of the chain.
    Entry,
    /// As it leaves the balancer: encapsulated, answered, or as it was.
    Exit,
}

/// What the balancer decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The reason, which implies the verdict.
    pub reason: &'static Reason,
    /// The packet's VIP, if one was found.
    pub vip: Option<Vip>,
    /// The real that it was sent to, if any.
    pub real: Option<IpAddr>,
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When the program saw it.
    pub time: SystemTime,
    /// The capture point.
    pub at: CapturePoint,
    /// Name of the interface that it came in by; its index, if it has no name any more.
    pub interface: String,
    /// The interface's index.
    pub ifindex: u32,
    /// The receive queue.
    pub queue: u32,
    /// The CPU that ran the program.
    pub cpu: u32,
    /// Length of the frame in bytes, without its checksum.
    pub length: u32,
    /// The frame from its Ethernet header on, as far as it was to be copied.
    pub data: Vec<u8>,
    /// What the balancer decided: at [`CapturePoint::Exit`] only.
    pub decision: Option<Decision>,
}
