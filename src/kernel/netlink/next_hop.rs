//! Which default router is an interface's gateway: which routers are asked, and when one replaces another. Pure.

use std::net::IpAddr;

use crate::model::next_hop::NextHop;
use crate::model::next_hop::RouteFamily;

/// A next hop of a default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DefaultHop {
    pub(super) address: IpAddr,
    pub(super) route: RouteFamily,
    /// The route's metric; less is better.
    pub(super) metric: u32,
    /// The rank of its router preference among routes of one metric; less is better.
    pub(super) preference: u8,
    /// A router advertisement made the route. Any host on the link can send one.
    pub(super) advertised: bool,
}

impl From<DefaultHop> for NextHop {
    fn from(hop: DefaultHop) -> Self {
        Self { address: hop.address, route: Some(hop.route) }
    }
}

/// Whether another router may replace the gateway in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A command wants the best default router that answers.
    Anew,
    /// No command asked for another gateway. Only a change of the routing table replaces the gateway, not its silence.
    Keep,
}

/// The next hops to be asked, in this order; the first that answers is the gateway.
///
/// [`Choice::Anew`]: IPv4's before IPv6's, each by metric and router preference. Of equal ones, the one in use comes
/// first.
///
/// [`Choice::Keep`], while a default route leads to the one in use: that one. Only next hops of routes of the same IP
/// version with a better metric come before it, because the kernel would prefer them too. An advertisement puts no
/// router before it. When its route is gone, the others of the same IP version follow, or those of the other version
/// if there are none.
pub(super) fn to_ask(
    hops: &[DefaultHop],
    in_use: Option<NextHop>,
    choice: Choice,
) -> Vec<DefaultHop> {
    let mut hops = hops.to_vec();
    let is_in_use = |hop: &DefaultHop| in_use.is_some_and(|used| used.address == hop.address);
    hops.sort_by_key(|hop| (hop.route, hop.metric, hop.preference, !is_in_use(hop)));
    let Some(used) = in_use.filter(|_| choice == Choice::Keep) else { return hops };
    if let Some(here) = hops.iter().copied().find(is_in_use) {
        let is_better = |hop: &DefaultHop| {
            hop.route == here.route && hop.metric < here.metric && !hop.advertised
        };
        hops.retain(|hop| *hop == here || is_better(hop));
    } else if hops.iter().any(|hop| Some(hop.route) == used.route) {
        hops.retain(|hop| Some(hop.route) == used.route);
    } else if used == NextHop::UNKNOWN {
        // The router that does not answer may be the one in use.
        hops.truncate(1);
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::Choice;
    use super::DefaultHop;
    use super::NextHop;
    use super::RouteFamily;
    use super::RouteFamily::Ipv4;
    use super::RouteFamily::Ipv6;
    use super::to_ask;

    fn hop(address: &str, route: RouteFamily, metric: u32) -> DefaultHop {
        let address = address.parse().expect("an address");
        DefaultHop { address, route, metric, preference: 1, advertised: false }
    }

    fn advertised(address: &str, metric: u32, preference: u8) -> DefaultHop {
        DefaultHop { preference, advertised: true, ..hop(address, Ipv6, metric) }
    }

    fn used(address: &str, route: RouteFamily) -> NextHop {
        NextHop { address: address.parse().expect("an address"), route: Some(route) }
    }

    #[track_caller]
    fn asks(
        hops: &[DefaultHop],
        in_use: impl Into<Option<NextHop>>,
        choice: Choice,
        wanted: &[&str],
    ) {
        let in_use = in_use.into();
        let asked = to_ask(hops, in_use, choice);
        let asked: Vec<_> = asked.iter().map(|hop| hop.address.to_string()).collect();
        assert_eq!(asked, wanted, "{in_use:?}, {choice:?}");
    }

    #[test]
    fn the_one_in_use_stays_while_its_route_is_there() {
        let both = [hop("10.0.0.1", Ipv4, 0), advertised("fe80::1", 1024, 1)];
        asks(&both, None, Choice::Keep, &["10.0.0.1", "fe80::1"]);
        asks(&both, None, Choice::Anew, &["10.0.0.1", "fe80::1"]);
        asks(&both, NextHop::UNKNOWN, Choice::Keep, &["10.0.0.1"]);
        asks(&both, NextHop::UNKNOWN, Choice::Anew, &["10.0.0.1", "fe80::1"]);
        asks(&both, used("10.0.0.1", Ipv4), Choice::Keep, &["10.0.0.1"]);
        asks(&both, used("10.0.0.1", Ipv4), Choice::Anew, &["10.0.0.1", "fe80::1"]);
        // An IPv4 route does not replace an IPv6 route in use, either.
        asks(&both, used("fe80::1", Ipv6), Choice::Keep, &["fe80::1"]);
        asks(&both, used("fe80::1", Ipv6), Choice::Anew, &["10.0.0.1", "fe80::1"]);
    }

    #[test]
    fn next_hops_of_one_route_do_not_stand_in_for_each_other() {
        let several =
            [hop("10.0.0.1", Ipv4, 0), hop("10.0.0.2", Ipv4, 0), hop("10.0.0.3", Ipv4, 9)];
        asks(&several, used("10.0.0.2", Ipv4), Choice::Keep, &["10.0.0.2"]);
        // An apply does not replace a gateway by one that is only as good, either.
        let anew = ["10.0.0.2", "10.0.0.1", "10.0.0.3"];
        asks(&several, used("10.0.0.2", Ipv4), Choice::Anew, &anew);
    }

    #[test]
    fn a_better_route_of_the_same_family_is_followed() {
        let routes = [hop("10.0.0.2", Ipv4, 50), hop("10.0.0.1", Ipv4, 100)];
        asks(&routes, used("10.0.0.1", Ipv4), Choice::Keep, &["10.0.0.2", "10.0.0.1"]);
        asks(&routes, used("10.0.0.2", Ipv4), Choice::Keep, &["10.0.0.2"]);
    }

    #[test]
    fn no_advertisement_takes_over() {
        let preferred = advertised("fe80::66", 1024, 0);
        let rogue = [advertised("fe80::1", 1024, 1), preferred, advertised("fe80::67", 1, 1)];
        asks(&rogue, used("fe80::1", Ipv6), Choice::Keep, &["fe80::1"]);
        let by_hand = [advertised("fe80::1", 1024, 1), hop("fe80::2", Ipv6, 512)];
        asks(&by_hand, used("fe80::1", Ipv6), Choice::Keep, &["fe80::2", "fe80::1"]);
    }

    #[test]
    fn when_its_route_is_gone_the_same_family_comes_first() {
        let both = [hop("10.0.0.2", Ipv4, 0), hop("fe80::1", Ipv6, 0)];
        asks(&both, used("10.0.0.1", Ipv4), Choice::Keep, &["10.0.0.2"]);
        asks(&both[1..], used("10.0.0.1", Ipv4), Choice::Keep, &["fe80::1"]);
        asks(&both, used("fe80::9", Ipv6), Choice::Keep, &["fe80::1"]);
        // An IPv4 route can have an IPv6 next hop: the route counts, not the address.
        let unnumbered = [hop("fe80::2", Ipv4, 0), hop("fe80::1", Ipv6, 0)];
        asks(&unnumbered, used("fe80::9", Ipv4), Choice::Keep, &["fe80::2"]);
        asks(&[], used("10.0.0.1", Ipv4), Choice::Keep, &[]);
    }
}
