//! Seeing packets again: tcpdump is blind below XDP.

pub mod decode;
pub mod filter;
mod packet;
pub mod pcapng;
mod sink;

pub use packet::CapturePoint;
pub use packet::Decision;
pub use packet::Packet;
pub use sink::Sink;
