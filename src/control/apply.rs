//! Applying a configuration: this makes the kernel match it.

use crate::control::carry_out::carry_out;
use crate::control::down;
use crate::control::healthcheck_path;
use crate::control::make_plan::make_plan;
use crate::control::node;
use crate::control::options::ApplyOptions;
use crate::control::options::OnUnserved;
use crate::control::resolve::Already;
use crate::control::resolve::own_names;
use crate::control::unserved;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::instance::chain::direct;
use crate::instance::links;
use crate::instance::serving;
use crate::instance::set_up::set_up;
use crate::kernel::netlink::Choice;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::flow_effect::Breaking;
use crate::plan::Plan;

impl Balancer {
    /// What [`Balancer::apply`] would change. Changes nothing; it only asks for the gateways' MACs.
    pub fn plan(instance: &Instance, config: &Config) -> Result<Plan> {
        config.check()?;
        instance.check_host()?;
        if let Some(plan) = down::plan(instance)? {
            return Ok(plan);
        }
        let config = &*own_names(config)?;
        make_plan(instance, config, OnUnserved::LeaveOut, Choice::Anew, Already::Warn)
    }

    /// Loads, attaches and programs until the kernel matches the configuration.
    ///
    /// Traffic that is already forwarded is not interrupted. A change that would break established flows is refused,
    /// unless [`ApplyOptions::allow_breaking`] permits it. An interface that cannot be served does not stop the others:
    /// look at [`Plan::unserved`]. If apply fails before the first packet could be forwarded, it leaves nothing behind.
    pub fn apply(instance: &Instance, config: &Config) -> Result<Plan> {
        Self::apply_with(instance, config, OnUnserved::LeaveOut)
    }

    /// As [`Balancer::apply`], with options, or with only an [`OnUnserved`].
    pub fn apply_with(
        instance: &Instance,
        config: &Config,
        options: impl Into<ApplyOptions>,
    ) -> Result<Plan> {
        Self::apply_announced(instance, config, options, |_| {})
    }

    /// As [`Balancer::apply_with`]. If anything is to change, `announce` gets the plan before programs and maps take
    /// memory.
    pub fn apply_announced(
        instance: &Instance,
        config: &Config,
        options: impl Into<ApplyOptions>,
        announce: impl FnOnce(&Plan),
    ) -> Result<Plan> {
        let options = options.into();
        let ApplyOptions { on_unserved, adopt, allow_breaking, repair, .. } = options;
        let ApplyOptions { refuse_removals, expected, .. } = &options;
        config.check()?;
        instance.check_host()?;
        let given = config;
        let config = &*own_names(given)?;
        let choice = if options.keep_gateways { Choice::Keep } else { Choice::Anew };
        let already = Already::Adopt(adopt);
        let planned = || make_plan(instance, config, on_unserved, choice, already);
        let change = || {
            // Refuses before links are pinned again or removed.
            links::refuse_other_namespace(instance, &[])?;
            // The plan is made from the maps, so all of them must be there.
            let draining = node::read(instance);
            let lost = down::recover(instance, repair, || {
                down::can_be_set_up(instance, config, on_unserved, choice, already)
            })?;
            let mut plan = planned()?;
            // If nothing changes, the plan was perhaps carried out already: a script that repeats itself may go on.
            if let Some(expected) = expected.as_ref().filter(|_| !plan.is_empty()) {
                let now = plan.digest();
                if *expected != now {
                    return Err(Error::OtherPlan(now));
                }
            }
            if *refuse_removals && plan.removals.are_many() {
                return Err(Error::RemovesMuch(plan.removals));
            }
            if !allow_breaking {
                refuse_breaking(&plan)?;
            }
            unserved::remove_misfit(instance)?;
            let recorded = unserved::read(instance)?;
            if !plan.is_empty() || !unserved::are_same(&recorded, &plan.records()) {
                carry_out(instance, &mut plan, adopt, on_unserved, announce)?;
            } else {
                direct::settle(instance)?;
            }
            plan.warnings.extend(healthcheck_path::warnings_after_change(instance));
            if let Some(since) = draining {
                node::restore(instance, since)?;
            }
            serving::applied(instance, given);
            Ok(Plan { lost, ..plan })
        };
        set_up(instance, || planned().map(drop), change).map(|(plan, _lock)| plan)
    }
}

/// Refuses a plan that breaks established flows, or whose effect on them is not known.
fn refuse_breaking(plan: &Plan) -> Result<()> {
    let breaking: Vec<_> = plan.breaking().cloned().collect();
    if !breaking.is_empty() {
        return Err(Error::BreaksFlows {
            changes: Breaking(breaking),
            draining_helps: plan.draining_helps(),
        });
    }
    match &plan.flows_unknown {
        Some(why) => Err(Error::FlowsUnknown { why: why.clone() }),
        None => Ok(()),
    }
}
