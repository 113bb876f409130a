//! A plan without the interfaces that cannot be served.

use std::collections::BTreeMap;

use super::Detail;
use super::InterfaceAction;
use super::InterfaceChange;
use super::Plan;
use super::Unserved;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::flow_effect::Changed;

impl Plan {
    /// Removes an interface that cannot be served from the plan.
    pub(crate) fn leave_out(&mut self, ifindex: u32, error: &Error) {
        let steps = &mut self.steps;
        let Some(at) = steps.served.iter().position(|to| to.ifindex == ifindex) else { return };
        let left = steps.served.remove(at);
        steps.attach.retain(|to| to.ifindex != ifindex);
        steps.entries.retain(|entry| entry.ifindex != ifindex);
        let mut unserved = Unserved::new(&left.config, error);
        self.interfaces.retain(|change| {
            let is_it = change.name == unserved.name;
            unserved.as_before |= is_it && change.action == InterfaceAction::Reattach;
            !is_it
        });
        self.flows.retain(|effect| effect.change != Changed::Interface(unserved.name.clone()));
        self.unserved.push(unserved);
        self.keep_leaving();
    }

    /// While a configured interface cannot be served, the balancer stays on interfaces that it serves and the
    /// configuration no longer names. A mistyped name, or a new uplink without carrier, must not end all traffic.
    pub(crate) fn keep_leaving(&mut self) {
        if self.unserved.iter().all(|one| one.as_before) {
            return;
        }
        let steps = &mut self.steps;
        for (name, ifindex) in std::mem::take(&mut steps.leaving) {
            steps.detach.retain(|detached| *detached != name);
            steps.remove_entries.retain(|entry| entry.ifindex != ifindex);
            let detaches = |change: &InterfaceChange| {
                change.name == name && change.action == InterfaceAction::Detach
            };
            self.interfaces.retain(|change| !detaches(change));
            self.flows.retain(|effect| effect.change != Changed::Interface(name.clone()));
            steps.kept.push(name);
        }
        let stay = &steps.kept;
        if !stay.is_empty() {
            let waiting = self.unserved.iter_mut().filter(|one| !one.as_before && !one.replaces);
            waiting.for_each(|one| one.replace(stay));
        }
    }

    /// Whether it starts an instance that would serve none of the configured interfaces.
    pub(crate) fn serves_nothing(&self) -> bool {
        self.steps.starts && self.steps.served.is_empty() && !self.unserved.is_empty()
    }

    /// The records of interfaces that are not served.
    pub(crate) fn records(&self) -> BTreeMap<String, Unserved> {
        let mut records = self.steps.kept_records.clone();
        records.extend(self.unserved.iter().map(|one| (one.name.clone(), one.clone())));
        records
    }

    /// Plans to forget the records of interfaces that are served now, or that the configuration no longer names.
    pub(crate) fn forget_records(
        &mut self,
        recorded: &BTreeMap<String, Unserved>,
        config: &Config,
    ) {
        for name in recorded.keys() {
            let stays = self.unserved.iter().any(|unserved| unserved.name == *name);
            if stays || self.interfaces.iter().any(|change| change.name == *name) {
                continue;
            }
            let asked = config.interfaces.iter().any(|interface| interface.name == *name);
            let (action, detail) = if asked {
                (InterfaceAction::Update, "is served, and no longer recorded as waiting")
            } else {
                (InterfaceAction::Detach, "was not served")
            };
            let details = vec![Detail::setting("served", false, asked, detail)];
            self.interfaces.push(InterfaceChange {
                name: name.clone(),
                action,
                made_anew: false,
                details,
            });
        }
    }
}
