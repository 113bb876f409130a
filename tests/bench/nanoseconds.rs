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
use crate::chain;
use crate::chain::Neighbours;
use crate::comparison::Figure;
use crate::comparison::YARDSTICK;
use crate::frames::Kind;
use crate::host;
use crate::instructions::Counter;
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
use crate::rounds::Subject;
use crate::rounds::Took;
use crate::spread::Spread;
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

/// The tables of the output, and what counts instructions for them.
struct Sheet {
    nanoseconds: Section,
    instructions: Section,
    counter: Option<Counter>,
    /// What the wrapper took by itself in each round of every path.
    wrapper: Vec<f64>,
}

/// The programs of a path, in the order of their columns. Not every path has all.
fn programs() -> impl Iterator<Item = String> {
    let alone = [BALANCER, INTERFACE].map(str::to_owned);
    alone.into_iter().chain(chain::LENGTHS.map(chain_of))
}

/// The program of the balancer alone.
const BALANCER: &str = "balancer";

/// What the balancer's interface runs.
const INTERFACE: &str = "interface";

/// From the root program through a chain of so many programs, the balancer among them.
fn chain_of(programs: u32) -> String {
    format!("chain of {programs}")
}

impl Sheet {
    fn new() -> Self {
        let chains = programs().skip(2);
        let head = ["path", "table", "XDP_TX", YARDSTICK, BALANCER, "ratio", INTERFACE, "ratio"];
        let head = head.map(str::to_owned).into_iter().chain(chains).chain(["packets".to_owned()]);
        let mut nanoseconds = Section::new("nanoseconds", "Nanoseconds per packet", head);
        let head = ["path", "table", "XDP_TX", YARDSTICK].map(str::to_owned);
        let head = head.into_iter().chain(programs());
        let instructions = Section::new("instructions", "Instructions per packet", head);
        let counter = Counter::open().map_err(|why| nanoseconds.note(why)).ok();
        Self { nanoseconds, instructions, counter, wrapper: Vec::new() }
    }
}

/// Measures the paths that the filter names.
pub(crate) fn measure(
    lab: &Lab<'_>,
    cpu: u32,
    effort: &Effort,
    filter: &Filter,
) -> Result<[Section; 2]> {
    let many = Path::with_many_flows(effort);
    let mut paths = Path::all(effort);
    paths.retain(|path| filter.has(&path.name));
    if paths.is_empty() && !filter.has(&many.name) {
        let nothing = |name| Section::new(name, "", [""; 0]);
        return Ok(["nanoseconds", "instructions"].map(nothing));
    }
    let mut sheet = Sheet::new();
    if !paths.is_empty() {
        let tables = Tables::new(lab, "table", cpu, effort.entries, true)?;
        for path in &paths {
            measure_path(path, lab, effort, &tables, &mut sheet)?;
        }
    }
    if filter.has(&many.name) {
        let entries = effort.many_flows + effort.many_flows / 4;
        let wanted = u64::from(entries) * FLOW_MEMORY * TableKind::ALL.len() as u64;
        let available = host::available_memory()?;
        if available < wanted {
            sheet.nanoseconds.note(format!(
                "{} is left out: its tables need {} MB, and {} MB are free.",
                many.name,
                wanted >> 20,
                available >> 20
            ));
        } else {
            let tables = Tables::new(lab, "large", cpu, entries, false)?;
            measure_path(&many, lab, effort, &tables, &mut sheet)?;
        }
    }
    let Sheet { mut nanoseconds, instructions, wrapper, .. } = sheet;
    if !wrapper.is_empty() {
        let wrapper = Spread::of(wrapper).text(0);
        nanoseconds.note(format!(
            "XDP_TX: a program that only sends back, with the wrapper that hands it the packets; {wrapper} ns on all \
             paths. It is subtracted from all other figures."
        ));
    }
    Ok([nanoseconds, instructions])
}

/// Fills the tables with the path's flows, and measures the path.
fn measure_path(
    path: &Path,
    lab: &Lab<'_>,
    effort: &Effort,
    tables: &Tables<'_>,
    sheet: &mut Sheet,
) -> Result {
    eprintln!("{}", path.name);
    if let (Some(packets), Some(flows)) = (path.known_by, path.flows) {
        tables.make_known(lab, packets, flows, effort.in_order)?;
    }
    let sites = if path.every_table { &tables.sites[..] } else { &tables.sites[..1] };
    let mut turns = Turns::default();
    with_setting(path.setting, sites, &mut || {
        turns = Turns::of(path, lab, effort, tables, sites, &mut sheet.counter)?;
        Ok(())
    })?;
    turns.report(path, sites, sheet);
    sheet.wrapper.extend(turns.tx.nanoseconds);
    Ok(())
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

/// What the programs took in each round.
#[derive(Debug, Default)]
struct Turns {
    /// A program that only sends back, wrapper included. It is subtracted from the others.
    tx: Took,
    yardstick: Option<Took>,
    /// For each kind of connection table.
    ours: Vec<Ours>,
}

/// What the programs of a balancer took.
#[derive(Debug)]
struct Ours {
    /// By their names, [`programs`].
    programs: Vec<(String, Took)>,
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
        counter: &mut Option<Counter>,
    ) -> Result<Self> {
        let fill = |site| Neighbours::fill(site, chain::slots(chain::SLOTS));
        let filled = sites.iter().filter(|_| path.chains);
        let neighbours = filled.map(fill).collect::<Result<Vec<_>>>()?;
        let turns = Self::beside(path, lab, effort, tables, sites, &neighbours, counter);
        neighbours.into_iter().try_for_each(Neighbours::end)?;
        turns
    }

    /// Lets the programs take turns. `neighbours`: one for each site, or none.
    fn beside(
        path: &Path,
        lab: &Lab<'_>,
        effort: &Effort,
        tables: &Tables<'_>,
        sites: &[Site<'_>],
        neighbours: &[Neighbours<'_>],
        counter: &mut Option<Counter>,
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
        let bare = |runner, verdict| Subject { runner, verdict, prepare: Box::new(|| Ok(())) };
        let ingress = tables.first()?.ingress()?;
        let mut subjects = vec![bare(wrap(ingress, None)?, TX)];
        if path.yardstick {
            let runner = wrap(ingress, Some(tables.yardstick.program()?))?;
            subjects.push(bare(runner, path.verdict()));
        }
        let (mut before, mut names) = (Vec::new(), Vec::new());
        for (at, site) in sites.iter().enumerate() {
            let neighbours = neighbours.get(at);
            for (name, program, length) in of_site(path, site)? {
                names.push((at, name));
                let runner = wrap(site.ingress()?, Some(program))?;
                let lead = move || neighbours.map_or(Ok(()), |all| all.lead(&chain::slots(length)));
                let verdict = path.verdict();
                subjects.push(Subject { runner, verdict, prepare: Box::new(lead) });
            }
            before.push(site.stats()?);
        }

        let mut took = effort.rounds.measure(&subjects, counter)?.into_iter();
        let tx = took.next().unwrap_or_default();
        let mut net = || took.next().unwrap_or_default().without(&tx);
        let yardstick = path.yardstick.then(&mut net);
        let mut ours = Vec::new();
        for (site, before) in sites.iter().zip(before) {
            let share = share_of(path.reason, &before, &site.stats()?);
            ours.push(Ours { programs: Vec::new(), share });
        }
        for (at, name) in names {
            ours[at].programs.push((name, net()));
        }
        Ok(Self { tx, yardstick, ours })
    }

    /// A line for each kind of connection table.
    fn report(&self, path: &Path, sites: &[Site<'_>], sheet: &mut Sheet) {
        for (site, ours) in sites.iter().zip(&self.ours) {
            let kind = site.kind.name();
            if ours.share < 0.995 {
                let (path, reason, share) = (&path.name, path.reason, ours.share * 100.0);
                sheet.nanoseconds.note(format!(
                    "{path}, {kind}: {share:.1} % of the packets had the reason {reason}."
                ));
            }
            let table = if path.every_table { kind } else { "" };
            self.report_nanoseconds(path, table, ours, &mut sheet.nanoseconds);
            if !self.tx.instructions.is_empty() {
                self.report_instructions(path, table, ours, &mut sheet.instructions);
            }
            self.save(path, table, ours, &mut sheet.nanoseconds);
        }
    }

    fn report_nanoseconds(&self, path: &Path, table: &str, ours: &Ours, section: &mut Section) {
        let yardstick = self.yardstick.as_ref().map(|yardstick| &yardstick.nanoseconds[..]);
        let mut cells = vec![
            path.name.clone(),
            table.to_owned(),
            spread(&self.tx.nanoseconds).text(0),
            yardstick.map_or(String::new(), |times| spread(times).text(0)),
        ];
        let mut json = json!({
            "path": path.name,
            "packets": path.what,
            "table": table,
            "reason": path.reason,
            "reason_share": ours.share,
            "xdp_tx_ns": spread(&self.tx.nanoseconds),
            "yardstick_ns": yardstick.map(spread),
        });
        for name in programs() {
            let times = ours.get(&name).map(|took| &took.nanoseconds[..]);
            let ratio = times.zip(yardstick).map(|(times, yardstick)| ratio(times, yardstick));
            cells.push(times.map_or(String::new(), |times| spread(times).text(0)));
            if [BALANCER, INTERFACE].contains(&name.as_str()) {
                cells.push(ratio.map_or(String::new(), |ratio| ratio.text(2)));
            }
            let key = name.replace(' ', "_");
            json[format!("{key}_ns")] = json!(times.map(spread));
            json[format!("{key}_ratio")] = json!(ratio);
        }
        cells.push(path.what.clone());
        section.row(cells, json);
    }

    fn report_instructions(&self, path: &Path, table: &str, ours: &Ours, section: &mut Section) {
        let mut cells = vec![path.name.clone(), table.to_owned()];
        let mut json = json!({ "path": path.name, "table": table });
        let first = [("XDP_TX", Some(&self.tx)), (YARDSTICK, self.yardstick.as_ref())];
        let first = first.map(|(name, took)| (name.to_owned(), took));
        for (name, took) in first.into_iter().chain(programs().map(|name| {
            let took = ours.get(&name);
            (name, took)
        })) {
            let count = took.and_then(Took::instructions);
            cells.push(count.map_or(String::new(), |count| format!("{count:.0}")));
            json[name.to_lowercase().replace(' ', "_")] = json!(count);
        }
        section.row(cells, json);
    }

    /// For `--save` and `--compare`.
    fn save(&self, path: &Path, table: &str, ours: &Ours, section: &mut Section) {
        let yardstick = self.yardstick.iter().map(|took| (YARDSTICK, took));
        let all = ours.programs.iter().map(|(name, took)| (name.as_str(), took));
        for (program, took) in yardstick.chain(all) {
            section.figure(Figure {
                path: path.name.clone(),
                table: table.to_owned(),
                program: program.to_owned(),
                nanoseconds: took.nanoseconds.clone(),
                instructions: took.instructions(),
            });
        }
    }
}

impl Ours {
    fn get(&self, program: &str) -> Option<&Took> {
        self.programs.iter().find(|(name, _)| name == program).map(|(_, took)| took)
    }
}

/// The programs of a balancer that take turns: their names, and how many programs the chain has meanwhile.
fn of_site(path: &Path, site: &Site<'_>) -> Result<Vec<(String, OwnedFd, u32)>> {
    // The benchmark puts neighbours into the chain by itself, so nobody has led the link there.
    let attached = if matches!(path.setting, Setting::Neighbours(..)) {
        site.program("root")?
    } else {
        site.attached()?
    };
    let mut all = vec![
        (BALANCER.to_owned(), site.program("balancer")?, 1),
        (INTERFACE.to_owned(), attached, 1),
    ];
    if path.chains {
        for length in chain::LENGTHS {
            all.push((chain_of(length), site.program("root")?, length));
        }
    }
    Ok(all)
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
