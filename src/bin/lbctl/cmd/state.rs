//! `lbctl down`, `save`, `status`, `stats`

use l4lb::Balancer;
use l4lb::GatewayAddress;
use l4lb::Instance;
use l4lb::InterfaceStatus;
use l4lb::MapsMemory;
use l4lb::Stats;

use crate::Exit;
use crate::Result;
use crate::cmd::chain;
use crate::output;

pub(crate) fn down(instance: &Instance) -> Result {
    if !Balancer::down(instance)? {
        output::line(format!("instance '{}' was not running", instance.name()))?;
    }
    Ok(Exit::Done)
}

pub(crate) fn save(instance: &Instance, json: bool) -> Result {
    let config = Balancer::open(instance)?.save()?;
    if json {
        output::json(&config)?;
    } else {
        output::text(config.to_toml()?)?;
    }
    Ok(Exit::Done)
}

fn gateway(interface: &InterfaceStatus) -> String {
    match (interface.config.gateway_mac, interface.config.gateway) {
        (Some(_), _) => interface.mac.to_string(),
        (None, Some(GatewayAddress::Address(address))) => format!("{address} at {}", interface.mac),
        (None, _) => format!("auto, at {}", interface.mac),
    }
}

pub(crate) fn status(instance: &Instance, json: bool) -> Result {
    let status = Balancer::open(instance)?.status()?;
    if json {
        output::json(&status)?;
        return Ok(Exit::Done);
    }
    output::line(format!("instance {}", status.instance))?;
    output::line("")?;
    output::table(
        ["INTERFACE", "MODE", "GATEWAY", "MTU"],
        &[3],
        status.interfaces.iter().map(|(name, interface)| {
            let mode =
                interface.mode.map_or_else(|| "NOT ATTACHED".to_owned(), |mode| mode.to_string());
            [name.clone(), mode, gateway(interface), interface.mtu.to_string()]
        }),
    )?;
    output::line("")?;
    chain::print(&status.chain)?;
    output::line("")?;
    output::table(
        ["VIP", "REAL", "STATE", "WEIGHT", "SHARE", "PACKETS", "BYTES", "DROPPED"],
        &[3, 4, 5, 6, 7],
        status.vips.iter().flat_map(|vip| {
            let head = [
                vip.vip.to_string(),
                if vip.reals.is_empty() { "none".to_owned() } else { String::new() },
                String::new(),
                String::new(),
                String::new(),
                vip.sent.packets.to_string(),
                vip.sent.bytes.to_string(),
                vip.dropped.to_string(),
            ];
            let reals = vip.reals.iter().map(|real| {
                [
                    String::new(),
                    real.address.to_string(),
                    real.state.to_string(),
                    real.weight.to_string(),
                    output::percent(real.share),
                    real.sent.packets.to_string(),
                    real.sent.bytes.to_string(),
                    String::new(),
                ]
            });
            std::iter::once(head).chain(reals).collect::<Vec<_>>()
        }),
    )?;
    output::line("(a real's packets and bytes are those of all its VIPs)")?;
    output::line("")?;
    output::table(
        ["CONNECTION TABLE", "ENTRIES", "IPV4", "", "IPV6", ""],
        &[1, 2, 3, 4, 5],
        status.tables.iter().map(|table| {
            let share = |used| output::percent(f64::from(used) / f64::from(table.entries.max(1)));
            [
                table.cpu.map_or_else(|| "other CPUs".to_owned(), |cpu| format!("CPU {cpu}")),
                table.entries.to_string(),
                table.used_ipv4.to_string(),
                share(table.used_ipv4),
                table.used_ipv6.to_string(),
                share(table.used_ipv6),
            ]
        }),
    )?;
    output::line("")?;
    output::table(
        ["FLOOD GUARD", "NEW FLOWS", "LIMIT", "STATE", "NOT REMEMBERED"],
        &[1, 2, 4],
        status.flood_guards.iter().map(|guard| {
            [
                format!("CPU {}", guard.cpu),
                guard.new_flows.to_string(),
                guard.limit.map_or_else(|| "?".to_owned(), |limit| limit.to_string()),
                if guard.limiting { "LIMITING" } else { "quiet" }.to_owned(),
                guard.not_remembered.to_string(),
            ]
        }),
    )?;
    output::line(
        "(new flows: within this second; above the limit they are balanced, not remembered)",
    )?;
    output::line("")?;
    print_memory(&status.memory)?;
    Ok(Exit::Done)
}

fn print_memory(memory: &[MapsMemory]) -> Result<()> {
    let planned = memory.iter().map(|maps| maps.planned).sum();
    let kernel: Option<u64> = memory.iter().map(|maps| maps.kernel).sum();
    let total = MapsMemory { maps: "total", planned, kernel };
    output::table(
        ["MEMORY", "PLANNED", "KERNEL"],
        &[1, 2],
        memory.iter().chain([&total]).map(|maps| {
            let kernel = maps.kernel.map_or_else(|| "-".to_owned(), output::bytes);
            [maps.maps.to_owned(), output::bytes(maps.planned), kernel]
        }),
    )?;
    if kernel.is_none() {
        output::line("(kernels before 6.4 do not count all that a map takes)")?;
    }
    Ok(())
}

pub(crate) fn stats(instance: &Instance, json: bool) -> Result {
    let stats = Balancer::open(instance)?.stats()?;
    if json {
        output::json(&stats)?;
        return Ok(Exit::Done);
    }
    print_stats(&stats)?;
    Ok(Exit::Done)
}

fn print_stats(stats: &Stats) -> Result<()> {
    let reasons = stats.reasons.iter().map(|reason| {
        [
            reason.verdict.to_string(),
            reason.reason.to_owned(),
            reason.count.packets.to_string(),
            reason.count.bytes.to_string(),
        ]
    });
    let total = stats.total;
    let total =
        ["total".to_owned(), String::new(), total.packets.to_string(), total.bytes.to_string()];
    output::table(["VERDICT", "REASON", "PACKETS", "BYTES"], &[2, 3], reasons.chain([total]))?;
    output::line("")?;
    let events = stats.table.iter().map(|(name, count)| [(*name).to_owned(), count.to_string()]);
    output::table(["CONNECTION TABLE", "PACKETS"], &[1], events)?;
    output::line("")?;
    let vips = stats.vips.iter().map(|(vip, count)| {
        [
            vip.to_string(),
            count.sent.packets.to_string(),
            count.sent.bytes.to_string(),
            count.dropped.to_string(),
            count.new_flows.to_string(),
        ]
    });
    output::table(["VIP", "PACKETS", "BYTES", "DROPPED", "NEW FLOWS"], &[1, 2, 3, 4], vips)?;
    output::line("")?;
    let reals = stats.reals.iter().map(|(real, count)| {
        [real.to_string(), count.packets.to_string(), count.bytes.to_string()]
    });
    output::table(["REAL", "PACKETS", "BYTES"], &[1, 2], reals)?;
    Ok(())
}
