//! Errors of decapsulation.

use std::io;
use std::net::SocketAddr;

use strum::IntoStaticStr;
use strum::VariantNames;

/// An error of decapsulation. The text is one line.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum DecapError {
    /// The instance does not decapsulate.
    #[error(
        "instance '{instance}' does not decapsulate; start it with 'lbctl decap attach INTERFACE'"
    )]
    None {
        /// The instance.
        instance: String,
    },

    /// There is no address to decapsulate for.
    #[error("interface {interface} has no address to decapsulate for; give one with --address")]
    NoAddress {
        /// The interface.
        interface: String,
    },

    /// A request that makes no sense.
    #[error("{option}: {why}")]
    Request {
        /// The option of `lbctl decap attach` that says it.
        option: &'static str,
        /// What is wrong.
        why: String,
    },

    /// A request exceeds the maps of decapsulation.
    #[error(
        "{count} {what}: decapsulation has room for {most}; name fewer, or shorter prefixes, with {option}"
    )]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many are possible.
        most: usize,
        /// The option that names them.
        option: &'static str,
    },

    /// A socket of this host listens where GUE is to come.
    #[error(
        "--gue-port {port}: this host itself listens on UDP {at} ({holder}), and would get nothing any more; end that, \
         or give the port that the balancers' [packets] gue_port has, or 'none' to take no GUE"
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// Where the socket listens.
        at: SocketAddr,
        /// Who has it.
        holder: String,
    },

    /// The program that lowers the MSS cannot be attached.
    #[error("--mss: cannot attach program mss to the way out of interface {interface}: {source}")]
    AttachMss {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },

    /// The maps of decapsulation are another build's.
    #[error(
        "instance '{instance}' decapsulates by maps of another build, or a command was interrupted; \
         'lbctl decap attach' sets it up anew while packets go on, once for each of its interfaces"
    )]
    OtherBuild {
        /// The instance.
        instance: String,
    },
}
