//! The difference between two tables, in words.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::model::address::Vip;
use crate::model::config::CheckChoice;
use crate::model::config::CheckConfig;
use crate::model::config::Delivery;
use crate::model::config::Encapsulation;
use crate::model::config::HealthPolicy;
use crate::model::config::RealState;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::model::vip_table::config_name;
use crate::plan::detail::Action;
use crate::plan::detail::Detail;
use crate::plan::diff::running::Running;

/// What happens to a VIP.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub struct VipChange {
    /// The VIP.
    pub vip: Vip,
    /// What happens to it.
    pub action: VipAction,
    /// What changes.
    pub details: Vec<Detail>,
    /// Share of the VIP's hash space, 0 to 1, that goes to another real than before. If the hash mode changes, it is
    /// the share of new flows. [`Plan::flows`](crate::Plan::flows) says what happens to flows in the connection table.
    pub moved: f64,
    /// Whether its flows move only because reals leave.
    pub(crate) moves_by_reals: bool,
}

/// A server id's part in a plan: `None` stands for "no real".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
pub(crate) fn describe_checks(details: &mut Vec<Detail>, running: &Running, wanted: &Table) {
    let (old, new) = (&running.policies.checks, &wanted.checks);
    for (name, check) in new {
        match old.get(name) {
            None => details.push(Detail::check(Action::Add, name, format!("+ check {name}"))),
            Some(before) if before != check => {
                let what = format!(
                    "check {name}: {}; health stays as it is until the new check finds otherwise",
                    changes_of(before, check)
                );
                details.push(Detail::check(Action::Change, name, what));
            }
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    details.extend(gone.map(|name| Detail::check(Action::Remove, name, format!("- check {name}"))));
    describe_value(details, "health", &running.policies.health, &wanted.health);
}

/// The keys that two versions of a check have different, with both values. Of what may be secret, it tells only that it
/// changes.
fn changes_of(old: &CheckConfig, new: &CheckConfig) -> String {
    let members = |check: &CheckConfig| match serde_json::to_value(check) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let (was, is) = (members(old), members(new));
    let (seen_was, seen_is) = (members(&old.without_secrets()), members(&new.without_secrets()));
    let text = |value: Option<&Value>| match value {
        None => "default".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let keys: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    let changed = keys.into_iter().filter(|key| was.get(*key) != is.get(*key)).map(|key| {
        let (was, is) = (seen_was.get(key), seen_is.get(key));
        if was == is {
            return format!("{key} changes (what may be secret is not shown)");
        }
        format!("{key} {} → {}", text(was), text(is))
    });
    changed.collect::<Vec<_>>().join(", ")
}

/// The difference in how the reals of a VIP are checked.
fn describe_check_choice(
    details: &mut Vec<Detail>,
    old: Option<&CheckChoice>,
    new: Option<&CheckChoice>,
) {
    if old == new {
        return;
    }
    if let (Some(CheckChoice::Inline(old)), Some(CheckChoice::Inline(new))) = (old, new) {
        let what = format!("check: {}", changes_of(old, new));
        details.push(Detail::setting("check", old.without_secrets(), new.without_secrets(), what));
        return;
    }
    let name =
        |choice: Option<&CheckChoice>| choice.map_or("none".to_owned(), CheckChoice::to_string);
    let seen = |choice: Option<&CheckChoice>| choice.map(CheckChoice::without_secrets);
    let what = format!("check {} → {}", name(old), name(new));
    details.push(Detail::setting("check", seen(old), seen(new), what));
}

/// The difference in what two versions of a VIP say about the health of its reals.
fn describe_policy(details: &mut Vec<Detail>, old: &HealthPolicy, new: &HealthPolicy) {
    describe_check_choice(details, old.check.as_ref(), new.check.as_ref());
    describe_value(details, "on_failure", &old.on_failure, &new.on_failure);
    describe_value(details, "min_healthy", &old.min_healthy, &new.min_healthy);
    describe_value(details, "fail_open", &old.fail_open, &new.fail_open);
    if old.slow_start != new.slow_start {
        let text = |time: Option<Duration>| {
            time.map_or("none".to_owned(), |time| humantime::format_duration(time).to_string())
        };
        let value =
            |time: Option<Duration>| time.map(|time| humantime::format_duration(time).to_string());
        let what = format!("slow_start {} → {}", text(old.slow_start), text(new.slow_start));
        details.push(Detail::setting(
            "slow_start",
            value(old.slow_start),
            value(new.slow_start),
            what,
        ));
    }
    describe_value(details, "flapping", &old.flapping, &new.flapping);
}

fn describe_value<T: PartialEq + Serialize>(
    details: &mut Vec<Detail>,
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
        let what = format!("{key} {} → {}", text(old), text(new));
        details.push(Detail::setting(key, old, new, what));
    }
}

/// The differences between two versions of one VIP.
pub(crate) fn describe(old: &VipSpec, new: &VipSpec) -> Vec<Detail> {
    let mut details = describe_settings(old, new);
    describe_reals(&mut details, old, new);
    details
}

/// What is told about a VIP that is new: in words the way to its reals and these alone, as its settings are in the file.
pub(crate) fn describe_new(new: &VipSpec) -> Vec<Detail> {
    let nothing = VipSpec { encapsulation: Some(Encapsulation::default()), ..VipSpec::default() };
    let settings = describe_settings(&nothing, new).into_iter();
    let mut details: Vec<_> = settings.map(Detail::quiet).collect();
    // IP in IP goes without saying.
    let way = details.iter_mut().find(|detail| detail.key.as_deref() == Some("encapsulation"));
    if let (Some(way), Some(encapsulation)) = (way, new.encapsulation) {
        way.text = format!("packets go by {}", config_name(&encapsulation));
        way.quiet = false;
    }
    describe_reals(&mut details, &nothing, new);
    details
}

/// What is told about a VIP that goes: its reals, and in words nothing.
pub(crate) fn describe_gone(old: &VipSpec) -> Vec<Detail> {
    let mut details = Vec::new();
    describe_reals(&mut details, old, &VipSpec::default());
    details.into_iter().map(Detail::quiet).collect()
}

/// As [`describe`], without the reals.
fn describe_settings(old: &VipSpec, new: &VipSpec) -> Vec<Detail> {
    let mut details = Vec::new();
    if old.hash != new.hash {
        let what = format!("hash {} → {}", config_name(&old.hash), config_name(&new.hash));
        details.push(Detail::setting("hash", old.hash, new.hash, what));
    }
    if old.stateless != new.stateless {
        let what = format!("connection_table {} → {}", !old.stateless, !new.stateless);
        details.push(Detail::setting("connection_table", !old.stateless, !new.stateless, what));
    }
    if old.routing != new.routing {
        let list =
            |spec: &VipSpec| spec.routing.iter().map(config_name).collect::<Vec<_>>().join(", ");
        let what = format!("routing [{}] → [{}]", list(old), list(new));
        details.push(Detail::setting("routing", &old.routing, &new.routing, what));
    }
    describe_choice(
        &mut details,
        "encapsulation",
        old.encapsulation.as_ref(),
        new.encapsulation.as_ref(),
    );
    if old.allow_own_address != new.allow_own_address {
        let key = "allow_own_address";
        let value = |spec: &VipSpec| serde_json::to_string(&spec.allow_own_address);
        if let (Ok(before), Ok(after)) = (value(old), value(new)) {
            let what = format!("{key} {before} → {after}");
            details.push(Detail::setting(key, old.allow_own_address, new.allow_own_address, what));
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
    details
}

fn describe_choice<T: PartialEq + Serialize>(
    details: &mut Vec<Detail>,
    key: &str,
    old: Option<&T>,
    new: Option<&T>,
) {
    let name = |choice: Option<&T>| choice.map_or("unset".to_owned(), config_name);
    if old != new {
        details.push(Detail::setting(
            key,
            old,
            new,
            format!("{key} {} → {}", name(old), name(new)),
        ));
    }
}

/// As [`describe`], but only the reals.
fn describe_reals(details: &mut Vec<Detail>, old: &VipSpec, new: &VipSpec) {
    for (address, real) in &new.reals {
        match old.reals.get(address) {
            None => {
                let text = format!("+ real {address} {}", describe_real(*real));
                details.push(Detail::real(*address, None, Some(*real), text));
            }
            Some(before) if before != real => {
                let (old, now) = (describe_real(*before), describe_real(*real));
                let text = format!("real {address} {old} → {now}");
                details.push(Detail::real(*address, Some(*before), Some(*real), text));
            }
            Some(_) => {}
        }
    }
    let gone = old.reals.iter().filter(|(address, _)| !new.reals.contains_key(address));
    details.extend(gone.map(|(address, real)| {
        Detail::real(*address, Some(*real), None, format!("- real {address}"))
    }));
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
    let delivery = match real.delivery {
        Delivery::AsVip => String::new(),
        Delivery::By(encapsulation) => format!(" {}", config_name(&encapsulation)),
        Delivery::Local => " local".to_owned(),
    };
    format!("weight {}{wanted}{delivery}{share}{found}", real.weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;

    #[test]
    fn a_new_vip_names_the_way_to_its_reals() {
        let told = |rest: &str| {
            let text = format!(
                "[packets]\nencap_source_v4 = \"192.0.2.9\"\n[[vips]]\naddress = \"10.200.1.1\"\nport = 80\n\
                 protocol = \"tcp\"\n{rest}"
            );
            let table = Table::from(&Config::from_toml(&text).expect("a configuration"));
            crate::plan::detail::in_words(&describe_new(table.vips.values().next().expect("a VIP")))
        };
        let real = "reals = [{ address = \"10.0.0.1\" }]";
        assert_eq!(told(real), "+ real 10.0.0.1 weight 1");
        let gue = told(&format!("encapsulation = \"gue\"\n{real}"));
        assert_eq!(gue, "packets go by gue, + real 10.0.0.1 weight 1");
        let local = "reals = [{ address = \"10.0.0.1\", local = true }]";
        assert_eq!(told(local), "+ real 10.0.0.1 weight 1 local");
    }

    #[test]
    fn checks_tell_what_changes_but_no_secrets() {
        let check = |text: &str| {
            let config = Config::from_toml(&format!("[checks.web]\n{text}")).expect(text);
            config.checks["web"].clone()
        };
        let http = |more: &str| check(&format!("type = \"http\"\n{more}"));
        for (old, new, told) in [
            (http("interval = \"5s\""), http("interval = \"2s\""), "interval 5s → 2s"),
            (
                http(""),
                http("rise = 5\nstatus = [204]"),
                "rise default → 5, status default → [204]",
            ),
            (check("type = \"tcp\""), http(""), "type tcp → http"),
            (
                http("headers = { A = \"SECRET\" }"),
                http("headers = { A = \"SECRET2\" }"),
                "headers changes (what may be secret is not shown)",
            ),
            (
                http("path = \"/a?SECRET\""),
                http("path = \"/b?SECRET\""),
                "path /a?<hidden> → /b?<hidden>",
            ),
        ] {
            assert_eq!(changes_of(&old, &new), told);
            let inline = |check| Some(CheckChoice::Inline(Box::new(check)));
            for (old, new) in [
                (inline(old.clone()), inline(new.clone())),
                (None, inline(new)),
                (inline(old), Some(CheckChoice::Named("web".to_owned()))),
            ] {
                let mut details = Vec::new();
                describe_check_choice(&mut details, old.as_ref(), new.as_ref());
                assert_eq!(details.len(), 1);
                assert!(!format!("{details:?}").contains("SECRET"), "{details:?}");
            }
        }
    }
}
