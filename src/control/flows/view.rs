//! Puts entries of connection tables into words.

use std::net::IpAddr;

use super::AgeOf;
use super::Flow;
use crate::dataplane::View;
use crate::dataplane::ViewVip;
use crate::dataplane::tables;

impl Flow {
    /// Puts an entry into words. `tcp_age` is what TCP's ages are of in its table, `now` of `CLOCK_MONOTONIC`, in
    /// nanoseconds.
    pub(super) fn new(
        raw: &tables::Flow,
        view: &View,
        cpu: Option<u32>,
        tcp_age: AgeOf,
        now: u64,
    ) -> Self {
        let (vip, age) = (view.vip_of(raw), View::age(raw, now));
        let port = |port: u16| (port != 0).then(|| u16::from_be(port));
        // Without an address, the port is the destination's once more.
        let client = (raw.key.src.word != [0; 4]).then(|| IpAddr::from(raw.key.src));
        Self {
            vip: vip.map(|vip| vip.vip),
            client,
            client_port: client.and_then(|_| port(raw.key.sport)),
            port: port(raw.key.dport),
            real: view.real_of(raw).map(|real| real.address),
            cpu,
            age,
            age_of: if vip.is_some_and(ViewVip::is_udp) { AgeOf::LastPacket } else { tcp_age },
            state: view.state(raw, age),
        }
    }
}
