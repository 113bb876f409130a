use super::*;
use crate::model::config::Config;
use crate::model::real_way::RealWay;
use crate::model::vip_table::Table;

const SECOND: u64 = 1_000_000_000;

const CONFIG: &str = "
[[vips]]
address = \"10.200.1.1\"
port = 53
protocol = \"udp\"
reals = [ { address = \"10.0.0.1\" }, { address = \"10.0.0.2\" } ]
[[vips]]
address = \"10.200.1.1\"
port = 80
protocol = \"tcp\"
connection_table = false
reals = [ { address = \"10.0.0.1\" } ]
";

/// The UDP VIP has serial 1 and bars real 2; the other VIP has serial 2; real 3 is gone.
fn view() -> View {
    let table = Table::from(&Config::from_toml(CONFIG).expect("a configuration"));
    let vips = table.vips.iter().map(|(vip, spec)| {
        let udp = vip.protocol == Protocol::Udp;
        let running = crate::plan::diff::RunningVip {
            id: u32::from(udp),
            counters: 0,
            serial: if udp { 1 } else { 2 },
            flags: spec.flags(vip),
            changing: false,
            spec: spec.clone(),
            barred: BTreeSet::from_iter(udp.then_some(2)),
        };
        (*vip, running)
    });
    let real = |id: u8| {
        let address = IpAddr::from([10, 0, 0, id]);
        (
            u32::from(id),
            RunningReal { address, generation: 5, live: id != 3, way: RealWay::default() },
        )
    };
    let running =
        Running { vips: vips.collect(), reals: (1..=3).map(real).collect(), ..Running::default() };
    let knobs = abi::knobs { udp_timeout: 30 * SECOND, udp_timeout_units: 29, ..<_>::default() };
    View::new(running, Some(&knobs))
}

#[test]
fn only_what_packets_use_is_live() {
    let (view, now) = (view(), 100 * SECOND);
    let flow = |vip: u32, real: u32, generation: u32, age: u64, units: Option<u16>| {
        let mut key = abi::flow_key { sport: 5, dport: 6, vip, ..<_>::default() };
        key.src.word = [0, 0, 0xffff_u32.to_be(), 0x0100_0a0a];
        Flow { key, real, generation, last_seen: now - age * SECOND, units }
    };
    assert!(view.is_live(&flow(1, 1, 5, 30, None), now));
    assert!(view.is_live(&flow(1, 1, 5, 31, Some(29)), now), "its units count");
    for (dead, why) in [
        (flow(3, 1, 5, 0, None), "no VIP has the serial"),
        (flow(2, 1, 5, 0, None), "the VIP does without"),
        (flow(1, 1, 4, 0, None), "the real's id had another owner"),
        (flow(1, 3, 5, 0, None), "the real is gone"),
        (flow(1, 4, 5, 0, None), "no real ever had the id"),
        (flow(1, 2, 5, 0, None), "the real is barred"),
        (flow(1, 1, 5, 31, None), "expired"),
        (flow(1, 1, 5, 0, Some(30)), "expired"),
    ] {
        assert!(!view.is_live(&dead, now), "{why}");
    }
}
