//! Reads what the checks of a real look at.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use super::Back;
use super::Checksums;
use super::Real;
use super::Settings;
use super::Vip;
use crate::control::decap;
use crate::instance::Instance;
use crate::instance::links;
use crate::kernel::host::Files;
use crate::kernel::host::addresses;
use crate::kernel::host::is_link_local;
use crate::kernel::host::text;
use crate::kernel::netlink;
use crate::kernel::netlink::LinkFacts;
use crate::kernel::sockets::listeners;
use crate::model::address::Protocol;
use crate::model::error::DecapError;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::prefix::Prefix;

/// Addresses that stand for any client: those reserved for documentation (RFC 5737, 3849 and 9637).
const CLIENTS: [&[IpAddr]; 2] = [
    &[
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    ],
    &[
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1)),
    ],
];

/// The route to clients. A route by a gateway comes first: a laboratory uses some of these addresses for its own hosts,
/// whose route needs no gateway.
fn back(clients: &[IpAddr]) -> Back {
    let mut routes = Vec::new();
    for client in clients {
        match netlink::route_blocking(*client) {
            Ok(route) => routes.extend(route),
            Err(error) => return Back { route: Some(Err(error.to_string())) },
        }
    }
    let far = routes.iter().position(|route| !route.local && route.gateway.is_some());
    let route = (!routes.is_empty()).then(|| routes.swap_remove(far.unwrap_or(0)));
    Back { route: route.map(Ok) }
}

/// Reads the facts of a real. `lbctl` is how it is called for this instance.
pub(in crate::report::doctor) fn read(
    instance: &Instance,
    files: &Files,
    asked: &[IpAddr],
    lbctl: &str,
) -> Result<Real> {
    if let Err(error @ Error::OtherNamespace { .. }) = links::refuse_other_namespace(instance, &[])
    {
        return Err(error);
    }
    let links = netlink::links_blocking()?;
    let addresses = addresses()?;
    let on_loopback = addresses.iter().filter(|(name, address)| {
        let loopback = links.iter().any(|link| link.loopback && link.link.name == *name);
        loopback && !address.is_loopback() && !is_link_local(*address)
    });
    let vips: BTreeSet<IpAddr> =
        asked.iter().copied().chain(on_loopback.map(|(_, address)| *address)).collect();
    let vips = vips.into_iter().map(|address| vip(address, &addresses)).collect::<Result<_>>()?;
    let mut own = netlink::local_prefixes_blocking()?;
    own.extend(addresses.iter().map(|(_, address)| Prefix::from(*address)));
    let setting = |path: &str| text(&files.proc.join("sys/net").join(path));
    let settings_are_there = files.has_procfs();
    let is_on = |path| settings_are_there.then(|| setting(path).is_some_and(|value| value != "0"));
    let decap = decap::status(instance);
    Ok(Real {
        vips,
        listening: decap.as_ref().map_or_else(|_| BTreeMap::new(), decap::at_gue_ports),
        decap: match decap {
            Ok(status) => Some(Ok(status)),
            Err(Error::Decap(DecapError::None { .. }) | Error::NoBpffs { .. }) => None,
            Err(error) => Some(Err(error.to_string())),
        },
        outdated: decap::outdated(instance).unwrap_or_default(),
        settings: links
            .iter()
            .filter(|link| settings_are_there && link.link.up && !link.loopback)
            .map(|link| (link.link.name.clone(), settings(files, link)))
            .collect(),
        back: CLIENTS.map(back),
        forwarding: ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(is_on),
        checksums: Checksums::watch(&files.proc),
        own,
        links,
        ways: Vec::new(),
        udp_ports: Some(
            listeners(Protocol::Udp)
                .map(|sockets| sockets.iter().map(SocketAddr::port).collect())
                .map_err(|error| error.to_string()),
        ),
        lbctl: lbctl.to_owned(),
    })
}

fn vip(address: IpAddr, addresses: &[(String, IpAddr)]) -> Result<Vip> {
    let on = addresses.iter().filter(|(_, other)| *other == address);
    Ok(Vip {
        address,
        // A route for a whole prefix counts, too: 'ip route add local 10.200.0.0/16 dev lo'.
        local: netlink::route_blocking(address)?.is_some_and(|route| route.local),
        on: on.map(|(name, _)| name.clone()).collect(),
    })
}

/// The settings in force for an interface.
fn settings(files: &Files, link: &LinkFacts) -> Settings {
    let conf = files.proc.join("sys/net/ipv4/conf");
    let larger = |key: &str| {
        let read = |of: &str| text(&conf.join(of).join(key)).and_then(|text| text.parse().ok());
        read("all").max(read(&link.link.name)).unwrap_or(0)
    };
    Settings {
        rp_filter: larger("rp_filter"),
        arp_ignore: larger("arp_ignore"),
        arp_announce: larger("arp_announce"),
    }
}
