//! Why a frame for a trace cannot be made or read.

use std::net::IpAddr;

use strum::IntoStaticStr;
use strum::VariantNames;

/// The shortest frame that `BPF_PROG_TEST_RUN` takes: an Ethernet header (`ETH_HLEN`).
pub(crate) const SHORTEST_FRAME: usize = 14;

/// Why a frame for a trace cannot be made or read. The text is one line.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum TracePacketError {
    /// Client and server speak different IP versions.
    #[error("{client} and {server} are of different IP versions")]
    Families {
        /// The client's address.
        client: IpAddr,
        /// The server's.
        server: IpAddr,
    },
    /// The packet would be longer than an IP packet can be.
    #[error("{payload} bytes of payload make a packet that is longer than IP allows")]
    TooLong {
        /// What was asked for.
        payload: u16,
    },
    /// The capture cannot be read.
    #[error("{file}: {why}")]
    Capture {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}
