//! Changes of VIPs and reals, as commands and lines of a batch say them. What one command or batch changes is one edit: it is
//! made as a whole or not at all.

use l4lb::Balancer;
use l4lb::CheckChoice;
use l4lb::Encapsulation;
use l4lb::HealthPolicy;
use l4lb::Plan;
use l4lb::RealChange;
use l4lb::RealConfig;
use l4lb::Routing;
use l4lb::Table;
use l4lb::Vip;
use l4lb::VipSpec;

use crate::Exit;
use crate::Result;
use crate::args::DryRun;
use crate::args::RealCommand;
use crate::args::Target;
use crate::args::VipAdd;
use crate::args::VipCommand;
use crate::output;

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    AddVip(Vip, VipSpec),
    EncapsulateVip(Vip, Option<Encapsulation>),
    DeleteVip(Vip),
    AddReal(Vip, RealConfig),
    Change(Target, RealChange),
}

impl Edit {
    /// The VIP that it names; `None`: it is about a real of all VIPs.
    pub(super) fn vip(&self) -> Option<Vip> {
        match self {
            Self::AddVip(vip, _)
            | Self::EncapsulateVip(vip, _)
            | Self::DeleteVip(vip)
            | Self::AddReal(vip, _) => Some(*vip),
            Self::Change((_, vip), _) => *vip,
        }
    }

    pub(super) fn make(&self, table: &mut Table) -> l4lb::Result<()> {
        match self {
            Self::AddVip(vip, spec) => table.add_vip(*vip, spec.clone()),
            Self::EncapsulateVip(vip, encapsulation) => {
                table.change_vip(*vip, |spec| spec.encapsulation = *encapsulation)
            }
            Self::DeleteVip(vip) => table.remove_vip(*vip),
            Self::AddReal(vip, config) => table.add_real(*vip, config),
            Self::Change((real, vip), change) => table.change_real_in(*vip, *real, *change),
        }
    }
}

impl DryRun {
    /// Makes a change, or only plans it.
    pub(super) fn edit(
        self,
        balancer: &Balancer,
        change: impl Fn(&mut Table) -> l4lb::Result<()>,
    ) -> l4lb::Result<Plan> {
        if self.dry_run { balancer.plan_edit(change) } else { balancer.edit(change) }
    }

    /// Prints what was changed, or would be.
    pub(super) fn report(self, plan: &Plan, json: bool) -> Result {
        super::plan::warn(plan);
        output::report(plan, json)?;
        if self.dry_run && !json {
            output::line("nothing was changed: --dry-run")?;
        }
        Ok(Exit::Done)
    }
}

/// Makes all of them.
pub(super) fn make_all(edits: &[Edit], table: &mut Table) -> l4lb::Result<()> {
    edits.iter().try_for_each(|edit| edit.make(table))
}

/// What a command changes; `None`: it is no such change.
pub(super) fn of_vips(command: &VipCommand) -> Option<Vec<Edit>> {
    match command {
        VipCommand::List => None,
        VipCommand::Add(add) => {
            let spec = spec(add);
            Some(add.vips.iter().map(|vip| Edit::AddVip(*vip, spec.clone())).collect())
        }
        VipCommand::Edit(edit) => {
            let encapsulation = edit.encapsulation.into();
            let change = |vip: &Vip| Edit::EncapsulateVip(*vip, encapsulation);
            Some(edit.vips.iter().map(change).collect())
        }
        VipCommand::Delete { vips } => Some(vips.iter().copied().map(Edit::DeleteVip).collect()),
    }
}

/// The same of reals. To wait after a drain is more than a change.
pub(super) fn of_reals(command: &RealCommand) -> Result<Option<Vec<Edit>>> {
    let (targets, change) = match command {
        RealCommand::List { .. } | RealCommand::Health(_) => return Ok(None),
        RealCommand::Drain(drain) if drain.wait => return Ok(None),
        RealCommand::Add { vip, reals, weight, encapsulation, local } => {
            let add = |real| {
                let mut config = RealConfig::new(real);
                config.weight = *weight;
                config.encapsulation = encapsulation.map(Into::into);
                config.local = *local;
                Edit::AddReal(*vip, config)
            };
            return Ok(Some(reals.iter().copied().map(add).collect()));
        }
        RealCommand::Weight(which) => {
            let (targets, weight) = which.targets()?;
            (targets, RealChange::Weight(weight))
        }
        RealCommand::Edit(edit) => (edit.which.targets()?, RealChange::Deliver(edit.way.into())),
        RealCommand::Drain(drain) => (drain.which.targets()?, RealChange::Drain),
        RealCommand::Delete(which) => (which.targets()?, RealChange::Delete),
        RealCommand::Undrain(which) => (which.targets()?, RealChange::Undrain),
        RealCommand::Down(which) => (which.targets()?, RealChange::Down),
        RealCommand::Up(which) => (which.targets()?, RealChange::Up),
    };
    Ok(Some(targets.into_iter().map(|target| Edit::Change(target, change)).collect()))
}

fn spec(add: &VipAdd) -> VipSpec {
    let routing = add.quic_connection_id.then_some(Routing::QuicConnectionId);
    let mut health = HealthPolicy::default();
    health.check = add.check.clone().map(CheckChoice::Named);
    VipSpec {
        health,
        hash: add.hash.into(),
        stateless: add.no_connection_table,
        routing: routing.into_iter().collect(),
        encapsulation: add.encapsulation.map(Into::into),
        allow_own_address: add.allow_own_address.map(Into::into).unwrap_or_default(),
        other_ports: add.other_ports.map(Into::into),
        no_real: add.no_real.into(),
        echo: add.echo.map(Into::into),
        ..VipSpec::default()
    }
}
