//! Nanoseconds per packet of every path, beside the yardstick.
//!
//! Tables are filled first, as they are in production: with more flows than fit. The path's flows lie scattered among
//! them.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use l4lb::Encapsulation;
use l4lb::Stats;
use serde_json::json;

use crate::Result;
use crate::args::Effort;
use crate::args::Filter;
use crate::frames::Kind;
use crate::host;
use crate::lab::Lab;
use crate::lab::Site;
use crate::lab::TableKind;
use crate::paths::Path;
use crate::paths::Setting;
use crate::programs::AGED;
use crate::programs::Flows;
use crate::programs::Ingress;
use crate::programs::Runner;
use crate::programs::TX;
use crate::programs::UNKNOWN;
use crate::report::Section;
use crate::rounds::Spread;
use crate::yardstick::Yardstick;

/// Every program has turns and new flows of its own. Otherwise it would find flows that another one has used or inserted.
const OWN: u32 = 1 << 26;

/// Bytes of a flow in the tables of balancer and yardstick together, hash buckets included.
const FLOW_MEMORY: u64 = 256;

/// Balancers, one for each kind of connection table, and the yardstick.
struct Tables<'l> {
    sites: Vec<Site<'l>>,
    yardstick: Yardstick,
    entries: u32,
    /// The first number that no flow has had.
    strangers: Cell<u32>,
}

impl<'l> Tables<'l> {
    /// Sets them up for so many flows, and fills them.
    fn new(lab: &'l Lab<'l>, name: &str, cpu: u32, entries: u32, v6: bool) -> Result<Self> {
        let site = |kind| Site::new(lab, name, kind, &[cpu], entries);
        let sites = TableKind::ALL.into_iter().map(site).collect::<Result<Vec<_>>>()?;
        let config = &sites.first().ok_or("there is no kind of connection table")?.config;
        let yardstick = Yardstick::new(lab, config, entries, if v6 { entries } else { 1 })?;
        let tables = Self { sites, yardstick, entries, strangers: Cell::new(AGED + entries) };
        tables.fill(lab, Kind::Tcp4Ack, Flows::in_order(AGED, entries))?;
        if v6 {
            tables.fill(lab, Kind::Tcp6Ack, Flows::in_order(AGED, entries))?;
        }
        Ok(tables)
    }

    /// Makes flows known: one after the other, or among other flows that replace older ones.
    fn make_known(&self, lab: &Lab<'_>, packets: Kind, flows: u32, in_order: bool) -> Result {
        if !in_order {
            // Fewer than would push out the first ones again.
            let among = self.entries / 5 * 4;
            let strangers = self.strangers.replace(self.strangers.get() + among);
            self.fill(lab, packets, Flows::scattered(0, flows, among, strangers))?;
        }
        self.fill(lab, packets, Flows::in_order(0, flows))
    }

    /// Any of the balancers.
    fn first(&self) -> Result<&Site<'l>> {
        Ok(self.sites.first().ok_or("there is no kind of connection table")?)
    }

    /// Sends one packet of each flow through all of them.
    fn fill(&self, lab: &Lab<'_>, packets: Kind, flows: Flows) -> Result {
        let fill = |ingress: Ingress, program: &OwnedFd| {
            let packets = packets.packets();
            let runner = Runner::wrapper(&lab.programs, &packets, flows, ingress, Some(program))?;
            runner.run(flows.count).map(drop)
        };
        for site in &self.sites {
            site.without_limit(|| fill(site.ingress()?, &site.program("balancer")?))?;
        }
        fill(self.first()?.ingress()?, &self.yardstick.program()?)
    }
}

/// Measures the paths that the filter names.
pub(crate) fn measure(
    lab: &Lab<'_>,
    cpu: u32,
    effort: &Effort,
    filter: &Filter,
) -> Result<Section> {
    let mut section = Section::new(
        "nanoseconds",
        "Nanoseconds per packet",
        &[
            "path",
            "table",
            "yardstick",
            "balancer",
            "ratio",
            "root, chain, balancer",
            "ratio",
            "packets",
        ],
    );
    let mut wrapper = Vec::new();
    let mut paths = Path::all(effort);
    paths.retain(|path| filter.has(&path.name));
    if !paths.is_empty() {
        let tables = Tables::new(lab, "table", cpu, effort.entries, true)?;
        for path in &paths {
            wrapper.extend(measure_path(path, lab, effort, &tables, &mut section)?);
        }
    }
    let path = Path::with_many_flows(effort);
    if filter.has(&path.name) {
        let entries = effort.many_flows + effort.many_flows / 4;
        let wanted = u64::from(entries) * FLOW_MEMORY * TableKind::ALL.len() as u64;
        let available = host::available_memory()?;
        if available < wanted {
            section.note(format!(
                "{} is left out: its tables need {} MB, and {} MB are free.",
                path.name,
                wanted >> 20,
                available >> 20
            ));
        } else {
            let tables = Tables::new(lab, "large", cpu, entries, false)?;
            wrapper.extend(measure_path(&path, lab, effort, &tables, &mut section)?);
        }
    }
    if !wrapper.is_empty() {
        let wrapper = Spread::of(wrapper).text(0);
        section.note(format!("Subtracted: the wrapper's own {wrapper} ns."));
    }
    Ok(section)
}

/// Fills the tables with the path's flows, measures the path, and gives the wrapper's time in each round.
fn measure_path(
    path: &Path,
    lab: &Lab<'_>,
    effort: &Effort,
    tables: &Tables<'_>,
    section: &mut Section,
) -> Result<Vec<f64>> {
    eprintln!("{}", path.name);
    if let (Some(packets), Some(flows)) = (path.known_by, path.flows) {
        tables.make_known(lab, packets, flows, effort.in_order)?;
    }
    let sites = if path.every_table { &tables.sites[..] } else { &tables.sites[..1] };
    let mut turns = Turns::default();
    with_setting(path.setting, sites, &mut || {
        turns = Turns::of(path, lab, effort, tables, sites)?;
        Ok(())
    })?;
    turns.report(path, sites, section);
    Ok(turns.wrapper)
}

/// Brings balancers into a state while `work` runs.
fn with_setting(setting: Setting, sites: &[Site<'_>], work: &mut dyn FnMut() -> Result) -> Result {
    let Some((site, rest)) = sites.split_first() else { return work() };
    let mut inner = || with_setting(setting, rest, work);
    match setting {
        Setting::Default => inner(),
        Setting::Unlimited => site.without_limit(inner),
        Setting::Neighbours(first, last) => site.with_neighbours(first..=last, inner),
        Setting::By(encapsulation) => site.by(encapsulation, inner),
        Setting::Captured(captured) => site.with_capture(captured, inner),
    }
}

/// Nanoseconds per packet in each round, without the wrapper.
#[derive(Debug, Default)]
struct Turns {
    wrapper: Vec<f64>,
    yardstick: Option<Vec<f64>>,
    /// For each kind of connection table.
    ours: Vec<Ours>,
}

/// The times of a balancer.
#[derive(Debug)]
struct Ours {
    /// The balancer's program alone.
    balancer: Vec<f64>,
    /// All that the interface runs.
    root: Vec<f64>,
    /// The share of the packets that the balancer counted by the path's reason.
    share: f64,
}

impl Turns {
    fn of(
        path: &Path,
        lab: &Lab<'_>,
        effort: &Effort,
        tables: &Tables<'_>,
        sites: &[Site<'_>],
    ) -> Result<Self> {
        let packets = path.packets.packets();
        let by_l2 = path.setting == Setting::By(Encapsulation::L2);
        let packets = if by_l2 { packets.with_ttl() } else { packets };
        let mut own = 0;
        let mut wrap = |ingress, subject: Option<OwnedFd>| {
            let flows = match path.flows {
                Some(flows) if effort.in_order => Flows::in_order(0, flows),
                Some(flows) => Flows::shuffled(0, flows, own),
                None => Flows::new_ones(UNKNOWN + own),
            };
            own += OWN;
            let subject = subject.as_ref().map(AsFd::as_fd);
            Runner::wrapper(&lab.programs, &packets, flows, ingress, subject.as_ref())
        };
        let ingress = tables.first()?.ingress()?;
        let mut runners = vec![(wrap(ingress, None)?, TX)];
        if path.yardstick {
            let runner = wrap(ingress, Some(tables.yardstick.program()?))?;
            runners.push((runner, path.verdict()));
        }
        let mut before = Vec::new();
        for site in sites {
            for program in ["balancer", "root"] {
                let runner = wrap(site.ingress()?, Some(site.program(program)?))?;
                runners.push((runner, path.verdict()));
            }
            before.push(site.stats()?);
        }

        let mut times = effort.rounds.measure(&runners)?.into_iter();
        let wrapper = times.next().unwrap_or_default();
        let mut net = || {
            let times = times.next().unwrap_or_default();
            times.into_iter().zip(&wrapper).map(|(time, wrapper)| time - wrapper).collect()
        };
        let yardstick = path.yardstick.then(&mut net);
        let mut ours = Vec::new();
        for (site, before) in sites.iter().zip(before) {
            let share = share_of(path.reason, &before, &site.stats()?);
            ours.push(Ours { balancer: net(), root: net(), share });
        }
        Ok(Self { wrapper, yardstick, ours })
    }

    /// A line for each kind of connection table.
    fn report(&self, path: &Path, sites: &[Site<'_>], section: &mut Section) {
        let yardstick = self.yardstick.as_deref();
        for (site, ours) in sites.iter().zip(&self.ours) {
            let kind = site.kind.name();
            if ours.share < 0.995 {
                let (path, reason, share) = (&path.name, path.reason, ours.share * 100.0);
                section.note(format!(
                    "{path}, {kind}: {share:.1} % of the packets had the reason {reason}."
                ));
            }
            let mut cells = vec![
                path.name.clone(),
                if path.every_table { kind } else { "" }.to_owned(),
                yardstick.map_or(String::new(), |times| spread(times).text(0)),
            ];
            let mut json = json!({
                "path": path.name,
                "packets": path.what,
                "table": kind,
                "reason": path.reason,
                "reason_share": ours.share,
                "wrapper_ns": spread(&self.wrapper),
                "yardstick_ns": yardstick.map(spread),
            });
            for (label, times) in [("balancer", &ours.balancer), ("root", &ours.root)] {
                let ratio = yardstick.map(|yardstick| ratio(times, yardstick));
                cells.push(spread(times).text(0));
                cells.push(ratio.map_or(String::new(), |ratio| ratio.text(2)));
                json[format!("{label}_ns")] = json!(spread(times));
                json[format!("{label}_ratio")] = json!(ratio);
            }
            cells.push(path.what.clone());
            section.row(cells, json);
        }
    }
}

fn spread(times: &[f64]) -> Spread {
    Spread::of(times.iter().copied())
}

/// How many times as long as the yardstick, round by round: whatever slows the machine down for a while slows both.
fn ratio(times: &[f64], yardstick: &[f64]) -> Spread {
    Spread::of(times.iter().zip(yardstick).map(|(time, yardstick)| time / yardstick))
}

/// Which share of the packets between two readings had this reason.
fn share_of(reason: &str, before: &Stats, after: &Stats) -> f64 {
    let of = |stats: &Stats| {
        let counts = stats.reasons.iter().filter(|count| count.reason == reason);
        counts.map(|count| count.count.packets).sum::<u64>()
    };
    let all = after.total.packets - before.total.packets;
    (of(after) - of(before)) as f64 / all as f64
}
