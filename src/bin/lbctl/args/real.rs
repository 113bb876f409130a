//! `lbctl real`

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use l4lb::MAX_WEIGHT;
use l4lb::Vip;
use l4lb::flows::DrainWatch;

use super::addresses::address;
use crate::Failure;

fn weight() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(0..=MAX_WEIGHT.into())
}

/// One of a VIP's reals.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RealOfVip {
    /// Such as <tcp://10.200.1.1:80>
    pub(crate) vip: Vip,
    /// The server's address
    #[arg(value_parser = address)]
    pub(crate) real: IpAddr,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RealCommand {
    /// List the reals of a VIP, or of all VIPs
    List {
        /// Such as <tcp://10.200.1.1:80>
        vip: Option<Vip>,
    },
    /// Add a real to a VIP
    Add {
        #[command(flatten)]
        which: RealOfVip,
        /// Its share, relative to the VIP's other reals
        #[arg(long, default_value_t = 1, value_parser = weight())]
        weight: u32,
    },
    /// Delete a real from a VIP, or from all: its flows move at once
    #[command(
        override_usage = "lbctl real delete [OPTIONS] <VIP> <REAL>\n       lbctl real delete [OPTIONS] --all <REAL>"
    )]
    Delete(Which),
    /// Change a real's weight
    #[command(
        override_usage = "lbctl real weight [OPTIONS] <VIP> <REAL> <WEIGHT>\n       lbctl real weight [OPTIONS] --all <REAL> <WEIGHT>"
    )]
    Weight(WhichAndWeight),
    /// Give a real no new flows; established ones stay
    ///
    /// With --wait, it then shows how many flows are left, and ends when none is: exit 0. At the timeout, or if somebody
    /// takes the drain back, it exits with 1. A signal ends the waiting, not the drain.
    #[command(
        override_usage = "lbctl real drain [OPTIONS] <VIP> <REAL>\n       lbctl real drain [OPTIONS] --all <REAL>"
    )]
    Drain(Drain),
    /// Give a drained real new flows again; one that is down stays down
    #[command(
        override_usage = "lbctl real undrain [OPTIONS] <VIP> <REAL>\n       lbctl real undrain [OPTIONS] --all <REAL>"
    )]
    Undrain(Which),
    /// Take a real down: its flows move at once
    #[command(
        override_usage = "lbctl real down [OPTIONS] <VIP> <REAL>\n       lbctl real down [OPTIONS] --all <REAL>"
    )]
    Down(Which),
    /// Let a real that was drained or down take flows again
    #[command(
        override_usage = "lbctl real up [OPTIONS] <VIP> <REAL>\n       lbctl real up [OPTIONS] --all <REAL>"
    )]
    Up(Which),
    /// Say how a real does, instead of the VIP's own check: for checkers of others
    ///
    /// Checks of the VIP do not count for this real meanwhile. `auto` takes it back.
    Health(TellHealth),
}

/// `real drain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Wait until the real has no flows left
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", value_parser = super::time, requires = "wait", default_value = "10m")]
    pub(crate) timeout: Duration,
    /// A flow has ended if it had no packet for so long: tables do not tell when a TCP connection ends
    #[arg(long, value_name = "TIME", value_parser = DrainWatch::idle, requires = "wait", default_value = "2m")]
    pub(crate) idle: Duration,
    /// What to do with the real when no flow is left
    #[arg(long, value_enum, requires = "wait")]
    pub(crate) then: Option<Then>,
    /// Do --then at the timeout, too: flows that are left move at once, and break
    #[arg(long, requires = "then")]
    pub(crate) force: bool,
}

/// What to do with a real that has no flows left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Then {
    Down,
    Delete,
}

/// What somebody says about a real.
#[derive(Clone, Debug, Args)]
pub(crate) struct TellHealth {
    #[command(flatten)]
    pub(crate) which: RealOfVip,
    /// How it does; auto: what the VIP's check finds counts again
    #[arg(value_enum)]
    pub(crate) health: Told,
    /// Why, in a few words: lists, logs and metrics show it
    #[arg(long, value_name = "TEXT", required_if_eq("health", "unhealthy"))]
    pub(crate) reason: Option<String>,
    /// How long that holds, so that a checker that died does not decide for ever [default: until it is taken back]
    #[arg(long = "for", value_name = "TIME", value_parser = super::time)]
    pub(crate) lifetime: Option<Duration>,
}

/// What may be said about a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Told {
    Healthy,
    Unhealthy,
    Auto,
}

/// A real in one VIP, or in every VIP that has it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Which {
    /// In every VIP that has the real, as one change
    #[arg(long)]
    pub(crate) all: bool,
    /// Such as <tcp://10.200.1.1:80>; with --all the server's address
    #[arg(value_name = "VIP")]
    pub(crate) first: VipOrReal,
    /// The server's address
    #[arg(value_name = "REAL", value_parser = address, required_unless_present = "all", conflicts_with = "all")]
    pub(crate) real: Option<IpAddr>,
}

/// The same, and a weight behind it.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhichAndWeight {
    /// In every VIP that has the real, as one change
    #[arg(long)]
    pub(crate) all: bool,
    /// Such as <tcp://10.200.1.1:80>; with --all the server's address
    #[arg(value_name = "VIP")]
    pub(crate) first: VipOrReal,
    /// The server's address; with --all the weight
    #[arg(value_name = "REAL")]
    pub(crate) second: RealOrWeight,
    /// Its share, relative to the VIP's other reals; 0: no new flows
    #[arg(value_parser = weight(), required_unless_present = "all", conflicts_with = "all")]
    pub(crate) weight: Option<u32>,
}

/// The first argument: `--all` says which of the two it must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VipOrReal {
    Vip(Vip),
    Real(IpAddr),
}

impl FromStr for VipOrReal {
    type Err = l4lb::VipParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        address(text).map(Self::Real).or_else(|_| text.parse().map(Self::Vip))
    }
}

/// The second argument of `weight`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RealOrWeight {
    Real(IpAddr),
    Weight(u32),
}

impl FromStr for RealOrWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<u32>() {
            Ok(weight) if weight <= MAX_WEIGHT => Ok(Self::Weight(weight)),
            Ok(_) => Err(format!("a weight is 0 to {MAX_WEIGHT}")),
            Err(_) => address(text).map(Self::Real),
        }
    }
}

/// A real, and the VIP that it is meant in; `None`: every VIP that has it.
pub(crate) type Target = (IpAddr, Option<Vip>);

impl Which {
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        match (self.all, self.first, self.real) {
            (true, VipOrReal::Real(real), _) => Ok((real, None)),
            (false, VipOrReal::Vip(vip), Some(real)) => Ok((real, Some(vip))),
            (true, VipOrReal::Vip(vip), _) => Err(takes_no_vip(vip)),
            (false, first, _) => Err(needs_vip(first)),
        }
    }
}

impl WhichAndWeight {
    pub(crate) fn target(&self) -> Result<(Target, u32), Failure> {
        match (self.all, self.first, self.second, self.weight) {
            (true, VipOrReal::Real(real), RealOrWeight::Weight(weight), _) => {
                Ok(((real, None), weight))
            }
            (false, VipOrReal::Vip(vip), RealOrWeight::Real(real), Some(weight)) => {
                Ok(((real, Some(vip)), weight))
            }
            (true, VipOrReal::Vip(vip), ..) => Err(takes_no_vip(vip)),
            (true, _, RealOrWeight::Real(real), _) => {
                Err(Failure::Usage(format!("{real} is not a weight: --all takes REAL and WEIGHT")))
            }
            (false, VipOrReal::Vip(_), second, _) => {
                let RealOrWeight::Weight(weight) = second else {
                    return Err(needs_vip(self.first));
                };
                Err(Failure::Usage(format!("{weight} is not the address of a real")))
            }
            (false, first, ..) => Err(needs_vip(first)),
        }
    }
}

fn takes_no_vip(vip: Vip) -> Failure {
    Failure::Usage(format!("--all means every VIP, so leave out {vip}"))
}

fn needs_vip(first: VipOrReal) -> Failure {
    let (VipOrReal::Real(first) | VipOrReal::Vip(Vip { address: first, .. })) = first;
    Failure::Usage(format!(
        "{first} is not a VIP: write one like tcp://10.200.1.1:80, or give --all"
    ))
}
