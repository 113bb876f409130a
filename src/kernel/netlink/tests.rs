//! What can be checked without a network; the rest is in the suite.

use std::error::Error;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::num::NonZeroI32;
use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::NeighbourAttribute;
use netlink_packet_route::neighbour::NeighbourFlags;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteAddress;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteHeader;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteNextHop;
use netlink_packet_route::route::RouteNextHopFlags;
use netlink_packet_route::route::RoutePreference;
use netlink_packet_route::route::RouteType;
use netlink_packet_route::route::RouteVia;
use nix::errno::Errno;
use rtnetlink::packet_core::ErrorMessage;
use tokio::runtime;
use tokio::time::timeout;

use super::changes::SEEN_NEIGHBOURS;
use super::changes::Seen;
use super::client::Netlink;
use super::gateway::Gateway;
use super::gateway::ResolvedGateway;
use super::gateway::resolve_blocking;
use super::link::ALTERNATIVE_NAME_MAX;
use super::link::NAME_MAX;
use super::link::link_blocking;
use super::message::Nexthop;
use super::message::NexthopMessage;
use super::neighbour::Neighbour;
use super::neighbour::use_flags;

use super::on_link::Reach;
use super::refused::explain;
use super::route;
use crate::model::address::Mac;
use crate::model::error::NetlinkError;
use crate::model::next_hop::RouteFamily;

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const OTHER_MAC: Mac = Mac::new([2, 0, 0, 0, 0, 2]);

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)
}

/// The addresses of the next hops.
fn default_next_hops(routes: &[RouteMessage], index: u32) -> Vec<IpAddr> {
    let hops = route::default_next_hops(routes, RouteFamily::Ipv4, index);
    hops.into_iter().map(|hop| hop.address).collect()
}

fn default_route(metric: u32, index: u32, hop: impl Into<RouteAddress>) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![
        RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()),
        RouteAttribute::Priority(metric),
        RouteAttribute::Gateway(hop.into()),
        RouteAttribute::Oif(index),
    ];
    route
}

fn hop(index: u32, address: Ipv4Addr, flags: RouteNextHopFlags) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    hop.interface_index = index;
    hop.flags = flags;
    hop.attributes = vec![RouteAttribute::Gateway(address.into())];
    hop
}

#[test]
fn the_lowest_metric_on_the_interface_wins() {
    let routes = [
        default_route(100, ETH0, v4(1)),
        default_route(50, ETH0, v4(2)),
        default_route(10, ETH1, v4(3)),
        default_route(200, ETH0, v4(2)),
    ];
    assert_eq!(default_next_hops(&routes, ETH0), [IpAddr::V4(v4(2)), IpAddr::V4(v4(1))]);
    assert_eq!(default_next_hops(&routes, ETH1), [IpAddr::V4(v4(3))]);
    assert_eq!(default_next_hops(&routes, 9), [] as [IpAddr; 0]);
}

#[test]
fn a_route_without_a_metric_has_the_best() {
    let mut unmetered = default_route(0, ETH0, v4(1));
    unmetered.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Priority(_)));
    let routes = [default_route(1, ETH0, v4(2)), unmetered];
    assert_eq!(default_next_hops(&routes, ETH0), [IpAddr::V4(v4(1)), IpAddr::V4(v4(2))]);
}

#[test]
fn router_preference_decides_between_equal_metrics_only() {
    let with = |preference, mut route: RouteMessage| {
        route.attributes.push(RouteAttribute::Preference(preference));
        route
    };
    let routes = [
        with(RoutePreference::Low, default_route(1024, ETH0, v6(1))),
        with(RoutePreference::Medium, default_route(1024, ETH0, v6(2))),
        with(RoutePreference::High, default_route(1024, ETH0, v6(3))),
        with(RoutePreference::Low, default_route(512, ETH0, v6(4))),
    ];
    assert_eq!(default_next_hops(&routes, ETH0), [v6(4), v6(3), v6(2), v6(1)].map(IpAddr::V6));
}

#[test]
fn routes_not_every_packet_can_take_are_no_default_routes() {
    let mut to_a_prefix = default_route(0, ETH0, v4(1));
    to_a_prefix.header.destination_prefix_length = 8;
    let mut from_a_prefix = default_route(0, ETH0, v6(1));
    from_a_prefix.header.source_prefix_length = 64;
    let mut for_a_tos = default_route(0, ETH0, v4(1));
    for_a_tos.header.tos = 0x10;
    let mut blackhole = default_route(0, ETH0, v4(1));
    blackhole.header.kind = RouteType::BlackHole;
    let mut dead = default_route(0, ETH0, v4(1));
    dead.header.flags = RouteFlags::Dead;
    let mut other_table = default_route(0, ETH0, v4(1));
    other_table.attributes[0] = RouteAttribute::Table(1000);
    let mut to_the_link = default_route(0, ETH0, v4(1));
    to_the_link.attributes.remove(2);
    for route in [to_a_prefix, from_a_prefix, for_a_tos, blackhole, dead, other_table, to_the_link]
    {
        let hops = default_next_hops(std::slice::from_ref(&route), ETH0);
        assert!(hops.is_empty(), "{route:?}");
    }
}

#[test]
fn multipath_hops_count_on_their_interface_and_alive() {
    let mut route = default_route(0, ETH0, v4(1));
    route.attributes = vec![RouteAttribute::MultiPath(vec![
        hop(ETH1, v4(1), RouteNextHopFlags::empty()),
        hop(ETH0, v4(2), RouteNextHopFlags::Dead),
        hop(ETH0, v4(3), RouteNextHopFlags::Onlink),
        hop(ETH0, v4(4), RouteNextHopFlags::empty()),
    ])];
    assert_eq!(default_next_hops(&[route], ETH0), [IpAddr::V4(v4(3)), IpAddr::V4(v4(4))]);
}

#[test]
fn an_ipv4_route_can_have_an_ipv6_next_hop() {
    let mut route = default_route(0, ETH0, v4(1));
    route.attributes[2] = RouteAttribute::Via(RouteVia::Inet6(v6(1)));
    assert_eq!(default_next_hops(&[route], ETH0), [IpAddr::V6(v6(1))]);
}

#[test]
fn a_neighbour_is_told_from_who_is_behind_a_router() {
    let reach = |route: &RouteMessage| Reach::of(route, ETH0, v4(1).into());
    let mut link = default_route(0, ETH0, v4(1));
    assert_eq!(reach(&link), Reach::Neighbour, "onlink");
    link.attributes.truncate(2);
    assert_eq!(reach(&link), Reach::Neighbour, "a route to the link");
    assert_eq!(reach(&default_route(0, ETH0, v4(2))), Reach::Behind(v4(2).into()));
    let paths = |hops: Vec<RouteNextHop>| {
        let mut route = default_route(0, ETH0, v4(1));
        route.attributes = vec![RouteAttribute::MultiPath(hops)];
        route
    };
    let other = hop(ETH1, v4(1), RouteNextHopFlags::empty());
    let behind = hop(ETH0, v4(2), RouteNextHopFlags::empty());
    let mut direct = behind.clone();
    direct.attributes.clear();
    assert_eq!(reach(&paths(vec![other.clone()])), Reach::Nowhere);
    assert_eq!(reach(&paths(vec![other, behind.clone()])), Reach::Behind(v4(2).into()));
    assert_eq!(reach(&paths(vec![behind, direct])), Reach::Neighbour);
    for (kind, is) in [
        (RouteType::Local, Reach::Own),
        (RouteType::Broadcast, Reach::Broadcast),
        (RouteType::BlackHole, Reach::Nowhere),
    ] {
        let mut route = default_route(0, ETH0, v4(1));
        route.header.kind = kind;
        assert_eq!(reach(&route), is);
    }
}

#[test]
fn a_nexthop_that_is_written_again_is_no_news() {
    let mut seen = Seen::default();
    let nexthop = |id, group| {
        let mut nexthop = Nexthop::default();
        (nexthop.id, nexthop.group) = (id, group);
        nexthop
    };
    let mut news = |nexthop| seen.is_new_nexthop(NexthopMessage::New(nexthop));
    assert!(news(nexthop(1, vec![2])));
    assert!(!news(nexthop(1, vec![2])));
    assert!(news(nexthop(1, vec![3])));
    assert!(news(nexthop(2, vec![3])));
    let gone = || NexthopMessage::Removed(nexthop(1, Vec::new()));
    assert!(seen.is_new_nexthop(gone()));
    assert!(!seen.is_new_nexthop(gone()));
    assert!(seen.is_new_nexthop(NexthopMessage::New(nexthop(1, vec![3]))));
}

fn entry(state: NeighbourState, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = ETH0;
    message.header.state = state;
    message.attributes = vec![NeighbourAttribute::Destination(v4(1).into())];
    if let Some(mac) = mac {
        let bytes = mac.octets().to_vec();
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(bytes));
    }
    message
}

#[test]
fn a_neighbour_is_usable_in_the_states_the_kernel_sends_in() {
    for (state, usable) in [
        (NeighbourState::None, false),
        (NeighbourState::Incomplete, false),
        (NeighbourState::Reachable, true),
        (NeighbourState::Stale, true),
        (NeighbourState::Delay, true),
        (NeighbourState::Probe, true),
        (NeighbourState::Failed, false),
        (NeighbourState::Noarp, true),
        (NeighbourState::Permanent, true),
        (NeighbourState::Other(0x300), false),
    ] {
        let neighbour = Neighbour::from_message(&entry(state, Some(MAC)));
        assert_eq!(neighbour.usable_mac(), usable.then_some(MAC), "{state}");
        let fixed = matches!(state, NeighbourState::Noarp | NeighbourState::Permanent);
        assert_eq!(neighbour.is_fixed(), fixed, "{state}");
        assert_eq!(Neighbour::from_message(&entry(state, None)).usable_mac(), None);
    }
}

#[test]
fn only_a_single_hosts_mac_is_usable() {
    for mac in [[0; 6], [0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]] {
        let noarp = Neighbour::from_message(&entry(NeighbourState::Noarp, Some(mac.into())));
        assert_eq!(noarp.usable_mac(), None);
        let permanent =
            Neighbour::from_message(&entry(NeighbourState::Permanent, Some(mac.into())));
        assert_eq!(permanent.usable_mac(), None);
    }
    let mut infiniband = entry(NeighbourState::Reachable, None);
    infiniband.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2; 20]));
    assert_eq!(Neighbour::from_message(&infiniband).usable_mac(), None);
}

#[test]
fn a_write_keeps_what_a_control_plane_said() {
    let mut message = entry(NeighbourState::Stale, Some(MAC));
    message.header.flags = NeighbourFlags::ExtLearned | NeighbourFlags::Router;
    let flags = use_flags(Some(Neighbour::from_message(&message)));
    assert_eq!(flags, NeighbourFlags::Use | NeighbourFlags::ExtLearned);
    assert_eq!(use_flags(None), NeighbourFlags::Use);
}

#[test]
fn a_neighbour_changes_with_its_usable_mac() {
    let mut seen = Seen::default();
    let mut news = |state, mac| {
        let message = RouteNetlinkMessage::NewNeighbour(entry(state, mac));
        seen.is_news(&message)
    };
    assert!(news(NeighbourState::Stale, Some(MAC)), "the first news");
    assert!(!news(NeighbourState::Probe, Some(MAC)));
    assert!(!news(NeighbourState::Reachable, Some(MAC)));
    assert!(news(NeighbourState::Reachable, Some(OTHER_MAC)));
    assert!(news(NeighbourState::Failed, None));
    assert!(!news(NeighbourState::Incomplete, None));
    assert!(news(NeighbourState::Reachable, Some(OTHER_MAC)));

    let end = RouteNetlinkMessage::DelNeighbour(entry(NeighbourState::Failed, None));
    assert!(seen.is_news(&end), "a usable entry went");
    assert!(!seen.is_news(&end), "it was gone already");
    assert!(Seen::default().is_news(&end), "an unknown entry went");
    let again = RouteNetlinkMessage::NewNeighbour(entry(NeighbourState::Incomplete, None));
    assert!(!seen.is_news(&again), "an entry of no use came");
}

#[test]
fn the_memory_of_neighbours_is_bounded() {
    let mut seen = Seen::default();
    for index in 0..=u32::try_from(SEEN_NEIGHBOURS).expect("it is small") {
        let mut message = entry(NeighbourState::Stale, Some(MAC));
        message.header.ifindex = index;
        assert!(seen.is_news(&RouteNetlinkMessage::NewNeighbour(message)));
    }
    assert_eq!(seen.neighbours.len(), 1);
}

#[test]
fn entries_of_bridges_and_proxies_are_no_neighbours() {
    let mut seen = Seen::default();
    let mut bridge = entry(NeighbourState::Reachable, Some(MAC));
    bridge.header.family = AddressFamily::Bridge;
    bridge.attributes.remove(0);
    let mut proxy = entry(NeighbourState::Permanent, None);
    proxy.header.flags = NeighbourFlags::Proxy;
    for message in [bridge, proxy] {
        assert!(!seen.is_news(&RouteNetlinkMessage::NewNeighbour(message)));
    }
}

#[test]
fn only_default_routes_are_news() {
    let mut seen = Seen::default();
    let route = default_route(0, ETH0, v4(1));
    assert!(seen.is_news(&RouteNetlinkMessage::NewRoute(route.clone())));
    assert!(seen.is_news(&RouteNetlinkMessage::DelRoute(route.clone())));
    let mut prefix = route;
    prefix.header.destination_prefix_length = 24;
    assert!(!seen.is_news(&RouteNetlinkMessage::NewRoute(prefix)));
}

fn kernel_error(errno: Errno, payload: &[u8]) -> rtnetlink::Error {
    let mut message = ErrorMessage::default();
    message.code = NonZeroI32::new(-(errno as i32));
    message.header = payload.to_vec();
    rtnetlink::Error::NetlinkError(message)
}

#[test]
fn the_kernels_own_words_are_told() {
    let mut payload = vec![0; 16];
    // An attribute of another type, then NLMSGERR_ATTR_MSG.
    payload.extend(8u16.to_ne_bytes());
    payload.extend(2u16.to_ne_bytes());
    payload.extend([0; 4]);
    payload.extend(9u16.to_ne_bytes());
    payload.extend(1u16.to_ne_bytes());
    payload.extend(b"why.\0\0\0\0");
    assert_eq!(
        explain(&kernel_error(Errno::EINVAL, &payload)),
        "Invalid argument (os error 22): why"
    );
    for cut in 0..payload.len() - 8 {
        assert_eq!(
            explain(&kernel_error(Errno::EINVAL, &payload[..cut])),
            "Invalid argument (os error 22)"
        );
    }
}

#[test]
fn every_error_is_one_line_that_names_its_object() {
    let interface = || "eth0".to_owned();
    let errors = [
        NetlinkError::NoSuchInterface { name: "eth0\n".to_owned() },
        NetlinkError::InterfaceDown { interface: interface() },
        NetlinkError::NoCarrier { interface: interface() },
        NetlinkError::NotEthernet { interface: interface() },
        NetlinkError::NoDefaultRoute { interface: interface() },
        NetlinkError::NotAGateway {
            interface: interface(),
            gateway: v4(1).to_string(),
            why: "a multicast address",
        },
        NetlinkError::NotOnLink {
            interface: interface(),
            address: v4(1).into(),
            behind: Some(v4(2).into()),
        },
        NetlinkError::NotOnLink { interface: interface(), address: v4(1).into(), behind: None },
        NetlinkError::GatewayNotResolved {
            interface: interface(),
            address: v4(1).into(),
            timeout: Duration::from_secs(3),
        },
        NetlinkError::UnusableNeighbour {
            interface: interface(),
            address: v4(1).into(),
            mac: Mac::default(),
        },
        NetlinkError::Netlink {
            operation: "read interface eth0".to_owned(),
            cause: kernel_error(Errno::EPERM, &[]).into(),
        },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(!text.contains('\n') && text.contains("eth0"), "{text}");
        assert!(error.source().is_none(), "the text says it all: {text}");
    }
}

#[test]
fn fixed_macs_are_checked_without_the_kernel() {
    let found = resolve_blocking("lo", &Gateway::Mac(MAC), Duration::ZERO);
    let (link, resolved) = found.expect("every namespace has lo");
    assert_eq!((link.index, link.name.as_str()), (1, "lo"));
    assert_eq!(resolved, ResolvedGateway { next_hop: None, mac: MAC, passed_over: Vec::new() });
    let refused = resolve_blocking("lo", &Gateway::Mac(Mac::BROADCAST), Duration::ZERO);
    assert!(matches!(refused, Err(NetlinkError::NotAGateway { .. })), "{refused:?}");
}

#[test]
fn addresses_no_router_has_are_refused() {
    for address in ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "255.255.255.255"]
    {
        for text in [address, &format!("::ffff:{address}")] {
            let Ok(address) = text.parse() else { continue };
            let refused = resolve_blocking("lo", &Gateway::Address(address), Duration::ZERO);
            assert!(matches!(refused, Err(NetlinkError::NotAGateway { .. })), "{refused:?}");
        }
    }
}

#[test]
fn names_no_interface_has_are_not_found() {
    let long = "a".repeat(NAME_MAX + 1);
    let longest = "a".repeat(ALTERNATIVE_NAME_MAX);
    let too_long = "a".repeat(ALTERNATIVE_NAME_MAX + 1);
    for name in ["", "lo\0", "no-such-if0", &long, &longest, &too_long] {
        let found = link_blocking(name);
        assert!(
            matches!(&found, Err(NetlinkError::NoSuchInterface { name: n }) if n == name),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn the_blocking_functions_work_inside_a_runtime() {
    assert_eq!(link_blocking("lo").expect("every namespace has lo").index, 1);
}

#[tokio::test]
async fn the_connection_ends_with_its_client() {
    let metrics = runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 0);
    let netlink = Netlink::connect().expect("netlink sockets are for everybody");
    assert_eq!(metrics.num_alive_tasks(), 1);
    let lo = netlink.link_by_index(1).await.expect("every namespace has lo");
    assert_eq!(lo.name, "lo");
    let missing = netlink.link_by_index(0x7fff_ffff).await;
    assert!(matches!(missing, Err(NetlinkError::NoSuchIndex { .. })));
    drop(netlink);
    timeout(Duration::from_secs(5), async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the connection's task ends");
}
