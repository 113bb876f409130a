//! The command line, and how much work it asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::checks;
use crate::rounds::Rounds;

/// Measures the packet path, the control plane and the connection table.
///
/// In a network namespace and a BPF filesystem of its own: no interface of the machine is touched.
/// Root is needed. docs/performance.md tells what the figures mean.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(name = "bench", override_usage = "make bench ARGS=\"[OPTIONS] [NAMES]…\"")]
pub(crate) struct Args {
    /// Measure only what has a name that begins like this: "tcp4-hit", "end-to-end", "hit-ratio", "ring", "config",
    /// "flows", "scrape", "checks" …
    names: Vec<String>,
    /// Measure everything, but small and short, to see that it works. The figures say nothing.
    #[arg(long)]
    brief: bool,
    /// Print one JSON document instead of Markdown.
    #[arg(long)]
    pub(crate) json: bool,
    /// How often the programs take turns.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Let flows begin and take turns in order. Their entries lie in order, too, and the CPU fetches them ahead: quicker
    /// than what a network sends.
    #[arg(long)]
    in_order: bool,
    /// Save what each program took for packets, round by round, for a later --compare.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Tell which programs became slower or faster since a run that --save has saved, by more than noise explains. The
    /// command succeeds, whatever became slower.
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// The CPU that handles single packets. Default: the last one that the process may use.
    #[arg(long)]
    pub(crate) cpu: Option<u32>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// What is to be measured.
    pub(crate) fn filter(&self) -> Filter {
        Filter(self.names.clone())
    }

    /// What figures depend on, for [`crate::comparison::Run`].
    pub(crate) fn settings(&self) -> BTreeMap<String, bool> {
        let settings = [("--brief", self.brief), ("--in-order", self.in_order)];
        settings.map(|(name, set)| (name.to_owned(), set)).into()
    }

    /// How thoroughly.
    pub(crate) fn effort(&self) -> Effort {
        let mut effort = if self.brief { Effort::BRIEF } else { Effort::FULL };
        effort.in_order = self.in_order;
        if let Some(rounds) = self.rounds {
            effort.rounds.rounds = rounds;
            effort.live.rounds = rounds;
            effort.control.rounds = rounds;
        }
        effort
    }
}

/// Chooses measurements by the beginning of their names.
#[derive(Clone, Debug)]
pub(crate) struct Filter(Vec<String>);

impl Filter {
    /// Whether to measure this.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|begin| name.starts_with(begin))
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: Rounds,
    /// Whether flows begin and take turns in order.
    pub(crate) in_order: bool,
    /// Flows of the connection tables.
    pub(crate) entries: u32,
    /// Known flows, from few to many; all of them fit the tables.
    pub(crate) flows: [u32; 3],
    /// Known flows in larger tables.
    pub(crate) many_flows: u32,
    pub(crate) live: Live,
    pub(crate) control: Control,
    pub(crate) checks: checks::Effort,
    /// Flows of the connection table whose hits are counted.
    pub(crate) hit_entries: u32,
}

/// End to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub(crate) rounds: u32,
    /// Flows of each CPU's connection table.
    pub(crate) entries: u32,
    /// About how long a turn lasts.
    pub(crate) seconds: f64,
}

/// The control plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    pub(crate) rounds: u32,
    pub(crate) vips: u16,
    /// Of each VIP.
    pub(crate) reals: u16,
    /// Flows that are listed.
    pub(crate) flows: u32,
    /// Flows of the connection tables that are counted.
    pub(crate) counted_entries: u32,
    /// Whether `lbctl serve` is scraped in every way, or only as Prometheus does.
    pub(crate) every_scrape: bool,
}

impl Effort {
    const FULL: Self = Self {
        rounds: Rounds { rounds: 15, packets: 200_000 },
        in_order: false,
        entries: 1_000_000,
        flows: [1, 10_000, 500_000],
        many_flows: 5_000_000,
        live: Live { rounds: 9, entries: 100_000, seconds: 0.2 },
        control: Control {
            rounds: 5,
            vips: 512,
            reals: 100,
            flows: 1_000_000,
            counted_entries: 10_000_000,
            every_scrape: true,
        },
        checks: checks::Effort { reals: 10_000, interval: Duration::from_secs(5), seconds: 30 },
        hit_entries: 50_000,
    };

    const BRIEF: Self = Self {
        rounds: Rounds { rounds: 2, packets: 10_000 },
        in_order: false,
        entries: 20_000,
        flows: [1, 1000, 10_000],
        many_flows: 40_000,
        live: Live { rounds: 2, entries: 20_000, seconds: 0.02 },
        control: Control {
            rounds: 1,
            vips: 32,
            reals: 20,
            flows: 10_000,
            counted_entries: 20_000,
            every_scrape: false,
        },
        checks: checks::Effort { reals: 200, interval: Duration::from_secs(1), seconds: 2 },
        hit_entries: 10_000,
    };
}
