//! `lbctl stats`

mod watch;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::Stats;

use crate::Exit;
use crate::Result;
use crate::args::StatsArgs;
use crate::output;

pub(crate) fn stats(instance: &Instance, args: &StatsArgs, json: bool) -> Result {
    if let Some(interval) = args.watch {
        return watch::watch(instance, interval, args.count, json);
    }
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
    if stats.healthcheck.iter().all(|(_, count)| count.packets == 0) {
        return Ok(());
    }
    output::line("")?;
    let checks = stats.healthcheck.iter().map(|(result, count)| {
        [(*result).to_owned(), count.packets.to_string(), count.bytes.to_string()]
    });
    output::table(["CHECKS THROUGH THE TUNNEL", "PACKETS", "BYTES"], &[1, 2], checks)?;
    Ok(())
}
