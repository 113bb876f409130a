//! How a filter's program goes on.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use l4lb::capture::filter::Exits;
use l4lb::capture::filter::Filter;
use l4lb::capture::filter::FilterScope;
use l4lb::capture::filter::hand_on;
use l4lb::capture::filter::tail_call;
use l4lb::capture::filter::verdict;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_sys::bpf_map_create_opts;

use super::judges;
use crate::common::Host;
use crate::common::UPLINK;
use crate::packets::frame::eth;

const PASS: u32 = libbpf_sys::XDP_PASS;
/// Where chains end: `L4LB_CHAIN_END`.
const END: u32 = 16;

fn map(kind: MapType, entries: u32) -> MapHandle {
    let opts =
        bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as _, ..Default::default() };
    MapHandle::create(kind, Some("test"), 4, 4, entries, &opts).expect("make a map")
}

fn set(map: &MapHandle, key: u32, value: u32) {
    let (key, value) = (key.to_ne_bytes(), value.to_ne_bytes());
    map.update(&key, &value, MapFlags::ANY).expect("write to a map");
}

fn set_program(map: &MapHandle, slot: u32, program: &OwnedFd) {
    set(map, slot, program.as_raw_fd().cast_unsigned());
}

fn filter(expression: &str, exits: &Exits) -> OwnedFd {
    let filter = Filter::compile(expression, FilterScope::Frame, None).expect("it compiles");
    filter.load("filter", exits).expect("it loads")
}

/// A program that says the same of every frame.
fn constant(value: u32) -> OwnedFd {
    filter("", &Exits { on_match: verdict(value), otherwise: vec![] })
}

#[test]
fn a_match_goes_to_the_capture_and_all_else_on_in_the_chain() {
    let captures = map(MapType::ProgArray, 4);
    let chain = map(MapType::ProgArray, END);
    let next = map(MapType::Array, END + 1);
    let program = filter(
        "udp",
        &Exits {
            on_match: tail_call(captures.as_fd(), 3),
            otherwise: hand_on(chain.as_fd(), next.as_fd(), 4),
        },
    );
    let frame = eth().ip4("192.0.2.1", "198.51.100.7");
    let (udp, tcp) = (frame.clone().udp(1, 2).bytes(), frame.tcp(1, 2).bytes());
    let verdicts = || [&udp, &tcp].map(|frame| judges::run(&program, frame).expect("it runs"));

    set(&next, 5, END);
    assert_eq!(verdicts(), [PASS; 2], "nothing is behind the slot, nothing captures");
    let capture = constant(103);
    set_program(&captures, 3, &capture);
    assert_eq!(verdicts(), [103, PASS]);

    let (ninth, twelfth) = (constant(109), constant(112));
    set_program(&chain, 9, &ninth);
    set_program(&chain, 12, &twelfth);
    set(&next, 5, 9);
    assert_eq!(verdicts(), [103, 109]);
    captures.delete(&3_u32.to_ne_bytes()).expect("empty the slot");
    assert_eq!(verdicts(), [109; 2], "a match without a capture goes on in the chain");

    // Slots that are emptied after the chain was read are skipped, and only those behind are run.
    set_program(&chain, 3, &constant(103));
    chain.delete(&9_u32.to_ne_bytes()).expect("empty the slot");
    assert_eq!(verdicts(), [112; 2]);
    chain.delete(&12_u32.to_ne_bytes()).expect("empty the slot");
    assert_eq!(verdicts(), [PASS; 2]);
    set(&next, 5, 1000);
    assert_eq!(verdicts(), [PASS; 2]);
}

/// Programs that libbpf loaded share a chain with it.
#[test]
fn in_front_of_another_program() {
    let host = Host::new();
    let lbctl = host.lbctl();
    lbctl.ok(&["decap", "attach", UPLINK]);
    let pins = host.bpffs.path().join("l4lb/default");
    let open = |name: &str| MapHandle::from_pinned_path(pins.join(name)).expect("open a pin");
    let (chain, next) = (open("map/chain"), open("map/chain_next"));

    let count = || {
        let status = crate::common::json(&lbctl.ok(&["decap", "status", "--json"]));
        status["results"]["not_encapsulated"]["packets"].as_u64().expect("a number")
    };
    let exits =
        Exits { on_match: verdict(MATCH), otherwise: hand_on(chain.as_fd(), next.as_fd(), 4) };
    let program = filter("host 192.0.2.1", &exits);
    set_program(&chain, 4, &program);
    set(&next, 0, 4);
    let root = judges::pinned(&pins.join("prog/root")).expect("open a pin");

    let verdict_on = |source: Ipv4Addr| {
        let frame = eth().ip4(&source.to_string(), "198.51.100.7").udp(1, 2).bytes();
        judges::run(&root, &frame).expect("it runs")
    };
    let before = count();
    assert_eq!(verdict_on(Ipv4Addr::new(192, 0, 2, 1)), MATCH);
    assert_eq!(count(), before, "a match ends here");
    assert_eq!(verdict_on(Ipv4Addr::new(192, 0, 2, 2)), PASS);
    assert_eq!(count(), before + 1, "decapsulation saw it");
}

const MATCH: u32 = 101;
