//! The difference between two tables, in words.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::model::address::Vip;
use crate::model::config::HealthPolicy;
use crate::model::config::RealState;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::model::vip_table::config_name;
use crate::plan::diff::running::Running;

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

/// The differences in checks and in how they are run, one short phrase each.
pub(crate) fn describe_checks(details: &mut Vec<String>, running: &Running, wanted: &Table) {
    let (old, new) = (&running.policies.checks, &wanted.checks);
    for (name, check) in new {
        match old.get(name) {
            None => details.push(format!("+ check {name}")),
            Some(before) if before != check => details.push(format!("check {name} changes")),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    details.extend(gone.map(|name| format!("- check {name}")));
    describe_value(details, "health", &running.policies.health, &wanted.health);
}

/// The difference in what two versions of a VIP say about the health of its reals.
fn describe_policy(details: &mut Vec<String>, old: &HealthPolicy, new: &HealthPolicy) {
    describe_value(details, "check", &old.check, &new.check);
    describe_value(details, "on_failure", &old.on_failure, &new.on_failure);
    describe_value(details, "min_healthy", &old.min_healthy, &new.min_healthy);
    describe_value(details, "fail_open", &old.fail_open, &new.fail_open);
    if old.slow_start != new.slow_start {
        let text = |time: Option<Duration>| {
            time.map_or("none".to_owned(), |time| humantime::format_duration(time).to_string())
        };
        details.push(format!("slow_start {} → {}", text(old.slow_start), text(new.slow_start)));
    }
    describe_value(details, "flapping", &old.flapping, &new.flapping);
}

fn describe_value<T: PartialEq + Serialize>(
    details: &mut Vec<String>,
    key: &str,
    old: &T,
    new: &T,
) {
    let text = |value: &T| match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        Ok(Value::Null) | Err(_) => "none".to_owned(),
        Ok(value) => value.to_string(),
    };
    if old != new {
        details.push(format!("{key} {} → {}", text(old), text(new)));
    }
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
    describe_policy(&mut details, &old.health, &new.health);
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
    let wanted = match real.state {
        RealState::Up => String::new(),
        state => format!(" {state}"),
    };
    let share = match real.health.share {
        RealHealth::FULL => String::new(),
        share => format!(" at {share}%"),
    };
    let found = match real.health.state {
        Health::Unknown => String::new(),
        found => format!(" {found}"),
    };
    format!("weight {}{wanted}{share}{found}", real.weight)
}
