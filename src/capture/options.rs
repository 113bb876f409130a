//! What to capture.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use super::filter::Filter;
use super::filter::FilterScope;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::error::CaptureError;
use crate::model::error::Result;
use crate::model::reason::Reason;
use crate::model::reason::Verdict;
use crate::model::reason::reasons;

pub use crate::model::capture_points::Points;

/// What the balancer must have decided about a packet. Empty lists match everything; of the others, one entry must
/// match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecisionFilter {
    /// The VIPs of the packets.
    pub vips: BTreeSet<Vip>,
    /// The reals that packets were sent to.
    pub reals: BTreeSet<IpAddr>,
    /// The verdicts.
    pub verdicts: BTreeSet<Verdict>,
    /// The reasons, by the names of [`crate::reasons`].
    pub reasons: Vec<&'static Reason>,
}

impl DecisionFilter {
    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The matching reasons, one bit for each.
    fn bitmap(&self) -> Result<u64, CaptureError> {
        let fits = |reason: &Reason| {
            (self.verdicts.is_empty() || self.verdicts.contains(&reason.verdict))
                && (self.reasons.is_empty()
                    || self.reasons.iter().any(|wanted| wanted.name == reason.name))
        };
        // Bit 0 is that of LB_GO_ON, which no packet ends with.
        let bits = (1..).zip(reasons()).filter(|(_, reason)| fits(reason));
        match bits.fold(0, |bits, (at, _)| bits | 1_u64 << at) {
            0 => Err(CaptureError::NoReasonLeft),
            bits => Ok(bits),
        }
    }
}

/// What to capture. The default: all incoming packets, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaptureOptions {
    /// The capture points.
    pub at: Points,
    /// Which packets, in tcpdump's language (pcap-filter(7)); empty: all. At exit it sees the leaving packet, with the
    /// outer header if it is encapsulated.
    pub filter: String,
    /// The same for the packet inside an encapsulated one. Packets that are not encapsulated do not match.
    pub inner: Option<String>,
    /// Only packets that came in by this interface.
    pub interface: Option<String>,
    /// What the balancer must have decided. It applies at exit: at entry nothing is decided yet.
    pub decision: DecisionFilter,
    /// The most bytes of each frame to copy, 1 to [`CaptureOptions::MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Copy a random one of this many matching packets; 1: all.
    pub one_of: u32,
    /// Only packets on these CPUs; `None`: all.
    pub cpus: Option<BTreeSet<u32>>,
    /// Bytes of buffer for each CPU, rounded up to a power of two.
    pub buffer: u64,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            at: Points::default(),
            filter: String::new(),
            inner: None,
            interface: None,
            decision: DecisionFilter::default(),
            snaplen: Self::MAX_SNAPLEN,
            one_of: 1,
            cpus: None,
            buffer: Self::DEFAULT_BUFFER,
        }
    }
}

impl CaptureOptions {
    /// The most bytes of a frame that can be copied.
    pub const MAX_SNAPLEN: u32 = consts::CAPTURE_MAX_SNAPLEN;

    /// The default buffer for each CPU, in bytes: room for some two thousand frames of full size.
    pub const DEFAULT_BUFFER: u64 = 4 << 20;

    /// The least and the most bytes of buffer for each CPU.
    pub const BUFFERS: [u64; 2] = [64 << 10, 1 << 30];

    /// Refuses options that are out of range.
    pub(crate) fn check(&self) -> Result<(), CaptureError> {
        let out_of_range = |what, range| Err(CaptureError::OutOfRange { what, range });
        if !self.at.exit() && !self.decision.is_empty() {
            return Err(CaptureError::DecisionAtEntry);
        }
        if !(1..=Self::MAX_SNAPLEN).contains(&self.snaplen) {
            return out_of_range("snaplen", format!("1 to {} bytes", Self::MAX_SNAPLEN));
        }
        if self.one_of == 0 {
            return out_of_range("sample", format!("1/1 to 1/{}", u32::MAX));
        }
        let [least, most] = Self::BUFFERS;
        if !(least..=most).contains(&self.buffer) {
            return out_of_range("buffer", format!("{} KiB to {} GiB", least >> 10, most >> 30));
        }
        self.decision.bitmap().map(drop)
    }

    /// The compiled filters: for the frame, and for the packet inside it.
    pub(crate) fn filters(&self, netmask: Option<Ipv4Addr>) -> Result<(Filter, Option<Filter>)> {
        let frame = Filter::compile(&self.filter, FilterScope::Frame, netmask)?;
        let inner = self.inner.as_ref();
        let inner =
            inner.map(|inner| Filter::compile(inner, FilterScope::Inner, None)).transpose()?;
        Ok((frame, inner))
    }

    /// The options as the program needs them.
    pub(crate) fn raw(&self, capture: u32) -> Result<abi::capture_options, CaptureError> {
        let mut cpus = [u64::MAX; (consts::MAX_CPUS / 64) as usize];
        if let Some(wanted) = &self.cpus {
            cpus.fill(0);
            for cpu in wanted {
                if let Some(word) = cpus.get_mut((cpu / 64) as usize) {
                    *word |= 1 << (cpu % 64);
                }
            }
        }
        Ok(abi::capture_options {
            capture,
            snaplen: self.snaplen,
            sample_below: match self.one_of {
                1 => 0,
                n => u32::MAX / n,
            },
            match_ifindex: self.interface.is_some().into(),
            match_vip: (!self.decision.vips.is_empty()).into(),
            match_real: (!self.decision.reals.is_empty()).into(),
            reasons: self.decision.bitmap()?,
            cpus,
        })
    }
}
