//! What the changes of a plan do to flows, in words and numbers.

use std::net::IpAddr;

use super::Case;
use super::Fate;
use super::Judge;
use super::Tally;
use super::fit;
use super::fit::number;
use super::rounded;
use crate::control::effects::Changed;
use crate::control::effects::FlowEffect;
use crate::control::effects::Flows;
use crate::control::effects::Precision;
use crate::control::effects::RealFlows;
use crate::model::abi;
use crate::model::config::Config;
use crate::model::config::DecapsulateThen;
use crate::model::config::PacketsConfig;
use crate::model::tunnel_end::TunnelEnd;
use crate::model::vip_table::VipSpec;
use crate::plan::InterfaceAction;
use crate::plan::InterfaceChange;
use crate::plan::ProgramChange;
use crate::plan::diff::DecapsulateChange;
use crate::plan::diff::ServerIdChange;
use crate::plan::diff::VipAction;
use crate::plan::diff::VipChange;
use crate::plan::encapsulation;
use crate::plan::write_knobs;

impl Judge<'_> {
    /// The effects of all changes of the plan.
    pub(in crate::control::effects) fn effects(&self, exact: bool) -> Vec<FlowEffect> {
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
        effects.extend(self.plan.decapsulate.iter().map(|change| self.decapsulate(change, exact)));
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
            if old.decapsulates != 0 && new.decapsulates != 0 && old.gue_port != new.gue_port {
                // The tables do not say which flows come by GUE.
                let mut all = Tally::default();
                all.add(Fate::MayMove, self.established);
                let lost = all.flows(exact);
                effect.moved = Some(lost);
                parts.push(format!(
                    "GUE of other sites to the former port is no longer taken out, neither for new flows nor for \
                     established ones: {lost} of the latter"
                ));
            }
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

    /// A new VIP may take over flows of the VIP of every port.
    fn added_vip(&self, change: &VipChange, exact: bool) -> Option<FlowEffect> {
        let mut effect = FlowEffect::new(Changed::Vip(change.vip));
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
        Some(effect)
    }

    fn vip(&self, change: &VipChange, exact: bool) -> Option<FlowEffect> {
        let mut effect = FlowEffect::new(Changed::Vip(change.vip));
        if change.action == VipAction::Add {
            return self.added_vip(change, exact);
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
        if case.before.stateless && (after.stateless || change.moved > 0.0) {
            effect.established = None;
            effect.moved = None;
        }
        parts.push(of_established(case, after, established, moved));
        parts.extend(encapsulation::of_flows(case.before, after));
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

    /// The tables do not say which flows come in an outer header.
    fn decapsulate(&self, change: &DecapsulateChange, exact: bool) -> FlowEffect {
        let mut effect = FlowEffect::new(Changed::Decapsulate(change.address));
        let none = Some(Self::counted(0, exact));
        let mut all = Tally::default();
        all.add(Fate::MayMove, self.established);
        let all = all.flows(exact);
        let refused = change.from.as_ref().zip(change.to.as_ref());
        let refused = refused.is_some_and(|(from, to)| to.refuses_some_of(from));
        let then = |end: &Option<TunnelEnd>| end.as_ref().map(|end| end.then);
        (effect.moved, effect.what) = match (then(&change.from), then(&change.to)) {
            (None, Some(DecapsulateThen::Balance)) => {
                (none, "packets that come for it in an outer header are balanced from now on".to_owned())
            }
            (None, _) => (
                none,
                "packets that come for it in an outer header go back to the router from now on".to_owned(),
            ),
            (Some(DecapsulateThen::Balance), Some(DecapsulateThen::Balance)) if refused => (
                Some(all),
                format!("packets from some of the former sources are dropped: {all} established flows"),
            ),
            (before, after) if before == after => {
                let what = if refused { "packets from some of the former sources are dropped" } else { "no flow moves" };
                (none, what.to_owned())
            }
            (Some(DecapsulateThen::Balance), _) => (
                Some(all),
                format!(
                    "packets that come for it in an outer header are no longer balanced, neither of new flows nor of \
                     established ones: {all} of the latter"
                ),
            ),
            _ => (
                none,
                "packets that come for it in an outer header no longer go back to the router; how many connections \
                 have such packets is not known"
                    .to_owned(),
            ),
        };
        effect
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

/// What a change of a VIP does to its established flows.
fn of_established(case: &Case<'_>, after: &VipSpec, established: Flows, moved: Flows) -> String {
    match (case.before.stateless, after.stateless) {
        (true, true) => {
            "established flows move as new ones do, as the VIP does not remember flows".to_owned()
        }
        (true, false) => {
            "flows are remembered from now on; the ring decides once more about established ones"
                .to_owned()
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
    let gue = |packets: &PacketsConfig| (packets.gue_variant, packets.gue_port());
    if gue(&before) != gue(&after) {
        parts.push(format!(
            "GUE goes to port {} in variant {} from now on, also in established flows: reals that know only the former \
             lose it",
            after.gue_port(),
            after.gue_variant
        ));
    }
    let sources = (before.source_v4(), before.source_v6());
    if sources != (after.source_v4(), after.source_v6()) {
        parts.push(format!(
            "outer headers come from {} and {} from now on, also in established flows: reals that decapsulate only for \
             the former sources drop them, so let the reals take both first (lbctl decap attach --from)",
            after.source_v4().net(),
            after.source_v6().net()
        ));
    }
    parts
}
