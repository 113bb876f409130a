//! A plan in one line, however much it changes: for logs.

use std::fmt::Display;

use super::InterfaceAction;
use super::Plan;
use super::ProgramChange;
use super::detail::Action;
use super::detail::Object;
use super::detail::in_words;
use crate::model::text::message;
use crate::plan::diff::VipAction;

/// How many objects of a kind are named.
const NAMED: usize = 3;

/// `2 VIPs added (…)`: how many there are, and the first of them. `None`: none.
fn count<T: Display>(noun: &str, what: &str, items: impl Iterator<Item = T>) -> Option<String> {
    let mut named = Vec::new();
    let mut all = 0_usize;
    for item in items {
        if named.len() < NAMED {
            named.push(item.to_string());
        }
        all += 1;
    }
    let more = match all.checked_sub(named.len())? {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    let plural = if all == 1 { "" } else { "s" };
    (all != 0).then(|| format!("{all} {noun}{plural} {what} ({}{more})", named.join(", ")))
}

impl Plan {
    /// What changes, in one line of bounded length: numbers, and the first few names of each kind.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(count("pin", "restored", self.lost.pins.iter().map(|lost| &lost.pin)));
        parts.extend(count("program", "put back into the chain", self.lost.passed_by.iter()));
        // Each text names its real, and says what changes.
        let reals = self.reals.iter().take(NAMED).map(ToString::to_string);
        parts.extend(reals);
        if let Some(more @ 1..) = self.reals.len().checked_sub(NAMED) {
            parts.push(format!("{more} more reals likewise"));
        }
        match &self.program {
            None => {}
            Some(ProgramChange::Load) => parts.push("program loaded".to_owned()),
            Some(ProgramChange::Replace { details }) => {
                parts.push(format!("program replaced ({})", in_words(details)));
            }
        }
        if !self.connection_table.is_empty() {
            parts.push(format!("connection table: {}", in_words(&self.connection_table)));
        }
        for (action, what) in [
            (InterfaceAction::Attach, "attached"),
            (InterfaceAction::Reattach, "attached again"),
            (InterfaceAction::Update, "changed"),
            (InterfaceAction::Detach, "left"),
        ] {
            let of_action = self.interfaces.iter().filter(|change| change.action == action);
            let named = of_action.map(|change| match in_words(&change.details) {
                words if words.is_empty() => change.name.clone(),
                words => format!("{}: {words}", change.name),
            });
            parts.extend(count("interface", what, named));
        }
        for (action, what) in [
            (VipAction::Add, "added"),
            (VipAction::Change, "changed"),
            (VipAction::Repair, "completed"),
            (VipAction::Remove, "removed"),
        ] {
            let of_action = self.vips.iter().filter(|change| change.action == action);
            parts.extend(count("VIP", what, of_action.map(|change| change.vip)));
        }
        for (action, what) in
            [(Action::Add, "added"), (Action::Change, "changed"), (Action::Remove, "removed")]
        {
            let details = self.vips.iter().flat_map(|change| &change.details);
            let reals = details.filter(|detail| detail.object == Object::Real);
            let of_action = reals.filter(|detail| detail.action == action);
            parts.extend(count("real", what, of_action.filter_map(|detail| detail.real)));
        }
        let settings = self.vips.iter().filter(|change| change.action == VipAction::Change);
        let settings = settings.flat_map(|change| &change.details);
        let settings = settings.filter(|detail| detail.object == Object::Setting);
        parts.extend(count("setting", "changed", settings));
        parts.extend(count(
            "address",
            "changed",
            self.addresses.iter().map(|change| change.address),
        ));
        parts.extend(count("server id", "changed", self.server_ids.iter().map(|change| change.id)));
        let ends = self.decapsulate.iter().map(|change| change.address);
        parts.extend(count("decapsulated address", "changed", ends));
        parts.extend(count("check", "changed", self.checks.iter()));
        parts.extend(count("map", "written anew", self.repairs.iter()));
        if self.clean_up {
            parts.push("leftovers of an interrupted command removed".to_owned());
        }
        if parts.is_empty() {
            parts.push("nothing changed".to_owned());
        }
        message(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vip_table::RealSpec;
    use crate::plan::VipChange;
    use crate::plan::detail::Detail;

    fn plan(vips: u16, reals: u8) -> Plan {
        let change = |port| {
            let real = |n| {
                let spec = Some(RealSpec::new(1, crate::model::config::RealState::Up));
                Detail::real([10, 0, 0, n].into(), None, spec, format!("+ real 10.0.0.{n}"))
            };
            VipChange {
                vip: format!("tcp://10.200.1.1:{port}").parse().expect("a VIP"),
                action: VipAction::Add,
                details: (1..=reals).map(real).collect(),
                moved: 1.0,
                moves_by_reals: false,
            }
        };
        Plan { vips: (1..=vips).map(change).collect(), ..Plan::default() }
    }

    #[test]
    fn any_plan_is_one_short_line() {
        assert_eq!(Plan::default().summary(), "nothing changed");
        assert_eq!(
            plan(1, 2).summary(),
            "1 VIP added (tcp://10.200.1.1:1); 2 reals added (10.0.0.1, 10.0.0.2)"
        );
        assert_eq!(
            plan(512, 100).summary(),
            "512 VIPs added (tcp://10.200.1.1:1, tcp://10.200.1.1:2, tcp://10.200.1.1:3, 509 more); \
             51200 reals added (10.0.0.1, 10.0.0.2, 10.0.0.3, 51197 more)"
        );
    }
}
