//! `lbctl probe`

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use l4lb::CheckKind;
use l4lb::Via;
use l4lb::Vip;

use super::addresses::address;

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Such as <tcp://10.200.1.1:80>
    pub(crate) vip: Vip,
    /// The servers' addresses [default: all reals of the VIP]
    #[arg(value_name = "REAL", value_parser = address)]
    pub(crate) reals: Vec<IpAddr>,
    /// Run this check of the configuration instead of the VIP's
    #[arg(long, value_name = "NAME", conflicts_with = "kind")]
    pub(crate) check: Option<String>,
    /// Run a check of this type, with defaults, instead of the VIP's
    #[arg(long = "type", value_enum)]
    pub(crate) kind: Option<Kind>,
    /// With --type dns: the name to ask for
    #[arg(long, value_name = "NAME", requires = "kind", required_if_eq("kind", "dns"))]
    pub(crate) name: Option<String>,
    /// With --type exec: the program, by its absolute path
    #[arg(long, value_name = "PATH", requires = "kind", required_if_eq("kind", "exec"))]
    pub(crate) program: Option<PathBuf>,
    /// How packets reach the real [default: what the check says]
    #[arg(long, value_enum)]
    pub(crate) via: Option<Way>,
    /// The port [default: what the check says, or the VIP's]
    #[arg(long, value_parser = RangedU64ValueParser::<u16>::new().range(1..))]
    pub(crate) port: Option<u16>,
}

/// `CheckKind`, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Tcp,
    Tls,
    Http,
    Https,
    Dns,
    Quic,
    Udp,
    Exec,
    Agent,
}

impl From<Kind> for CheckKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tcp => Self::Tcp,
            Kind::Tls => Self::Tls,
            Kind::Http => Self::Http,
            Kind::Https => Self::Https,
            Kind::Dns => Self::Dns,
            Kind::Quic => Self::Quic,
            Kind::Udp => Self::Udp,
            Kind::Exec => Self::Exec,
            Kind::Agent => Self::Agent,
        }
    }
}

/// `Via`, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Way {
    Tunnel,
    Direct,
}

impl From<Way> for Via {
    fn from(way: Way) -> Self {
        match way {
            Way::Tunnel => Self::Tunnel,
            Way::Direct => Self::Direct,
        }
    }
}
