//! What runs after a filter's program: the program that it stands in front of.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use l4lb::capture::filter::Exits;
use l4lb::capture::filter::Filter;
use l4lb::capture::filter::FilterScope;
use l4lb::capture::filter::tail_call;
use l4lb::capture::filter::verdict;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_sys::bpf_map_create_opts;

use super::judges;
use crate::fixtures::Host;
use crate::fixtures::UPLINK;
use crate::fixtures::frame::eth;

const PASS: u32 = libbpf_sys::XDP_PASS;
/// Where decapsulation is in the chain.
const DECAP: u32 = 12;

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

/// Of programs: the one that copies.
const COPY: u32 = 3;

#[test]
fn a_match_goes_to_another_program_if_there_is_one() {
    let programs = map(MapType::ProgArray, 4);
    let program = filter(
        "udp",
        &Exits { on_match: tail_call(programs.as_fd(), COPY), otherwise: verdict(PASS) },
    );
    let frame = eth().ip4("192.0.2.1", "198.51.100.7");
    let (udp, tcp) = (frame.clone().udp(1, 2).bytes(), frame.tcp(1, 2).bytes());
    let verdicts = || [&udp, &tcp].map(|frame| judges::run(&program, frame).expect("it runs"));

    assert_eq!(verdicts(), [PASS; 2], "there is no program");
    set_program(&programs, COPY, &constant(103));
    assert_eq!(verdicts(), [103, PASS]);
    programs.delete(&COPY.to_ne_bytes()).expect("empty the place");
    assert_eq!(verdicts(), [PASS; 2], "there is none any more");
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
        let status = crate::fixtures::json(&lbctl.ok(&["decap", "status", "--json"]));
        status["results"]["not_encapsulated"]["packets"].as_u64().expect("a number")
    };
    let before = count();
    let mut otherwise = tail_call(chain.as_fd(), DECAP);
    otherwise.extend(verdict(PASS));
    let exits = Exits { on_match: verdict(MATCH), otherwise };
    let program = filter("host 192.0.2.1", &exits);
    set_program(&chain, 4, &program);
    set(&next, 0, 4);
    let root = judges::pinned(&pins.join("prog/root")).expect("open a pin");

    let verdict_on = |source: Ipv4Addr| {
        let frame = eth().ip4(&source.to_string(), "198.51.100.7").udp(1, 2).bytes();
        judges::run(&root, &frame).expect("it runs")
    };
    assert_eq!(verdict_on(Ipv4Addr::new(192, 0, 2, 1)), MATCH);
    assert_eq!(verdict_on(Ipv4Addr::new(192, 0, 2, 2)), PASS);
    // A program in the chain that is not pinned is one that somebody has to pin again first.
    set(&next, 0, DECAP);
    chain.delete(&4_u32.to_ne_bytes()).expect("empty the slot");
    assert_eq!(count(), before + 1, "a match ends there, decapsulation saw the other");
}

const MATCH: u32 = 101;
