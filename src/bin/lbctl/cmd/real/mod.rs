//! `lbctl real`

mod drain;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use l4lb::Balancer;
use l4lb::Error;
use l4lb::Health;
use l4lb::Instance;
use l4lb::ListedReal;
use l4lb::Plan;
use l4lb::RealChange;
use l4lb::RealConfig;
use l4lb::Vip;
use l4lb::outside;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::RealCommand;
use crate::args::RealOfVip;
use crate::args::TellHealth;
use crate::args::Told;
use crate::output;

pub(crate) fn run(instance: &Instance, command: &RealCommand, json: bool) -> Result {
    let ((real, vip), change) = match command {
        RealCommand::List { vip } => {
            list(&Balancer::open(instance)?, *vip, json)?;
            return Ok(Exit::Done);
        }
        RealCommand::Add { which, weight } => {
            let mut config = RealConfig::new(which.real);
            config.weight = *weight;
            let balancer = Balancer::open(instance)?;
            return report(&balancer.edit(|table| table.add_real(which.vip, &config))?, json);
        }
        RealCommand::Drain(args) => return drain::drain(instance, args, json),
        RealCommand::Health(told) => return tell(instance, told, json),
        RealCommand::Weight(which) => {
            let (target, weight) = which.target()?;
            (target, RealChange::Weight(weight))
        }
        RealCommand::Delete(which) => (which.target()?, RealChange::Delete),
        RealCommand::Undrain(which) => (which.target()?, RealChange::Undrain),
        RealCommand::Down(which) => (which.target()?, RealChange::Down),
        RealCommand::Up(which) => (which.target()?, RealChange::Up),
    };
    let balancer = Balancer::open(instance)?;
    report(&balancer.edit(|table| table.change_real_in(vip, real, change))?, json)
}

fn report(plan: &Plan, json: bool) -> Result {
    super::plan::warn(plan);
    output::report(plan, json)?;
    Ok(Exit::Done)
}

fn tell(instance: &Instance, told: &TellHealth, json: bool) -> Result {
    let TellHealth { which: RealOfVip { vip, real }, health, reason, lifetime } = told;
    let health = match health {
        Told::Healthy => Health::Healthy,
        Told::Unhealthy => Health::Unhealthy,
        Told::Auto if reason.is_some() || lifetime.is_some() => {
            let what = "auto takes back what was said, and has neither --reason nor --for";
            return Err(Failure::Usage(what.to_owned()));
        }
        Told::Auto => {
            let plan = Balancer::open(instance)?.forget_told_health(*vip, *real)?;
            return report(&plan, json);
        }
    };
    let reason = reason.as_deref().unwrap_or_default();
    let plan = Balancer::open(instance)?.tell_health(*vip, *real, health, reason, *lifetime)?;
    report(&plan, json)
}

fn list(balancer: &Balancer, vip: Option<Vip>, json: bool) -> Result<()> {
    let mut vips = balancer.vip_list()?;
    if let Some(vip) = vip {
        vips.retain(|listed| listed.vip == vip);
        if vips.is_empty() {
            return Err(Error::NoSuchVip(vip).into());
        }
    }
    if json {
        output::json(&vips)?;
        return Ok(());
    }
    let rows = vips.iter().flat_map(|vip| {
        vip.reals.iter().map(|listed| {
            let real = &listed.status;
            [
                vip.vip.to_string(),
                real.address.to_string(),
                real.state.to_string(),
                real.weight.to_string(),
                output::percent(real.share),
                real.sent_for_all_vips.packets.to_string(),
                real.sent_for_all_vips.bytes.to_string(),
                health(listed),
            ]
        })
    });
    output::table(
        ["VIP", "REAL", "STATE", "WEIGHT", "SHARE", "PACKETS", "BYTES", "HEALTH"],
        &[3, 4, 5, 6],
        rows,
    )?;
    output::line("(a real's packets and bytes are those of all its VIPs)")?;
    Ok(())
}

/// `unhealthy: HTTP 503, since 12:03:11`
fn health(listed: &ListedReal) -> String {
    let ListedReal { status, reason, since, told, expires, .. } = listed;
    let mut text = status.health.to_string();
    if *told {
        text += " (told)";
    }
    if !reason.is_empty() {
        text = format!("{text}: {}", outside::message(reason));
    }
    if *since != 0 {
        text = format!("{text}, since {}", clock(*since));
    }
    if *expires != 0 {
        text = format!("{text}, until {}", clock(*expires));
    }
    text
}

/// A time in seconds since 1970 as the host's clock shows it, with the day unless that is today.
fn clock(seconds: u64) -> String {
    let zone = TimeZone::system();
    let time = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
    let Some(time) = time.map(|time| time.to_zoned(zone.clone())) else { return "?".to_owned() };
    let today = Timestamp::now().to_zoned(zone).date() == time.date();
    time.strftime(if today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}
