//! Explains entries of connection tables.

use std::net::IpAddr;

use super::AgeOf;
use super::Flow;
use crate::dataplane::View;
use crate::dataplane::ViewVip;
use crate::dataplane::tables;

impl Flow {
    /// Explains an entry. `tcp_age` is what the ages of TCP flows in its table count from. `now` is `CLOCK_MONOTONIC`
    /// in nanoseconds.
    pub(super) fn new(
        raw: &tables::Flow,
        view: &View,
        cpu: Option<u32>,
        tcp_age: AgeOf,
        now: u64,
    ) -> Self {
        let (vip, age) = (view.vip_of(raw), View::age(raw, now));
        let port = |port: u16| (port != 0).then(|| u16::from_be(port));
        // If the key has no address, its source port is a copy of the destination port.
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
