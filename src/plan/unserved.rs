//! Interfaces of the configuration that cannot be served as configured.

use std::fmt;

use serde::Serialize;

use crate::model::config::InterfaceConfig;
use crate::model::error::Error;
use crate::model::text::message;

/// How many interfaces a reason names: the record has room for one line.
const MOST_NAMED: usize = 3;

/// An interface of the configuration that is not served, or not as configured. Its text is one line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unserved {
    /// Its name.
    pub name: String,
    /// Why, and behind a semicolon what to do about it: one line.
    pub why: String,
    /// The interface is served as the previous configuration had it.
    pub as_before: bool,
    /// Interfaces that the configuration no longer names stay until it is served.
    #[serde(skip)]
    pub(crate) replaces: bool,
    /// The configuration of the interface.
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
    pub(super) fn replace(&mut self, stay: &[String]) {
        let names = stay.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match stay.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let reason = Self::reason(&self.why);
        let remedy = self.why.get(reason.len()..).unwrap_or_default();
        self.why = format!(
            "{reason} (until it is served, the balancer stays on {names}{more}, which the configuration no longer names){remedy}"
        );
        self.replaces = true;
    }

    /// The reason, without what to do about it.
    pub(crate) fn reason(why: &str) -> &str {
        why.split_once("; ").map_or(why, |(reason, _)| reason)
    }

    /// What to do about it.
    pub(crate) fn remedy(why: &str) -> String {
        Self::remedy_and(
            why,
            "'lbctl serve' tries again by itself; without it, run lbctl apply -f FILE",
        )
    }

    /// The same for an interface that is served as before.
    pub(crate) fn remedy_as_before(why: &str) -> String {
        // Trying a mode detaches the program for a moment.
        let again = "'lbctl serve' tries another gateway by itself, and another mode when it reloads; without it, \
                     run lbctl apply -f FILE";
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
        let how = if *as_before { "served as before, not as configured" } else { "not served" };
        write!(f, "interface {name}: {how}: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::NetlinkError;

    #[test]
    fn texts_say_what_and_what_to_do() {
        let config = InterfaceConfig {
            name: "eth1".to_owned(),
            xdp_mode: crate::model::config::XdpMode::Auto,
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
