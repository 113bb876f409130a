//! `lbctl real`

use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use l4lb::Delivery;
use l4lb::MAX_WEIGHT;
use l4lb::Vip;
use l4lb::flows::DrainWatch;

use super::addresses::real;
use super::encapsulation::Encapsulation;
use super::encapsulation::EncapsulationOrDefault;
use crate::Failure;

fn weight() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(0..=MAX_WEIGHT.into())
}

#[derive(Debug, Subcommand)]
pub(crate) enum RealCommand {
    /// List the reals of a VIP, or of all VIPs
    #[command(visible_aliases = ["ls", "show"])]
    List {
        /// Such as <tcp://10.200.1.1:80>
        vip: Option<Vip>,
    },
    /// Add reals to a VIP
    Add {
        /// Such as <tcp://10.200.1.1:80>
        vip: Vip,
        /// The servers' addresses
        #[arg(value_name = "REAL", value_parser = real, required = true, num_args = 1..)]
        reals: Vec<IpAddr>,
        /// Its share, relative to the VIP's other reals
        #[arg(long, default_value_t = 1, value_parser = weight())]
        weight: u32,
        /// How packets go to it, in all VIPs that have it [default: as the VIP says]
        #[arg(long, value_enum)]
        encapsulation: Option<Encapsulation>,
        /// It is this host itself: its kernel gets the packets. So are addresses of this host without it
        #[arg(long, conflicts_with = "encapsulation")]
        local: bool,
    },
    /// Change how packets go to reals
    ///
    /// It is one for all VIPs that have the real. Packets of new and established flows go on in the new way at once: the
    /// real must take both before, or it loses packets (docs/encapsulation.md).
    #[command(
        override_usage = "lbctl real edit [OPTIONS] <VIP>... <REAL>... <--encapsulation <ENCAPSULATION>|--local>\n       lbctl real edit [OPTIONS] --all <REAL>... <--encapsulation <ENCAPSULATION>|--local>"
    )]
    Edit(RealEdit),
    /// Delete reals from VIPs, or from all: their flows move at once
    #[command(
        visible_aliases = ["rm", "remove"],
        override_usage = "lbctl real delete [OPTIONS] <VIP>... <REAL>...\n       lbctl real delete [OPTIONS] --all <REAL>..."
    )]
    Delete(Which),
    /// Change the weight of reals
    #[command(
        override_usage = "lbctl real weight [OPTIONS] <VIP>... <REAL>... <WEIGHT>\n       lbctl real weight [OPTIONS] --all <REAL>... <WEIGHT>"
    )]
    Weight(WhichAndWeight),
    /// Give reals no new flows; established ones stay
    ///
    /// With --wait, which is for one real, it then shows how many flows are left, and ends when none is: exit 0. At the
    /// timeout, or if somebody takes the drain back, it exits with 1. A signal ends the waiting, not the drain.
    #[command(
        override_usage = "lbctl real drain [OPTIONS] <VIP>... <REAL>...\n       lbctl real drain [OPTIONS] --all <REAL>..."
    )]
    Drain(Drain),
    /// Give drained reals new flows again; those that are down stay down
    #[command(
        override_usage = "lbctl real undrain [OPTIONS] <VIP>... <REAL>...\n       lbctl real undrain [OPTIONS] --all <REAL>..."
    )]
    Undrain(Which),
    /// Take reals down: their flows move at once
    #[command(
        override_usage = "lbctl real down [OPTIONS] <VIP>... <REAL>...\n       lbctl real down [OPTIONS] --all <REAL>..."
    )]
    Down(Which),
    /// Let reals that were drained or down take flows again
    #[command(
        override_usage = "lbctl real up [OPTIONS] <VIP>... <REAL>...\n       lbctl real up [OPTIONS] --all <REAL>..."
    )]
    Up(Which),
    /// Say how reals do, instead of the VIP's own check: for checkers of others
    ///
    /// Checks of the VIP do not count for these reals meanwhile. `auto` takes it back.
    #[command(
        override_usage = "lbctl real health [OPTIONS] <VIP>... <REAL>... <HEALTH>\n       lbctl real health [OPTIONS] --all <REAL>... <HEALTH>"
    )]
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

/// `real edit`.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct RealEdit {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) way: Way,
}

/// How packets go to a real.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Way {
    /// How packets go to it; default: as its VIP says
    #[arg(long, value_enum)]
    encapsulation: Option<EncapsulationOrDefault>,
    /// It is this host itself: its kernel gets the packets
    #[arg(long)]
    local: bool,
}

impl From<Way> for Delivery {
    fn from(way: Way) -> Self {
        let encapsulation = way.encapsulation.and_then(Into::into);
        if way.local { Self::Local } else { encapsulation.map_or(Self::AsVip, Self::By) }
    }
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
    pub(crate) which: WhichAndHealth,
    /// Why, in a few words: lists, logs and metrics show it; unhealthy needs it
    #[arg(long, value_name = "TEXT")]
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

/// Reals in VIPs, or in every VIP that has them.
#[derive(Clone, Debug, Args)]
pub(crate) struct Which {
    /// In every VIP that has the reals
    #[arg(long)]
    pub(crate) all: bool,
    /// VIPs such as <tcp://10.200.1.1:80>, then the addresses of servers; with --all only these
    #[arg(value_name = "VIP|REAL", required = true, num_args = 1..)]
    targets: Vec<VipOrReal>,
}

/// The same, and a weight behind them.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhichAndWeight {
    /// In every VIP that has the reals
    #[arg(long)]
    pub(crate) all: bool,
    /// VIPs such as <tcp://10.200.1.1:80>, then the addresses of servers, with --all only these; at last their share,
    /// relative to the VIP's other reals: 0 is for no new flows
    #[arg(value_name = "VIP|REAL|WEIGHT", required = true, num_args = 2..)]
    targets: Vec<Word<Weight>>,
}

/// The same, and behind them how they do.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhichAndHealth {
    /// In every VIP that has the reals
    #[arg(long)]
    pub(crate) all: bool,
    /// VIPs such as <tcp://10.200.1.1:80>, then the addresses of servers, with --all only these; at last how they do:
    /// healthy, unhealthy or auto, which lets the VIP's check count again
    #[arg(value_name = "VIP|REAL|HEALTH", required = true, num_args = 2..)]
    targets: Vec<Word<Told>>,
}

/// A VIP or a real.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VipOrReal {
    Vip(Vip),
    Real(IpAddr),
}

impl FromStr for VipOrReal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            return text.parse().map(Self::Vip).map_err(|error| error.to_string());
        }
        real(text).map(Self::Real).map_err(|error| {
            let vip = match text.parse::<SocketAddr>() {
                Ok(endpoint) => format!("if it is a VIP, tcp://{endpoint} or udp://{endpoint}"),
                Err(_) => "if it is a real; VIPs are written like tcp://10.200.1.1:80".to_owned(),
            };
            format!("{error} {vip}")
        })
    }
}

/// A VIP, a real, or what is said about them.
#[derive(Clone, Copy, Debug)]
enum Word<T> {
    Of(VipOrReal),
    Said(T),
}

impl<T: FromStr<Err = Option<String>>> FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(said) => Ok(Self::Said(said)),
            Err(Some(why)) => Err(why),
            Err(None) => text.parse().map(Self::Of),
        }
    }
}

/// A weight.
#[derive(Clone, Copy, Debug)]
struct Weight(u32);

impl FromStr for Weight {
    /// `None`: it is no number at all.
    type Err = Option<String>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<u32>() {
            Ok(weight) if weight <= MAX_WEIGHT => Ok(Self(weight)),
            _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(Some(format!("a weight is 0 to {MAX_WEIGHT}")))
            }
            _ => Err(None),
        }
    }
}

impl FromStr for Told {
    type Err = Option<String>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ValueEnum::from_str(text, false).map_err(|_| None)
    }
}

/// A real, and the VIP that it is meant in; `None`: every VIP that has it.
pub(crate) type Target = (IpAddr, Option<Vip>);

/// The most pairs of VIPs and reals that a command names.
pub(crate) const MOST_TARGETS: usize = 1 << 16;

/// Each real in each VIP.
fn pairs(all: bool, words: &[VipOrReal]) -> Result<Vec<Target>, Failure> {
    let (mut vips, mut reals) = (Vec::new(), Vec::new());
    for word in words {
        match word {
            VipOrReal::Vip(vip) if all => {
                let what = format!("--all means every VIP, so leave out {vip}");
                return Err(Failure::Usage(what));
            }
            VipOrReal::Vip(vip) if !reals.is_empty() => {
                let what = format!("{vip} is behind a real: VIPs come first");
                return Err(Failure::Usage(what));
            }
            VipOrReal::Vip(vip) => vips.push(Some(*vip)),
            VipOrReal::Real(real) => reals.push(*real),
        }
    }
    match (vips.first(), reals.first()) {
        (Some(Some(vip)), None) => {
            return Err(Failure::Usage(format!("which reals of {vip}? Add their addresses")));
        }
        (None, Some(real)) if !all => {
            let what = format!(
                "{real} is not a VIP: write one like tcp://10.200.1.1:80 before it, or --all"
            );
            return Err(Failure::Usage(what));
        }
        (_, None) => return Err(Failure::Usage("which reals? Add their addresses".to_owned())),
        _ => {}
    }
    if all {
        vips = vec![None];
    }
    if vips.len().saturating_mul(reals.len()) > MOST_TARGETS {
        let what = format!("these are more than {MOST_TARGETS} reals of VIPs");
        return Err(Failure::Usage(what));
    }
    Ok(vips.iter().flat_map(|vip| reals.iter().map(|real| (*real, *vip))).collect())
}

/// Each real in each VIP, and what the last word says.
fn pairs_and_last<T: Copy>(
    all: bool,
    words: &[Word<T>],
    wanted: &str,
) -> Result<(Vec<Target>, T), Failure> {
    let (last, words) = match words.split_last() {
        Some((Word::Said(last), words)) => (*last, words),
        _ => return Err(Failure::Usage(format!("the last argument is {wanted}"))),
    };
    let word = |word: &Word<T>| match word {
        Word::Of(word) => Ok(*word),
        Word::Said(_) => Err(Failure::Usage(format!("{wanted} comes once, as the last argument"))),
    };
    let words: Vec<_> = words.iter().map(word).collect::<Result<_, _>>()?;
    Ok((pairs(all, &words)?, last))
}

impl Which {
    pub(crate) fn targets(&self) -> Result<Vec<Target>, Failure> {
        pairs(self.all, &self.targets)
    }
}

impl WhichAndWeight {
    pub(crate) fn targets(&self) -> Result<(Vec<Target>, u32), Failure> {
        let wanted = format!("the weight, 0 to {MAX_WEIGHT}");
        let (targets, Weight(weight)) = pairs_and_last(self.all, &self.targets, &wanted)?;
        Ok((targets, weight))
    }
}

impl WhichAndHealth {
    pub(crate) fn targets(&self) -> Result<(Vec<Target>, Told), Failure> {
        pairs_and_last(self.all, &self.targets, "healthy, unhealthy or auto")
    }
}
