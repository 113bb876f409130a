//! The changes of a plan, one by one: for programs, and in words.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::InterfaceAction;
use super::Plan;
use super::ProgramChange;
use super::detail::Action;
use super::detail::Detail;
use super::detail::Object;
use super::detail::in_words;
use crate::model::address::Vip;
use crate::model::flow_effect::Changed;
use crate::model::flow_effect::FlowEffect;
use crate::model::mismatch::Mismatch;
use crate::model::tunnel_end::TunnelEnd;
use crate::plan::diff::VipAction;

/// How the text of a plan shows a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// By a line of its own.
    Line,
    /// Below the change before it.
    Below,
    /// Not: another line says as much.
    Not,
}

/// One change of a [`Plan`]: what `lbctl plan --json` lists under `changes`. Its text is a line for people. `None` of
/// what it is about: the change is about something else.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// What it happens to.
    pub object: Object,
    /// The VIP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip: Option<Vip>,
    /// The real.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<IpAddr>,
    /// The interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The server id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<u32>,
    /// The check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// The map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<&'static str>,
    /// The pin, from the folder of the instance on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The key of a setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The value afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// Of a VIP: the share of its hash space, 0 to 1, that goes to another real than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<f64>,
    /// What it does to flows, new and established ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<FlowEffect>,
    /// The change in words, for people: it may be put otherwise in the next version.
    pub text: String,
    #[serde(skip)]
    pub(super) shown: Shown,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Change {
    fn new(action: Action, object: Object, text: String) -> Self {
        Self {
            action,
            object,
            vip: None,
            real: None,
            interface: None,
            address: None,
            server_id: None,
            check: None,
            map: None,
            pin: None,
            program: None,
            key: None,
            old: None,
            new: None,
            moved: None,
            flows: None,
            text,
            shown: Shown::Line,
        }
    }

    /// A difference within what another change is about.
    fn within(outer: &Self, detail: &Detail, shown: Shown) -> Self {
        Self {
            vip: outer.vip,
            interface: outer.interface.clone(),
            program: outer.program.clone(),
            real: detail.real,
            check: detail.check.clone(),
            key: detail.key.clone(),
            old: detail.old.clone(),
            new: detail.new.clone(),
            shown: if detail.quiet { Shown::Not } else { shown },
            ..Self::new(detail.action, detail.object, detail.text.clone())
        }
    }

    /// The change and the differences within it.
    fn with(self, details: &[Detail], shown: Shown) -> Vec<Self> {
        let within: Vec<_> =
            details.iter().map(|detail| Self::within(&self, detail, shown)).collect();
        [vec![self], within].concat()
    }
}

/// A header, and behind a colon the details.
fn line(header: String, details: &[Detail]) -> String {
    match in_words(details) {
        words if words.is_empty() => header,
        words => format!("{header}: {words}"),
    }
}

impl Plan {
    /// All changes, in the order of the plan's text. A change of a VIP, an interface and so on comes before the
    /// differences within it.
    pub fn changes(&self) -> Vec<Change> {
        [self.changes_of_host(), self.changes_of_table()].concat()
    }

    fn flows_of(&self, change: &Changed) -> Option<FlowEffect> {
        self.flows.iter().find(|effect| effect.change == *change).cloned()
    }

    /// The changes of pins, programs, connection tables and interfaces.
    pub(super) fn changes_of_host(&self) -> Vec<Change> {
        let mut changes = self.changes_of_pins();
        match &self.program {
            None => {}
            Some(ProgramChange::Load) => changes.push(Change {
                program: Some("balancer".to_owned()),
                flows: self.flows_of(&Changed::Program),
                ..Change::new(Action::Add, Object::Program, "+ program balancer".to_owned())
            }),
            Some(ProgramChange::Replace { details }) => {
                let text = line("~ program balancer".to_owned(), details);
                let change = Change {
                    program: Some("balancer".to_owned()),
                    flows: self.flows_of(&Changed::Program),
                    ..Change::new(Action::Replace, Object::Program, text)
                };
                changes.extend(change.with(details, Shown::Not));
            }
        }
        changes.extend(self.changes_of_tables());
        for change in &self.interfaces {
            let (sign, action) = match change.action {
                InterfaceAction::Attach => ('+', Action::Add),
                InterfaceAction::Detach => ('-', Action::Remove),
                InterfaceAction::Update => ('~', Action::Change),
                InterfaceAction::Reattach => ('~', Action::Replace),
            };
            let text = line(format!("{sign} interface {}", change.name), &change.details);
            let outer = Change {
                interface: Some(change.name.clone()),
                flows: self.flows_of(&Changed::Interface(change.name.clone())),
                ..Change::new(action, Object::Interface, text)
            };
            changes.extend(outer.with(&change.details, Shown::Not));
        }
        changes
    }

    fn changes_of_pins(&self) -> Vec<Change> {
        let texts = self.lost.lines();
        let pins = self.lost.pins.iter().map(|lost| Change {
            pin: Some(lost.pin.clone()),
            old: Some(serde_json::json!({ "replaced": lost.replaced, "held": lost.held })),
            ..Change::new(Action::Repair, Object::Pin, String::new())
        });
        let chain = self.lost.passed_by.iter().map(|program| Change {
            program: Some(program.clone()),
            ..Change::new(Action::Repair, Object::Chain, String::new())
        });
        let changes = pins.chain(chain).zip(texts);
        changes.map(|(change, text)| Change { text, ..change }).collect()
    }

    fn changes_of_tables(&self) -> Vec<Change> {
        let flows = self.flows_of(&Changed::ConnectionTable);
        let details = &self.connection_table;
        if details.is_empty() && flows.is_none() {
            return Vec::new();
        }
        let text = line("~ connection table".to_owned(), details);
        // Only the program says what changes about them, such as the kind.
        let shown = if details.is_empty() { Shown::Not } else { Shown::Line };
        let change =
            Change { flows, shown, ..Change::new(Action::Change, Object::ConnectionTable, text) };
        change.with(details, Shown::Not)
    }

    /// The changes of VIPs and reals, and of what belongs to them.
    pub(super) fn changes_of_table(&self) -> Vec<Change> {
        let mut changes = self.changes_of_vips();
        changes.extend(self.addresses.iter().flat_map(|change| {
            let outer = Change {
                address: Some(change.address),
                ..Change::new(Action::Change, Object::Address, change.to_string())
            };
            let details = change.details();
            let within = details.into_iter().map(|detail| Change {
                address: Some(change.address),
                ..Change::within(&outer, &detail, Shown::Not)
            });
            let within: Vec<_> = within.collect();
            [vec![outer], within].concat()
        }));
        changes.extend(self.server_ids.iter().map(|change| {
            let (action, sign, what) = match (change.from, change.to) {
                (None, Some(to)) => (Action::Add, '+', format!(": {to}")),
                (Some(from), Some(to)) => (Action::Change, '~', format!(": {from} → {to}")),
                (_, None) => (Action::Remove, '-', String::new()),
            };
            let value = |real: Option<IpAddr>| real.map(|real| real.to_string().into());
            Change {
                server_id: Some(change.id),
                old: value(change.from),
                new: value(change.to),
                flows: self.flows_of(&Changed::ServerId(change.id)),
                ..Change::new(
                    action,
                    Object::ServerId,
                    format!("{sign} server id {}{what}", change.id),
                )
            }
        }));
        changes.extend(self.changes_of_decapsulation());
        let nothing = Change::new(Action::Change, Object::Check, String::new());
        changes.extend(self.checks.iter().map(|detail| {
            let sign = if detail.text.starts_with(['+', '-']) { "" } else { "~ " };
            let change = Change::within(&nothing, detail, Shown::Line);
            Change { text: format!("{sign}{detail}"), ..change }
        }));
        changes.extend(self.reals.iter().map(|detail| {
            let change = Change::within(&nothing, detail, Shown::Line);
            Change { text: format!("~ {detail}"), ..change }
        }));
        changes.extend(self.repairs.iter().map(|mismatch| {
            let (map, vip, real) = match mismatch {
                Mismatch::Ring { vip, .. } => ("ring", Some(*vip), None),
                Mismatch::VipIndex => ("vip_index", None, None),
                Mismatch::Real { real } => ("real", None, Some(*real)),
                Mismatch::Leftovers => ("leftovers", None, None),
            };
            let text = format!("~ {mismatch}: written anew");
            Change { map: Some(map), vip, real, ..Change::new(Action::Repair, Object::Map, text) }
        }));
        changes.extend(self.clean_up.then(|| {
            let text = "~ leftovers of an interrupted command are removed".to_owned();
            Change::new(Action::Remove, Object::Leftovers, text)
        }));
        changes
    }

    fn changes_of_decapsulation(&self) -> impl Iterator<Item = Change> {
        self.decapsulate.iter().map(|change| {
            let (action, sign, what) = match (&change.from, &change.to) {
                (None, Some(to)) => (Action::Add, '+', format!(": {to}")),
                (Some(from), Some(to)) => (Action::Change, '~', format!(": {from} → {to}")),
                (_, None) => (Action::Remove, '-', String::new()),
            };
            let value = |end: &Option<TunnelEnd>| serde_json::to_value(end.as_ref()?).ok();
            Change {
                address: Some(change.address),
                old: value(&change.from),
                new: value(&change.to),
                flows: self.flows_of(&Changed::Decapsulate(change.address)),
                ..Change::new(
                    action,
                    Object::Decapsulate,
                    format!("{sign} decapsulate {}{what}", change.address),
                )
            }
        })
    }

    fn changes_of_vips(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for change in &self.vips {
            let (sign, action) = match change.action {
                VipAction::Add => ('+', Action::Add),
                VipAction::Remove => ('-', Action::Remove),
                VipAction::Change => ('~', Action::Change),
                VipAction::Repair => ('~', Action::Repair),
            };
            let what = match change.action {
                // If the ring stays as it is, nothing moves.
                VipAction::Change if change.moved > 0.0 => format!(
                    ": {:.2} % of its hash space moves (new flows, and flows that the connection table does not know)",
                    change.moved * 100.0
                ),
                VipAction::Repair => ": completed after an interrupted command".to_owned(),
                VipAction::Change | VipAction::Add | VipAction::Remove => String::new(),
            };
            let outer = Change {
                vip: Some(change.vip),
                moved: Some(change.moved),
                flows: self.flows_of(&Changed::Vip(change.vip)),
                ..Change::new(action, Object::Vip, format!("{sign} vip {}{what}", change.vip))
            };
            changes.extend(outer.with(&change.details, Shown::Below));
        }
        changes
    }
}
