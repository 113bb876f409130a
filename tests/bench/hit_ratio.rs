//! The share of packets of established flows whose flow the connection table knows. It shows how good a kind of table is
//! when there are as many flows as entries, or a flood.
//!
//! A fixed number of flows is active at a time. Zipf's law chooses the flow of a packet. Flows end and others begin: one
//! packet in [`PACKETS_OF_FLOW`] is the SYN of a new flow that takes the place of a random active one. Entries of flows
//! that have ended stay behind. Packets of a flood come between, each of a flow of its own. The balancer remembers all
//! new flows, so that only the table is judged: `new_connections_per_second` would let less of a flood reach it.

use l4lb::Stats;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::Distribution;
use rand_distr::Zipf;
use serde_json::json;

use crate::Result;
use crate::args::Filter;
use crate::frames::Kind;
use crate::lab::Lab;
use crate::lab::Site;
use crate::lab::TableKind;
use crate::programs::Runner;
use crate::programs::TX;
use crate::programs::set;
use crate::report::Section;
use crate::report::count;

/// As in trace.bpf.c.
const TRACE_PACKETS: u32 = 1 << 16;
/// In a packet of the trace: it opens the connection.
const SYN: u32 = 1 << 31;

/// Packets that a flow has, on average.
const PACKETS_OF_FLOW: u32 = 20;

/// Zipf's exponent: the share of the n-th flow is in proportion to 1/n.
const EXPONENT: f64 = 1.0;

/// Packets of established flows for each entry of the table before hits are counted. By then, as many flows have begun
/// as there are entries.
const PACKETS_BEFORE: u64 = PACKETS_OF_FLOW as u64;

/// The same while they are counted.
const PACKETS_COUNTED: u64 = PACKETS_BEFORE / 2;

/// The first flow of a flood.
const FLOOD: u32 = 1 << 30;

/// Active flows in percent of the entries.
const ACTIVE: [u32; 5] = [25, 50, 75, 100, 150];

/// A flood.
struct Flood {
    name: &'static str,
    /// Its packets for each packet of other flows.
    intensity: f64,
    /// What is set in them: [`SYN`] or nothing.
    flags: u32,
}

const FLOODS: [Flood; 4] = [
    Flood { name: "no flood", intensity: 0.0, flags: 0 },
    Flood { name: "SYN flood 1:8", intensity: 0.125, flags: SYN },
    Flood { name: "SYN flood 1:1", intensity: 1.0, flags: SYN },
    Flood { name: "ACK flood 1:1", intensity: 1.0, flags: 0 },
];

/// Measures if the filter names it.
pub(crate) fn measure(lab: &Lab<'_>, cpu: u32, entries: u32, filter: &Filter) -> Result<Section> {
    let mut head = vec!["active flows", "table"];
    head.extend(FLOODS.iter().map(|flood| flood.name));
    let mut section = Section::new(
        "hit_ratio",
        "Packets of established flows that hit the connection table",
        &head,
    );
    let mut measured = false;
    for active in ACTIVE {
        let name = format!("hit-ratio-{active}");
        if !filter.has(&name) {
            continue;
        }
        for kind in TableKind::ALL {
            eprintln!("{name} {}", kind.name());
            let mut cells = vec![format!("{active} %"), kind.name().to_owned()];
            let mut ratios = serde_json::Map::new();
            for flood in &FLOODS {
                let flows = entries / 100 * active;
                let ratio = hit_ratio(lab, cpu, kind, entries, flows, flood)?;
                cells.push(format!("{:.2} %", ratio * 100.0));
                ratios.insert(flood.name.to_owned(), json!(ratio));
            }
            let json =
                json!({ "active_percent": active, "table": kind.name(), "hit_ratio": ratios });
            section.row(cells, json);
            measured = true;
        }
    }
    if measured {
        section.note(format!(
            "{} entries, one CPU; active flows in percent of them. Floods: packets for each other packet.",
            count(entries)
        ));
    }
    Ok(section)
}

/// Sends traffic with so many active flows through a balancer whose table has so many entries.
fn hit_ratio(
    lab: &Lab<'_>,
    cpu: u32,
    kind: TableKind,
    entries: u32,
    flows: u32,
    flood: &Flood,
) -> Result<f64> {
    let site = Site::new(lab, "hits", kind, &[cpu], entries)?;
    site.without_limit(|| {
        let packets = Kind::Tcp4Ack.packets();
        let root = site.program("root")?;
        let tracer = Runner::tracer(&lab.programs, &packets, site.ingress()?, &root)?;
        let mut traffic = Traffic::new(flows, flood)?;
        traffic.send(&tracer, u64::from(entries) * PACKETS_BEFORE)?;
        let before = hits(&site.stats()?);
        let established = traffic.send(&tracer, u64::from(entries) * PACKETS_COUNTED)?;
        let hits = hits(&site.stats()?) - before;
        Ok(hits as f64 / established as f64)
    })
}

/// Packets whose flow was in the table: a flood's never are.
fn hits(stats: &Stats) -> u64 {
    stats.table.iter().filter(|(event, _)| *event == "hit").map(|(_, count)| count).sum()
}

/// Generates packets.
struct Traffic {
    random: SmallRng,
    popularity: Zipf<f64>,
    /// The flows, the most popular one first.
    active: Vec<u32>,
    next_flow: u32,
    next_of_flood: u32,
    /// The share of all packets.
    flood: f64,
    flags_of_flood: u32,
}

impl Traffic {
    fn new(flows: u32, flood: &Flood) -> Result<Self> {
        Ok(Self {
            // Every kind of table gets the same packets.
            random: SmallRng::seed_from_u64(1),
            popularity: Zipf::new(f64::from(flows), EXPONENT)?,
            active: (0..flows).collect(),
            next_flow: flows,
            next_of_flood: FLOOD,
            flood: flood.intensity / (1.0 + flood.intensity),
            flags_of_flood: flood.flags,
        })
    }

    /// Sends packets until so many of them are of established flows, or some more. Gives how many.
    fn send(&mut self, tracer: &Runner, wanted: u64) -> Result<u64> {
        let trace = tracer.map("trace.bss")?;
        let mut established = 0;
        while established < wanted {
            // The place of the next packet, and the packets.
            let mut value = vec![0; 4 + 4 * TRACE_PACKETS as usize];
            for packet in value[4..].chunks_exact_mut(4) {
                let next = self.next();
                packet.copy_from_slice(&next.to_ne_bytes());
                established += u64::from(next < FLOOD);
            }
            set(&trace, &0_u32.to_ne_bytes(), &value)?;
            let run = tracer.run(TRACE_PACKETS)?;
            if run.verdict != TX {
                return Err(format!("a packet ended with verdict {}", run.verdict).into());
            }
        }
        Ok(established)
    }

    /// The next packet.
    fn next(&mut self) -> u32 {
        if self.random.random_bool(self.flood) {
            let flow = self.next_of_flood;
            self.next_of_flood += 1;
            return flow | self.flags_of_flood;
        }
        if self.random.random_ratio(1, PACKETS_OF_FLOW) {
            let ended = self.random.random_range(0..self.active.len());
            self.active[ended] = self.next_flow;
            self.next_flow += 1;
            return self.active[ended] | SYN;
        }
        let rank = self.popularity.sample(&mut self.random);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to flows")]
        let at = rank as usize - 1;
        self.active[at]
    }
}
