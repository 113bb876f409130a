//! What is right and hurts: it can be applied, and is hardly what was meant.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::address::Protocol;
use crate::model::config::CheckChoice;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::config::Encapsulation;
use crate::model::config::Flapping;
use crate::model::config::MinHealthy;
use crate::model::config::NoReal;
use crate::model::config::OnFailure;
use crate::model::config::RealState;
use crate::model::config::Routing;
use crate::model::config::VipConfig;
use crate::model::config::errors::Errors;
use crate::model::outweighed::outweighed;
use crate::model::vip_table::Table;
use crate::model::vip_table::config_name;

/// Adds a warning.
fn warn(warnings: &mut Errors, key: impl Into<String>, what: impl Into<String>) {
    warnings.push(ConfigError::at(key, what));
}

/// Looks at a configuration without errors.
pub(super) fn look(config: &Config, warnings: &mut Errors) {
    if config.interfaces.is_empty() {
        warn(
            warnings,
            "interfaces",
            "there are none: nothing is balanced; add [[interfaces]] with a name",
        );
    }
    if config.vips.is_empty() {
        warn(warnings, "vips", "there are none: nothing is balanced; add [[vips]]");
    }
    let table = Table::from(config);
    for (i, vip) in config.vips.iter().enumerate() {
        let place = format!("vips[{i}]");
        reals(vip, &place, warnings);
        weights(vip, &table, &place, warnings);
        health(config, vip, &place, warnings);
        own_listener(config, vip, &place, warnings);
    }
    checks(config, warnings);
    server_ids(config, warnings);
    for warning in config.shared_sources() {
        let (key, what) = warning.split_once(": ").unwrap_or(("", &warning));
        warn(warnings, key, what);
    }
    gue_sources(config, warnings);
    one_source(config, warnings);
    if let Some(exec) = &config.notify.exec {
        if config.vips.iter().all(|vip| vip.check.is_none()) {
            let what = "no VIP has a check, so the health of no real changes by itself; give a VIP a check, or leave exec out";
            warn(warnings, "notify.exec", what);
        }
        if exec.to_string_lossy().contains(char::is_whitespace) {
            let what = "the path has a space, and exec takes no arguments; write the path alone, or name a script";
            warn(warnings, "notify.exec", what);
        }
    }
}

/// Whether GUE leaves from an address that a prefix only begins with.
fn gue_sources(config: &Config, warnings: &mut Errors) {
    let (v4, v6) = (config.packets.encap_source_v4, config.packets.encap_source_v6);
    let v4 = v4.filter(|net| net.prefix_len() != 32).map(|net| IpAddr::from(net.address()));
    let v6 = v6.filter(|net| net.prefix_len() != 128).map(|net| IpAddr::from(net.address()));
    for (key, first, is_v6) in [("encap_source_v4", v4, false), ("encap_source_v6", v6, true)] {
        let Some(first) = first.filter(|_| config.sends_by(Encapsulation::Gue, is_v6)) else {
            continue;
        };
        let what = format!(
            "GUE leaves from {first}, the first address of the prefix, for all flows; write one address of this balancer"
        );
        warn(warnings, format!("packets.{key}"), what);
    }
}

/// Whether IP in IP leaves from one address because GUE needs that.
fn one_source(config: &Config, warnings: &mut Errors) {
    let (v4, v6) = (config.packets.encap_source_v4, config.packets.encap_source_v6);
    let one_v4 = v4.is_some_and(|net| net.prefix_len() == 32);
    let one_v6 = v6.is_some_and(|net| net.prefix_len() == 128);
    for (key, one, is_v6) in [("encap_source_v4", one_v4, false), ("encap_source_v6", one_v6, true)]
    {
        if one
            && config.sends_by(Encapsulation::Gue, is_v6)
            && config.sends_by(Encapsulation::Ipip, is_v6)
        {
            let what = "IP in IP leaves from this address, too, for all flows: cards of reals that spread by addresses get \
                        them in one queue, and `lbctl decap` has to take it from there (--from)";
            warn(warnings, format!("packets.{key}"), what);
        }
    }
}

/// Whether nothing takes new flows.
fn reals(vip: &VipConfig, place: &str, warnings: &mut Errors) {
    let fate = match vip.no_real {
        NoReal::Drop => "dropped",
        NoReal::Reject => "refused",
    };
    if vip.reals.is_empty() {
        let what = format!(
            "it has no reals: its packets are {fate}; add reals = [{{ address = \"10.0.1.1\" }}]"
        );
        return warn(warnings, place, what);
    }
    let takes = |real: &&_| is_up(real);
    if vip.reals.iter().find(takes).is_none() {
        let what = format!(
            "no real takes new flows, because all are drained, down or of weight 0: new flows are {fate}; set one to \
             state = \"up\""
        );
        warn(warnings, format!("{place}.reals"), what);
    }
}

fn is_up(real: &crate::model::config::RealConfig) -> bool {
    real.state == RealState::Up && real.weight != 0
}

/// Whether weights are so different that a real gets nothing.
fn weights(vip: &VipConfig, table: &Table, place: &str, warnings: &mut Errors) {
    let Some(spec) = table.vips.get(&vip.vip()) else { return };
    for without in outweighed(vip.vip(), &spec.members()) {
        let Some(j) = vip.reals.iter().position(|real| real.address == without.real) else {
            continue;
        };
        let what = format!(
            "weight {} is so small beside the others that it rounds to nothing: {} gets 0.00 % of new flows; give it at \
             least {}, or lower the others",
            without.weight, without.real, without.needed
        );
        warn(warnings, format!("{place}.reals[{j}].weight"), what);
    }
}

/// What a VIP says about the health of its reals.
fn health(config: &Config, vip: &VipConfig, place: &str, warnings: &mut Errors) {
    let key = |key: &str| format!("{place}.{key}");
    let up = vip.reals.iter().filter(|real| is_up(real)).count();
    if let MinHealthy::Reals(number) = vip.min_healthy
        && number as usize > up.max(1)
    {
        let then = if vip.fail_open {
            "it fails open at all times, so that no check has an effect"
        } else {
            "it can never have enough"
        };
        let what = format!(
            "{number} is more than the {up} reals that are up: {then}; lower it, or write a percentage"
        );
        warn(warnings, key("min_healthy"), what);
    }
    let check = match &vip.check {
        None => {
            let idle = [
                ("on_failure", vip.on_failure != OnFailure::default()),
                ("min_healthy", vip.min_healthy != MinHealthy::default()),
                ("fail_open", !vip.fail_open),
                ("slow_start", vip.slow_start.is_some()),
                ("flapping", vip.flapping != Flapping::default()),
            ];
            for (name, _) in idle.iter().filter(|(_, is_said)| *is_said) {
                let what = "the VIP has no check, so only health that others tell counts; give it check = \"NAME\", or leave this out";
                warn(warnings, key(name), what);
            }
            return;
        }
        Some(CheckChoice::Named(name)) => config.checks.get(name),
        Some(CheckChoice::Inline(check)) => Some(&**check),
    };
    let Some(check) = check else { return };
    let datagrams = matches!(check.kind, CheckKind::Quic | CheckKind::Udp);
    if vip.protocol == Protocol::Tcp && datagrams && check.port.is_none() {
        let kind = config_name(&check.kind);
        let what = format!(
            "a check of type \"{kind}\" sends UDP, and this VIP is tcp: port {} may not answer; use type \"tcp\", \
             \"tls\", \"http\" or \"https\", or give the check the port that answers",
            vip.port
        );
        warn(warnings, key("check"), what);
    }
    let connections =
        matches!(check.kind, CheckKind::Tcp | CheckKind::Tls | CheckKind::Http | CheckKind::Https);
    if vip.protocol == Protocol::Udp && connections && check.port.is_none() && vip.port != 443 {
        let kind = config_name(&check.kind);
        let what = format!(
            "a check of type \"{kind}\" uses TCP, and this VIP is udp: port {} may not answer; use type \"udp\", \"dns\" \
             or \"quic\", or give the check the port that answers",
            vip.port
        );
        warn(warnings, key("check"), what);
    }
    if let Some(CheckChoice::Inline(check)) = &vip.check {
        times(check, &key("check"), warnings);
    }
}

/// Whether `lbctl serve` listens where packets for a VIP go.
fn own_listener(config: &Config, vip: &VipConfig, place: &str, warnings: &mut Errors) {
    let listen = config.metrics.listen;
    let takes = vip.protocol == Protocol::Tcp && [0, listen.port()].contains(&vip.port);
    if listen.ip() == vip.address && takes {
        let what = format!(
            "metrics.listen is {listen}: what is sent there goes to the reals, not to lbctl serve; listen at another \
             address"
        );
        warn(warnings, format!("{place}.address"), what);
    }
}

/// The checks that have a name.
fn checks(config: &Config, warnings: &mut Errors) {
    let named = config.vips.iter().filter_map(|vip| match &vip.check {
        Some(CheckChoice::Named(name)) => Some(name.as_str()),
        _ => None,
    });
    let used: BTreeSet<_> = named.collect();
    for (name, check) in &config.checks {
        let place = format!("checks.{name}");
        if !used.contains(name.as_str()) {
            let what = format!("no VIP uses it; give a VIP check = \"{name}\", or remove it");
            warn(warnings, &*place, what);
        }
        times(check, &place, warnings);
    }
}

fn times(check: &CheckConfig, place: &str, warnings: &mut Errors) {
    if check.timeout.is_some_and(|timeout| timeout == check.interval()) && check.interval.is_some()
    {
        let what = "it is as long as interval: a real that does not answer is checked without a pause; shorten it";
        warn(warnings, format!("{place}.timeout"), what);
    }
    let program = check.program.as_deref().map(|path| path.to_string_lossy());
    if program.is_some_and(|path| path.contains(char::is_whitespace)) {
        let what = "the path has a space; arguments belong into args, such as args = [\"--quiet\"]";
        warn(warnings, format!("{place}.program"), what);
    }
}

/// Ids without a VIP that looks at them, and the other way round.
fn server_ids(config: &Config, warnings: &mut Errors) {
    let routed = |vip: &VipConfig| vip.routing.contains(&Routing::QuicConnectionId);
    if let Some(i) = config.vips.iter().position(routed).filter(|_| config.server_ids.is_empty()) {
        let what = "there are no [[server_ids]], so no packet has an id that is known; add them, or leave routing out";
        warn(warnings, format!("vips[{i}].routing"), what);
    }
    if config.server_ids.is_empty() {
        return;
    }
    if !config.vips.iter().any(routed) {
        let what =
            "no VIP looks at ids; give a VIP routing = [\"quic-connection-id\"], or remove them";
        return warn(warnings, "server_ids", what);
    }
    let of_routed = config.vips.iter().filter(|vip| routed(vip)).flat_map(|vip| &vip.reals);
    let reals: BTreeSet<IpAddr> = of_routed.map(|real| real.address).collect();
    for (i, entry) in config.server_ids.iter().enumerate() {
        if !reals.contains(&entry.real) {
            let what = format!(
                "{} is no real of a VIP with routing: id {} leads to a server that is not checked; add the real, or \
                 remove the id",
                entry.real, entry.id
            );
            warn(warnings, format!("server_ids[{i}].real"), what);
        }
    }
}
