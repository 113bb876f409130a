//! Changes of a real, in one VIP or in all that have it. Pure.

use std::net::IpAddr;

use crate::model::address::Vip;
use crate::model::config::Delivery;
use crate::model::config::RealState;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;

/// What an operator does with a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealChange {
    /// It gets no new flows, and established ones stay.
    Drain,
    /// It takes new flows again. A real that is down stays down.
    Undrain,
    /// It gets nothing, and its flows move at once.
    Down,
    /// It takes flows, whether it was drained or down.
    Up,
    /// It gets this weight.
    Weight(u32),
    /// Its packets go to it in this way, in all VIPs that have it.
    Deliver(Delivery),
    /// The VIP has it no longer, and its flows move at once.
    Delete,
}

impl Table {
    /// The VIPs that have a real.
    pub fn vips_of(&self, real: IpAddr) -> impl Iterator<Item = (Vip, &RealSpec)> {
        self.vips.iter().filter_map(move |(vip, spec)| Some((*vip, spec.reals.get(&real)?)))
    }

    /// Does this with a real in one VIP, or with `None` in every VIP that has it. In every VIP, `Drain` and `Undrain`
    /// leave it down where it is down.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVip`], [`Error::NoSuchReal`], [`Error::RealOfNoVip`]; [`Error::RealIsDown`] for an `Undrain` in one
    /// VIP; [`Error::DeliveryElsewhere`] for a `Deliver` in one VIP while another one says otherwise.
    pub fn change_real_in(
        &mut self,
        vip: Option<Vip>,
        real: IpAddr,
        change: RealChange,
    ) -> Result<()> {
        if let Some(vip) = vip {
            return change.of(self, vip, real);
        }
        let drains = matches!(change, RealChange::Drain | RealChange::Undrain);
        let stays = |spec: &RealSpec| drains && spec.state == RealState::Down;
        let mut vips = self.vips_of(real).peekable();
        vips.peek().ok_or(Error::RealOfNoVip(real))?;
        let vips: Vec<_> = vips.filter(|(_, spec)| !stays(spec)).map(|(vip, _)| vip).collect();
        if let RealChange::Deliver(delivery) = change {
            let set = |vip| self.change_real(vip, real, |spec| spec.delivery = delivery);
            return vips.into_iter().try_for_each(set);
        }
        vips.into_iter().try_for_each(|vip| change.of(self, vip, real))
    }
}

impl RealChange {
    fn of(self, table: &mut Table, vip: Vip, real: IpAddr) -> Result<()> {
        let mut down = false;
        let state = match self {
            Self::Delete => return table.remove_real(vip, real),
            Self::Weight(weight) => {
                return table.change_real(vip, real, |spec| spec.weight = weight);
            }
            Self::Deliver(delivery) => {
                let differs = |said| ![Delivery::AsVip, delivery].contains(&said);
                let mut others = table.vips_of(real);
                let other = others.find(|(of, spec)| *of != vip && differs(spec.delivery));
                let other = other.map(|(of, _)| of);
                drop(others);
                if let Some(other) = other {
                    return Err(Error::DeliveryElsewhere { vip, real, other });
                }
                return table.change_real(vip, real, |spec| spec.delivery = delivery);
            }
            Self::Drain => RealState::Drain,
            Self::Down => RealState::Down,
            Self::Undrain | Self::Up => RealState::Up,
        };
        table.change_real(vip, real, |spec| {
            down = self == Self::Undrain && spec.state == RealState::Down;
            if !down {
                spec.state = state;
            }
        })?;
        if down { Err(Error::RealIsDown { vip, real }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vip_table::VipSpec;

    const REAL: &str = "10.0.0.1";

    /// VIPs whose only real is in these states.
    fn table(states: &[RealState]) -> Table {
        let mut table = Table::default();
        for (port, state) in (1..).zip(states) {
            let real = RealSpec::new(1, *state);
            let reals = [(REAL.parse().expect("an address"), real)].into();
            table.vips.insert(vip(port), VipSpec { reals, ..VipSpec::default() });
        }
        table.vips.insert(vip(99), VipSpec::default());
        table
    }

    fn vip(port: u16) -> Vip {
        format!("tcp://10.200.1.1:{port}").parse().expect("a VIP")
    }

    fn changed(change: RealChange) -> Vec<RealState> {
        let mut table = table(&[RealState::Up, RealState::Drain, RealState::Down]);
        table.change_real_in(None, REAL.parse().expect("an address"), change).expect("a change");
        table.vips_of(REAL.parse().expect("an address")).map(|(_, spec)| spec.state).collect()
    }

    #[test]
    fn everywhere_at_once() {
        use RealState::Down;
        use RealState::Drain;
        use RealState::Up;
        assert_eq!(changed(RealChange::Drain), [Drain, Drain, Down]);
        assert_eq!(changed(RealChange::Undrain), [Up, Up, Down]);
        assert_eq!(changed(RealChange::Up), [Up, Up, Up]);
        assert_eq!(changed(RealChange::Down), [Down, Down, Down]);
        assert_eq!(changed(RealChange::Weight(7)), [Up, Drain, Down]);
        assert_eq!(changed(RealChange::Delete), []);
    }

    #[test]
    fn refusals_name_the_way_out() {
        let real = REAL.parse().expect("an address");
        let refused = |vip, real: &str, change| {
            let mut table = table(&[RealState::Down]);
            let real = real.parse().expect("an address");
            table.change_real_in(vip, real, change).expect_err("a refusal").to_string()
        };
        let error = refused(Some(vip(1)), REAL, RealChange::Undrain);
        assert!(error.contains("lbctl real up tcp://10.200.1.1:1 10.0.0.1"), "{error}");
        let error = refused(None, "10.0.0.9", RealChange::Down);
        assert!(error.contains("10.0.0.9") && error.contains("lbctl real list"), "{error}");
        assert!(refused(Some(vip(99)), REAL, RealChange::Up).contains("has no real"));
        assert!(refused(Some(vip(98)), REAL, RealChange::Up).contains("no VIP"));
        // Drained on purpose, one VIP: existing flows come back to a real that was down.
        let mut table = table(&[RealState::Down]);
        table.change_real_in(Some(vip(1)), real, RealChange::Drain).expect("a change");
        assert_eq!(table.vips_of(real).next().map(|(_, spec)| spec.state), Some(RealState::Drain));
    }
}
