//! The arguments of `lbctl decap`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::num::NonZero;

use clap::Args;
use clap::Subcommand;
use l4lb::Prefix;
use l4lb::decap::Mss;
use l4lb::decap::Request;

use super::Adopt;
use super::Log;
use super::Mode;
use super::ReloadArgs;
use super::addresses::address;
use super::addresses::listen;
use super::addresses::prefix;

#[derive(Debug, Subcommand)]
pub(crate) enum DecapCommand {
    /// Decapsulate packets that come in by an interface
    ///
    /// Reads the host's addresses once. 'lbctl decap serve' follows later changes.
    Attach {
        /// The interface
        interface: String,
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        how: How,
    },
    /// Attach, then keep running: follow the host's addresses, answer Prometheus. SIGHUP reads the addresses at once;
    /// SIGTERM ends it, and the program stays attached
    Serve(Serve),
    /// Have lbctl decap serve read the host's addresses at once, and report the outcome; exit 1 if it failed
    Reload {
        /// An interface that it serves
        interface: String,
        #[command(flatten)]
        reload: ReloadArgs,
    },
    /// Stop decapsulating
    Detach {
        /// The interface [default: all]
        interface: Option<String>,
    },
    /// Show which packets are decapsulated, and what happened to packets
    #[command(visible_alias = "show")]
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The interfaces to decapsulate on
    #[arg(required = true, num_args = 1..=64, value_name = "INTERFACE")]
    pub(crate) interfaces: Vec<String>,
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) how: How,
    /// Answer Prometheus at this address: /metrics, /healthz, /readyz [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) log: Log,
}

/// Which packets to decapsulate.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Outer sources that may send: the ones that the balancers' configurations name; may be repeated, or a list with
    /// commas [default: anybody]
    #[arg(long, value_name = "PREFIX", value_parser = prefix, value_delimiter = ',')]
    from: Vec<Prefix>,
    /// Inner destinations to accept [default: the addresses on the loopback devices]
    #[arg(long, value_name = "PREFIX", value_parser = prefix, value_delimiter = ',')]
    to: Vec<Prefix>,
    /// Outer destinations to decapsulate for [default: the interface's own addresses]
    #[arg(long = "address", value_name = "ADDRESS", value_parser = address, value_delimiter = ',')]
    addresses: Vec<IpAddr>,
    /// UDP ports that balancers send GUE to, `gue_port` of their `[packets]`; 'none': take only IP in IP [default: 6080 and
    /// 19523, without a port at which this host itself listens]
    #[arg(long = "gue-port", value_name = "PORT", value_parser = gue_port, value_delimiter = ',')]
    gue_ports: Vec<GuePort>,
    /// Lower the MSS of TCP connections from VIPs that leave by the interface, so that clients send segments which have room
    /// for the outer header: 'auto' is what fits the interface's MTU [default: leave it]
    #[arg(long, value_name = "auto|BYTES", value_parser = mss)]
    mss: Option<Mss>,
}

fn mss(text: &str) -> Result<Mss, String> {
    if text == "auto" {
        return Ok(Mss::Auto);
    }
    let bytes = text.parse().map_err(|_| {
        format!("write a number of bytes from {} to {}, or auto", Mss::MIN, Mss::MAX)
    })?;
    Ok(Mss::Bytes(bytes))
}

/// A port, or none.
#[derive(Clone, Copy, Debug)]
struct GuePort(Option<NonZero<u16>>);

fn gue_port(text: &str) -> Result<GuePort, String> {
    if text == "none" {
        return Ok(GuePort(None));
    }
    let port = text.parse().map_err(|_| "write a port from 1 to 65535, or none".to_owned())?;
    Ok(GuePort(Some(port)))
}

impl Asked {
    fn gue_ports(&self) -> Option<BTreeSet<u16>> {
        match &self.gue_ports[..] {
            [] => None,
            [GuePort(None)] => Some(BTreeSet::new()),
            // No port is 0: the request is refused if it says both.
            ports => Some(ports.iter().map(|port| port.0.map_or(0, NonZero::get)).collect()),
        }
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            addresses: self.addresses.iter().copied().collect(),
            from: self.from.iter().copied().collect(),
            to: self.to.iter().copied().collect(),
            mss: self.mss,
            gue_ports: self.gue_ports(),
        }
    }
}

/// How the program is attached to an interface.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// The XDP mode
    #[arg(long = "xdp-mode", value_enum, default_value_t = Mode::Auto)]
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) adopt: Adopt,
}
