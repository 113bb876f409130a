//! Interfaces that are asked for and cannot be served as they are asked for.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::InterfaceAction;
use super::InterfaceChange;
use super::Plan;
use crate::config::Config;
use crate::config::InterfaceConfig;
use crate::error::Error;
use crate::model::flow_effect::Changed;
use crate::model::text::message;

/// How many interfaces a reason names: the record has room for one line.
const MOST_NAMED: usize = 3;

/// An interface that is asked for and is not served, or not as it is asked for. Its text is one line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unserved {
    /// Its name.
    pub name: String,
    /// Why, and behind a semicolon what to do about it: one line.
    pub why: String,
    /// It is served as it was asked for before.
    pub as_before: bool,
    /// Interfaces that are no longer asked for stay until it is served.
    #[serde(skip)]
    pub(crate) replaces: bool,
    /// What is asked for.
    #[serde(skip)]
    pub(crate) config: InterfaceConfig,
}

impl Unserved {
    pub(crate) fn new(config: &InterfaceConfig, error: &Error) -> Self {
        Self {
            name: config.name.clone(),
            why: message(&error.to_string()),
            as_before: false,
            replaces: false,
            config: config.clone(),
        }
    }

    /// Says which interfaces stay until it is served.
    fn replace(&mut self, stay: &[String]) {
        let names = stay.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match stay.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let reason = Self::reason(&self.why);
        let remedy = self.why.get(reason.len()..).unwrap_or_default();
        self.why = format!(
            "{reason} (until it is served, the balancer stays on {names}{more}, though no longer asked for){remedy}"
        );
        self.replaces = true;
    }

    /// The reason, without what to do about it.
    pub(crate) fn reason(why: &str) -> &str {
        why.split_once("; ").map_or(why, |(reason, _)| reason)
    }

    /// What to do about it.
    pub(crate) fn remedy(why: &str) -> String {
        Self::remedy_and(why, "'lbctl serve' tries again by itself, else lbctl apply -f FILE")
    }

    /// The same, of an interface that is served as before.
    pub(crate) fn remedy_as_before(why: &str) -> String {
        // To try a mode takes the program off for a moment.
        let again = "'lbctl serve' tries another gateway again by itself, another mode when it reloads; else lbctl \
                     apply -f FILE";
        Self::remedy_and(why, again)
    }

    fn remedy_and(why: &str, again: &str) -> String {
        match why.split_once("; ") {
            Some((_, remedy)) => format!("{remedy}; {again}"),
            None => again.to_owned(),
        }
    }
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, why, as_before, .. } = self;
        let how = if *as_before { "served as before, not as asked for" } else { "not served" };
        write!(f, "interface {name}: {how}: {why}")
    }
}

impl Plan {
    /// Takes an interface out of what is to be done, as it turned out that it cannot be served.
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

    /// While an interface that is asked for cannot be served, those stay that are served and no longer asked for: a
    /// name that was mistyped, or a new uplink without carrier, must not end all traffic.
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

    /// Whether it starts an instance that would serve none of the interfaces that it is asked for.
    pub(crate) fn serves_nothing(&self) -> bool {
        self.steps.starts && self.steps.served.is_empty() && !self.unserved.is_empty()
    }

    /// What is to be recorded of interfaces that are not served.
    pub(crate) fn records(&self) -> BTreeMap<String, Unserved> {
        let mut records = self.steps.kept_records.clone();
        records.extend(self.unserved.iter().map(|one| (one.name.clone(), one.clone())));
        records
    }

    /// Plans to forget what is recorded of interfaces that are no longer asked for, or are served.
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
            let details = vec![detail.to_owned()];
            self.interfaces.push(InterfaceChange {
                name: name.clone(),
                action,
                made_anew: false,
                details,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::NetlinkError;

    #[test]
    fn texts_say_what_and_what_to_do() {
        let config = InterfaceConfig {
            name: "eth1".to_owned(),
            xdp_mode: crate::config::XdpMode::Auto,
            gateway: None,
            gateway_mac: None,
            macs: Vec::new(),
        };
        let error = NetlinkError::InterfaceDown { interface: "eth1".to_owned() };
        let unserved = Unserved::new(&config, &error.into());
        assert_eq!(
            unserved.to_string(),
            "interface eth1: not served: interface eth1 is down; `ip link set eth1 up` brings it up"
        );
        assert_eq!(Unserved::reason(&unserved.why), "interface eth1 is down");
        let remedy = Unserved::remedy(&unserved.why);
        assert!(
            remedy.starts_with("`ip link set eth1 up` brings it up; 'lbctl serve'"),
            "{remedy}"
        );
        assert!(Unserved::remedy("busy").starts_with("'lbctl serve' tries again"));
        let as_before = Unserved { as_before: true, ..unserved };
        assert!(as_before.to_string().starts_with("interface eth1: served as before"));
    }
}
