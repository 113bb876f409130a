//! What happens to each established flow. Pure.

mod explain;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use super::Flows;
use super::Precision;
use super::Question;
use super::fit;
use super::fit::Used;
use super::fit::number;
use crate::control::flows::Flow;
use crate::control::flows::FlowState;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::maglev::hash::flow_slot;
use crate::model::maglev::ring::Member;
use crate::model::maglev::ring::Ring;
use crate::model::vip_table::VipSpec;
use crate::plan::Plan;
use crate::plan::rings::Rings;

/// The sum of flows that are counted, flows that are expected, and flows that are only bounded.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    counted: u64,
    expected: f64,
    at_most: u64,
}

impl Tally {
    fn add(&mut self, fate: Fate, weight: u64) {
        match fate {
            Fate::Stays => {}
            Fate::Moves => self.counted += weight,
            Fate::MayMove => self.at_most += weight,
            Fate::MovesBy(chance) => self.expected += chance * number(weight),
        }
    }

    fn flows(&self, exact: bool) -> Flows {
        let precision = if self.at_most != 0 {
            Precision::AtMost
        } else if self.expected > 0.0 || !exact {
            Precision::About
        } else {
            Precision::Exact
        };
        Flows { flows: self.counted + self.at_most + rounded(self.expected), precision }
    }
}

/// Rounds an expectation to a number of flows. The result is 0 only if the expectation is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a sum of chances, each for a flow"
)]
fn rounded(expected: f64) -> u64 {
    if expected < 1e-6 { 0 } else { (expected.round() as u64).max(1) }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Stays,
    /// It moves to another real, or to none.
    Moves,
    /// It may move: the entry does not hold what decides, and no probability is known.
    MayMove,
    /// It moves with this probability.
    MovesBy(f64),
}

/// A ring, and the reals that its slots stand for.
struct RingOf {
    members: Vec<Member>,
    ring: Option<Arc<Ring>>,
}

impl RingOf {
    fn new(rings: &Rings, spec: &VipSpec) -> Self {
        let members = spec.members();
        Self { ring: rings.get_or_build(&members), members }
    }

    fn real(&self, slot: u32) -> Option<IpAddr> {
        let index = self.ring.as_ref()?.member_at(slot);
        self.members.get(index).map(|member| member.address)
    }

    /// The probability that a flow goes elsewhere than to `real`, if nothing else is known of the flow.
    fn chance_against(&self, real: IpAddr) -> f64 {
        let Some(index) = self.members.iter().position(|member| member.address == real) else {
            return 1.0;
        };
        let slots = Ring::shares(&self.members).get(index).copied().unwrap_or_default();
        1.0 - f64::from(slots) / f64::from(crate::model::maglev::ring::RING_SIZE)
    }
}

/// A wanted VIP.
struct Target<'a> {
    vip: Vip,
    spec: &'a VipSpec,
    ring: OnceCell<RingOf>,
}

impl Target<'_> {
    /// Whether the target's ring moves a flow that is at `real`.
    fn by_ring(&self, rings: &Rings, flow: &Flow, real: IpAddr, named: &BTreeSet<IpAddr>) -> Fate {
        let ring = self.ring.get_or_init(|| RingOf::new(rings, self.spec));
        let fate = match slot(flow, &self.vip, self.spec) {
            Some(slot) if ring.real(slot) == Some(real) => return Fate::Stays,
            Some(_) => Fate::Moves,
            None => Fate::MovesBy(ring.chance_against(real)),
        };
        // The flow's packets may carry a server id that names the real.
        if self.spec.is_routed_by_id() && named.contains(&real) { Fate::MayMove } else { fate }
    }
}

/// The slot of a flow in a VIP's ring; `None`: the entry does not hold all that decides.
fn slot(flow: &Flow, vip: &Vip, spec: &VipSpec) -> Option<u32> {
    let flags = spec.flags(vip);
    let has = |flag| flags & flag != 0;
    let port = if vip.port == 0 { flow.port } else { Some(vip.port) };
    let nowhere: IpAddr = match vip.address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    if has(consts::VIP_DPORT_ONLY) {
        return Some(flow_slot(nowhere, port?, port?));
    }
    let source_port = if has(consts::VIP_IGNORE_SPORT) { 0 } else { flow.client_port? };
    let port = if has(consts::VIP_IGNORE_DPORT) { 0 } else { port? };
    Some(flow_slot(flow.client?, source_port, port))
}

/// A running VIP, and what happens to it.
struct Case<'a> {
    before: &'a VipSpec,
    /// The reals that its flows may stay with.
    keepers: BTreeSet<IpAddr>,
    /// The target that serves its packets from now on: this VIP, or the VIP of every port.
    next: Option<usize>,
    /// For a VIP of every port: the ports that new VIPs take over.
    taken_over: BTreeMap<u16, usize>,
    /// Packets no longer find flows under their stored keys.
    anew: bool,
    gone: bool,
    established: u64,
    moved: Tally,
    reals: BTreeMap<IpAddr, (u64, Tally)>,
}

/// Adds a flow of a VIP of every port to the new VIPs that may take it over. Returns whether one certainly does.
fn take_over(
    taken: &mut BTreeMap<usize, (u64, Tally)>,
    case: &Case<'_>,
    flow: &Flow,
    weight: u64,
    fate: impl FnOnce(usize) -> Fate,
) -> bool {
    let mut add = |at: usize, fate| {
        let (flows, tally) = taken.entry(at).or_default();
        *flows += weight;
        tally.add(fate, weight);
    };
    let Some(port) = flow.port else {
        case.taken_over.values().for_each(|at| add(*at, Fate::MayMove));
        return false;
    };
    let new = case.taken_over.get(&port).copied();
    if let Some(at) = new {
        add(at, fate(at));
    }
    new.is_some()
}

/// Judges flows that are passed to it one by one.
pub(super) struct Judge<'a> {
    plan: &'a Plan,
    question: &'a Question<'a>,
    targets: Vec<Target<'a>>,
    cases: HashMap<Vip, Case<'a>>,
    /// Reals that server ids name from now on.
    named: BTreeSet<IpAddr>,
    /// Once the program is replaced, UDP flows expire that were silent for longer than this.
    timeout: Option<Duration>,
    used: Used,
    established: u64,
    /// Flows of id-routed VIPs, by real: all, and those that must leave because no id names the real any more.
    by_id: BTreeMap<IpAddr, (u64, Tally)>,
    expired: (u64, Tally),
    /// Flows that would go elsewhere if their entries were lost.
    astray: Tally,
    /// Flows that new VIPs take over from a VIP of every port, by target.
    taken: BTreeMap<usize, (u64, Tally)>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(question: &'a Question<'a>, plan: &'a Plan) -> Self {
        let wanted = question.wanted;
        let target =
            |(vip, spec): (&Vip, &'a VipSpec)| Target { vip: *vip, spec, ring: OnceCell::new() };
        let targets: Vec<_> = wanted.vips.iter().map(target).collect();
        let places: BTreeMap<Vip, usize> =
            targets.iter().enumerate().map(|(at, target)| (target.vip, at)).collect();
        let vips = question.running.vips.iter().map(|(vip, running)| {
            let kept = wanted.vips.get(vip);
            let every_port = places.get(&Vip { port: 0, ..*vip }).copied();
            let mut taken_over = BTreeMap::new();
            if vip.port == 0 {
                let same =
                    |other: &Vip| other.address == vip.address && other.protocol == vip.protocol;
                let new = places.iter().filter(|(other, _)| {
                    other.port != 0 && same(other) && !question.running.vips.contains_key(other)
                });
                taken_over.extend(new.map(|(other, at)| (other.port, *at)));
            }
            let key = |spec: &VipSpec| {
                spec.flags(vip) & (consts::VIP_REDUCED_KEY | consts::VIP_STATELESS)
            };
            let case = Case {
                before: &running.spec,
                keepers: kept.map(|spec| spec.keepers(&wanted.server_ids)).unwrap_or_default(),
                next: places.get(vip).copied().or(every_port),
                taken_over,
                anew: kept.is_some_and(|spec| key(spec) != key(&running.spec)),
                gone: kept.is_none(),
                established: 0,
                moved: Tally::default(),
                reals: BTreeMap::new(),
            };
            (*vip, case)
        });
        let timeout = question.knobs.and_then(|(old, new)| {
            (new.udp_timeout < old.udp_timeout).then(|| Duration::from_nanos(new.udp_timeout))
        });
        Self {
            plan,
            cases: vips.collect(),
            targets,
            named: wanted.server_ids.values().copied().collect(),
            timeout,
            question,
            used: Used::new(),
            established: 0,
            by_id: BTreeMap::new(),
            expired: <(u64, Tally)>::default(),
            astray: Tally::default(),
            taken: BTreeMap::new(),
        }
    }

    /// Judges an entry that stands for `weight` entries.
    pub(super) fn take(&mut self, flow: &Flow, weight: u64) {
        let v6 = flow.vip.map(|vip| vip.address).or(flow.client).is_some_and(|a| a.is_ipv6());
        let used = self.used.entry(flow.cpu).or_default();
        used.all[usize::from(v6)] += weight;
        let (Some(vip), Some(real)) = (flow.vip, flow.real) else { return };
        let Some(case) = self.cases.get_mut(&vip) else { return };
        let rings = &self.plan.steps.table.rings;
        if flow.state != FlowState::Live {
            return;
        }
        // The new program does not use the entry, and it is not copied.
        let late = self.timeout.is_some_and(|t| vip.protocol == Protocol::Udp && flow.age > t);
        used.live[usize::from(v6)] += if late { 0 } else { weight };
        self.established += weight;
        case.established += weight;
        let by_id = !case.gone && case.before.is_routed_by_id();
        if by_id {
            self.by_id.entry(real).or_default().0 += weight;
        }
        let of_new_vip = |at: usize| self.targets[at].by_ring(rings, flow, real, &self.named);
        if take_over(&mut self.taken, case, flow, weight, of_new_vip) {
            return;
        }
        let target = case.next.map(|at| &self.targets[at]);
        let by_ring = || match target {
            Some(target) => target.by_ring(rings, flow, real, &self.named),
            None => Fate::Moves,
        };
        let fate = if case.gone || case.anew {
            by_ring()
        } else if !case.keepers.contains(&real) {
            Fate::Moves
        } else {
            Fate::Stays
        };
        if fate == Fate::Stays {
            if !case.gone && !case.anew {
                if late {
                    self.expired.0 += weight;
                    self.expired.1.add(by_ring(), weight);
                } else if self.plan.steps.tables.is_some() {
                    self.astray.add(by_ring(), weight);
                }
            }
            let of = case.reals.entry(real).or_default();
            of.0 += weight;
            return;
        }
        // Even if the VIP itself does not change, a server id may no longer name the real.
        if by_id && !case.anew && !case.before.reals.contains_key(&real) {
            self.by_id.entry(real).or_default().1.add(fate, weight);
        }
        case.moved.add(fate, weight);
        let of = case.reals.entry(real).or_default();
        of.0 += weight;
        of.1.add(fate, weight);
    }
}

#[cfg(test)]
mod tests;
