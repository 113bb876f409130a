//! `lbctl status`

use std::cmp::Reverse;

use l4lb::Balancer;
use l4lb::Condition;
use l4lb::GatewayAddress;
use l4lb::Health;
use l4lb::HealthSummary;
use l4lb::Instance;
use l4lb::InterfaceStatus;
use l4lb::LinkState;
use l4lb::MapsMemory;
use l4lb::NoReal;
use l4lb::RealState;
use l4lb::Stats;
use l4lb::Status;
use l4lb::TableStatus;
use l4lb::Verdict;
use l4lb::VipStatus;
use l4lb::condition::Problem;
use l4lb::serving::Server;
use l4lb::time_in_words;

use crate::Exit;
use crate::Result;
use crate::args::StatusArgs;
use crate::cmd::chain;
use crate::output;

/// How many VIPs are shown without --all.
const BUSIEST: usize = 15;

pub(crate) fn status(instance: &Instance, args: &StatusArgs, json: bool) -> Result {
    let status = Balancer::open(instance)?.status()?;
    if json {
        output::json(&status)?;
    } else {
        print(&status, args.all)?;
    }
    Ok(if args.check && !status.condition.well { Exit::Failed } else { Exit::Done })
}

fn print(status: &Status, all: bool) -> Result<()> {
    output::text(verdict(&status.instance, &status.condition))?;
    if let Some(since) = status.draining_since {
        output::line(format!(
            "{}: /readyz is 503, and packets are forwarded; 'lbctl node undrain' ends it",
            output::draining(since)
        ))?;
    }
    output::line("")?;
    let served = status.interfaces.iter().map(|(name, interface)| {
        [name.clone(), mode(interface), mac(interface), gateway(interface), mtu(interface)]
    });
    let known = |name: &String| status.interfaces.contains_key(name);
    let waiting = status.unserved.iter().filter(|unserved| !known(&unserved.name));
    let waiting = waiting.map(|unserved| {
        let nothing = || "-".to_owned();
        [unserved.name.clone(), "NOT SERVED".to_owned(), nothing(), nothing(), nothing()]
    });
    output::table(["INTERFACE", "MODE", "MAC", "GATEWAY", "MTU"], &[4], served.chain(waiting))?;
    output::line("")?;
    chain::print(&status.chain)?;
    output::line("")?;
    print_vips(&status.vips, if all { usize::MAX } else { BUSIEST })?;
    print_decapsulation(status)?;
    output::line("")?;
    output::line(serve(status.serve.as_ref()))?;
    if status.health.is_of_interest() {
        output::line(health(&status.health, &status.vips))?;
    }
    output::line(total(&status.stats))?;
    if all {
        print_all(status)?;
    } else {
        output::line(flows(&status.tables))?;
        output::line(flood_guards(status))?;
        output::line(memory(&status.memory))?;
    }
    Ok(())
}

fn verdict(instance: &str, condition: &Condition) -> String {
    let doctor = match condition.warnings {
        0 => "of its host: lbctl doctor".to_owned(),
        1 => "1 warning: lbctl doctor".to_owned(),
        count => format!("{count} warnings: lbctl doctor"),
    };
    let verdict = match condition.findings.len() {
        _ if condition.well => "well".to_owned(),
        1 => "NOT WELL, 1 thing".to_owned(),
        count => format!("NOT WELL, {count} things"),
    };
    let mut text = format!("instance {instance}: {verdict} ({doctor})\n");
    for finding in &condition.findings {
        text.extend(["- ", &finding.what, ": ", &finding.fix, "\n"]);
    }
    text
}

fn mode(interface: &InterfaceStatus) -> String {
    let mode = interface.mode.map_or_else(|| "NOT ATTACHED".to_owned(), |mode| mode.to_string());
    match interface.link {
        LinkState::Down => mode + ", DOWN",
        LinkState::NoCarrier => mode + ", NO CARRIER",
        LinkState::OtherNamespace => "OTHER NETNS".to_owned(),
        LinkState::Up | LinkState::Missing => mode,
    }
}

/// The MACs that frames for this host have: `02:00:5e:10:00:01 (now 02:00:5e:10:00:02), and 1 more`.
fn mac(interface: &InterfaceStatus) -> String {
    let InterfaceStatus { own_mac, own_mac_now, .. } = interface;
    let text = own_mac.map_or_else(|| "any".to_owned(), |mac| mac.to_string());
    let now = own_mac_now.filter(|now| own_mac.is_some_and(|told| told != *now));
    let now = now.map_or_else(String::new, |now| format!(" (now {now})"));
    match interface.config.macs.len() {
        0 => text + &now,
        more => format!("{text}{now}, and {more} more"),
    }
}

/// The MTU that the packet path uses, and the interface's present MTU if it differs.
fn mtu(interface: &InterfaceStatus) -> String {
    let InterfaceStatus { mtu, mtu_now, .. } = interface;
    match mtu_now.filter(|now| now != mtu) {
        Some(now) => format!("{mtu} (now {now})"),
        None => mtu.to_string(),
    }
}

fn gateway(interface: &InterfaceStatus) -> String {
    match (interface.config.gateway_mac, interface.config.gateway) {
        (Some(_), _) => interface.mac.to_string(),
        (None, Some(GatewayAddress::Address(address))) => format!("{address} at {}", interface.mac),
        (None, _) => match interface.next_hop {
            Some(next_hop) => format!("auto: {next_hop} at {}", interface.mac),
            None => format!("auto, at {}", interface.mac),
        },
    }
}

fn print_vips(vips: &[VipStatus], most: usize) -> Result<()> {
    let all: u64 = vips.iter().map(VipStatus::packets).sum();
    let mut busiest: Vec<_> = vips.iter().collect();
    busiest.sort_by_key(|vip| Reverse(vip.packets()));
    let rows = busiest.iter().take(most).map(|vip| {
        [
            vip.vip.to_string(),
            usable(vip),
            vip.packets().to_string(),
            output::percent(share(vip.packets(), all)),
            vip.dropped.to_string(),
        ]
    });
    output::table(["VIP", "USABLE REALS", "PACKETS", "OF ALL", "DROPPED"], &[2, 3, 4], rows)?;
    if let more @ 1.. = busiest.len().saturating_sub(most) {
        output::line(format!("… and {more} more: --all"))?;
    }
    Ok(())
}

/// The addresses to which other sites send, and what became of their packets. Nothing, if there are none.
fn print_decapsulation(status: &Status) -> Result<()> {
    if status.decapsulate.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let rows = status.decapsulate.iter().map(|(address, end)| {
        let from = end.from.as_ref().map_or_else(
            || "anywhere".to_owned(),
            |from| from.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        );
        [address.to_string(), end.then.to_string(), from]
    });
    output::table(["DECAPSULATE", "THEN", "FROM"], &[], rows)?;
    output::line(decapsulated(&status.stats))?;
    Ok(())
}

/// What became of packets in an outer header: `decapsulated  12 balanced, 0 sent to the router; dropped: 3 decap_source`.
fn decapsulated(stats: &Stats) -> String {
    let of_tunnels = stats
        .reasons
        .iter()
        .filter(|reason| reason.verdict == Verdict::Drop && reason.reason.starts_with("decap_"));
    let dropped = of_tunnels.filter(|reason| reason.count.packets != 0);
    let dropped: Vec<_> =
        dropped.map(|reason| format!("{} {}", reason.count.packets, reason.reason)).collect();
    let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
    format!(
        "decapsulated {} balanced, {} sent to the router; dropped: {dropped}",
        stats.event("decapsulated"),
        stats.reason("to_router"),
    )
}

/// How many reals take new flows, and why the others do not: `1/3 (1 drained, 1 down)`.
fn usable(vip: &VipStatus) -> String {
    let counted = |state, what| {
        let count = vip.reals.iter().filter(|real| real.state == state).count();
        (count != 0).then(|| format!("{count} {what}"))
    };
    let up = vip.reals.iter().filter(|real| real.state == RealState::Up);
    let sick = up.clone().filter(|real| real.health.state == Health::Unhealthy).count();
    let weightless = up.clone().filter(|real| real.weight == 0).count();
    let outweighed = up.filter(|real| real.is_outweighed()).count();
    let why: Vec<_> = [
        counted(RealState::Drain, "drained"),
        counted(RealState::Down, "down"),
        (sick != 0).then(|| format!("{sick} unhealthy")),
        (weightless != 0).then(|| format!("{weightless} of weight 0")),
        (outweighed != 0).then(|| format!("{outweighed} of too little weight")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut usable = format!("{}/{}", vip.usable_reals(), vip.reals.len());
    if vip.fails_open {
        usable += ", FAILS OPEN";
    }
    if vip.usable_reals() == 0 && vip.no_real == NoReal::Reject {
        usable += ", clients are refused";
    }
    if why.is_empty() { usable } else { format!("{usable} ({})", why.join(", ")) }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The process that follows the gateways and answers Prometheus, and the outcome of its last reload.
fn serve(server: Option<&Server>) -> String {
    let Some(Server { process, reload, metrics, control, .. }) = server else {
        return "serve        nobody: gateways are not followed".to_owned();
    };
    let reload = reload.as_ref().map_or_else(String::new, |reload| {
        let outcome = match (reload.success, reload.applied) {
            (true, _) => reload.what().to_owned(),
            (false, true) => reload.what().to_owned() + ",",
            (false, false) => "RELOAD FAILED".to_owned(),
        };
        format!(", {outcome} {}", time_in_words(reload.at))
    });
    let metrics = if *metrics { "" } else { ", NO METRICS where its file says: the port is taken" };
    let control = control.as_ref().map_or_else(
        || "control API  none".to_owned(),
        |control| match control.message.as_str() {
            "" => format!("control API  {}", control.socket),
            why => format!("control API  NONE: {why}"),
        },
    );
    format!("serve        {process}{reload}{metrics}\n{control}")
}

/// The health of all reals, and when somebody last checked.
fn health(health: &HealthSummary, vips: &[VipStatus]) -> String {
    let HealthSummary { checked_vips, unchecked_vips, healthy, unhealthy, unknown, .. } = health;
    let last = match checked_vips {
        0 => "no VIP has a check".to_owned(),
        _ => format!("last check {}", health.last_check_in_words()),
    };
    let late = if health.nobody_checks { ", NOBODY CHECKS" } else { "" };
    if *checked_vips == 0 && healthy + unhealthy == 0 {
        return format!("health       not known: {last} ('lbctl probe VIP' asks once)");
    }
    let unchecked = vips.iter().find(|vip| vip.is_unchecked()).filter(|_| *checked_vips != 0);
    let unchecked = unchecked.map_or_else(String::new, |first| {
        let which = match unchecked_vips {
            1 => "1 VIP has no check".to_owned(),
            count => format!("{count} VIPs have no check"),
        };
        format!("\n             {which}: 'lbctl probe {}' asks once", first.vip)
    });
    format!(
        "health       {healthy} healthy, {unhealthy} unhealthy, {unknown} unknown; {last}{late}{unchecked}"
    )
}

fn total(stats: &Stats) -> String {
    let of = |verdict: Verdict| {
        let reasons = stats.reasons.iter().filter(|reason| reason.verdict == verdict);
        let packets: u64 = reasons.map(|reason| reason.count.packets).sum();
        format!("{verdict} {packets}")
    };
    format!(
        "packets      {} in, {}: {}",
        stats.total.packets,
        output::bytes(stats.total.bytes),
        [Verdict::Tx, Verdict::Drop, Verdict::Pass].map(of).join(", "),
    )
}

/// The number of flows in all tables, and how full the fullest table is.
fn flows(tables: &[TableStatus]) -> String {
    let sum = |of: fn(&TableStatus) -> u32| tables.iter().map(|t| u64::from(of(t))).sum::<u64>();
    let most = |table: &TableStatus| table.used_ipv4.max(table.used_ipv6);
    let fullest = tables
        .iter()
        .map(|table| share(most(table).into(), table.entries.into()))
        .fold(0.0, f64::max);
    format!(
        "flows        IPv4 {}, IPv6 {}; room for {}; fullest table {}",
        sum(|table| table.used_ipv4),
        sum(|table| table.used_ipv6),
        sum(|table| table.entries),
        output::percent(fullest)
    )
}

/// The CPUs that do not remember all new flows.
fn limiting(condition: &Condition) -> &[u32] {
    let limited = condition.findings.iter().find_map(|finding| match &finding.problem {
        Problem::FloodGuardLimits(flood) => Some(flood.cpus.as_slice()),
        _ => None,
    });
    limited.unwrap_or_default()
}

fn flood_guards(status: &Status) -> String {
    let guards = &status.flood_guards;
    let limiting: Vec<_> = limiting(&status.condition).iter().map(u32::to_string).collect();
    let state = if limiting.is_empty() {
        "quiet".to_owned()
    } else {
        format!("LIMITING on CPU {}", limiting.join(","))
    };
    let limit = guards.iter().find_map(|guard| guard.limit);
    let limit = limit.map_or_else(|| "?".to_owned(), |limit| limit.to_string());
    let not_remembered: u64 = guards.iter().map(|guard| guard.not_remembered).sum();
    format!(
        "flood guard  {state}; {limit} new flows a second and CPU; {not_remembered} not remembered"
    )
}

fn sums(memory: &[MapsMemory]) -> (u64, Option<u64>) {
    let planned = memory.iter().map(|maps| maps.planned).sum();
    (planned, memory.iter().map(|maps| maps.kernel).sum())
}

fn memory(memory: &[MapsMemory]) -> String {
    let (planned, kernel) = sums(memory);
    let kernel = kernel.map_or_else(String::new, |kernel| {
        format!(", {} by the kernel's count", output::bytes(kernel))
    });
    format!("memory       {} planned{kernel}", output::bytes(planned))
}

fn print_all(status: &Status) -> Result<()> {
    output::line("")?;
    output::table(
        ["CONNECTION TABLE", "ENTRIES", "IPV4", "", "IPV6", ""],
        &[1, 2, 3, 4, 5],
        status.tables.iter().map(|table| {
            let percent = |used: u32| output::percent(share(used.into(), table.entries.into()));
            [
                table.cpu.map_or_else(|| "other CPUs".to_owned(), |cpu| format!("CPU {cpu}")),
                table.entries.to_string(),
                table.used_ipv4.to_string(),
                percent(table.used_ipv4),
                table.used_ipv6.to_string(),
                percent(table.used_ipv6),
            ]
        }),
    )?;
    output::line("")?;
    let limiting = limiting(&status.condition);
    output::table(
        ["FLOOD GUARD", "NEW FLOWS", "LIMIT", "STATE", "NOT REMEMBERED"],
        &[1, 2, 4],
        status.flood_guards.iter().map(|guard| {
            [
                format!("CPU {}", guard.cpu),
                guard.new_flows.to_string(),
                guard.limit.map_or_else(|| "?".to_owned(), |limit| limit.to_string()),
                if limiting.contains(&guard.cpu) { "LIMITING" } else { "quiet" }.to_owned(),
                guard.not_remembered.to_string(),
            ]
        }),
    )?;
    output::line(
        "(new flows within this second; flows above the limit are balanced, but not remembered)",
    )?;
    output::line("")?;
    let (planned, kernel) = sums(&status.memory);
    let total = MapsMemory { maps: "total", planned, kernel };
    output::table(
        ["MEMORY", "PLANNED", "KERNEL"],
        &[1, 2],
        status.memory.iter().chain([&total]).map(|maps| {
            let kernel = maps.kernel.map_or_else(|| "-".to_owned(), output::bytes);
            [maps.maps.to_owned(), output::bytes(maps.planned), kernel]
        }),
    )?;
    if kernel.is_none() {
        output::line("(kernels before 6.4 do not count all the memory of a map)")?;
    }
    Ok(())
}
