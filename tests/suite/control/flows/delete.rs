//! Deletion of flows: a deleted flow takes the ring, all others keep their real, also while packets come.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::Vip;
use l4lb::flows::FlowFilter;

use super::KINDS;
use super::apply;
use super::listed;
use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::Rig;
use crate::fixtures::UdpEcho;
use crate::fixtures::config;
use crate::fixtures::inject::frame;
use crate::fixtures::server;
use crate::fixtures::two_cpus;
use crate::fixtures::udp_ask_from;
use crate::fixtures::vip;

const OLD: &str = "10.0.0.1";
const NEW: &str = "10.0.0.2";

/// A flow's packets reach real1, which takes no new flows; after the deletion real2. Real sockets.
#[test]
fn a_deleted_flow_goes_by_the_ring() {
    const VIP: &str = "udp://10.200.1.1:53";
    for kind in KINDS {
        let rig = Rig::new(2);
        let echoes: Vec<_> = rig
            .topology
            .reals
            .iter()
            .map(|real| UdpEcho::start(&real.ns, &real.name, &[server(VIP)]))
            .collect();
        let with = |reals: &[&str]| config(&format!("kind = \"{kind}\"\n{}", vip(VIP, reals)));
        rig.lbctl().apply(&with(&[OLD]));
        let ask = |port| {
            let answer = udp_ask_from(rig.client(), port, server(VIP), "?").expect("an answer");
            answer.split(':').next().expect("a name").to_owned()
        };
        assert_eq!([ask(4001), ask(4002)], ["real1", "real1"]);
        rig.lbctl().apply(&with(&[&format!("{OLD}, state = \"drain\""), NEW]));
        assert_eq!([ask(4001), ask(4002)], ["real1", "real1"], "{kind}: the table decides");
        let output = rig.lbctl().ok(&["flows", "delete", "--vip", VIP, "--client-port", "4001"]);
        assert_eq!(output.stdout, "1 entry deleted\n");
        assert_eq!([ask(4001), ask(4002)], ["real2", "real1"], "{kind}");
        drop(echoes);
    }
}

/// On either CPU and in both families.
#[test]
fn only_what_was_meant_is_deleted() {
    if !two_cpus() {
        return;
    }
    let uris = ["tcp://10.200.1.1:80", "tcp://[fc00:1::1]:80"];
    let drained = format!("{OLD}, state = \"drain\"");
    for kind in KINDS {
        for cpus in ["[0, 1]", "[0]"] {
            let host = Host::new();
            let with = |reals: &[&str]| uris.map(|uri| vip(uri, reals)).concat();
            apply(&host, kind, cpus, &with(&[OLD]));
            let injector = Injector::new(&host);
            let send = |cpu: u32, uri: &str, number: u16| {
                let of: Vip = uri.parse().expect("a VIP");
                let [high, low] = number.to_be_bytes();
                let address: IpAddr = match of.address {
                    IpAddr::V4(_) => [198, 51, high, low].into(),
                    IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, number].into(),
                };
                let frame = frame(&of, SocketAddr::new(address, 5), of.port);
                injector.send(cpu, &frame).expect("sent").to_string()
            };
            let all = || (0..2).flat_map(|cpu| uris.map(|uri| (cpu, uri)));
            for (cpu, uri) in all() {
                (0..100).for_each(|number| assert_eq!(send(cpu, uri, number), OLD));
            }
            apply(&host, kind, cpus, &with(&[&drained, NEW]));
            let before = listed(&host, &[]);
            for client in ["198.51.0.7", "2001:db8::7"] {
                let output = host.lbctl().ok(&["flows", "delete", "--client", client]);
                assert_eq!(output.stdout, "2 entries deleted\n", "{kind} {cpus}");
            }
            assert_eq!(listed(&host, &[]), before - 4);
            for (cpu, uri) in all() {
                for number in 0..100 {
                    let expected = if number == 7 { NEW } else { OLD };
                    assert_eq!(
                        send(cpu, uri, number),
                        expected,
                        "{kind} {cpus} {cpu} {uri} {number}"
                    );
                }
            }
        }
    }
}

/// Flows of a table so small that they meet in its sets, with a packet each few microseconds on either
/// CPU. Only the new real takes new flows: a flow of the others that gets there was forgotten.
#[test]
fn packets_go_on_during_deletions() {
    const CLIENTS: u16 = 20;
    const VICTIMS: u16 = 8;
    const DELETIONS: usize = 25;
    if !two_cpus() {
        return;
    }
    for (kind, uri) in [
        ("set-associative", "udp://10.200.1.1:53"),
        ("set-associative", "tcp://10.200.1.1:80"),
        ("set-associative", "tcp://[fc00:1::1]:80"),
        ("lru", "tcp://10.200.1.1:80"),
    ] {
        let host = Host::new();
        let with = |reals: &[&str]| {
            let table = "new_connections_per_second = 100000000\n";
            format!("{table}{}", vip(uri, reals))
        };
        let small = |reals: &[&str]| {
            let config =
                Host::config(&format!("kind = \"{kind}\"\ncpus = [0, 1]\n{}", with(reals)));
            // 8 sets for each CPU; the kernel's LRU gives way to new flows long before it is full.
            let entries = if kind == "lru" { "entries = 20000" } else { "entries = 64" };
            host.lbctl().apply(&config.replace("entries = 20000", entries));
        };
        small(&[OLD]);
        let of: Vip = uri.parse().expect("a VIP");
        let address = |number: u16| -> IpAddr {
            let [high, low] = number.to_be_bytes();
            match of.address {
                IpAddr::V4(_) => [198, 51, high, low].into(),
                IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, number].into(),
            }
        };
        let frames: Vec<_> = (0..CLIENTS)
            .map(|number| frame(&of, SocketAddr::new(address(number), 5), of.port))
            .collect();
        let injector = Injector::new(&host);
        for cpu in 0..2 {
            injector.on(cpu, |send| frames.iter().for_each(|frame| assert!(send(frame).is_some())));
        }
        small(&[&format!("{OLD}, state = \"drain\""), NEW]);
        let (old, new): (IpAddr, IpAddr) = (OLD.parse().unwrap(), NEW.parse().unwrap());
        let instance = Instance::new(host.bpffs.path(), "default").expect("an instance");
        let balancer = Balancer::open(&instance).expect("it runs");

        // Flows that found no place are not looked at.
        let mut here: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for flow in balancer.flows(&FlowFilter::default()).expect("flows") {
            let flow = flow.expect("a flow");
            let number = (0..CLIENTS).find(|number| flow.client == Some(address(*number)));
            let number = number.expect("a client of this test");
            here.entry(flow.cpu.expect("a CPU")).or_default().push(number);
        }
        let done = AtomicBool::new(false);
        let (mut deleted, mut moved) = (0, 0);
        thread::scope(|scope| {
            let senders: Vec<_> = here
                .iter()
                .map(|(cpu, numbers)| {
                    let (injector, frames, done) = (&injector, &frames, &done);
                    scope.spawn(move || {
                        injector.on(*cpu, |send| {
                            let mut rng = fastrand::Rng::with_seed(1);
                            let mut moved = 0;
                            while !done.load(Ordering::Relaxed) {
                                // The process that deletes needs the same CPU.
                                if rng.u8(..) == 0 {
                                    thread::yield_now();
                                }
                                let number = numbers[rng.usize(..numbers.len())];
                                let real = send(&frames[usize::from(number)]).expect("a real");
                                if real == new {
                                    assert!(number < VICTIMS, "client {number} was forgotten");
                                    moved += 1;
                                } else {
                                    assert_eq!(real, old);
                                }
                            }
                            moved
                        })
                    })
                })
                .collect();
            let mut rng = fastrand::Rng::with_seed(2);
            for _ in 0..DELETIONS {
                let client = address(rng.u16(..VICTIMS)).into();
                let filter = FlowFilter { client: Some(client), ..FlowFilter::default() };
                deleted += balancer.delete_flows(&filter).expect("deleted");
            }
            done.store(true, Ordering::Relaxed);
            for sender in senders {
                moved += sender.join().expect("no flow but the victims was forgotten");
            }
        });
        assert!(
            deleted > 12 && moved > 12,
            "{kind} {uri}: {deleted} deleted, {moved} packets moved"
        );
    }
}
