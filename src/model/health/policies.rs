//! What an instance keeps about checks: the checks that VIPs name, and what each VIP says about the health of its
//! reals.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

use crate::model::address::Vip;
use crate::model::config::CheckConfig;
use crate::model::config::HealthConfig;
use crate::model::config::HealthPolicy;
use crate::model::config::Via;
use crate::model::vip_table::Table;

/// See [the module](self). JSON holds it, so that a later build reads what this one wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policies {
    #[serde(default)]
    pub(crate) health: HealthConfig,
    #[serde(default)]
    pub(crate) checks: BTreeMap<String, CheckConfig>,
    /// VIPs with the default policy are left out.
    #[serde(default)]
    vips: BTreeMap<Vip, HealthPolicy>,
}

impl From<&Table> for Policies {
    fn from(table: &Table) -> Self {
        let said = table.vips.iter().filter(|(_, spec)| spec.health != HealthPolicy::default());
        Self {
            health: table.health.clone(),
            checks: table.checks.clone(),
            vips: said.map(|(vip, spec)| (*vip, spec.health.clone())).collect(),
        }
    }
}

impl Policies {
    /// What a VIP says.
    pub(crate) fn of(&self, vip: &Vip) -> HealthPolicy {
        self.vips.get(vip).cloned().unwrap_or_default()
    }

    /// The addresses of VIPs that are checked through the tunnel.
    pub(crate) fn tunnel_addresses(&self) -> BTreeSet<IpAddr> {
        let checked = self.vips.iter().filter(|(_, policy)| {
            policy.check_of(&self.checks).is_some_and(|check| check.via() == Via::Tunnel)
        });
        checked.map(|(vip, _)| vip.address).collect()
    }

    /// Whether there is nothing to keep.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As JSON.
    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// The reverse of [`Self::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;

    #[test]
    fn what_is_kept_is_what_was_said() {
        let config = Config::from_toml(
            r#"
            [health]
            concurrency = 7
            [checks.web]
            type = "http"
            interval = "500ms"
            status = ["200-299", 401]
            headers = { "X-Check" = "1" }
            [[vips]]
            address = "10.200.1.1"
            port = 80
            protocol = "tcp"
            check = "web"
            min_healthy = "50%"
            slow_start = "1m 30s"
            [[vips]]
            address = "10.200.1.1"
            port = 81
            protocol = "tcp"
            check = { type = "tcp", fall = 1 }
            [[vips]]
            address = "10.200.1.1"
            port = 82
            protocol = "tcp"
            "#,
        )
        .expect("a configuration");
        let table = Table::from(&config);
        let policies = Policies::from(&table);
        let read = Policies::from_bytes(&policies.to_bytes().expect("JSON")).expect("policies");
        assert_eq!(read, policies);
        for (vip, spec) in &table.vips {
            assert_eq!(read.of(vip), spec.health, "{vip}");
        }
        let mut saved = Config::default();
        table.write_to(&mut saved);
        let again = Config::from_toml(&saved.to_toml().expect("TOML")).expect("a configuration");
        assert_eq!(Table::from(&again), table);
        assert!(Policies::from(&Table::default()).is_empty());
        assert_eq!(read.tunnel_addresses(), [IpAddr::from([10, 200, 1, 1])].into());
        let none = Policies { checks: BTreeMap::new(), vips: BTreeMap::new(), ..read };
        assert_eq!(none.tunnel_addresses(), [].into());
    }
}
