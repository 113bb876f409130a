//! What the connection tables remember of packets, and what they do not.

use std::net::IpAddr;
use std::net::SocketAddr;

use l4lb::Vip;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;

use super::KINDS;
use super::TCP4;
use super::TCP6;
use super::UDP4;
use super::apply;
use super::expiry::now;
use super::expiry::see_at;
use super::expiry::table;
use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::frame::eth;
use crate::fixtures::inject::frame;
use crate::fixtures::json;
use crate::fixtures::vip;

const UDP6: &str = "udp://[fc00:1::1]:53";
const OLD: &str = "10.0.0.1";
const NEW: &str = "10.0.0.2";

fn real(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A client of the VIP's family.
fn client(of: &Vip, number: u16, port: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    let address: IpAddr = match of.address {
        IpAddr::V4(_) => [198, 18, high, low].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, number].into(),
    };
    SocketAddr::new(address, port)
}

/// All that a table holds.
fn content(table: &MapHandle) -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |key: &[u8]| table.lookup(key, MapFlags::ANY).expect("read").expect("a value");
    let mut content: Vec<_> = table.keys().map(|key| (value(&key), key)).collect();
    content.sort();
    content
}

fn pin_and_entry(kind: &str, of: &Vip) -> (&'static str, Option<usize>) {
    match (kind, of.address) {
        ("lru", _) => ("connections", None),
        (_, IpAddr::V4(_)) => ("flows4", Some(16)),
        (_, IpAddr::V6(_)) => ("flows6", Some(32)),
    }
}

/// The id of a real that left has another owner, which may keep flows: those of the first are not among them.
#[test]
fn the_next_owner_of_an_id_gets_no_flows() {
    const CLIENTS: u16 = 20;
    const GENERATION: std::ops::Range<usize> = 20..24;
    for kind in KINDS {
        for (uri, [first, other, next]) in [
            (TCP4, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
            (TCP6, ["fc00::1", "fc00::2", "fc00::3"]),
        ] {
            let host = Host::new();
            let of: Vip = uri.parse().expect("a VIP");
            let with = |reals: &[&str]| apply(&host, kind, "[0]", &vip(uri, reals));
            with(&[first]);
            let frames: Vec<_> =
                (1..=CLIENTS).map(|n| frame(&of, client(&of, n, 5), of.port)).collect();
            let injector = Injector::new(&host);
            let all_go_to = |to: &str| {
                let sent: Vec<_> = injector.on(0, |send| frames.iter().map(|f| send(f)).collect());
                assert!(sent.iter().all(|sent| *sent == Some(real(to))), "{kind} {uri}: {sent:?}");
            };
            all_go_to(first);

            let reals =
                MapHandle::from_pinned_path(host.bpffs.path().join("l4lb/default/map/reals"));
            let reals = reals.expect("the pin");
            let read = |id: u32| {
                let value = reals.lookup(&id.to_ne_bytes(), MapFlags::ANY).expect("read it");
                value.expect("an array has values")
            };
            let id_of = |address: &str| {
                let address = match real(address) {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                (1..reals.max_entries()).find(|id| read(*id)[..16] == address).expect("its id")
            };
            let id = id_of(first);
            with(&[other]);
            // Ids that had fewer owners come first: as if all others had had many.
            for id in 1..reals.max_entries() {
                let mut value = read(id);
                if value[GENERATION] == [0; 4] {
                    value[GENERATION].copy_from_slice(&200_u32.to_ne_bytes());
                    reals.update(&id.to_ne_bytes(), &value, MapFlags::ANY).expect("write it");
                }
            }
            with(&[other, &format!("{next}, state = \"drain\"")]);
            assert_eq!(id_of(next), id, "{kind} {uri}: the id has another owner");
            all_go_to(other);
        }
    }
}

/// An ICMP error follows its flow and is none of its packets: a UDP flow does not live longer for it. Nor is anything
/// remembered of one about a flow that is unknown.
#[test]
fn an_icmp_error_leaves_the_tables_alone() {
    const AGO: u64 = 10_000_000_000;
    for kind in KINDS {
        for uri in [UDP4, UDP6] {
            let host = Host::new();
            apply(&host, kind, "[0]", &vip(uri, &[OLD]));
            let of: Vip = uri.parse().expect("a VIP");
            let injector = Injector::new(&host);
            let (pin, entry) = pin_and_entry(kind, &of);
            let table = table(&host, pin);
            let error_about = |client: SocketAddr| {
                let quoted = eth().ip(of.address, client.ip()).udp(of.port, client.port());
                let error = eth().ip(client.ip(), of.address);
                let (kind, code) = if of.address.is_ipv4() { (3, 1) } else { (1, 4) };
                error.icmp(kind, code, [0; 4]).carrying(&quoted).bytes()
            };
            let (known, unknown) = (client(&of, 1, 5), client(&of, 2, 6));
            assert_eq!(injector.send(0, &frame(&of, known, of.port)), Some(real(OLD)));
            see_at(&table, now().saturating_sub(AGO), entry);
            let before = content(&table);
            for about in [known, unknown] {
                assert_eq!(injector.send(0, &error_about(about)), Some(real(OLD)), "{kind} {uri}");
                assert!(content(&table) == before, "{kind} {uri}: an error about {about}");
            }
            assert_eq!(injector.send(0, &frame(&of, known, of.port)), Some(real(OLD)));
            assert!(content(&table) != before, "{kind} {uri}: a packet of the flow");
        }
    }
}

/// A flow of which a second packet came is not pushed out by any number of flows that have but one: a new one begins
/// in the middle of a full set.
#[test]
fn a_flood_pushes_out_no_flow_in_use() {
    for (uri, size) in [(TCP4, 16), (TCP6, 32)] {
        let host = Host::new();
        let of: Vip = uri.parse().expect("a VIP");
        let small = |reals: &[&str]| {
            let config = Host::config(&format!("cpus = [0]\n{}", vip(uri, reals)));
            host.lbctl().apply(&config.replace("entries = 20000", "entries = 64"));
        };
        small(&[OLD]);
        let injector = Injector::new(&host);
        // However they fall into sets: a set has room for two in its first half.
        let in_use = [1, 2].map(|number| frame(&of, client(&of, number, 5), of.port));
        let late = client(&of, 3, 5);
        injector.on(0, |send| {
            for frame in in_use.iter().chain(&in_use) {
                assert_eq!(send(frame), Some(real(OLD)), "{uri}");
            }
            for number in 1000..5000 {
                send(&frame(&of, client(&of, number, number), of.port)).expect("sent");
            }
            send(&frame(&of, late, of.port)).expect("sent");
        });
        let (pin, _) = pin_and_entry("set-associative", &of);
        let address = match late.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let sets = content(&table(&host, pin));
        let place = |set: &[u8]| set.chunks(size).position(|entry| entry.starts_with(&address));
        let places: Vec<_> = sets.iter().filter_map(|(set, _)| place(set)).collect();
        assert_eq!(places, [2], "{uri}: a flow that is new in a full set of four");

        // New ones go elsewhere from now on.
        small(&[&format!("{OLD}, state = \"drain\""), NEW]);
        injector.on(0, |send| {
            assert_eq!(send(&frame(&of, client(&of, 4, 5), of.port)), Some(real(NEW)), "{uri}");
            assert!(in_use.iter().all(|frame| send(frame) == Some(real(OLD))), "{uri}: pushed out");
        });
    }
}

/// Also while too many flows begin, the packets of a connection go where its SYN went, though the table knows another
/// of the same client and port.
#[test]
fn a_syn_in_a_flood_corrects_what_is_known() {
    for kind in KINDS {
        let host = Host::new();
        let with = |most: u32, reals: &[&str]| {
            let keys = format!("new_connections_per_second = {most}\n{}", vip(TCP4, reals));
            apply(&host, kind, "[0]", &keys);
        };
        let of: Vip = TCP4.parse().expect("a VIP");
        let plain = |number: u16| {
            let client = client(&of, number, 5);
            eth().ip(client.ip(), of.address).tcp(client.port(), of.port)
        };
        let flooded = || {
            let stats = json(&host.lbctl().ok(&["stats", "--json"]));
            stats["table"]["flood"].as_u64().expect("a number")
        };
        with(100_000, &[OLD]);
        let injector = Injector::new(&host);
        let tries = 1..=20;
        injector.on(0, |send| {
            for number in tries.clone() {
                assert_eq!(send(&plain(number).syn().bytes()), Some(real(OLD)), "{kind}");
            }
        });
        with(1, &[&format!("{OLD}, state = \"drain\""), NEW]);
        // Only if all of it was within a second.
        let was_one = tries.into_iter().any(|number| {
            let before = flooded();
            let (syn, ack) = (plain(number).syn().bytes(), plain(number).ack().bytes());
            injector.on(0, |send| {
                send(&plain(1000 + number).syn().bytes()).expect("sent");
                assert_eq!(send(&syn), Some(real(NEW)), "{kind}: by the ring");
                assert_eq!(send(&ack), Some(real(NEW)), "{kind}: as its SYN");
            });
            flooded() != before
        });
        assert!(was_one, "{kind}: no flood");
    }
}
