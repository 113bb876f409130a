//! A captured packet, as whatever shows or writes it gets it.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use crate::model::address::Vip;
use crate::model::reason::Reason;

/// Where on its way through the chain a packet is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CapturePoint {
    /// As it came in, before any other program of the chain has seen it.
    Entry,
    /// As it leaves the balancer: encapsulated, answered, or as it was.
    Exit,
}

/// What the balancer decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why, and with it the verdict.
    pub reason: &'static Reason,
    /// The VIP that the packet was for, if one was found.
    pub vip: Option<Vip>,
    /// The real that it was sent to, if it was.
    pub real: Option<IpAddr>,
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When the program saw it.
    pub time: SystemTime,
    /// Where on its way.
    pub at: CapturePoint,
    /// Name of the interface that it came in by; its index, if it has no name any more.
    pub interface: String,
    /// The interface's index.
    pub ifindex: u32,
    /// The receive queue.
    pub queue: u32,
    /// The CPU that ran the program.
    pub cpu: u32,
    /// Bytes of the frame, without checksum.
    pub length: u32,
    /// The frame from its Ethernet header on, as much of it as was asked for.
    pub data: Vec<u8>,
    /// What the balancer decided: at [`CapturePoint::Exit`] only.
    pub decision: Option<Decision>,
}
