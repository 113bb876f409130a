//! `lbctl real`

use l4lb::Balancer;
use l4lb::Error;
use l4lb::Instance;
use l4lb::Plan;
use l4lb::RealChange;
use l4lb::RealConfig;
use l4lb::Vip;

use crate::Exit;
use crate::Result;
use crate::args::RealCommand;
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
        RealCommand::Weight(which) => {
            let (target, weight) = which.target()?;
            (target, RealChange::Weight(weight))
        }
        RealCommand::Delete(which) => (which.target()?, RealChange::Delete),
        RealCommand::Drain(which) => (which.target()?, RealChange::Drain),
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
            ]
        })
    });
    output::table(
        ["VIP", "REAL", "STATE", "WEIGHT", "SHARE", "PACKETS", "BYTES"],
        &[3, 4, 5, 6],
        rows,
    )?;
    output::line("(a real's packets and bytes are those of all its VIPs)")?;
    Ok(())
}
