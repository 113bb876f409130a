//! Changing VIPs, reals and server ids of a balancer that runs.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control::effects::Question;
use crate::control::effects::effects;
use crate::control::healthcheck_path;
use crate::control::opened;
use crate::control::own_host;
use crate::control::reals;
use crate::control::reals::Looked;
use crate::control::unchecked;
use crate::control::unserved;
use crate::control::unusable_checks;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::interfaces::read_interfaces;
use crate::instance::links::refuse_other_namespace;
use crate::model::config::Config;
use crate::model::error::Result;
use crate::model::outweighed;
use crate::model::vip_table::Table;
use crate::plan::Plan;
use crate::plan::address_changes;
use crate::plan::diff::Running;
use crate::plan::diff::diff_with;
use crate::plan::diff::on_link;
use crate::plan::encapsulation;

/// How long an edit may spend on counting flows. An edit asks for no consent, and may be urgent.
const COUNT_AT_MOST: Duration = Duration::from_secs(2);

/// For whose MACs an edit waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Those of reals that frames now go to directly, and did not before. An edit may be urgent, and it is none of its
    /// business that another real is silent.
    ForNewReals,
    No,
}

impl Balancer {
    /// Changes VIPs, reals and server ids, as [`Balancer::apply`] would with a file that says the same. It also makes
    /// changes that break flows: [`Plan::flows`] reports them.
    ///
    /// Flows are counted before the instance is locked, for two seconds at most. If they cannot be counted,
    /// [`Plan::flows_unknown`] says why, and this makes the change anyway. It calls `change` twice, because another
    /// command may change the instance in between, and writes the second result.
    pub fn edit(&self, change: impl Fn(&mut Table) -> Result<()>) -> Result<Plan> {
        let (_, _, counted) = self.count_edit(&change)?;
        let _lock = self.instance.lock_existing()?;
        // Another command may have replaced the maps before this one got the lock.
        let current = Self::open(&self.instance)?;
        // The answers of reals came before, if at all.
        let (running, wanted, mut plan) = current.edited(&change, Wait::No)?;
        current.dataplane.write_all(&plan.steps.table)?;
        let same = plan.vips == counted.vips && plan.server_ids == counted.server_ids;
        if same {
            plan.flows = counted.flows;
            plan.flows_unknown = counted.flows_unknown;
        } else {
            plan.flows_unknown = Some("another command changed the same VIP meanwhile".to_owned());
        }
        self.warn_of_edit(&mut plan, &running, &wanted);
        plan.warnings.extend(healthcheck_path::warnings_after_change(&self.instance));
        Ok(plan)
    }

    /// The plan of an [`Self::edit`], which is not carried out. It calls `change` once, takes no lock, and counts flows
    /// for two seconds at most.
    pub fn plan_edit(&self, change: impl Fn(&mut Table) -> Result<()>) -> Result<Plan> {
        let (running, wanted, mut plan) = self.count_edit(&change)?;
        self.warn_of_edit(&mut plan, &running, &wanted);
        Ok(plan)
    }

    /// The running table, what `change` makes of it, and the plan with its effect on flows.
    fn count_edit(
        &self,
        change: &impl Fn(&mut Table) -> Result<()>,
    ) -> Result<(Running, Table, Plan)> {
        let seen = Self::open(&self.instance)?;
        let (running, wanted, mut plan) = seen.edited(change, Wait::ForNewReals)?;
        let question = Question {
            running: &running,
            wanted: &wanted,
            knobs: None,
            dead_interfaces: [].into(),
        };
        plan.set_flows(effects(&seen, &question, &plan, Some(COUNT_AT_MOST)));
        Ok((running, wanted, plan))
    }

    /// The running table, what `change` makes of it, and the plan from one to the other, without its effect on flows.
    fn edited(
        &self,
        change: &impl Fn(&mut Table) -> Result<()>,
        wait: Wait,
    ) -> Result<(Running, Table, Plan)> {
        let running = self.dataplane.read_table(self.next_serial()?)?;
        let mut wanted = running.table();
        wanted.encapsulation = self.default_encapsulation()?;
        let before = self.save_with(&wanted)?;
        change(&mut wanted)?;
        wanted.resolve();
        wanted.keep_health(|vip| running.spec(vip));
        let mut config = before.clone();
        wanted.write_to(&mut config);
        config.check().map_err(|error| error.of_change(|place| config.vip_at(place)))?;
        own_host::check_change(&before, &config)?;
        unusable_checks::check_change(&before, &config)?;
        let mut plan = Plan::default();
        let looked = self.look_for_reals(&running, &wanted, &config, wait)?;
        plan.set_table(diff_with(&running, &wanted, &looked.facts))?;
        plan.warnings.extend(looked.warnings(|_| false));
        let now = running.vips.iter().map(|(vip, running)| (vip, &running.spec));
        plan.addresses = address_changes(now, wanted.vips.iter());
        let interfaces = read_interfaces(&self.instance, &self.dataplane)?.into_iter();
        let mtus = interfaces.filter_map(|(name, running)| Some((name, running.entry?.mtu)));
        let narrowest = mtus.min_by_key(|(_, mtu)| *mtu);
        let variant = config.packets.gue_variant;
        let changes =
            wanted.vips.iter().filter_map(|(vip, spec)| Some((*vip, running.spec(vip)?, spec)));
        plan.warnings.extend(encapsulation::warnings(changes, &narrowest, variant));
        Ok((running, wanted, plan))
    }

    /// Finds out which reals are this host, and the MACs of those that need one. Refuses reals that are on none of the
    /// networks, unless they were there before.
    fn look_for_reals(
        &self,
        running: &Running,
        wanted: &Table,
        config: &Config,
        wait: Wait,
    ) -> Result<Looked> {
        // Commands work in any network namespace. Only that of the interfaces knows the neighbours.
        if refuse_other_namespace(&self.instance, &[]).is_err() {
            return Ok(Looked::nothing(running.facts()));
        }
        let interfaces = read_interfaces(&self.instance, &self.dataplane)?;
        let served = interfaces.iter().filter(|(_, running)| running.attached.is_some());
        let served = served.filter_map(|(name, running)| Some((&**name, running.entry?.ifindex)));
        let served: Vec<_> = served.collect();
        let known = on_link(&running.table(), &running.facts().own);
        let is_awaited = |real| wait == Wait::ForNewReals && !known.contains(&real);
        let looked = reals::look(wanted, &served, is_awaited)?;
        let before = on_link(&running.table(), &looked.facts.own);
        if served.len() == interfaces.len() && unserved::read(&self.instance)?.is_empty() {
            let far = looked.refuse_far(config, |real| before.contains(&real));
            far.map_err(|error| error.of_change(|place| config.vip_at(place)))?;
        }
        Ok(looked.without(&before))
    }

    /// Adds the warnings of an edit that makes `wanted`.
    fn warn_of_edit(&self, plan: &mut Plan, running: &Running, wanted: &Table) {
        let changed: BTreeSet<_> = plan.vips.iter().map(|change| change.vip).collect();
        plan.warnings.extend(outweighed::warnings(wanted, |vip| changed.contains(vip)));
        plan.warnings.extend(plan.unknown_flows());
        plan.warnings.extend(opened::warnings(|vip| running.spec(vip), wanted));
        let is_new = |vip: &_| running.spec(vip).is_none_or(|spec| spec.health.check.is_none());
        plan.warnings.extend(unchecked::warning(&self.instance, wanted, is_new));
    }
}
