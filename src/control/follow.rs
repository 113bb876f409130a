//! Following the interfaces that an instance serves, and their gateways.

use std::collections::BTreeMap;

use crate::control::carry_out::carry_out;
use crate::control::options::OnUnserved;
use crate::control::reals;
use crate::control::resolve;
use crate::control::resolve::Found;
use crate::control::resolve::followed;
use crate::control::resolve::known;
use crate::control::resolve::own_names;
use crate::control::resolve::resolve_all;
use crate::control::unserved;
use crate::control::unserved::Records;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::interfaces::read_interfaces;
use crate::instance::Instance;
use crate::instance::chain::adopt::refuse_foreign_programs;
use crate::instance::links::refuse_other_namespace;
use crate::kernel::netlink::Choice;
use crate::model::abi;
use crate::model::config::Config;
use crate::model::config::InterfaceConfig;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::interface::ResolvedInterface;
use crate::model::interface::RunningInterface;
use crate::model::next_hop::NextHop;
use crate::plan;
use crate::plan::Detail;
use crate::plan::InterfaceAction;
use crate::plan::InterfaceChange;
use crate::plan::Plan;
use crate::plan::Snapshot;
use crate::plan::diff::follow_ways;

impl Balancer {
    /// Adapts the maps to what changed on the interfaces: gateways, MTUs, MACs, interfaces that were made anew. VIPs
    /// and reals stay as they are. If another command has set up an interface differently since, that stays too. If a
    /// gateway does not answer, its last known MAC stays, with a warning in the plan. Router advertisements alone do
    /// not replace it: this takes another router only if the route of the one in use is gone, or if there is a better
    /// route of the same IP version. It writes MACs and MTUs without waiting for a gateway. It tries again the
    /// interfaces that could not be served so far; [`Plan::unserved`] has those that still cannot.
    pub fn follow(instance: &Instance, config: &Config) -> Result<Plan> {
        Self::follow_while(instance, config, || true)
    }

    /// The same, if under the lock the configuration still is what is to be followed. If not, the plan is overtaken.
    pub(crate) fn follow_while(
        instance: &Instance,
        config: &Config,
        is_current: impl Fn() -> bool,
    ) -> Result<Plan> {
        refuse_other_namespace(instance, &[])?;
        let given: Vec<_> = config.interfaces.iter().map(|interface| &*interface.name).collect();
        let config = &*own_names(config)?;
        let mut links = Self::follow_links(instance, config)?;
        let mut plan = Self::follow_gateways(instance, config, &given, is_current)?;
        links.append(&mut plan.interfaces);
        plan.interfaces = links;
        if !plan.overtaken {
            match Self::follow_reals(instance) {
                Ok((reals, warnings)) => {
                    plan.reals = reals;
                    plan.warnings.extend(warnings);
                }
                // What was done for the interfaces is to be told all the same.
                Err(error) => {
                    plan.warnings.push(format!("the MACs of reals are not followed: {error}"));
                }
            }
        }
        Ok(plan)
    }

    /// Writes which reals are this host, and the MACs of those that frames go to directly. Has the kernel check these
    /// MACs, as no packet of its own does that. Returns what changed, and warnings.
    fn follow_reals(instance: &Instance) -> Result<(Vec<Detail>, Vec<String>)> {
        let read = || {
            let balancer = Self::open(instance)?;
            if !reals::may_change(&balancer.dataplane)? {
                return Ok(None);
            }
            let running = balancer.dataplane.read_table(balancer.next_serial()?)?;
            let interfaces = read_interfaces(instance, &balancer.dataplane)?;
            let served = interfaces.iter().filter(|(_, running)| running.attached.is_some());
            let served =
                served.filter_map(|(name, running)| Some((&**name, running.entry?.ifindex)));
            let served: Vec<_> = served.collect();
            // The next look sees the answers.
            let looked = reals::look(&running.table(), &served, |_| false)?;
            Ok::<_, Error>(Some((balancer, running, looked)))
        };
        let Some((_, running, looked)) = read()? else { return Ok(Default::default()) };
        let ids = running.live_ids();
        let warnings = looked.warnings(|real| running.neighbour(&ids, real).is_some());
        if follow_ways(&running, &looked.facts).writes.is_empty() {
            return Ok((Vec::new(), warnings));
        }
        let _lock = instance.lock_existing()?;
        // Another command may have changed the reals.
        let Some((balancer, running, looked)) = read()? else { return Ok(Default::default()) };
        let diff = follow_ways(&running, &looked.facts);
        balancer.dataplane.write_all(&diff)?;
        Ok((diff.reals, warnings))
    }

    /// Writes the interfaces' own MACs and MTUs from the kernel, without asking for a gateway: a new MAC makes the
    /// kernel forget its neighbours.
    fn follow_links(instance: &Instance, config: &Config) -> Result<Vec<InterfaceChange>> {
        let read = || {
            let balancer = Self::open(instance)?;
            let interfaces = read_interfaces(instance, &balancer.dataplane)?;
            let followed = followed(config, &interfaces, &Records::new());
            let changed = followed.iter().filter_map(|(wanted, _)| {
                let (entry, known) = known(wanted, &interfaces)?;
                (abi::bytes_of(&known.entry()) != abi::bytes_of(&entry)).then_some(known)
            });
            let changed: Vec<_> = changed.collect();
            Ok::<_, Error>((interfaces, changed))
        };
        if read()?.1.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = instance.lock_existing()?;
        let (interfaces, changed) = read()?;
        let mut plan = Plan::default();
        let snapshot = Snapshot { interfaces, ..Snapshot::default() };
        plan::plan_interfaces(&mut plan, &snapshot, &changed, config);
        plan.steps.served = changed;
        plan.steps.kept_records = unserved::read(instance)?;
        if !plan.is_empty() {
            carry_out(instance, &mut plan, None, OnUnserved::Wait, |_| {})?;
        }
        Ok(plan.interfaces)
    }

    /// `given` are the names in the file; some may be alternative names.
    fn follow_gateways(
        instance: &Instance,
        config: &Config,
        given: &[&str],
        is_current: impl Fn() -> bool,
    ) -> Result<Plan> {
        let before = Self::open(instance)?;
        let records = unserved::read(instance)?;
        let interfaces = read_interfaces(instance, &before.dataplane)?;
        let followed = followed(config, &interfaces, &records);
        let results = resolve_all(&followed, Choice::Keep)?;
        let _lock = instance.lock_existing()?;
        let current = Self::open(instance)?;
        let interfaces = read_interfaces(instance, &current.dataplane)?;
        let records = unserved::read(instance)?;
        if !is_current() || resolve::followed(config, &interfaces, &records) != followed {
            // Another command was faster, and has newer facts.
            return Ok(Plan { overtaken: true, ..Plan::default() });
        }

        refuse_other_namespace(instance, &[])?;
        let mut plan = Plan::default();
        let mut found = Found::default();
        for ((interface, _), result) in followed.iter().zip(results) {
            let result = result.and_then(|resolved| {
                refuse_foreign_programs(instance, &[resolved.target()], None)?;
                Ok(resolved)
            });
            found.add(interface, result, &interfaces);
            if let Some(record) = records.get(&interface.name) {
                found.keep_mode(record, interface, &interfaces);
            }
        }
        plan.warnings = found.warnings;
        plan.unserved = found.unserved;
        plan.steps.kept_records = records.clone();
        // A missing interface is recorded by the name in the file. Once it is there, it is recorded by its own name.
        let is_followed = |name: &String| {
            given.contains(&&**name) || followed.iter().any(|(i, _)| i.name == *name)
        };
        plan.steps.kept_records.retain(|name, _| !is_followed(name));
        let resolved = found.served;
        if resolved.len() == followed.len() {
            forget_lost(&mut plan, &interfaces, &resolved, &followed);
            // Only all interfaces together tell which CPUs receive packets.
            plan.warnings.extend(current.cpu_warnings(&resolved)?);
        }
        let snapshot = Snapshot { interfaces, ..Snapshot::default() };
        plan::plan_interfaces(&mut plan, &snapshot, &resolved, config);
        if followed.iter().any(|(i, _)| records.get(&i.name).is_some_and(|record| record.replaces))
        {
            // Some interfaces stayed only until these are served. They leave now, as the file says.
            let mut leaving = snapshot;
            leaving.interfaces.retain(|_, running| {
                running.entry.is_some() && !running.is_gone() && running.elsewhere.is_none()
            });
            plan::plan_detaching(&mut plan, &leaving, &resolved, config);
            plan.keep_leaving();
        }
        plan.steps.served = resolved;
        if !plan.is_empty() || !unserved::are_same(&records, &plan.records()) {
            carry_out(instance, &mut plan, None, OnUnserved::Wait, |_| {})?;
        }
        Ok(plan)
    }
}

/// Removes the entries of interfaces that are gone; interfaces that are there have other indices.
fn forget_lost(
    plan: &mut Plan,
    interfaces: &BTreeMap<String, RunningInterface>,
    resolved: &[ResolvedInterface],
    followed: &[(InterfaceConfig, Option<NextHop>)],
) {
    let lost = interfaces.iter().filter(|(_, running)| running.is_gone());
    let lost = lost.filter_map(|(name, running)| Some((name, running.entry?)));
    let is_back = |entry: &abi::interface| resolved.iter().any(|i| i.ifindex == entry.ifindex);
    let lost: Vec<_> = lost.filter(|(_, entry)| !is_back(entry)).collect();
    plan.steps.remove_entries.extend(lost.iter().map(|(_, entry)| *entry));
    // An interface that was made anew is reported as that, not as detached.
    let is_wanted = |name: &str| followed.iter().any(|(wanted, _)| wanted.name == name);
    let forgotten = lost.iter().filter(|(name, _)| !is_wanted(name));
    plan.interfaces.extend(forgotten.map(|(name, _)| InterfaceChange {
        name: (*name).clone(),
        action: InterfaceAction::Detach,
        details: vec![Detail::setting("present", true, false, "the interface is gone")],
        made_anew: false,
    }));
}
