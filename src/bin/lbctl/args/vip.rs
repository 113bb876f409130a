//! `lbctl vip`

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use l4lb::HashMode;
use l4lb::OwnAddress;
use l4lb::Vip;

use super::answers::Echo;
use super::answers::NoReal;
use super::answers::OtherPorts;
use super::encapsulation::Encapsulation;
use super::encapsulation::EncapsulationOrDefault;

#[derive(Debug, Subcommand)]
pub(crate) enum VipCommand {
    /// List all VIPs
    #[command(visible_aliases = ["ls", "show"])]
    List,
    /// Add VIPs, without reals at first
    Add(VipAdd),
    /// Change settings of VIPs; packets meet the old ones or the new ones
    Edit(VipEdit),
    /// Delete VIPs and their reals
    #[command(visible_aliases = ["rm", "remove"])]
    Delete {
        /// Such as <tcp://10.200.1.1:80>
        #[arg(value_name = "VIP", required = true, num_args = 1..)]
        vips: Vec<Vip>,
    },
}

/// `vip add`.
#[derive(Debug, Args)]
pub(crate) struct VipAdd {
    /// Such as <tcp://10.200.1.1:80>
    #[arg(value_name = "VIP", required = true, num_args = 1..)]
    pub(crate) vips: Vec<Vip>,
    /// What decides where a flow goes
    #[arg(long, value_enum, default_value_t = Hash::FiveTuple)]
    pub(crate) hash: Hash,
    /// Do not remember flows: the ring alone decides
    #[arg(long)]
    pub(crate) no_connection_table: bool,
    /// Follow the server ids in QUIC connection ids
    #[arg(long)]
    pub(crate) quic_connection_id: bool,
    /// How packets go to its reals [default: as `[packets]` of the running configuration says]
    #[arg(long, value_enum)]
    pub(crate) encapsulation: Option<Encapsulation>,
    /// Allow an address of this host; force: even if programs listen on it and the VIP is for every port
    #[arg(long, value_name = "force", value_enum, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) allow_own_address: Option<Allow>,
    /// What to do with packets to ports of the address that have no VIP [default: what its other VIPs say, or pass]
    #[arg(long, value_enum)]
    pub(crate) other_ports: Option<OtherPorts>,
    /// What to do with packets while there is no usable real
    #[arg(long, value_enum, default_value_t = NoReal::Drop)]
    pub(crate) no_real: NoReal,
    /// When the address answers echo requests [default: what its other VIPs say, or always]
    #[arg(long, value_enum)]
    pub(crate) echo: Option<Echo>,
    /// Check its reals as [checks.NAME] of the running configuration says; lbctl serve does it
    #[arg(long, value_name = "NAME")]
    pub(crate) check: Option<String>,
}

/// `vip edit`.
#[derive(Debug, Args)]
pub(crate) struct VipEdit {
    /// Such as <tcp://10.200.1.1:80>
    #[arg(value_name = "VIP", required = true, num_args = 1..)]
    pub(crate) vips: Vec<Vip>,
    /// How packets of new and established flows go to its reals from now on; default: as `[packets]` says
    ///
    /// The reals must take both ways before, or they lose packets: docs/encapsulation.md.
    #[arg(long, value_enum, required = true)]
    pub(crate) encapsulation: EncapsulationOrDefault,
}

/// `OwnAddress`, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Allow {
    True,
    Force,
}

impl From<Allow> for OwnAddress {
    fn from(allow: Allow) -> Self {
        match allow {
            Allow::True => Self::Allowed,
            Allow::Force => Self::Forced,
        }
    }
}

/// `HashMode`, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Hash {
    #[value(name = "5-tuple")]
    FiveTuple,
    NoSourcePort,
    DestinationPort,
    SourceAndDestinationPort,
}

impl From<Hash> for HashMode {
    fn from(hash: Hash) -> Self {
        match hash {
            Hash::FiveTuple => Self::FiveTuple,
            Hash::NoSourcePort => Self::NoSourcePort,
            Hash::DestinationPort => Self::DestinationPort,
            Hash::SourceAndDestinationPort => Self::SourceAndDestinationPort,
        }
    }
}
