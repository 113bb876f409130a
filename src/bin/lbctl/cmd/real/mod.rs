//! `lbctl real`

mod drain;

use l4lb::Balancer;
use l4lb::Error;
use l4lb::Health;
use l4lb::Instance;
use l4lb::Plan;
use l4lb::Vip;
use l4lb::VipRealStatus;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::RealArgs;
use crate::args::RealCommand;
use crate::args::TellHealth;
use crate::args::Told;
use crate::cmd::edits;
use crate::output;

pub(crate) fn run(instance: &Instance, args: &RealArgs, json: bool) -> Result {
    let RealArgs { dry, command } = args;
    if let Some(edits) = edits::of_reals(command)? {
        let balancer = Balancer::open(instance)?;
        let plan = dry.edit(&balancer, |table| edits::make_all(&edits, table))?;
        return dry.report(&plan, json);
    }
    match command {
        RealCommand::Drain(_) | RealCommand::Health(_) if dry.dry_run => {
            let what = "--dry-run shows changes of the configuration: leave out --wait; what health is told has no plan";
            Err(Failure::Usage(what.to_owned()))
        }
        RealCommand::List { vip } => {
            list(&Balancer::open(instance)?, *vip, json)?;
            Ok(Exit::Done)
        }
        RealCommand::Drain(args) => drain::drain(instance, args, json),
        RealCommand::Health(told) => tell(instance, told, json),
        // The rest are edits.
        _ => Ok(Exit::Done),
    }
}

fn report(plan: &Plan, json: bool) -> Result {
    super::plan::warn(plan);
    output::report(plan, json)?;
    Ok(Exit::Done)
}

fn tell(instance: &Instance, told: &TellHealth, json: bool) -> Result {
    let TellHealth { which, reason, lifetime } = told;
    let (targets, health) = which.targets()?;
    let health = match health {
        Told::Healthy => Health::Healthy,
        Told::Unhealthy if reason.is_none() => {
            return Err(Failure::Usage("unhealthy needs --reason TEXT: why?".to_owned()));
        }
        Told::Unhealthy => Health::Unhealthy,
        Told::Auto if reason.is_some() || lifetime.is_some() => {
            let what = "auto takes back what was said, and has neither --reason nor --for";
            return Err(Failure::Usage(what.to_owned()));
        }
        Told::Auto => {
            let plan = Balancer::open(instance)?.forget_told_health_of(&targets)?;
            return report(&plan, json);
        }
    };
    let reason = reason.as_deref().unwrap_or_default();
    let plan = Balancer::open(instance)?.tell_health_of(&targets, health, reason, *lifetime)?;
    report(&plan, json)
}

/// How packets go to it: `ipip`, `l2 02:00:5e:10:00:01 eth0`.
fn way(real: &VipRealStatus) -> String {
    let way = real.encapsulation;
    match &real.neighbour {
        Some(at) => format!("{way} {} {}", at.mac, at.interface),
        None if real.lacks_mac() => format!("{way}, NO MAC"),
        None => way.to_string(),
    }
}

fn list(balancer: &Balancer, vip: Option<Vip>, json: bool) -> Result<()> {
    let mut vips = balancer.vips()?;
    if let Some(vip) = vip {
        vips.retain(|status| status.vip == vip);
        if vips.is_empty() {
            return Err(Error::NoSuchVip(vip).into());
        }
    }
    if json {
        output::json(&vips)?;
        return Ok(());
    }
    let none = || "-".to_owned();
    let rows = vips.iter().flat_map(|vip| {
        vip.reals.iter().map(|real| {
            [
                vip.vip.to_string(),
                real.address.to_string(),
                real.state.to_string(),
                real.weight.to_string(),
                way(real),
                output::percent(real.share),
                real.sent.map_or_else(none, |sent| sent.packets.to_string()),
                real.sent.map_or_else(none, |sent| sent.bytes.to_string()),
                // Nobody is going to find out: that is not "unknown", which a check will end.
                if vip.check.is_none() && real.health.state == Health::Unknown {
                    none()
                } else {
                    real.health.in_words()
                },
            ]
        })
    });
    output::table(
        ["VIP", "REAL", "STATE", "WEIGHT", "SENT BY", "SHARE", "PACKETS", "BYTES", "HEALTH"],
        &[3, 5, 6, 7],
        rows,
    )?;
    if vips.iter().flat_map(|vip| &vip.reals).any(|real| real.sent.is_none()) {
        output::line(
            "(-: too many VIPs and reals to count each pair; lbctl stats has all that a real got)",
        )?;
    }
    Ok(())
}
