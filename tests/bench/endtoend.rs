//! Packets per second over a virtual link. The same CPU generates, receives, balances, sends back and receives again.
//!
//! ```text
//! generator ─► far end ─► near end: program under test ─► far end: dropped
//! ```
//!
//! The kernel sends live frames of `BPF_PROG_TEST_RUN` in batches. The queue of the CPU that sends a frame receives it,
//! and the same CPU handles it. So a CPU's rate is that of all these steps together. Compare it only with rates of the
//! same run: that of a program that only sends back, and that of one that drops.

use std::iter;
use std::thread;

use nix::net::if_::if_nametoindex;
use nix::time::ClockId;
use serde_json::json;

use crate::Result;
use crate::args::Effort;
use crate::args::Filter;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::frames::Kind;
use crate::host::SoftirqThread;
use crate::host::cpu_time;
use crate::host::kernel_has_come_to;
use crate::host::on_cpu;
use crate::host::stay_on;
use crate::lab::End;
use crate::lab::Lab;
use crate::lab::Link;
use crate::lab::Site;
use crate::lab::TableKind;
use crate::programs::AGED;
use crate::programs::Flows;
use crate::programs::Ingress;
use crate::programs::Runner;
use crate::programs::UNKNOWN;
use crate::report::Section;
use crate::report::count;
use crate::spread::Spread;
use crate::spread::order;

/// Packets that are timed to estimate how many make a turn of the wanted length.
const TRIAL: u32 = 1 << 16;

/// The first Linux with `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES_SINCE: (u32, u32) = (5, 18);

/// Traffic that is sent.
struct Traffic {
    name: String,
    packets: Kind,
    /// Known flows of each CPU; `None`: every packet is of a new one.
    flows: Option<u32>,
}

/// A program on a link of its own, and a generator for each CPU.
struct Subject<'a> {
    label: &'static str,
    table: &'static str,
    link: &'a Link<'a>,
    /// Where the frames that it has handled are counted.
    counted: End,
    generators: Vec<Runner>,
}

/// Measures what the filter names.
pub(crate) fn measure(lab: &Lab<'_>, effort: &Effort, filter: &Filter) -> Result<Section> {
    let mut section = Section::new(
        "end_to_end",
        "End to end: million packets per second",
        [
            "traffic",
            "CPUs",
            "program",
            "table",
            "rate",
            "per CPU, to 1 CPU",
            "of XDP_TX",
            "ns beyond XDP_TX",
            "lost",
        ],
    );
    let some = effort.flows[1];
    let mut traffic = vec![
        Traffic {
            name: format!("end-to-end-tcp4-hit-{}", count(some)),
            packets: Kind::Tcp4Ack,
            flows: Some(some),
        },
        Traffic {
            name: "end-to-end-tcp4-syn-flood".to_owned(),
            packets: Kind::Tcp4Syn,
            flows: None,
        },
    ];
    traffic.retain(|traffic| filter.has(&traffic.name));
    if traffic.is_empty() {
        return Ok(section);
    }
    let (drop, tx) = (lab.link("bare-drop"), lab.link("bare-tx"));
    if !kernel_has_come_to(LIVE_FRAMES_SINCE)? {
        let (major, minor) = LIVE_FRAMES_SINCE;
        section.note(format!("end-to-end is left out: it needs Linux {major}.{minor}."));
        return Ok(section);
    }
    let _drop = XdpLink::attach(lab.ns, &drop.near, Verdict::Drop);
    let _tx = XdpLink::attach(lab.ns, &tx.near, Verdict::Tx);
    let site = |kind| {
        let entries = effort.live.entries * u32::try_from(lab.cpus.len())?;
        Site::new(lab, "live", kind, &lab.cpus, entries)
    };
    let sites = TableKind::ALL.into_iter().map(site).collect::<Result<Vec<_>>>()?;
    for traffic in traffic {
        eprintln!("{}", traffic.name);
        for site in &sites {
            traffic.fill(lab, site, effort.live.entries)?;
        }
        let bare = |label, link, counted| traffic.subject(lab, label, "", link, counted);
        let mut subjects =
            vec![bare("XDP_DROP", &drop, End::Near)?, bare("XDP_TX", &tx, End::Far)?];
        for site in &sites {
            let table = site.kind.name();
            let label = "interface";
            subjects.push(traffic.subject(lab, label, table, &site.link, End::Far)?);
        }
        compare(lab, effort, &traffic.name, &subjects, &mut section)?;
    }
    Ok(section)
}

impl Traffic {
    fn flows_of(&self, cpu: u32) -> Flows {
        // These numbers of flows belong to no other CPU.
        let first = cpu << 20;
        match self.flows {
            Some(flows) => Flows::shuffled(first, flows, 0),
            None => Flows::new_ones(UNKNOWN + first),
        }
    }

    /// Fills the tables of all CPUs, with the flows of this traffic among others.
    fn fill(&self, lab: &Lab<'_>, site: &Site<'_>, entries: u32) -> Result {
        let send = |cpu, flows: Flows| {
            let packets = self.packets.packets();
            let ingress = ingress(&site.link, cpu)?;
            let generator = Runner::generator(&lab.programs, &packets, flows, ingress)?;
            on_cpu(cpu, || generator.send(flows.count))
        };
        site.without_limit(|| {
            for &cpu in &lab.cpus {
                send(cpu, Flows::in_order(AGED, entries))?;
                let Flows { first, count, .. } = self.flows_of(cpu);
                if count > 0 {
                    send(cpu, Flows::scattered(first, count, entries / 5 * 4, AGED + entries))?;
                    send(cpu, Flows::in_order(first, count))?;
                }
            }
            Ok(())
        })
    }

    fn subject<'a>(
        &self,
        lab: &Lab<'_>,
        label: &'static str,
        table: &'static str,
        link: &'a Link<'a>,
        counted: End,
    ) -> Result<Subject<'a>> {
        let generators = lab.cpus.iter().map(|&cpu| {
            let (packets, flows) = (self.packets.packets(), self.flows_of(cpu));
            Runner::generator(&lab.programs, &packets, flows, ingress(link, cpu)?)
        });
        let generators = generators.collect::<Result<_>>()?;
        Ok(Subject { label, table, link, counted, generators })
    }
}

/// The interface that the generator's frames claim to come in by, and so go out by: the far end.
fn ingress(link: &Link<'_>, cpu: u32) -> Result<Ingress> {
    Ok(Ingress { ifindex: if_nametoindex(link.far.as_str())?, queue: cpu })
}

/// A turn of a subject.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Packets per second of CPU time, summed over the CPUs.
    rate: f64,
    /// The share of packets that did not come out.
    lost: f64,
}

impl Subject<'_> {
    /// Sends from these CPUs at the same time.
    fn turn(&self, cpus: &[u32], packets: u32) -> Result<Turn> {
        let before = self.link.received(self.counted)?;
        let seconds = thread::scope(|scope| {
            let threads: Vec<_> = cpus
                .iter()
                .zip(&self.generators)
                .map(|(&cpu, generator)| scope.spawn(move || send(generator, cpu, packets)))
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Result<f64>>| {
                thread.join().unwrap_or_else(|_| Err("a generator panicked".into()))
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        let came = self.link.received(self.counted)? - before;
        let share = came as f64 / (f64::from(packets) * cpus.len() as f64);
        let rate: f64 = seconds.iter().map(|seconds| f64::from(packets) / seconds).sum();
        Ok(Turn { rate: rate * share, lost: 1.0 - share })
    }
}

/// Sends packets from one CPU. Gives the seconds for which this kept the CPU busy; other processes do not count.
fn send(generator: &Runner, cpu: u32, packets: u32) -> Result<f64> {
    stay_on(cpu)?;
    let softirq = SoftirqThread::of(cpu)?;
    let busy = || Result::Ok(cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)? + softirq.cpu_time()?);
    let before = busy()?;
    generator.send(packets)?;
    Ok((busy()? - before) / 1e9)
}

/// Lets the subjects take turns, with one CPU, two, four …
fn compare(
    lab: &Lab<'_>,
    effort: &Effort,
    traffic: &str,
    subjects: &[Subject<'_>],
    section: &mut Section,
) -> Result {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some millions")]
    let packets_of = |subject: &Subject<'_>| -> Result<u32> {
        let rate = subject.turn(&lab.cpus[..1], TRIAL)?.rate;
        Ok((rate * effort.live.seconds) as u32)
    };
    let packets = subjects.iter().map(packets_of).collect::<Result<Vec<_>>>()?;
    let steps: Vec<usize> =
        iter::successors(Some(1), |cpus| Some(cpus * 2).filter(|cpus| *cpus <= lab.cpus.len()))
            .collect();
    let mut turns = vec![vec![Vec::new(); subjects.len()]; steps.len()];
    for round in 0..effort.live.rounds {
        for (step, cpus) in steps.iter().enumerate() {
            for at in order(round, subjects.len()) {
                turns[step][at].push(subjects[at].turn(&lab.cpus[..*cpus], packets[at])?);
            }
        }
    }
    let relative = |turns: &[Turn], to: &[Turn], times: f64| {
        Spread::of(turns.iter().zip(to).map(|(turn, to)| turn.rate / to.rate / times))
    };
    for (step, cpus) in steps.iter().enumerate() {
        for (at, subject) in subjects.iter().enumerate() {
            let this: &[Turn] = &turns[step][at];
            let rate = Spread::of(this.iter().map(|turn| turn.rate / 1e6));
            let scaling = relative(this, &turns[0][at], *cpus as f64);
            let of_tx = relative(this, &turns[step][1], 1.0);
            let beyond_tx = Spread::of(
                this.iter()
                    .zip(&turns[step][1])
                    .map(|(turn, tx)| *cpus as f64 * 1e9 * (1.0 / turn.rate - 1.0 / tx.rate)),
            );
            let lost = Spread::of(this.iter().map(|turn| turn.lost)).median;
            section.row(
                vec![
                    traffic.to_owned(),
                    cpus.to_string(),
                    subject.label.to_owned(),
                    subject.table.to_owned(),
                    rate.text(2),
                    scaling.text(2),
                    of_tx.text(2),
                    beyond_tx.text(0),
                    format!("{:.1} %", lost * 100.0),
                ],
                json!({
                    "traffic": traffic,
                    "cpus": cpus,
                    "program": subject.label,
                    "table": subject.table,
                    "million_packets_per_second": rate,
                    "per_cpu_relative_to_one_cpu": scaling,
                    "relative_to_xdp_tx": of_tx,
                    "nanoseconds_per_packet_beyond_xdp_tx": beyond_tx,
                    "lost_share": lost,
                }),
            );
        }
    }
    Ok(())
}
