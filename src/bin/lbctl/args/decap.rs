//! What `lbctl decap` takes.

use std::net::IpAddr;
use std::net::SocketAddr;

use clap::Args;
use clap::Subcommand;
use l4lb::Prefix;
use l4lb::decap::Request;

use super::Adopt;
use super::Mode;
use super::ReloadArgs;
use super::addresses::address;
use super::addresses::listen;
use super::addresses::prefix;

#[derive(Debug, Subcommand)]
pub(crate) enum DecapCommand {
    /// Decapsulate what comes in by an interface
    ///
    /// Reads the host's addresses once; 'lbctl decap serve' follows later changes.
    Attach {
        /// The interface
        interface: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        how: How,
    },
    /// Attach, then stay: follow the host's addresses, answer Prometheus; SIGHUP reads them at once, SIGTERM
    /// leaves the program attached
    Serve(Serve),
    /// Have lbctl decap serve read the host's addresses at once, and tell what became of it; exit 1 if it failed
    Reload {
        /// One of its interfaces
        interface: String,
        #[command(flatten)]
        reload: ReloadArgs,
    },
    /// Stop decapsulating
    Detach {
        /// The interface [default: all]
        interface: Option<String>,
    },
    /// Show what is decapsulated for whom, and what became of packets
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The interfaces
    #[arg(required = true, num_args = 1..=64, value_name = "INTERFACE")]
    pub(crate) interfaces: Vec<String>,
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) how: How,
    /// Answer Prometheus here: /metrics, /healthz, /readyz [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub(crate) metrics: Option<SocketAddr>,
}

/// Which packets.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Outer sources that may send: those that the balancers are configured with [default: anybody]
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    from: Vec<Prefix>,
    /// Destinations that the packets inside may have [default: what the host has on its loopback devices]
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    to: Vec<Prefix>,
    /// Outer destinations to decapsulate for [default: the interface's own addresses]
    #[arg(long = "address", value_name = "ADDRESS", value_parser = address)]
    addresses: Vec<IpAddr>,
}

impl Asked {
    pub(crate) fn request(&self) -> Request {
        Request {
            addresses: self.addresses.iter().copied().collect(),
            from: self.from.iter().copied().collect(),
            to: self.to.iter().copied().collect(),
        }
    }
}

/// How the program gets onto an interface.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Where the program runs
    #[arg(long = "xdp-mode", value_enum, default_value_t = Mode::Auto)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) adopt: Adopt,
}
