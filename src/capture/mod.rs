//! Captures packets that XDP programs handle, which tcpdump cannot see.
//!
//! A packet is captured before any program of the chain, or as it leaves the balancer, together with the balancer's
//! decision. The kernel filters packets before it copies anything. It copies those that match to a buffer of the CPU
//! that handles the packet. The packet never waits.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use l4lb::Instance;
//! use l4lb::capture::{Capture, CaptureOptions, Points};
//!
//! # fn main() -> Result<(), l4lb::Error> {
//! let mut options = CaptureOptions::default();
//! options.at = Points::Exit;
//! options.inner = Some("tcp dst port 443".to_owned());
//! let mut capture = Capture::start(&Instance::default(), &options)?;
//! for packet in capture.next_batch(Duration::from_secs(10))? {
//!     if let Some(decision) = packet.decision {
//!         println!("{} bytes: {}, to {:?}", packet.length, decision.reason.name, decision.real);
//!     }
//! }
//! capture.stop()?;
//! let counts = capture.counts()?;
//! println!("{} were captured, {} found no room", counts.captured, counts.dropped_by_buffer);
//! # Ok(()) }
//! ```

pub mod decode;
mod event;
pub mod filter;
mod gue;
mod names;
mod options;
mod packet;
pub mod pcapng;
mod places;
mod session;
mod sink;

pub use crate::model::error::CaptureError;
pub use crate::model::gue::GuePorts;
pub use options::CaptureOptions;
pub use options::DecisionFilter;
pub use options::Points;
pub use packet::CapturePoint;
pub use packet::Decision;
pub use packet::Packet;
pub use places::remove_abandoned;
pub use session::Capture;
pub use session::CaptureCounts;
pub use sink::Sink;
