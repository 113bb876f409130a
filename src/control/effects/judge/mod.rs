//! What happens to each established flow. Pure.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use super::Changed;
use super::FlowEffect;
use super::Flows;
use super::Precision;
use super::Question;
use super::RealFlows;
use super::fit;
use super::fit::Used;
use super::fit::number;
use crate::control::flows::Flow;
use crate::control::flows::FlowState;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::Config;
use crate::model::maglev::hash::flow_slot;
use crate::model::maglev::ring::Member;
use crate::model::maglev::ring::Ring;
use crate::model::vip_table::VipSpec;
use crate::plan::InterfaceAction;
use crate::plan::InterfaceChange;
use crate::plan::Plan;
use crate::plan::ProgramChange;
use crate::plan::diff::ServerIdChange;
use crate::plan::diff::VipAction;
use crate::plan::diff::VipChange;
use crate::plan::rings::Rings;
use crate::plan::write_knobs;

/// A count that may be partly expected and partly a bound.
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

/// An expectation as a number of flows. It is 0 only if the expectation is.
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
    /// To another real, or to none.
    Moves,
    /// It may move: the entry does not hold what decides, and no probability is known.
    MayMove,
    /// With this probability.
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

    /// The probability that a flow, of which nothing else is known, goes elsewhere than to `real`.
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
        // Its packets may name the real.
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

/// Judges flows that are passed to it one by one.
pub(super) struct Judge<'a> {
    plan: &'a Plan,
    question: &'a Question<'a>,
    targets: Vec<Target<'a>>,
    cases: HashMap<Vip, Case<'a>>,
    /// Reals that server ids name from now on.
    named: BTreeSet<IpAddr>,
    /// UDP flows that were silent for longer expire once the program is replaced.
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
        if !case.taken_over.is_empty() {
            match flow.port {
                Some(port) => {
                    if let Some(at) = case.taken_over.get(&port) {
                        let fate = self.targets[*at].by_ring(rings, flow, real, &self.named);
                        let taken = self.taken.entry(*at).or_default();
                        taken.0 += weight;
                        taken.1.add(fate, weight);
                        return;
                    }
                }
                None => {
                    for at in case.taken_over.values() {
                        let taken = self.taken.entry(*at).or_default();
                        taken.0 += weight;
                        taken.1.add(Fate::MayMove, weight);
                    }
                }
            }
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
        // The VIP itself may not change: then a server id no longer names the real.
        if by_id && !case.anew && !case.before.reals.contains_key(&real) {
            self.by_id.entry(real).or_default().1.add(fate, weight);
        }
        case.moved.add(fate, weight);
        let of = case.reals.entry(real).or_default();
        of.0 += weight;
        of.1.add(fate, weight);
    }

    /// The effects of all changes of the plan.
    pub(super) fn effects(&self, exact: bool) -> Vec<FlowEffect> {
        let mut effects = Vec::new();
        if let Some(change) = &self.plan.program {
            effects.push(self.program(change, exact));
        }
        if !self.plan.connection_table.is_empty() || self.plan.steps.tables.is_some() {
            effects.extend(self.tables(exact));
        }
        effects.extend(self.plan.interfaces.iter().map(|change| self.interface(change, exact)));
        effects.extend(self.plan.vips.iter().filter_map(|change| self.vip(change, exact)));
        effects.extend(self.plan.server_ids.iter().map(|change| self.server_id(change, exact)));
        effects
    }

    fn counted(flows: u64, exact: bool) -> Flows {
        let precision = if exact { Precision::Exact } else { Precision::About };
        Flows { flows, precision }
    }

    fn program(&self, change: &ProgramChange, exact: bool) -> FlowEffect {
        let mut effect = FlowEffect::new(Changed::Program);
        let mut parts = vec![
            "every packet meets the old program or the new one, and flows stay where they are"
                .to_owned(),
        ];
        if *change == ProgramChange::Load {
            parts = vec!["flows that are in the tables go to the same reals as before".to_owned()];
        }
        effect.established = Some(Self::counted(self.established, exact));
        effect.moved = Some(Self::counted(0, exact));
        if let (Some(timeout), (flows @ 1.., tally)) = (self.timeout, self.expired) {
            let (expired, moved) = (Self::counted(flows, exact), tally.flows(exact));
            parts = vec![format!(
                "{expired} UDP flows that were silent for more than {} s are forgotten, and {moved} of them go \
                 elsewhere; all others stay",
                timeout.as_secs()
            )];
            effect.moved = Some(moved);
        }
        if let Some((old, new)) = self.question.knobs {
            parts.extend(of_packets(old, new));
        }
        effect.what = parts.join("; ");
        effect
    }

    /// `None`: the tables stay.
    fn tables(&self, exact: bool) -> Option<FlowEffect> {
        let new = self.plan.steps.tables.as_ref()?;
        let mut effect = FlowEffect::new(Changed::ConnectionTable);
        let all = self.used.values().flat_map(|used| used.live).sum::<u64>();
        let established = Self::counted(all, exact);
        let left = fit::without_room(&self.plan.steps.running_tables, new, &self.used);
        // An expectation below one counts as none.
        let left = if left < 1.0 { 0.0 } else { left.min(number(all)) };
        let astray = number(self.astray.flows(exact).flows);
        let moved = left * astray / number(all.max(1));
        let moved = if moved < 1.0 { 0.0 } else { moved };
        effect.established = Some(established);
        effect.moved = Some(Flows {
            flows: rounded(moved),
            precision: if left == 0.0 { established.precision } else { Precision::About },
        });
        effect.what = if left == 0.0 {
            format!("{established} established flows are copied")
        } else {
            format!(
                "of {established} established flows, about {} find no room and are forgotten, and about {} of those \
                 go elsewhere; all others are copied",
                rounded(left),
                rounded(moved)
            )
        };
        Some(effect)
    }

    fn interface(&self, change: &InterfaceChange, exact: bool) -> FlowEffect {
        let mut effect = FlowEffect::new(Changed::Interface(change.name.clone()));
        let none = Some(Self::counted(0, exact));
        (effect.moved, effect.what) = match change.action {
            InterfaceAction::Attach => {
                (none, "packets that come in by it for VIPs are balanced from now on".to_owned())
            }
            InterfaceAction::Reattach => (
                none,
                "for some milliseconds packets for VIPs reach the kernel instead of a real; no flow moves".to_owned(),
            ),
            InterfaceAction::Update => (none, "no flow moves".to_owned()),
            InterfaceAction::Detach if self.question.dead_interfaces.contains(&change.name) => {
                (none, "no packets come in by it any more".to_owned())
            }
            InterfaceAction::Detach => {
                // The tables do not say by which interface a flow comes in.
                let mut all = Tally::default();
                all.add(Fate::MayMove, self.established);
                let moved = all.flows(exact);
                let what = format!(
                    "packets that come in by it are no longer balanced, neither new flows nor established ones: \
                     {moved} of the latter"
                );
                (Some(moved), what)
            }
        };
        effect
    }

    fn vip(&self, change: &VipChange, exact: bool) -> Option<FlowEffect> {
        let mut effect = FlowEffect::new(Changed::Vip(change.vip));
        if change.action == VipAction::Add {
            let at = self.targets.iter().position(|target| target.vip == change.vip)?;
            let (flows, tally) = self.taken.get(&at)?;
            let moved = tally.flows(exact);
            let established = Flows { flows: *flows, ..Self::counted(0, exact) };
            effect.established = Some(established);
            effect.moved = Some(moved);
            effect.what = format!(
                "takes over the flows of this port from the VIP of every port: of {established} established there, \
                 {moved} go elsewhere"
            );
            return Some(effect);
        }
        let case = self.cases.get(&change.vip)?;
        let (moved, established) =
            (case.moved.flows(exact), Self::counted(case.established, exact));
        effect.moved = Some(moved);
        effect.established = Some(established);
        effect.reals = case
            .reals
            .iter()
            .map(|(real, (established, tally))| {
                let moved = tally.flows(exact).flows;
                RealFlows { real: *real, established: *established, moved }
            })
            .filter(|of| of.moved != 0 || self.changes(change, of.real))
            .collect();
        if change.action == VipAction::Remove {
            effect.what = match case.next {
                None => {
                    format!("{established} established flows are forgotten and no longer served")
                }
                Some(at) => format!(
                    "{established} established flows are forgotten, and {moved} of them go elsewhere by {}",
                    self.targets[at].vip
                ),
            };
            return Some(effect);
        }
        effect.new_moved = Some(change.moved);
        let after = case.next.map_or(case.before, |at| self.targets[at].spec);
        let mut parts = vec![format!("{:.2} % of new flows go elsewhere", change.moved * 100.0)];
        parts.push(match (case.before.stateless, after.stateless) {
            (true, true) => {
                effect.established = None;
                effect.moved = None;
                "established flows move as new ones do, as the VIP does not remember flows".to_owned()
            }
            (true, false) => {
                if change.moved > 0.0 {
                    effect.established = None;
                    effect.moved = None;
                }
                "flows are remembered from now on; the ring decides once more about established ones".to_owned()
            }
            (false, true) => format!(
                "{established} established flows are forgotten, and the ring alone decides: {moved} of them go \
                 elsewhere"
            ),
            (false, false) if case.anew => format!(
                "{established} established flows are not found under their new keys, and {moved} of them go elsewhere"
            ),
            (false, false) if moved.flows == 0 => {
                format!("all of {established} established flows stay")
            }
            (false, false) => format!("{moved} of {established} established flows move at once"),
        });
        if !effect.reals.is_empty() {
            let each = effect.reals.iter().map(|of| match of.moved {
                0 => format!("{}: {} stay", of.real, of.established),
                moved => format!("{}: {moved} of {} move", of.real, of.established),
            });
            parts.push(each.collect::<Vec<_>>().join(", "));
        }
        match (case.before.is_routed_by_id(), after.is_routed_by_id()) {
            (false, true) => parts.push(
                "packets that carry a server id go to its real at once, in new and established flows; how many is not \
                 known"
                    .to_owned(),
            ),
            (true, false) => parts.push("server ids in packets no longer count".to_owned()),
            _ => {}
        }
        effect.what = parts.join("; ");
        Some(effect)
    }

    /// Whether a change is about a real of a VIP.
    fn changes(&self, change: &VipChange, real: IpAddr) -> bool {
        let before = self.question.running.vips.get(&change.vip);
        let before = before.and_then(|running| running.spec.reals.get(&real));
        let after = self.question.wanted.vips.get(&change.vip);
        change.action == VipAction::Change && before != after.and_then(|spec| spec.reals.get(&real))
    }

    fn server_id(&self, change: &ServerIdChange, exact: bool) -> FlowEffect {
        let mut effect = FlowEffect::new(Changed::ServerId(change.id));
        let of = |real: Option<IpAddr>| {
            real.and_then(|real| self.by_id.get(&real)).copied().unwrap_or_default()
        };
        let (flows, must_leave) = of(change.from);
        let must_leave = must_leave.flows(exact);
        effect.established = Some(Self::counted(flows, exact));
        (effect.moved, effect.what) = match (change.from, change.to) {
            (Some(from), Some(_)) => {
                let mut all = Tally::default();
                all.add(Fate::MayMove, flows);
                let moved = all.flows(exact);
                let what = format!(
                    "packets that carry it go to the new real at once: {moved} established flows, as many as {from} has"
                );
                (Some(moved), what)
            }
            (Some(from), None) => (
                Some(must_leave),
                format!(
                    "connection table and ring decide about packets that carry it; {must_leave} established flows \
                     that were at {from} only because of ids go elsewhere"
                ),
            ),
            (None, _) => {
                effect.established = None;
                let what = "packets that carry it go to its real at once, in new and established flows; how many is \
                            not known";
                (None, what.to_owned())
            }
        };
        effect
    }
}

/// What a program with other knobs does to packets of all flows.
fn of_packets(old: &abi::knobs, new: &abi::knobs) -> Vec<String> {
    let (mut before, mut after) = (Config::default(), Config::default());
    write_knobs(old, &mut before);
    write_knobs(new, &mut after);
    let (before, after) = (before.packets, after.packets);
    let mut parts = Vec::new();
    if after.max_frame < before.max_frame {
        parts.push(format!(
            "frames of more than {} bytes are refused from now on, also in established flows",
            after.max_frame
        ));
    }
    if before.oversize != after.oversize {
        parts.push(
            "senders of packets that are too long get another answer from now on, also in established flows"
                .to_owned(),
        );
    }
    let sources = (before.source_v4(), before.source_v6());
    if sources != (after.source_v4(), after.source_v6()) {
        parts.push(
            "reals that decapsulate only for the former outer source drop packets from the new one"
                .to_owned(),
        );
    }
    parts
}

#[cfg(test)]
mod tests;
