//! The list of all metrics: docs/metrics.md is made from it.

use prometheus::proto::Counter;
use prometheus::proto::Gauge;
use prometheus::proto::LabelPair;
use prometheus::proto::Metric;
use prometheus::proto::MetricFamily;
use prometheus::proto::MetricType;

/// How the values of a metric change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up only, from 0.
    Counter,
    /// Up and down.
    Gauge,
}

/// A metric: what its series have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// How its values change.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! families {
    ($($ident:ident: $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(pub(super) const $ident: Family =
            Family { name: $name, kind: Kind::$kind, labels: &$labels, help: $help };)*
        /// All metrics.
        pub(super) const ALL: &[Family] = &[$($ident),*];
    };
}

families! {
    RUNNING: Gauge "l4lb_running" []
        "Whether the balancer of the instance runs: 1 or 0.";
    DRAINING: Gauge "l4lb_node_draining" []
        "Whether the node is drained, as for maintenance: 1 or 0.";
    BUILD_INFO: Gauge "l4lb_build_info" ["version"]
        "The version of the l4lb that answers; always 1.";
    READ_SUCCESS: Gauge "l4lb_read_success" ["part"]
        "Whether the collector could read this part of the metrics: 1 or 0.";

    PACKETS: Counter "l4lb_packets_total" ["reason", "verdict"]
        "Packets by verdict and reason.";
    BYTES: Counter "l4lb_bytes_total" ["reason", "verdict"]
        "Bytes of frames as received, by verdict and reason.";
    CPU_PACKETS: Counter "l4lb_cpu_packets_total" ["cpu"]
        "Packets that came in on a CPU.";
    CPU_BYTES: Counter "l4lb_cpu_bytes_total" ["cpu"]
        "Bytes of frames that came in on a CPU.";
    TABLE_EVENTS: Counter "l4lb_table_events_total" ["event"]
        "Events of connection tables and server ids: hits, misses by kind, new flows and others.";
    FLOOD_LIMITING: Gauge "l4lb_flood_guard_limiting" ["cpu"]
        "Whether a CPU has reached its limit of new flows within the second: 1 or 0.";
    FLOOD_LIMIT: Gauge "l4lb_flood_guard_limit_flows" ["cpu"]
        "Most new flows that a CPU remembers within a second.";
    FLOOD_FLOWS: Counter "l4lb_flood_guard_flows_total" ["cpu"]
        "New flows that a CPU balanced but did not remember, because there were too many.";

    VIP_PACKETS: Counter "l4lb_vip_packets_total" ["vip"]
        "Packets of a VIP sent to its reals.";
    VIP_BYTES: Counter "l4lb_vip_bytes_total" ["vip"]
        "Bytes of a VIP sent to its reals.";
    VIP_DROPPED: Counter "l4lb_vip_dropped_packets_total" ["vip"]
        "Packets of a VIP that were dropped.";
    VIP_NEW_FLOWS: Counter "l4lb_vip_new_flows_total" ["vip"]
        "Packets of a VIP whose real the ring chose, because no connection table had their flow; 0 for a VIP without connection table.";
    VIP_REALS: Gauge "l4lb_vip_reals" ["state", "vip"]
        "Reals of a VIP by their state.";
    VIP_USABLE_REALS: Gauge "l4lb_vip_usable_reals" ["vip"]
        "Reals of a VIP that take new flows: up, and with a weight.";
    VIP_REAL_WEIGHT: Gauge "l4lb_vip_real_weight" ["vip", "real"]
        "Weight of a real of a VIP.";
    VIP_REAL_STATE: Gauge "l4lb_vip_real_state" ["vip", "real", "state"]
        "The state of a real in a VIP; always 1.";
    VIP_REAL_SHARE: Gauge "l4lb_vip_real_share_ratio" ["vip", "real"]
        "Share of a VIP's ring that a real has, 0 to 1.";
    VIP_RING_DIGEST: Gauge "l4lb_vip_ring_digest" ["vip"]
        "48 bits that are the same wherever a VIP's ring is the same; 0 without a ring.";
    VIP_RING_WRONG: Gauge "l4lb_vip_ring_wrong_slots" ["vip"]
        "Slots of a VIP's ring that do not lead to the real that the VIP's reals and weights give.";
    MISMATCHES: Gauge "l4lb_map_mismatches" ["map"]
        "Rings and entries of reals that do not match the VIPs and reals; of vip_index, whether it does not: 1 or 0.";
    RING_AGE: Gauge "l4lb_ring_sample_age_seconds" []
        "How long ago the collector read the rings.";
    VIP_REALS_BY_HEALTH: Gauge "l4lb_vip_reals_by_health" ["vip", "health"]
        "Reals of a VIP that are up and have a weight, by what checks, or checkers of others, say.";
    VIP_FAILS_OPEN: Gauge "l4lb_vip_fails_open" ["vip"]
        "Whether a VIP uses all reals that are up, because too few are healthy: 1 or 0.";
    VIP_REAL_HEALTHY: Gauge "l4lb_vip_real_healthy" ["vip", "real"]
        "Whether a real of a VIP is healthy: 1 or 0; no series while that is unknown.";
    VIP_REAL_HEALTH_SHARE: Gauge "l4lb_vip_real_health_share_ratio" ["vip", "real"]
        "Share of its weight that a real of a VIP gets by slow start and by its agent, 0 to 1; no series while its health is unknown.";
    VIP_REAL_TOLD: Gauge "l4lb_vip_real_told" ["vip", "real"]
        "A real of a VIP whose health somebody else has told, not a check of the VIP; always 1.";
    VIP_REAL_HELD: Gauge "l4lb_vip_real_held" ["vip", "real"]
        "A real of a VIP that stays out because it failed too often; always 1.";
    CHECKED_VIPS: Gauge "l4lb_checked_vips" []
        "VIPs that have a check, and reals.";
    LAST_CHECK: Gauge "l4lb_last_check_timestamp_seconds" []
        "When somebody last checked reals, in seconds since 1970.";
    NOBODY_CHECKS: Gauge "l4lb_nobody_checks" []
        "Whether VIPs have checks that nobody runs: 1 or 0.";
    REAL_PACKETS: Counter "l4lb_real_packets_total" ["real"]
        "Packets sent to a real, for any VIP.";
    REAL_BYTES: Counter "l4lb_real_bytes_total" ["real"]
        "Bytes sent to a real, for any VIP.";

    HEALTHCHECK_PACKETS: Counter "l4lb_healthcheck_packets_total" ["result"]
        "Packets of checks through the tunnel by what became of them.";

    TABLE_ENTRIES: Gauge "l4lb_table_entries" ["cpu", "family"]
        "Flows in the connection table of a CPU; cpu=\"shared\" is the table of all other CPUs.";
    TABLE_MAX_ENTRIES: Gauge "l4lb_table_max_entries" ["cpu", "family"]
        "Flows for which the connection table of a CPU has room.";
    MAP_MEMORY: Gauge "l4lb_map_memory_bytes" ["map"]
        "Memory of a pinned map and of its inner maps.";
    TABLE_AGE: Gauge "l4lb_table_sample_age_seconds" []
        "How long ago the collector counted entries and memory of the maps.";

    INTERFACE_INFO: Gauge "l4lb_interface_info" ["interface", "gateway", "mac", "mode"]
        "The address of an interface's gateway (none: only its MAC is known), the MAC that frames go to, and how XDP runs; always 1.";
    INTERFACE_ATTACHED: Gauge "l4lb_interface_attached" ["interface"]
        "Whether the chain is attached to an interface: 1 or 0.";
    INTERFACE_SERVED: Gauge "l4lb_interface_served" ["interface"]
        "Whether an interface that is asked for is served, even if as it was asked for before: 1 or 0; status says why not.";
    INTERFACE_MTU: Gauge "l4lb_interface_mtu_bytes" ["interface"]
        "The longest IP packet that the balancer sends on an interface.";
    REAL_MAC_KNOWN: Gauge "l4lb_real_mac_known" ["real"]
        "Whether the MAC is known of a real that gets its packets by it (encapsulation l2): 1 or 0. While it is 0, its packets are dropped.";
    GATEWAY_RESOLVED: Gauge "l4lb_gateway_resolved" ["interface"]
        "Whether the kernel knows an interface's gateway by the MAC that its frames go to: 1; 0 if the gateway does not answer or has another MAC.";
    GATEWAY_AGE: Gauge "l4lb_gateway_age_seconds" ["interface"]
        "How long ago the kernel last heard the MAC of an interface's gateway.";
    NIC_STATISTIC: Gauge "l4lb_nic_statistic" ["interface", "name"]
        "What an interface's driver counts, by the driver's names, of all queues together.";

    CHAIN_RUNS: Counter "l4lb_chain_runs_total" []
        "Packets for which the programs of the chain ran while the kernel kept statistics.";
    CHAIN_SECONDS: Counter "l4lb_chain_run_seconds_total" []
        "How long the programs of the chain ran for them.";

    DECAP_PACKETS: Counter "l4lb_decap_packets_total" ["result"]
        "Packets by what decapsulation did with them.";
    DECAP_BYTES: Counter "l4lb_decap_bytes_total" ["result"]
        "Bytes of frames by what decapsulation did with them.";
    DECAP_ATTACHED: Gauge "l4lb_decap_interface_attached" ["interface"]
        "Whether decapsulation is attached to an interface: 1 or 0.";
    DECAP_ADDRESSES: Gauge "l4lb_decap_outer_destinations" []
        "Addresses for which decapsulation takes packets.";
    DECAP_TO: Gauge "l4lb_decap_inner_destination_prefixes" []
        "Prefixes that inner packets may be for.";
    DECAP_FROM: Gauge "l4lb_decap_outer_source_prefixes" []
        "Prefixes whose addresses may send encapsulated packets; 0: any address may.";
    DECAP_GUE_PORT: Gauge "l4lb_decap_gue_port" ["port"]
        "1 for each UDP port from which decapsulation takes GUE.";
    DECAP_MSS: Gauge "l4lb_decap_mss_bytes" ["interface", "family"]
        "To what the MSS of segments from VIPs is lowered that leave by an interface; 0: the program is missing there.";
    DECAP_MSS_SEGMENTS: Counter "l4lb_decap_mss_segments_total" ["result"]
        "Segments with SYN from VIPs, by what became of their MSS.";
}

impl Family {
    /// A series of this metric.
    pub(super) fn series(&self, labels: &[&str], value: f64) -> Metric {
        debug_assert_eq!(self.labels.len(), labels.len(), "{}", self.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(self.labels.iter().zip(labels).map(pair).collect());
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metric
    }

    /// The metric without series.
    pub(super) fn empty(&self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        family
    }
}
