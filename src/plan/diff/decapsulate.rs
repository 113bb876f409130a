//! The addresses at which tunnels end: what changes, and the writes.
//!
//! Sources are added before the address that is to check them, and removed after it, so that packets of those who
//! may send before and afterwards pass at any time.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Differ;
use crate::model::tunnel_end::TunnelEnd;
use crate::model::tunnel_end::TunnelSource;
use crate::model::tunnel_end::sources;
use crate::plan::writes::Write;

/// The part of an address of `[[decapsulate]]` in a plan: `None` stands for "not decapsulated".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecapsulateChange {
    /// The address.
    pub address: IpAddr,
    /// What happens before.
    pub from: Option<TunnelEnd>,
    /// What happens afterwards.
    pub to: Option<TunnelEnd>,
}

impl Differ<'_> {
    pub(super) fn set_decapsulate(&mut self) {
        let (running, wanted) = (&self.running.decapsulate, &self.wanted.decapsulate);
        let addresses: BTreeSet<_> = running.keys().chain(wanted.keys()).copied().collect();
        let changes = addresses.into_iter().map(|address| DecapsulateChange {
            address,
            from: running.get(&address).cloned(),
            to: wanted.get(&address).cloned(),
        });
        let changes: Vec<_> = changes.filter(|change| change.from != change.to).collect();
        let stray = self.running.stray_sources.iter().copied();
        let before: BTreeSet<TunnelSource> = sources(running).chain(stray).collect();
        let after: BTreeSet<TunnelSource> = sources(wanted).collect();

        let set = changes.iter().filter_map(|change| Some((change.address, change.to.clone()?)));
        let gone = changes.iter().filter(|change| change.to.is_none());
        let writes = [
            Write::TunnelSources(after.difference(&before).copied().collect()),
            Write::TunnelEnds(set.collect()),
            Write::RemoveTunnelEnds(gone.map(|change| change.address).collect()),
            Write::RemoveTunnelSources(before.difference(&after).copied().collect()),
        ];
        for write in writes {
            self.write(write);
        }
        self.diff.decapsulate = changes;
    }
}

#[cfg(test)]
mod tests {
    use crate::model::config::Config;
    use crate::model::vip_table::Table;
    use crate::plan::diff::Running;
    use crate::plan::diff::diff;

    fn table(text: &str) -> Table {
        Table::from(&Config::from_toml(text).expect("a configuration"))
    }

    fn entry(address: &str, rest: &str) -> String {
        format!("[[decapsulate]]\naddress = \"{address}\"\n{rest}\n")
    }

    fn running(text: &str) -> Running {
        Running { decapsulate: table(text).decapsulate, next_serial: 1, ..Running::default() }
    }

    fn names(running: &Running, text: &str) -> Vec<String> {
        let writes = diff(running, &table(text)).writes;
        writes.iter().map(|write| format!("{write:?}")).collect()
    }

    #[test]
    fn sources_come_before_what_checks_them_and_go_after_it() {
        let open = entry("10.8.0.1", "");
        let checked = entry("10.8.0.1", "from = [\"10.9.0.0/16\"]");
        let other = entry("10.8.0.1", "from = [\"10.7.0.0/16\"]");
        let steps = |from: &str, to: &str| {
            let writes = names(&running(from), to);
            writes
                .iter()
                .map(|write| write.split('(').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(steps("", &checked), ["TunnelSources", "TunnelEnds"]);
        assert_eq!(steps(&open, &checked), ["TunnelSources", "TunnelEnds"]);
        assert_eq!(steps(&checked, &open), ["TunnelEnds", "RemoveTunnelSources"]);
        assert_eq!(steps(&checked, ""), ["RemoveTunnelEnds", "RemoveTunnelSources"]);
        assert_eq!(steps(&checked, &other), ["TunnelSources", "TunnelEnds", "RemoveTunnelSources"]);
        assert_eq!(steps(&checked, &checked), Vec::<String>::new());
    }

    #[test]
    fn what_an_interrupted_command_left_is_removed() {
        let mut left = running(&entry("10.8.0.1", ""));
        let stray = ("10.8.0.1".parse().unwrap(), "10.9.0.0/16".parse().unwrap());
        left.stray_sources.insert(stray);
        let writes = names(&left, &entry("10.8.0.1", ""));
        assert_eq!(writes.len(), 1, "{writes:?}");
        assert!(writes[0].starts_with("RemoveTunnelSources"), "{writes:?}");
        // It is in use again.
        let writes = names(&left, &entry("10.8.0.1", "from = [\"10.9.0.0/16\"]"));
        assert_eq!(writes.len(), 1, "{writes:?}");
        assert!(writes[0].starts_with("TunnelEnds"), "{writes:?}");
    }
}
