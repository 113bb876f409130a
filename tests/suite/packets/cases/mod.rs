//! The tables of cases, a file each.
//!
//! Reals of VIPs with several of them are Maglev's choice. Some can be checked against the description of
//! the wire. Among 10.0.0.1-3, the flow `192.168.1.1:31337` → port 80 belongs to 10.0.0.3, and to 10.0.0.2
//! where the destination port counts as 0. Among `fc00::1`-`fc00::3` it belongs to the first, and
//! `[fc00:2::1]:31337` → port 80 to the third. Outer sources are the client's last bytes, mixed with its
//! port: 172.16.104.123 and `100::bac1:101` of the one, `100::7a69:1` of the other.

mod answers;
mod decapsulate;
mod encap;
mod extensions;
mod families;
mod hash;
mod icmp;
mod icmp_errors;
mod limits;
mod macs;
mod oversize;
mod quic;
mod refusals;
mod states;
mod tcp;
mod udp;
mod unfit;
mod unserved;
mod vlan;
mod ways;

use super::case::File;

/// Clients, and the port they send from.
const C4: &str = "192.168.1.1";
const C6: &str = "fc00:2::1";
const PORT: u16 = 31337;

/// Outer sources of their flows: to IPv4 and IPv6 reals.
const C4_TO_4: &str = "172.16.104.123";
const C4_TO_6: &str = "100::bac1:101";
const C6_TO_4: &str = "172.16.105.121";
const C6_TO_6: &str = "100::7a69:1";

pub(crate) fn files() -> Vec<File> {
    [
        tcp::files(),
        udp::files(),
        families::files(),
        vlan::files(),
        icmp::files(),
        icmp_errors::files(),
        unfit::files(),
        extensions::files(),
        oversize::files(),
        hash::files(),
        states::files(),
        quic::files(),
        encap::files(),
        decapsulate::files(),
        limits::files(),
        answers::files(),
        refusals::files(),
        unserved::files(),
        macs::files(),
        ways::files(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
