//! Interfaces that are asked for and cannot be served as they are asked for.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::InterfaceAction;
use super::InterfaceChange;
use super::Plan;
use crate::config::Config;
use crate::config::InterfaceConfig;
use crate::effects::Changed;
use crate::error::Error;
use crate::outside::message;

/// An interface that is asked for and is not served, or not as it is asked for. Its text is one line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unserved {
    /// Its name.
    pub name: String,
    /// Why, and behind a semicolon what to do about it: one line.
    pub why: String,
    /// It is served as it was asked for before.
    pub as_before: bool,
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
            config: config.clone(),
        }
    }

    /// The reason, without what to do about it.
    pub(crate) fn reason(why: &str) -> &str {
        why.split_once("; ").map_or(why, |(reason, _)| reason)
    }

    /// What to do about it.
    pub(crate) fn remedy(why: &str) -> String {
        let again = "'lbctl serve' tries again by itself, else lbctl apply -f FILE";
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
