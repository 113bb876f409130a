//! Following what becomes of the interfaces that an instance serves, and of their gateways.

use crate::control::carry_out::carry_out;
use crate::control::options::OnUnserved;
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
use crate::model::error::Error;
use crate::model::error::Result;
use crate::plan;
use crate::plan::InterfaceAction;
use crate::plan::InterfaceChange;
use crate::plan::Plan;
use crate::plan::Snapshot;

impl Balancer {
    /// Follows what became of the interfaces meanwhile: gateways, MTUs, MACs, an interface that was made anew.
    /// VIPs and reals stay as they are, and so does how another command has set up an interface since. What was
    /// last known of a gateway that does not answer stays, with a warning in the plan, whoever else says that he is a
    /// router: another one is taken when the route of the one in use is gone, or for a better route of the same IP
    /// version. MACs and MTUs do not wait for it. Interfaces that could not be
    /// served so far are tried again: [`Plan::unserved`] has those that still cannot.
    pub fn follow(instance: &Instance, config: &Config) -> Result<Plan> {
        refuse_other_namespace(instance, &[])?;
        let given: Vec<_> = config.interfaces.iter().map(|interface| &*interface.name).collect();
        let config = &*own_names(config)?;
        let mut links = Self::follow_links(instance, config)?;
        let mut plan = Self::follow_gateways(instance, config, &given)?;
        links.append(&mut plan.interfaces);
        plan.interfaces = links;
        Ok(plan)
    }

    /// Writes what the kernel tells of the interfaces themselves, without asking anybody for a gateway: a new MAC
    /// makes the kernel forget its neighbours.
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

    /// `given` are the names that the file has, some of which may be alternative ones.
    fn follow_gateways(instance: &Instance, config: &Config, given: &[&str]) -> Result<Plan> {
        let before = Self::open(instance)?;
        let records = unserved::read(instance)?;
        let interfaces = read_interfaces(instance, &before.dataplane)?;
        let followed = followed(config, &interfaces, &records);
        let results = resolve_all(&followed, Choice::Keep)?;
        let _lock = instance.lock_existing()?;
        let current = Self::open(instance)?;
        let interfaces = read_interfaces(instance, &current.dataplane)?;
        let records = unserved::read(instance)?;
        if resolve::followed(config, &interfaces, &records) != followed {
            // Another command was faster, and knows better.
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
        // One that was missing is recorded by the name that the file has; it has its own when it is there.
        let is_followed = |name: &String| {
            given.contains(&&**name) || followed.iter().any(|(i, _)| i.name == *name)
        };
        plan.steps.kept_records.retain(|name, _| !is_followed(name));
        let resolved = found.served;
        if resolved.len() == followed.len() {
            // Of interfaces that are gone: those here have other numbers.
            let lost = interfaces.iter().filter(|(_, running)| running.is_gone());
            let lost = lost.filter_map(|(name, running)| Some((name, running.entry?)));
            let is_back =
                |entry: &abi::interface| resolved.iter().any(|i| i.ifindex == entry.ifindex);
            let lost: Vec<_> = lost.filter(|(_, entry)| !is_back(entry)).collect();
            plan.steps.remove_entries.extend(lost.iter().map(|(_, entry)| *entry));
            // What was made anew is told of as that.
            let is_wanted = |name: &str| followed.iter().any(|(wanted, _)| wanted.name == name);
            let forgotten = lost.iter().filter(|(name, _)| !is_wanted(name));
            plan.interfaces.extend(forgotten.map(|(name, _)| InterfaceChange {
                name: (*name).clone(),
                action: InterfaceAction::Detach,
                details: vec!["it is gone".to_owned()],
                made_anew: false,
            }));
            // What is known of only some interfaces tells nothing of all.
            plan.warnings.extend(current.cpu_warnings(&resolved)?);
        }
        let snapshot = Snapshot { interfaces, ..Snapshot::default() };
        plan::plan_interfaces(&mut plan, &snapshot, &resolved, config);
        if followed.iter().any(|(i, _)| records.get(&i.name).is_some_and(|record| record.replaces))
        {
            // What stayed until these are served leaves then, as the file says.
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
