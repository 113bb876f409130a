//! Changes of VIPs and reals, as commands and the control API make them. Pure.

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::LazyLock;

use crate::model::address::Vip;
use crate::model::config::Config;
use crate::model::config::RealConfig;
use crate::model::config::VipConfig;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;

impl From<&VipConfig> for VipSpec {
    fn from(vip: &VipConfig) -> Self {
        let config = Config { vips: vec![vip.clone()], ..Config::default() };
        let spec = Table::from(&config).vips.remove(&vip.vip()).unwrap_or_default();
        // The default is that of the table that gets the VIP.
        Self { encapsulation: vip.encapsulation, ..spec }
    }
}

impl Table {
    /// Adds a VIP.
    ///
    /// # Errors
    ///
    /// [`Error::VipExists`].
    pub fn add_vip(&mut self, vip: Vip, spec: VipSpec) -> Result<()> {
        if self.vips.contains_key(&vip) {
            return Err(Error::VipExists(vip));
        }
        self.vips.insert(vip, spec);
        Ok(())
    }

    /// Adds a VIP, or replaces its settings and reals.
    pub fn put_vip(&mut self, config: &VipConfig) {
        self.vips.insert(config.vip(), config.into());
    }

    /// Changes settings of a VIP.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVip`].
    pub fn change_vip(&mut self, vip: Vip, change: impl FnOnce(&mut VipSpec)) -> Result<()> {
        change(self.vip_mut(vip)?);
        Ok(())
    }

    /// Removes a VIP.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVip`].
    pub fn remove_vip(&mut self, vip: Vip) -> Result<()> {
        self.vips.remove(&vip).map(drop).ok_or(Error::NoSuchVip(vip))
    }

    fn vip_mut(&mut self, vip: Vip) -> Result<&mut VipSpec> {
        self.vips.get_mut(&vip).ok_or(Error::NoSuchVip(vip))
    }

    /// Adds a real to a VIP.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVip`], [`Error::RealExists`].
    pub fn add_real(&mut self, vip: Vip, config: &RealConfig) -> Result<()> {
        let real = config.address;
        if self.vip_mut(vip)?.reals.contains_key(&real) {
            return Err(Error::RealExists { vip, real });
        }
        self.put_real(vip, config)
    }

    /// Adds a real to a VIP, or sets the weight, the state and the way of packets of one that it has.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVip`].
    pub fn put_real(&mut self, vip: Vip, config: &RealConfig) -> Result<()> {
        let reals = &mut self.vip_mut(vip)?.reals;
        if let Some(real) = reals.get_mut(&config.address) {
            (real.weight, real.state) = (config.weight, config.state);
            real.delivery = config.delivery();
        } else {
            let added = VipConfig { reals: vec![*config], ..VipConfig::new(vip) };
            reals.extend(VipSpec::from(&added).reals);
        }
        Ok(())
    }

    /// Changes a real of a VIP.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVip`], [`Error::NoSuchReal`].
    pub fn change_real(
        &mut self,
        vip: Vip,
        real: IpAddr,
        change: impl FnOnce(&mut RealSpec),
    ) -> Result<()> {
        let reals = &mut self.vip_mut(vip)?.reals;
        change(reals.get_mut(&real).ok_or(Error::NoSuchReal { vip, real })?);
        Ok(())
    }

    /// Removes a real from a VIP.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVip`], [`Error::NoSuchReal`].
    pub fn remove_real(&mut self, vip: Vip, real: IpAddr) -> Result<()> {
        let reals = &mut self.vip_mut(vip)?.reals;
        reals.remove(&real).map(drop).ok_or(Error::NoSuchReal { vip, real })
    }

    /// A digest of everything in the table that can be changed: equal tables have equal versions, as long as this process
    /// runs. What checks find out about reals is not part of it.
    ///
    /// The secrets of checks are part of it, and those see it who may not see them. So it has a random key, without
    /// which nobody can compute or guess them from it.
    pub fn version(&self) -> String {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        let mut config = Config::default();
        // A change may leave out what follows from the rest.
        let mut resolved = self.clone();
        resolved.resolve();
        resolved.write_to(&mut config);
        // It cannot fail: a configuration is valid JSON.
        let text = serde_json::to_vec(&config).unwrap_or_default();
        let [first, second] = KEYS.each_ref().map(|key| key.hash_one(&text));
        format!("{first:016x}{second:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: &str = "tcp://10.200.1.1:80";

    fn table() -> Table {
        let config = Config::from_toml(
            "[[vips]]\naddress = \"10.200.1.1\"\nport = 80\nprotocol = \"tcp\"\nreals = [{ address = \"10.0.0.1\" }]",
        );
        Table::from(&config.unwrap())
    }

    #[test]
    fn changes_and_what_they_refuse() {
        let (mut table, vip, real) = (table(), VIP.parse().unwrap(), [10, 0, 0, 1].into());
        let (other, none) = ([10, 0, 0, 2].into(), "udp://10.200.1.1:80".parse().unwrap());
        assert!(matches!(table.add_vip(vip, VipSpec::default()), Err(Error::VipExists(_))));
        assert!(matches!(table.remove_vip(none), Err(Error::NoSuchVip(_))));
        let again = table.add_real(vip, &RealConfig::new(real));
        assert!(matches!(again, Err(Error::RealExists { .. })));
        assert!(matches!(table.remove_real(vip, other), Err(Error::NoSuchReal { .. })));
        assert!(matches!(table.remove_real(none, real), Err(Error::NoSuchVip(_))));
        table.put_real(vip, &RealConfig::new(other)).unwrap();
        table.change_real(vip, other, |real| real.weight = 7).unwrap();
        assert_eq!(table.vips[&vip].reals[&other].weight, 7);
        table.remove_real(vip, other).unwrap();
        table.remove_vip(vip).unwrap();
        assert!(table.vips.is_empty());
    }

    #[test]
    fn versions_differ_where_tables_differ() {
        let (first, vip) = (table(), VIP.parse().unwrap());
        assert_eq!(first.version(), table().version());
        let mut second = table();
        second.change_real(vip, [10, 0, 0, 1].into(), |real| real.weight = 2).unwrap();
        assert_ne!(first.version(), second.version());
        second.change_real(vip, [10, 0, 0, 1].into(), |real| real.weight = 1).unwrap();
        assert_eq!(first.version(), second.version());
        // Somebody who knows all but a secret could find it out by a digest that everybody can compute.
        let text = serde_json::to_vec(&{
            let mut config = Config::default();
            first.write_to(&mut config);
            config
        });
        let known = murmur3::murmur3_x64_128(&mut std::io::Cursor::new(text.unwrap()), 0).unwrap();
        assert_ne!(first.version(), format!("{known:032x}"));
        second.server_ids.insert(1, [10, 0, 0, 1].into());
        assert_ne!(first.version(), second.version());
    }
}
