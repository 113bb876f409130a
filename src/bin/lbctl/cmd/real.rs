//! `lbctl real`

use l4lb::Balancer;
use l4lb::Error;
use l4lb::Instance;
use l4lb::Plan;
use l4lb::RealConfig;
use l4lb::RealSpec;
use l4lb::RealState;
use l4lb::Vip;

use crate::Exit;
use crate::Result;
use crate::args::RealCommand;
use crate::args::RealOfVip;
use crate::output;

pub(crate) fn run(instance: &Instance, command: &RealCommand, json: bool) -> Result {
    let balancer = Balancer::open(instance)?;
    let plan = match command {
        RealCommand::List { vip } => {
            list(&balancer, *vip, json)?;
            return Ok(Exit::Done);
        }
        RealCommand::Add { which: RealOfVip { vip, real }, weight } => {
            let mut config = RealConfig::new(*real);
            config.weight = *weight;
            balancer.edit(|table| table.add_real(*vip, &config))?
        }
        RealCommand::Delete(RealOfVip { vip, real }) => {
            balancer.edit(|table| table.remove_real(*vip, *real))?
        }
        RealCommand::Weight { which, weight } => {
            change(&balancer, *which, |spec| spec.weight = *weight)?
        }
        RealCommand::Drain(which) => {
            change(&balancer, *which, |spec| spec.state = RealState::Drain)?
        }
        RealCommand::Down(which) => change(&balancer, *which, |spec| spec.state = RealState::Down)?,
        RealCommand::Up(which) => change(&balancer, *which, |spec| spec.state = RealState::Up)?,
    };
    super::plan::warn(&plan);
    output::report(&plan, json)?;
    Ok(Exit::Done)
}

fn change(
    balancer: &Balancer,
    RealOfVip { vip, real }: RealOfVip,
    change: impl Fn(&mut RealSpec),
) -> Result<Plan> {
    Ok(balancer.edit(|table| table.change_real(vip, real, &change))?)
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
