//! Flows that are copied from one table to another.

use std::collections::BTreeSet;

use super::*;

const UNIT: u64 = 1 << consts::SEEN_SHIFT;
const SECRET: Secret =
    Secret { keys: [11, 22, 33, 44, 55, 66], factors: [0x9e37_79b9_7f4a_7c15; 3] };

fn flow(number: u32, real: u32, last_seen: u64) -> Flow {
    let key = abi::flow_key {
        src: abi::lb_addr { word: [0, 0, 0xffff_u32.to_be(), number + 1] },
        sport: 5,
        dport: 80,
        vip: 3,
    };
    Flow { key, real, generation: 1, last_seen, units: None }
}

fn read(table: &SetTable, now: u64) -> Vec<Flow> {
    let mut flows = Vec::new();
    table.read_flows(now, &mut flows);
    flows
}

fn has(flows: &[Flow], flow: &Flow) -> bool {
    flows.iter().any(|other| other.id() == flow.id())
}

#[test]
fn each_flow_of_a_quiet_table_is_read_once() {
    let table = SetTable::in_memory(Family::V4, 64);
    (0..180).for_each(|number| table.add(&flow(number, 1, UNIT), &SECRET));
    let flows = read(&table, 2 * UNIT);
    assert!(flows.len() > 128, "more than half full: {}", flows.len());
    assert_eq!(flows.len(), table.used() as usize);
}

#[test]
fn of_several_readings_the_latest_stays() {
    let mut flows = vec![flow(1, 1, 5), flow(2, 1, 7), flow(1, 2, 9), flow(1, 3, 8)];
    newest_first(&mut flows);
    let left: Vec<_> = flows.iter().map(|flow| (flow.real, flow.last_seen)).collect();
    assert_eq!(left, [(2, 9), (1, 7)]);
}

#[test]
fn a_cpus_own_flows_come_first() {
    let own = vec![flow(1, 1, 10), flow(2, 1, 20), flow(3, 1, 30)];
    // Flows that are later than all of its own, and two that both tables have, one of them corrected.
    let leaving = [flow(4, 9, 50), flow(1, 9, 40), flow(3, 9, 25)];
    let (flows, own) = own_first(own, &leaving);
    let order: Vec<_> = flows.iter().map(|flow| (flow.last_seen, flow.real)).collect();
    assert_eq!((order, own), (vec![(30, 1), (20, 1), (40, 9), (50, 9)], 3));
}

/// In a table of kind LRU, the time that is written decides when a UDP flow expires.
#[test]
fn no_packet_becomes_older_by_a_copy() {
    for second in 1..200_u64 {
        let (packet, now) = (50 * UNIT + second * UNIT / 50, 50 * UNIT + second * UNIT / 37);
        let table = SetTable::in_memory(Family::V4, 1);
        table.add(&flow(1, 1, packet), &SECRET);
        let at = |now| abi::flow::from(&read(&table, now)[0]).last_seen;
        assert!((packet..=now).contains(&at(now)), "{packet} {now}: {}", at(now));
        for later in 0..100 {
            assert!(at(now) <= at(now + later * UNIT / 33), "a later reading says no less");
        }
    }
}

/// Times within the same second are equal, whenever they were read.
#[test]
fn times_of_other_readings_are_compared_by_the_second() {
    let now = 1000 * UNIT + UNIT / 2;
    let table = SetTable::in_memory(Family::V4, 1);
    let there: Vec<_> = (0..4).map(|number| flow(number, 1, now - 9 * UNIT)).collect();
    for flow in &there {
        table.add(flow, &SECRET);
    }
    // This flow's time comes from a reading later in its second than `now`.
    let same = flow(7, 1, now - 9 * UNIT + UNIT / 3);
    assert!(!table.insert(&same, &SECRET, now, Room::Taken), "nothing there is older");
    assert!(there.iter().all(|flow| has(&read(&table, now), flow)));
    // This flow leads elsewhere. Its time comes from a reading earlier in its second.
    let elsewhere = Flow { real: 2, ..flow(0, 2, now - 9 * UNIT - UNIT / 3) };
    assert!(table.insert(&elsewhere, &SECRET, now, Room::Taken));
    let real = read(&table, now).into_iter().find(|flow| flow.id() == elsewhere.id());
    assert_eq!(real.expect("it is there").real, 2);
    // A later flow.
    let later = flow(8, 1, now - 8 * UNIT);
    assert!(!table.insert(&later, &SECRET, now, Room::Free), "there is no room");
    assert!(there.iter().all(|flow| has(&read(&table, now), flow)));
    assert!(table.insert(&later, &SECRET, now, Room::Taken));
    assert!(has(&read(&table, now), &later));
}

/// Flows of a CPU that loses its table evict no others, though they were used later.
#[test]
fn leaving_flows_push_out_none() {
    let tables = |sets| SetTables {
        v4: SetTable::in_memory(Family::V4, sets),
        v6: SetTable::in_memory(Family::V6, 1),
    };
    let v6_vips = BTreeSet::new();
    let own: Vec<_> = (0..1200).map(|number| flow(number, 1, UNIT)).collect();
    let leaving: Vec<_> = (5000..15_000).map(|number| flow(number, 2, 90 * UNIT)).collect();
    let kept = tables(500);
    kept.fill(&own, &v6_vips, &SECRET);
    let before = read(&kept.v4, 100 * UNIT);
    assert!(before.len() > 1000);
    kept.insert(&leaving, &v6_vips, &SECRET, Room::Free).expect("put in");
    // Tries tables of another size, and of the same size.
    let made = tables(1000);
    let (flows, _) = own_first(before.clone(), &leaving);
    made.fill(&flows, &v6_vips, &SECRET);
    for table in [kept, made] {
        let after = read(&table.v4, 100 * UNIT);
        assert!(before.iter().all(|flow| has(&after, flow)));
        assert!(after.len() > before.len() + 500, "what is free is used");
    }
}
