//! What the log of an agent says.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::plan::Plan;

/// The warnings that are in force. A warning that lasts is logged once.
#[derive(Debug, Default)]
pub(super) struct Warnings(BTreeSet<String>);

impl Warnings {
    /// Logs the warnings that are new. If a warning is gone, logs what is well again.
    pub(super) fn report(&mut self, warnings: Vec<String>) {
        let (new, gone) = self.replace(warnings);
        for gone in gone {
            // If there is a new warning about the interface, it describes the present state.
            let interface = interface_of(&gone);
            if interface.is_none() || !new.iter().any(|new| interface_of(new) == interface) {
                tracing::info!("{}", good_news(&gone));
            }
        }
    }

    /// The same after a reload: a warning may be gone only because the file asks for something else.
    pub(super) fn report_reloaded(&mut self, warnings: Vec<String>) {
        let _ = self.replace(warnings);
    }

    /// Logs warnings that are new. The others stay in force, because nothing new is known about them.
    pub(super) fn add(&mut self, warnings: Vec<String>) {
        let _ = self.replace(self.0.iter().cloned().chain(warnings).collect());
    }

    /// Logs the warnings that are new, and returns these, and those that are gone.
    fn replace(&mut self, warnings: Vec<String>) -> (BTreeSet<String>, BTreeSet<String>) {
        let warnings = warnings.into_iter().collect();
        let changed = (&warnings - &self.0, &self.0 - &warnings);
        for new in &changed.0 {
            tracing::warn!("{new}");
        }
        self.0 = warnings;
        changed
    }
}

/// The interface that a warning is about.
fn interface_of(warning: &str) -> Option<&str> {
    let (_, name) = warning.split_once("interface ")?;
    let name = name.split_whitespace().next()?;
    Some(name.trim_matches(['"', ':', ';', ',']))
}

/// What to say when a warning is gone.
fn good_news(warning: &str) -> String {
    let what = warning.split_once("; ").map_or(warning, |(what, _)| what);
    let why = [": not served: ", ": served as before, not as configured: "];
    let why = why.into_iter().find_map(|prefix| Some(what.split_once(prefix)?.1)).unwrap_or(what);
    let news = interface_of(warning).and_then(|name| {
        if why.starts_with(&format!("interface {name} is down")) {
            Some(format!("interface {name} is up again"))
        } else if why.starts_with(&format!("interface {name} has no carrier")) {
            Some(format!("interface {name} has a carrier now"))
        } else if why.starts_with("there is no interface") {
            Some(format!("interface {name} is there now"))
        } else if why.starts_with("gateway ") && why.contains(" did not answer ") {
            Some(format!("the gateway of interface {name} answers now"))
        } else {
            None
        }
    });
    news.unwrap_or_else(|| format!("no longer a problem: {what}"))
}

/// Logs a report, a line each.
pub(super) fn log_lines(report: &impl Display) {
    report.to_string().lines().for_each(|line| tracing::info!("{line}"));
}

/// Logs what a plan changed in one line, however much it is; each change at debug level.
pub(super) fn log_plan(plan: &Plan) {
    if plan.is_empty() {
        return;
    }
    tracing::info!("{}", plan.summary());
    log_details(plan);
}

/// Logs each change at debug level.
pub(super) fn log_details(plan: &Plan) {
    if !plan.is_empty() && tracing::enabled!(tracing::Level::DEBUG) {
        plan.to_string().lines().for_each(|line| tracing::debug!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::NetlinkError;
    use std::time::Duration;

    #[test]
    fn a_warning_that_is_gone_is_good_news() {
        let interface = || "eth0".to_owned();
        let down = NetlinkError::InterfaceDown { interface: interface() }.to_string();
        let missing = NetlinkError::NoSuchInterface { name: interface() }.to_string();
        let no_carrier = NetlinkError::NoCarrier { interface: interface() }.to_string();
        let silent = NetlinkError::GatewayNotResolved {
            interface: interface(),
            address: [192, 0, 2, 1].into(),
            timeout: Duration::from_secs(3),
        };
        for (warning, news) in [
            (down.clone(), "interface eth0 is up again"),
            (format!("interface eth0: not served: {down}"), "interface eth0 is up again"),
            (format!("interface eth0: not served: {missing}"), "interface eth0 is there now"),
            (no_carrier, "interface eth0 has a carrier now"),
            (silent.to_string(), "the gateway of interface eth0 answers now"),
            ("it rains; wait".to_owned(), "no longer a problem: it rains"),
        ] {
            assert_eq!(good_news(&warning), news, "{warning}");
        }
    }
}
