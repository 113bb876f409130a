//! Packets that the kernel drops for their checksums, such as those that senders on a balancer's host leave unfinished.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Real;
use crate::kernel::host::text;
use crate::report::doctor::catalogue::Severity;
use crate::report::doctor::report::Answer;
use crate::report::doctor::report::Fix;

/// How long doctor waits for further wrong checksums, if there were any.
const WATCH: Duration = Duration::from_secs(1);

/// A bad cable spoils at most one in so many packets since the network namespace was made.
const ONE_IN: u64 = 1000;

/// Packets of a protocol since the network namespace was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::report::doctor) struct Checksums {
    pub(super) protocol: &'static str,
    pub(super) received: u64,
    /// How many of these the kernel dropped for their checksum.
    pub(super) wrong: u64,
    /// How many of those came while doctor looked.
    pub(super) recent: u64,
}

impl Checksums {
    /// Reads the counters, and reads them again after a second if any checksum was wrong.
    pub(super) fn watch(proc: &Path) -> Vec<Self> {
        let mut before = Self::read(proc);
        if before.iter().all(|counted| counted.wrong == 0) {
            return before;
        }
        thread::sleep(WATCH);
        for (counted, now) in before.iter_mut().zip(Self::read(proc)) {
            *counted = Self { recent: now.wrong.saturating_sub(counted.wrong), ..now };
        }
        before
    }

    /// Reads the counters. Empty: they cannot be read.
    fn read(proc: &Path) -> Vec<Self> {
        let (Some(both), v6) = (text(&proc.join("net/snmp")), text(&proc.join("net/snmp6"))) else {
            return Vec::new();
        };
        let udp6 = |key| value_of(v6.as_deref().unwrap_or_default(), key).unwrap_or(0);
        let counted = |protocol, received, wrong| Self { protocol, received, wrong, recent: 0 };
        let tcp = |key| column(&both, "Tcp:", key).unwrap_or(0);
        let udp = |key| column(&both, "Udp:", key).unwrap_or(0);
        vec![
            counted("TCP", tcp("InSegs"), tcp("InCsumErrors")),
            counted("UDP over IPv4", udp("InDatagrams"), udp("InCsumErrors")),
            counted("UDP over IPv6", udp6("Udp6InDatagrams"), udp6("Udp6InCsumErrors")),
        ]
    }
}

/// A counter of `/proc/net/snmp`, which has a line of names, and a line of values that begins the same way.
fn column(text: &str, line: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|whole| whole.strip_prefix(line));
    let at = lines.next()?.split_whitespace().position(|name| name == key)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// A counter of `/proc/net/snmp6`: a name and a value in each line.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let of_line = |line: &str| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        (name == key).then(|| value.trim().parse().ok())?
    };
    text.lines().find_map(of_line)
}

pub(super) fn wrong(real: &Real) -> Option<Answer> {
    if real.checksums.is_empty() {
        return Some(Answer::Unknown("/proc/net/snmp cannot be read".to_owned()));
    }
    let listed = |counted: Vec<(&Checksums, u64)>| {
        let each = counted.iter().map(|(of, count)| format!("{count} of {}", of.protocol));
        each.collect::<Vec<_>>().join(", ")
    };
    let pick = |of: fn(&Checksums) -> Option<u64>| -> Vec<(&Checksums, u64)> {
        real.checksums.iter().filter_map(|counted| Some((counted, of(counted)?))).collect()
    };
    let recent = pick(|counted| (counted.recent > 0).then_some(counted.recent));
    let many = pick(|counted| {
        (counted.wrong.saturating_mul(ONE_IN) > counted.received).then_some(counted.wrong)
    });
    let (severity, what) = if !recent.is_empty() {
        let what = format!("packets with a wrong checksum within a second: {}", listed(recent));
        (Severity::Warning, what)
    } else if many.iter().any(|(_, count)| *count > 0) {
        let what = format!(
            "packets with a wrong checksum since the host or its network namespace was made, none within a second: {}",
            listed(many)
        );
        (Severity::Note, what)
    } else {
        return Some(Answer::Well);
    };
    Some(Answer::hurts(
        severity,
        what,
        "the kernel drops them: TCP connections of these clients hang, or do not begin. Senders on the balancer's own \
         host, as in containers and network namespaces, leave checksums unfinished, and XDP sends packets on as they are",
        Fix::Advice(
            "on the balancer, 'lbctl doctor' names the command (finding sender-offloads): 'ethtool -K INTERFACE tx off' \
             for the other end of the veth that it serves; if it serves no veth, look for broken cards and cables"
                .to_owned(),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Ip: Forwarding\nIp: 2\nTcp: RtoMin InSegs InErrs InCsumErrors\nTcp: 200 900 7 5\n\
                        Udp: InDatagrams InCsumErrors\nUdp: 12 0\nUdpLite: InDatagrams InCsumErrors\nUdpLite: 1 1\n";

    #[test]
    fn counters_are_read_by_their_names() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(Checksums::watch(proc.path()), []);
        let net = proc.path().join("net");
        std::fs::create_dir(&net).unwrap();
        std::fs::write(net.join("snmp"), SNMP).unwrap();
        let read = |of: usize| {
            let counted = Checksums::read(proc.path())[of];
            (counted.received, counted.wrong)
        };
        assert_eq!([read(0), read(1), read(2)], [(900, 5), (12, 0), (0, 0)]);
        let v6 = "Ip6InReceives   \t9\nUdp6InDatagrams    \t3\nUdp6InCsumErrors \t2\n";
        std::fs::write(net.join("snmp6"), v6).unwrap();
        assert_eq!(read(2), (3, 2));
        // Nonsense is read as zeros.
        for text in ["", "Tcp:", "Tcp: InSegs\nTcp:", "Tcp: InSegs InCsumErrors\nTcp: x -1\n"] {
            std::fs::write(net.join("snmp"), text).unwrap();
            assert!(
                Checksums::watch(proc.path())
                    .iter()
                    .all(|counted| counted.received == 0 || counted.wrong == 2)
            );
        }
    }

    #[test]
    fn few_of_many_are_no_finding() {
        let severity = |received, wrong, recent| {
            let tcp = Checksums { protocol: "TCP", received, wrong, recent };
            match super::wrong(&Real { checksums: vec![tcp], ..Real::default() }) {
                Some(Answer::Hurts { severity, .. }) => Some(severity),
                _ => None,
            }
        };
        assert_eq!(severity(0, 0, 0), None);
        assert_eq!(severity(5000, 5, 0), None);
        assert_eq!(severity(4999, 5, 0), Some(Severity::Note));
        assert_eq!(severity(5_000_000, 5, 1), Some(Severity::Warning));
    }
}
