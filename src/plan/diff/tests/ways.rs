//! The ways of packets to reals, and where frames go.

use super::*;
use crate::model::address::Mac;
use crate::model::config::Config;
use crate::model::config::Delivery;
use crate::model::real_way::RealFacts;
use crate::plan::diff::diff_with;
use crate::plan::diff::follow_ways;

fn table(vips: &[(&str, &str)]) -> Table {
    let vips = (80..).zip(vips).map(|(port, (way, reals))| {
        format!(
            "[[vips]]\naddress = \"10.200.1.1\"\nport = {port}\nprotocol = \"tcp\"\n{way}\nreals = [{reals}]\n"
        )
    });
    let sources = "[packets]\nencap_source_v4 = \"192.0.2.9\"\nencap_source_v6 = \"2001:db8::9\"\n";
    let text = sources.to_owned() + &vips.collect::<String>();
    Table::from(&Config::from_toml(&text).expect("a configuration"))
}

fn at(ifindex: u32, last: u8) -> Neighbour {
    Neighbour { ifindex, mac: Mac::from([2, 0, 0, 0, 0, last]) }
}

fn facts(own: &[u8], neighbours: &[(u8, Neighbour)]) -> RealFacts {
    RealFacts {
        own: own.iter().map(|last| real(*last)).collect(),
        neighbours: neighbours.iter().map(|(last, at)| (real(*last), *at)).collect(),
    }
}

/// Carries out a change, and returns its writes.
fn go(maps: &mut Maps, wanted: &Table, facts: &RealFacts) -> Vec<Write> {
    let diff = diff_with(&maps.running(), wanted, facts);
    diff.writes.iter().for_each(|write| maps.write(write));
    assert_eq!(maps.running().table().vips, wanted.vips);
    let again = diff_with(&maps.running(), wanted, facts);
    assert!(again.writes.is_empty(), "{:?}", again.writes);
    diff.writes
}

fn way_of(maps: &Maps, address: IpAddr) -> RealWay {
    let found = maps.reals.values().find(|real| real.live && real.address == address);
    found.expect("a live real").way
}

const ONE: &str = "{ address = \"10.0.0.1\" }";
const TWO: &str = "{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\" }";

#[test]
fn a_vip_changes_its_way_by_one_write_of_its_entry() {
    let mut maps = Maps::default();
    let none = RealFacts::default();
    go(&mut maps, &table(&[("", TWO)]), &none);
    let before = maps.clone();
    let writes = go(&mut maps, &table(&[("encapsulation = \"gue\"", TWO)]), &none);
    // The markers of the address follow, for checks to ports that no VIP has.
    let entries = writes.iter().filter_map(|write| match write {
        Write::Vips(entries) => Some(entries),
        _ => None,
    });
    let of_vips = entries.flatten().filter(|(_, vip)| vip.flags & consts::VIP_MARKER == 0);
    assert_eq!(of_vips.count(), 1, "{writes:?}");
    // No ring, no real and no flow changes.
    assert_eq!((&maps.rings, &maps.reals), (&before.rings, &before.reals));
    let entry =
        |maps: &Maps| maps.vips.values().find(|vip| vip.flags & consts::VIP_MARKER == 0).copied();
    let (old, new) = (entry(&before).expect("a VIP"), entry(&maps).expect("a VIP"));
    assert_eq!((old.serial, old.id), (new.serial, new.id));
    assert_eq!(Encapsulation::from_vip_flags(new.flags), Encapsulation::Gue);
    let told = diff_with(&before.running(), &table(&[("encapsulation = \"gue\"", TWO)]), &none);
    assert_eq!(told.vips[0].details[0].to_string(), "encapsulation ipip → gue");
    assert!(told.vips[0].moved.abs() < 1e-9);
}

#[test]
fn what_a_real_says_is_one_for_all_its_vips() {
    let mut maps = Maps::default();
    let none = RealFacts::default();
    let own = "{ address = \"10.0.0.1\", encapsulation = \"gue\" }";
    go(&mut maps, &table(&[("", ONE), ("", ONE)]), &none);
    go(&mut maps, &table(&[("", own), ("", ONE)]), &none);
    assert_eq!(way_of(&maps, real(1)).said, Delivery::By(Encapsulation::Gue));
    for spec in maps.running().table().vips.values() {
        assert_eq!(spec.reals[&real(1)].delivery, Delivery::By(Encapsulation::Gue));
    }
    go(&mut maps, &table(&[("", ONE), ("", ONE)]), &none);
    assert_eq!(way_of(&maps, real(1)), RealWay::default());
}

#[test]
fn addresses_of_the_host_are_local_unless_the_operator_says_otherwise() {
    let mut maps = Maps::default();
    go(&mut maps, &table(&[("encapsulation = \"gue\"", TWO)]), &facts(&[1], &[]));
    assert!(way_of(&maps, real(1)).is_local() && !way_of(&maps, real(2)).is_local());
    // A plan without facts leaves what was found.
    assert!(diff(&maps.running(), &maps.running().table()).writes.is_empty());
    let followed = follow_ways(&maps.running(), &facts(&[2], &[]));
    followed.writes.iter().for_each(|write| maps.write(write));
    assert!(!way_of(&maps, real(1)).is_local() && way_of(&maps, real(2)).is_local());
    let told: Vec<_> = followed.reals.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("10.0.0.1: this host no longer has"), "{told:?}");
    assert!(told[1].contains("10.0.0.2: it has an address of this host"), "{told:?}");
    let said = "{ address = \"10.0.0.1\", encapsulation = \"ipip\" }";
    go(&mut maps, &table(&[("", said)]), &facts(&[1], &[]));
    assert!(!way_of(&maps, real(1)).is_local());
}

#[test]
fn macs_come_before_the_packets_that_need_them_and_go_after() {
    let mut maps = Maps::default();
    let known = facts(&[], &[(1, at(3, 1)), (2, at(3, 2))]);
    go(&mut maps, &table(&[("", TWO)]), &RealFacts::default());
    let l2 = table(&[("encapsulation = \"l2\"", TWO)]);
    let writes = go(&mut maps, &l2, &known);
    let place = |which: fn(&Write) -> bool| writes.iter().position(which).expect("a write");
    let before = place(|write| matches!(write, Write::Neighbours(_)));
    assert!(before < place(|write| matches!(write, Write::Vips(_))), "{writes:?}");
    assert_eq!(maps.neighbours.len(), 2);

    // One falls silent, one has another MAC: the first keeps what is known.
    let followed = follow_ways(&maps.running(), &facts(&[], &[(2, at(4, 9))]));
    followed.writes.iter().for_each(|write| maps.write(write));
    let mut places: Vec<_> = maps.neighbours.values().copied().collect();
    places.sort_by_key(|at| at.ifindex);
    assert_eq!(places, [at(3, 1), at(4, 9)]);
    assert_eq!(followed.reals.len(), 1);

    let writes = go(&mut maps, &table(&[("", TWO)]), &RealFacts::default());
    let after = writes.iter().position(|write| matches!(write, Write::Neighbours(_)));
    let vips = writes.iter().rposition(|write| matches!(write, Write::Vips(_)));
    assert!(after > vips, "{writes:?}");
    assert!(maps.neighbours.is_empty());
}

#[test]
fn a_new_owner_of_an_id_has_not_the_mac_of_the_last_one() {
    let mut maps = Maps::default();
    let way = "encapsulation = \"l2\"";
    go(&mut maps, &table(&[(way, ONE)]), &facts(&[], &[(1, at(3, 1))]));
    let id = *maps.neighbours.keys().next().expect("a neighbour");
    maps.reals.get_mut(&id).expect("the real").live = false;
    maps.reals.get_mut(&id).expect("the real").generation = 2;
    let mut free = maps.clone();
    free.vips.clear();
    free.vip_reals.clear();
    free.rings.clear();
    free.reals.retain(|_, real| !real.live);
    let third = "{ address = \"10.0.0.3\" }";
    // All other ids had more owners.
    for other in (1..consts::REAL_IDS).filter(|other| *other != id) {
        let gone =
            RunningReal { address: real(9), generation: 9, live: false, way: RealWay::default() };
        free.reals.insert(other, gone);
    }
    go(&mut free, &table(&[(way, third)]), &RealFacts::default());
    assert!(free.neighbours.is_empty(), "{:?}", free.neighbours);
}

#[test]
fn reals_of_server_ids_go_as_the_vip_says() {
    let text = "[[vips]]\naddress = \"10.200.1.1\"\nport = 443\nprotocol = \"udp\"\nencapsulation = \"l2\"\n\
                routing = [\"quic-connection-id\"]\n[[server_ids]]\nid = 1\nreal = \"10.0.0.7\"";
    let table = Table::from(&Config::from_toml(text).expect("a configuration"));
    let mut maps = Maps::default();
    go(&mut maps, &table, &facts(&[], &[(7, at(3, 7))]));
    assert_eq!(maps.neighbours.values().copied().collect::<Vec<_>>(), [at(3, 7)]);
}
