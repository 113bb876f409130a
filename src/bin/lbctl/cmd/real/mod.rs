//! `lbctl real`

mod drain;

use l4lb::Balancer;
use l4lb::Error;
use l4lb::Health;
use l4lb::Instance;
use l4lb::Plan;
use l4lb::RealChange;
use l4lb::RealConfig;
use l4lb::Vip;

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
    let rows = vips.iter().flat_map(|vip| {
        vip.reals.iter().map(|real| {
            [
                vip.vip.to_string(),
                real.address.to_string(),
                real.state.to_string(),
                real.weight.to_string(),
                output::percent(real.share),
                real.sent_for_all_vips.packets.to_string(),
                real.sent_for_all_vips.bytes.to_string(),
                real.health.in_words(),
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
