use super::*;
use crate::control::flows::AgeOf;
use crate::model::config::Config;
use crate::model::config::TableKind;
use crate::model::connection_tables::Tables;
use crate::model::vip_table::Table;
use crate::plan::diff::Running;
use crate::plan::diff::RunningVip;
use crate::plan::diff::ServerIdChange;

fn table(text: &str) -> Table {
    Table::from(&Config::from_toml(text).expect("a configuration"))
}

/// The running state, as far as it matters here.
fn running(table: &Table) -> Running {
    let vips = table.vips.iter().map(|(vip, spec)| {
        let running = RunningVip {
            id: 0,
            counters: 0,
            serial: 1,
            flags: spec.flags(vip),
            changing: false,
            spec: spec.clone(),
            barred: BTreeSet::new(),
        };
        (*vip, running)
    });
    Running { vips: vips.collect(), ..Running::default() }
}

const VIP: &str = "[[vips]]\naddress = \"10.200.1.1\"\nport = 443\nprotocol = \"udp\"\n\
                   routing = [\"quic-connection-id\"]\nreals = [ { address = \"10.0.0.1\" } ]\n";

/// The VIP itself does not change: only the server id named the real.
#[test]
fn a_real_that_only_an_id_names_goes_with_it() {
    let id = "[[server_ids]]\nid = 7\nreal = \"10.0.0.9\"\n";
    let (before, after) = (table(&format!("{VIP}{id}")), table(VIP));
    let running = running(&before);
    let question =
        Question { running: &running, wanted: &after, knobs: None, dead_interfaces: [].into() };
    let mut plan = Plan::default();
    let gone = ServerIdChange { id: 7, from: Some([10, 0, 0, 9].into()), to: None };
    plan.server_ids.push(gone);
    let mut judge = Judge::new(&question, &plan);
    for (port, real) in [(1, 9), (2, 9), (3, 1), (4, 9)] {
        let flow = Flow {
            vip: before.vips.keys().next().copied(),
            client: Some([192, 0, 2, 1].into()),
            client_port: Some(port),
            port: Some(443),
            real: Some([10, 0, 0, real].into()),
            cpu: Some(0),
            age: Duration::ZERO,
            age_of: AgeOf::LastPacket,
            state: FlowState::Live,
        };
        judge.take(&flow, 1);
    }
    let effects = judge.effects(true);
    assert_eq!(effects.len(), 1, "{effects:?}");
    let three = Flows { flows: 3, precision: Precision::Exact };
    assert_eq!((effects[0].moved, effects[0].established), (Some(three), Some(three)));
    assert!(effects[0].breaks());
}

/// Stale entries are neither established nor copied.
#[test]
fn dead_ones_get_not_lost() {
    let runs = table(VIP);
    let running = running(&runs);
    let question =
        Question { running: &running, wanted: &runs, knobs: None, dead_interfaces: [].into() };
    let of = |kind| Tables { kind, bank: 0, own: [(0, 600)].into() };
    let mut plan = Plan::default();
    plan.steps.running_tables = of(TableKind::SetAssociative);
    for (size, found) in [(600, 0), (100, 452)] {
        plan.steps.tables = Some(Tables { own: [(0, size)].into(), ..of(TableKind::Lru) });
        let mut judge = Judge::new(&question, &plan);
        for (state, flows) in [
            (FlowState::Live, 552),
            (FlowState::VipRemoved, 500),
            (FlowState::RealRemoved, 500),
            (FlowState::Expired, 500),
        ] {
            let flow = Flow {
                vip: runs.vips.keys().next().copied().filter(|_| state != FlowState::VipRemoved),
                client: Some([192, 0, 2, 1].into()),
                client_port: Some(1),
                port: Some(443),
                real: Some([10, 0, 0, 1].into()),
                cpu: Some(0),
                age: Duration::ZERO,
                age_of: AgeOf::LastPacket,
                state,
            };
            judge.take(&flow, flows);
        }
        let effects = judge.effects(true);
        let [effect] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(effect.established.map(|flows| flows.flows), Some(552), "{effect:?}");
        assert!(!effect.breaks(), "there is one real: {effect:?}");
        let lost = effect.what.contains("about 452 find no room");
        assert_eq!(lost, found != 0, "{effect:?}");
    }
}

#[test]
fn expectations_round_to_no_less_than_one() {
    assert_eq!([0.0, 0.2, 1.4, 1.6].map(rounded), [0, 1, 1, 2]);
}
