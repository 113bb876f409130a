//! `lbctl flows`

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use l4lb::Prefix;
use l4lb::Vip;
use l4lb::flows::FlowFilter;
use l4lb::flows::FlowState;
use l4lb::flows::GroupBy;

use super::addresses::address;
use super::addresses::prefix;
use super::five_tuple::Header;
use super::time;

const AGES: &str = "AGE is how long ago the last packet came (\"idle\"), or for TCP in tables of kind \
\"lru\" and in the shared one how long ago the entry was made (\"old\"). Set-associative tables tell it to a \
second or so, start over after 19 hours, and for TCP may tell more on a CPU that sees no new flows.\n\n\
STATE is what the next packet does: it goes to the REAL (\"live\"), or the entry is stale and the ring \
decides anew. See docs/flows.md.";

const DELETING: &str = "The next packet of a deleted flow goes where the ring says, and is remembered \
anew. An entry of which no packet comes meanwhile is gone; if one comes in the same instant, it may stay or \
come back. Other entries are not touched. See docs/flows.md.";

#[derive(Debug, Subcommand)]
pub(crate) enum FlowsCommand {
    /// List flows; with --json one object a line
    #[command(after_help = AGES, visible_aliases = ["ls", "show"])]
    List {
        #[command(flatten)]
        selectors: Selectors,
    },
    /// Find one flow by the headers of its packets to the VIP; exit 1 if no table has it
    #[command(
        after_help = AGES,
        override_usage = "lbctl flows find [OPTIONS] <VIP> <CLIENT:PORT>\n       lbctl flows find [OPTIONS] <PROTOCOL> <CLIENT:PORT> <SERVER:PORT>"
    )]
    Find {
        /// Such as <tcp://10.200.1.1:80> 192.0.2.1:31337; or by protocol, client and server, such as tcp 192.0.2.1:31337
        /// 10.200.1.1:80
        #[arg(value_names = super::five_tuple::NAMES, num_args = 2..=3, required = true)]
        packet_to: Vec<Header>,
    },
    /// Delete the entries that match all selectors: the ring then decides where these flows go
    #[command(after_help = DELETING, visible_aliases = ["rm", "remove"])]
    Delete {
        #[command(flatten)]
        selectors: Selectors,
        /// Delete every entry of every table
        #[arg(
            long,
            conflicts_with_all = ["vip", "real", "client", "client_port", "older_than", "younger_than", "state"]
        )]
        all: bool,
    },
    /// Count flows
    Count {
        #[command(flatten)]
        selectors: Selectors,
        /// What to count by
        #[arg(long, value_enum, default_value_t = By::Vip)]
        by: By,
    },
}

/// Which flows.
#[derive(Debug, Args)]
pub(crate) struct Selectors {
    /// Of this VIP, such as <tcp://10.200.1.1:80>
    #[arg(long)]
    vip: Option<Vip>,
    /// To this real
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    real: Option<IpAddr>,
    /// From clients in this network: an address or a prefix, such as 192.0.2.0/24
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    client: Option<Prefix>,
    /// From this port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    client_port: Option<u16>,
    /// Older than this: 90s, 15m, 2h
    #[arg(long, value_name = "AGE", value_parser = time)]
    pub(crate) older_than: Option<Duration>,
    /// Younger than this
    #[arg(long, value_name = "AGE", value_parser = time)]
    younger_than: Option<Duration>,
    /// In this state
    #[arg(long, value_enum)]
    state: Option<State>,
}

impl From<&Selectors> for FlowFilter {
    fn from(selectors: &Selectors) -> Self {
        let Selectors { vip, real, client, client_port, older_than, younger_than, state } =
            selectors;
        Self {
            vip: *vip,
            real: *real,
            client: *client,
            client_port: *client_port,
            older_than: *older_than,
            younger_than: *younger_than,
            states: state.map(State::states).unwrap_or_default(),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// The next packet goes to the entry's real
    Live,
    /// Any state but live
    Stale,
    /// UDP, silent for longer than the timeout
    Expired,
    /// The real was removed
    RealRemoved,
    /// The real is down in this VIP
    RealDown,
    /// The VIP was removed
    VipRemoved,
    /// The VIP's hash mode was changed, or its connection table switched off
    Unused,
}

impl State {
    fn states(self) -> Vec<FlowState> {
        let one = match self {
            Self::Stale => {
                return FlowState::ALL.into_iter().filter(|state| state.is_stale()).collect();
            }
            Self::Live => FlowState::Live,
            Self::Expired => FlowState::Expired,
            Self::RealRemoved => FlowState::RealRemoved,
            Self::RealDown => FlowState::RealDown,
            Self::VipRemoved => FlowState::VipRemoved,
            Self::Unused => FlowState::Unused,
        };
        vec![one]
    }
}

/// `GroupBy`, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum By {
    Vip,
    Real,
    Cpu,
    State,
}

impl From<By> for GroupBy {
    fn from(by: By) -> Self {
        match by {
            By::Vip => Self::Vip,
            By::Real => Self::Real,
            By::Cpu => Self::Cpu,
            By::State => Self::State,
        }
    }
}
