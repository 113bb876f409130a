//! The difference between two tables, in words.

use std::net::IpAddr;

use serde::Serialize;

use crate::model::address::Vip;
use crate::model::config::RealState;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::VipSpec;
use crate::model::vip_table::config_name;

/// What happens to a VIP.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VipAction {
    /// It is new.
    Add,
    /// It changes.
    Change,
    /// It is removed.
    Remove,
    /// An interrupted command left it half changed. The plan completes it.
    Repair,
}

/// A VIP's part in a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VipChange {
    /// The VIP.
    pub vip: Vip,
    /// What happens to it.
    pub action: VipAction,
    /// What changes, one short phrase each.
    pub details: Vec<String>,
    /// Share of the VIP's hash space, 0 to 1, that goes to another real than before. If the hash mode changes, it is
    /// the share of new flows. [`Plan::flows`](crate::Plan::flows) says what happens to flows in the connection table.
    pub moved: f64,
    /// Whether its flows move only because reals leave.
    #[serde(skip)]
    pub(crate) moves_by_reals: bool,
}

/// A server id's part in a plan: `None` stands for "no real".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServerIdChange {
    /// The id.
    pub id: u32,
    /// Its real before.
    pub from: Option<IpAddr>,
    /// Its real afterwards.
    pub to: Option<IpAddr>,
}

/// Whether two versions of a VIP treat flows alike, apart from their reals.
pub(crate) fn differs_by_reals(old: &VipSpec, new: &VipSpec) -> bool {
    old.hash == new.hash && old.stateless == new.stateless && old.routing == new.routing
}

/// The differences between two versions of one VIP, one short phrase each.
pub(crate) fn describe(old: &VipSpec, new: &VipSpec) -> Vec<String> {
    let mut details = Vec::new();
    if old.hash != new.hash {
        details.push(format!("hash {} → {}", config_name(&old.hash), config_name(&new.hash)));
    }
    if old.stateless != new.stateless {
        details.push(format!("connection_table {} → {}", !old.stateless, !new.stateless));
    }
    if old.routing != new.routing {
        let list =
            |spec: &VipSpec| spec.routing.iter().map(config_name).collect::<Vec<_>>().join(", ");
        details.push(format!("routing [{}] → [{}]", list(old), list(new)));
    }
    if old.allow_own_address != new.allow_own_address {
        let value = |spec: &VipSpec| serde_json::to_string(&spec.allow_own_address);
        if let (Ok(old), Ok(new)) = (value(old), value(new)) {
            details.push(format!("allow_own_address {old} → {new}"));
        }
    }
    describe_choice(
        &mut details,
        "other_ports",
        old.other_ports.as_ref(),
        new.other_ports.as_ref(),
    );
    describe_choice(&mut details, "no_real", Some(&old.no_real), Some(&new.no_real));
    describe_choice(&mut details, "echo", old.echo.as_ref(), new.echo.as_ref());
    describe_reals(&mut details, old, new);
    details
}

fn describe_choice<T: PartialEq + Serialize>(
    details: &mut Vec<String>,
    key: &str,
    old: Option<&T>,
    new: Option<&T>,
) {
    let name = |choice: Option<&T>| choice.map_or("unset".to_owned(), config_name);
    if old != new {
        details.push(format!("{key} {} → {}", name(old), name(new)));
    }
}

/// As [`describe`], but only the reals.
pub(crate) fn describe_reals(details: &mut Vec<String>, old: &VipSpec, new: &VipSpec) {
    for (address, real) in &new.reals {
        match old.reals.get(address) {
            None => details.push(format!("+ real {address} {}", describe_real(*real))),
            Some(before) if before != real => details.push(format!(
                "real {address} {} → {}",
                describe_real(*before),
                describe_real(*real)
            )),
            Some(_) => {}
        }
    }
    let gone = old.reals.keys().filter(|address| !new.reals.contains_key(address));
    details.extend(gone.map(|address| format!("- real {address}")));
}

fn describe_real(real: RealSpec) -> String {
    match real.state {
        RealState::Up => format!("weight {}", real.weight),
        state => format!("weight {} {state}", real.weight),
    }
}
