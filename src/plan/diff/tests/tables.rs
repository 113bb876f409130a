//! Random tables.

use super::ipip;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::Echo;
use crate::model::config::HashMode;
use crate::model::config::HealthPolicy;
use crate::model::config::MinHealthy;
use crate::model::config::NoReal;
use crate::model::config::OnFailure;
use crate::model::config::OtherPorts;
use crate::model::config::RealState;
use crate::model::config::Routing;
use crate::model::health::Health;
use crate::model::health::RealHealth;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use proptest::collection;
use proptest::prelude::*;
use std::net::Ipv4Addr;

use super::real;

fn real_spec() -> impl Strategy<Value = RealSpec> {
    let states = [RealState::Up, RealState::Drain, RealState::Down];
    let healths = [Health::Unknown, Health::Healthy, Health::Unhealthy];
    let share = prop::sample::select(vec![0, 25, 100]);
    let health = (prop::sample::select(healths.to_vec()), share, any::<bool>())
        .prop_map(|(state, share, told)| RealHealth { state, share, told });
    (0..3_u32, prop::sample::select(states.to_vec()), health)
        .prop_map(|(weight, state, health)| RealSpec { health, ..RealSpec::new(weight, state) })
}

fn vip_spec() -> impl Strategy<Value = (bool, VipSpec)> {
    let reals = collection::btree_map((1..6_u8).prop_map(real), real_spec(), 0..4);
    let hashes = [HashMode::FiveTuple, HashMode::DestinationPort];
    let hash = (prop::sample::select(hashes.to_vec()), any::<bool>());
    let other_ports = [None, Some(OtherPorts::Pass), Some(OtherPorts::Reject)];
    let other_ports = prop::sample::select(other_ports.to_vec());
    let echo = prop::sample::select(vec![None, Some(Echo::WhenUsable), Some(Echo::Never)]);
    let no_real = prop::sample::select(vec![NoReal::Drop, NoReal::Reject]);
    let least = [MinHealthy::Reals(1), MinHealthy::Reals(2), MinHealthy::Percent(50)];
    let health = (any::<bool>(), any::<bool>(), prop::sample::select(least.to_vec())).prop_map(
        |(keep, fail_open, min_healthy)| HealthPolicy {
            on_failure: if keep { OnFailure::Keep } else { OnFailure::Move },
            fail_open,
            min_healthy,
            ..HealthPolicy::default()
        },
    );
    let answers = (other_ports, no_real, echo);
    (any::<bool>(), any::<bool>(), hash, answers, health, reals).prop_map(
        |(udp, quic, (hash, stateless), (other_ports, no_real, echo), health, reals)| {
            let routing = (udp && quic).then_some(Routing::QuicConnectionId).into_iter().collect();
            let spec = VipSpec {
                hash,
                stateless,
                routing,
                other_ports,
                no_real,
                echo,
                health,
                reals,
                ..ipip()
            };
            (udp, spec)
        },
    )
}

prop_compose! {
    pub(super) fn table()(
        vips in collection::vec((1..3_u8, 0..3_u16, vip_spec()), 0..5),
        server_ids in collection::btree_map(1..4_u32, (1..8_u8).prop_map(real), 0..3),
    ) -> Table {
        let vips = vips.into_iter().map(|(address, port, (udp, spec))| {
            let address = Ipv4Addr::new(10, 200, 1, address).into();
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            (Vip { address, port, protocol }, spec)
        });
        Table { vips: vips.collect(), server_ids, ..Table::default() }
    }
}
