//! Counters of network cards, as `ethtool -S` shows them. Only they count packets that a card had no buffer for, or
//! that its driver could not send.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kernel::ethtool;

/// The statistics of an interface's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NicStatistics {
    /// The values by the driver's names. Values of queues are summed, with a `*` for the queue's number:
    /// `rx_queue_*_drops`. Most are counters, and some drivers set them to zero when the interface goes down.
    pub statistics: BTreeMap<String, u64>,
}

impl NicStatistics {
    /// Asks the driver of an interface in the calling thread's network namespace. One that has no
    /// statistics, or is gone, has none.
    pub fn read(interface: &str) -> Self {
        match ethtool::statistics(interface) {
            Ok(statistics) => Self::sum(statistics),
            Err(error) => {
                tracing::debug!("interface {interface} has no statistics: {error}");
                Self::default()
            }
        }
    }

    fn sum(statistics: Vec<(String, u64)>) -> Self {
        let mut sums = BTreeMap::new();
        for (name, value) in statistics {
            let name = without_queue(name.trim()).unwrap_or_else(|| name.trim().to_owned());
            let sum: &mut u64 = sums.entry(name).or_default();
            *sum = sum.wrapping_add(value);
        }
        Self { statistics: sums }
    }
}

/// Words before a `_` and a queue's number …
const BEFORE_UNDERSCORE: [&str; 7] = ["queue", "q", "rxq", "txq", "ring", "rvec", "vec"];

/// … and words before the number itself, or before a `-` and the number. After a `_` it would be a size, as in
/// `rx_64_bytes_phy`.
const BEFORE_DIGIT: [&str; 10] =
    ["rx", "tx", "ch", "queue", "q", "rxq", "txq", "xdp", "rx_xdp", "tx_xdp"];

/// The name of a queue's statistic with `*` for the queue's number; `None`: it is not of a queue.
fn without_queue(name: &str) -> Option<String> {
    let ends_with = |text: &str, words: &[&str]| {
        words.iter().any(|word| {
            text.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
        })
    };
    let mut from = 0;
    while let Some(start) = name[from..].find(|c: char| c.is_ascii_digit()).map(|at| from + at) {
        let digits = name[start..].bytes().take_while(u8::is_ascii_digit).count();
        let (before, after) = (&name[..start], &name[start + digits..]);
        let queue = if let Some(before) = before.strip_suffix('_') {
            ends_with(before, &BEFORE_UNDERSCORE)
        } else if before.ends_with('[') {
            after.starts_with(']')
        } else {
            ends_with(before.strip_suffix('-').unwrap_or(before), &BEFORE_DIGIT)
        };
        if queue {
            return Some(format!("{before}*{after}"));
        }
        from = start + digits;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::NicStatistics;

    /// As drivers name them: virtio, igb, mlx5, ena, gve, bnxt, i40e, nfp.
    #[test]
    fn queues_are_summed() {
        for (names, sum) in [
            (["rx_queue_0_xdp_drops", "rx_queue_11_xdp_drops"], "rx_queue_*_xdp_drops"),
            (["rx0_cache_full", "rx63_cache_full"], "rx*_cache_full"),
            (["tx_xdp0_cqes", "tx_xdp1_cqes"], "tx_xdp*_cqes"),
            (["ch0_poll", "ch1_poll"], "ch*_poll"),
            (["queue_0_tx_cnt", "queue_31_tx_cnt"], "queue_*_tx_cnt"),
            (["rx_drop_cnt[0]", "rx_drop_cnt[9]"], "rx_drop_cnt[*]"),
            (["[0]: rx_discards", "[1]: rx_discards"], "[*]: rx_discards"),
            (["rx-0.packets", "rx-1.packets"], "rx-*.packets"),
            (["rvec_0_rx_pkts", "rvec_1_rx_pkts"], "rvec_*_rx_pkts"),
        ] {
            let read = names.into_iter().zip([1, 2]).map(|(name, value)| (name.to_owned(), value));
            let nic = NicStatistics::sum(read.collect());
            assert_eq!(Vec::from_iter(nic.statistics), [(sum.to_owned(), 3)]);
        }
    }

    #[test]
    fn sizes_and_priorities_are_no_queues() {
        for name in [
            "rx_64_bytes_phy",
            "rx_1024_to_1518_bytes_phy",
            "tx_prio7_pause",
            "rx_out_of_buffer",
            "rx_missed_errors",
            "rx_65b_127b_frames",
            "peer_ifindex",
            "ipv6_hits",
        ] {
            let nic = NicStatistics::sum(vec![(name.to_owned(), 1)]);
            assert_eq!(Vec::from_iter(nic.statistics), [(name.to_owned(), 1)]);
        }
    }
}
