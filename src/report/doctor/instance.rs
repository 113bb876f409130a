//! A running balancer: its program, its connection tables, and what its counters tell.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::report::Answer;
use super::report::Check;
use super::report::Fix;
use crate::dataplane::balancer::Balancer;
use crate::instance::serving::ControlStatus;
use crate::model::error::Result;
use crate::model::host::cpus_in_words;
use crate::model::mismatch::Mismatch;
use crate::model::table_cpus::TableCpus;
use crate::observe::chain;
use crate::observe::gue_refused;
use crate::observe::gue_refused::GueRefused;
use crate::observe::recent::Flood;
use crate::observe::recent::Misses;
use crate::observe::recent::OtherMac;
use crate::observe::recent::Recent;
use crate::observe::tunnel_loop::TunnelLoop;
use crate::report::readings::Readings;

/// Facts of a running balancer.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    /// Whether the chain leads to the program that is pinned.
    pub(super) in_place: bool,
    /// The interfaces that run the root program, though the chain has one program only.
    pub(super) detours: Vec<String>,
    pub(super) mismatches: Vec<Mismatch>,
    pub(super) cpus: TableCpus,
    /// Reals whose packets are dropped because their MACs are not known.
    pub(super) without_mac: BTreeSet<IpAddr>,
    /// What happens now.
    pub(super) recent: Recent,
    /// New flows that were not remembered since the instance was set up.
    pub(super) not_remembered: u64,
    /// Answers of reals since then that nothing takes GUE there.
    pub(super) gue_refused: u64,
    /// The control API of the process that serves; `None`: there is to be none.
    pub(super) control: Option<ControlStatus>,
    /// The command that brings the instance up to date with the host.
    pub(super) reapply: String,
}

impl Running {
    pub(super) fn read(
        balancer: &Balancer,
        readings: &Readings,
        cpus: TableCpus,
        reapply: &str,
    ) -> Result<Self> {
        Ok(Self {
            in_place: balancer.is_in_place()?,
            detours: chain::detours(balancer.instance())?,
            mismatches: balancer.all_mismatches()?,
            cpus,
            without_mac: readings
                .vips
                .iter()
                .flat_map(|vip| &vip.reals)
                .filter(|real| real.lacks_mac())
                .map(|real| real.address)
                .collect(),
            recent: readings.watch(balancer)?,
            not_remembered: readings.flood_guards.iter().map(|guard| guard.not_remembered).sum(),
            gue_refused: readings.stats.reason(gue_refused::REASON),
            control: readings.serve.as_ref().and_then(|serve| serve.control.clone()),
            reapply: reapply.to_owned(),
        })
    }
}

pub(super) const CHECKS: &[Check<Running>] = &[
    (FindingId::ProgramNotInPlace, program_not_in_place),
    (FindingId::ChainDetour, chain_detour),
    (FindingId::MapMismatch, map_mismatch),
    (FindingId::RealMacUnknown, real_mac_unknown),
    (FindingId::CpusWithoutTable, |running| cpus_without_table(&running.cpus, &running.reapply)),
    (FindingId::IdleTables, |running| idle_tables(&running.cpus, &running.reapply)),
    (FindingId::TableTooSmall, table_too_small),
    (FindingId::MissesWithRoom, misses_with_room),
    (FindingId::NewFlowsLimited, new_flows_limited),
    (FindingId::ControlApi, control_api),
    (FindingId::OtherMac, other_mac),
    (FindingId::DecapsulateLoop, tunnel_loop),
    (FindingId::DecapsulateRefused, tunnel_refused),
    (FindingId::GuePortUnreachable, gue_port_unreachable),
];

fn program_not_in_place(running: &Running) -> Option<Answer> {
    if running.in_place {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Error,
        "the chain does not lead to the balancer that is pinned",
        "a command was interrupted: packets for the VIPs reach the kernel, or an older program",
        Fix::Command(running.reapply.clone()),
    ))
}

fn chain_detour(running: &Running) -> Option<Answer> {
    if running.detours.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "packets of {} reach the chain's only program by way of the root program",
            running.detours.join(", ")
        ),
        "a command was interrupted, or a driver has refused the exchange: each packet takes some 20 ns longer",
        Fix::Command(running.reapply.clone()),
    ))
}

fn map_mismatch(running: &Running) -> Option<Answer> {
    if running.mismatches.is_empty() {
        return Some(Answer::Well);
    }
    let (severity, why) = if running.mismatches == [Mismatch::Leftovers] {
        (Severity::Warning, "they take room; or a command is at work just now")
    } else {
        (
            Severity::Error,
            "packets are dropped, or go to other reals than on other balancers with the same file; somebody wrote to \
             the maps, or l4lb has a fault: please report it",
        )
    };
    Some(Answer::hurts(
        severity,
        Mismatch::summary(&running.mismatches),
        why,
        // A saved configuration would have the address that may be wrong.
        if running.mismatches.iter().any(Mismatch::is_of_real) {
            Fix::Advice(Mismatch::remedy(&running.mismatches).to_owned())
        } else {
            Fix::Command(running.reapply.clone())
        },
    ))
}

fn real_mac_unknown(running: &Running) -> Option<Answer> {
    let Some(first) = running.without_mac.first() else { return Some(Answer::Well) };
    Some(mac_unknown(*first, running.without_mac.len() - 1))
}

/// The MAC of a real is not known, nor those of so many more.
pub(super) fn mac_unknown(first: IpAddr, more: usize) -> Answer {
    let more = match more {
        0 => String::new(),
        more => format!(", nor that of {more} more"),
    };
    Answer::hurts(
        Severity::Error,
        format!("the MAC of real {first} is not known{more}"),
        "its packets go by l2, in frames to its own MAC: until it answers, they are dropped (no_neighbour)",
        Fix::Advice(format!(
            "look at the real and the network between ('ip neigh show {first}'); when it answers, lbctl serve finds it, and \
             without that the next apply; meanwhile 'lbctl real drain'"
        )),
    )
}

pub(super) fn cpus_without_table(cpus: &TableCpus, reapply: &str) -> Option<Answer> {
    let Some(missing) = cpus.without_table() else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Warning,
        missing.to_string(),
        "all flows there share one small table, under locks",
        if cpus.auto {
            Fix::Command(reapply.to_owned())
        } else {
            Fix::Advice(format!("{}, then apply", missing.remedy()))
        },
    ))
}

pub(super) fn idle_tables(cpus: &TableCpus, reapply: &str) -> Option<Answer> {
    let idle = cpus.idle();
    if idle.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Note,
        format!("{}: a connection table, but no packets", cpus_in_words(&idle)),
        "that share of connection_table.entries is not used",
        if cpus.auto {
            Fix::Command(reapply.to_owned())
        } else {
            Fix::Advice(format!(
                "take {} out of connection_table.cpus, or write \"auto\" there, then apply",
                if idle.len() == 1 { "it" } else { "them" }
            ))
        },
    ))
}

fn table_too_small(running: &Running) -> Option<Answer> {
    let Some(misses) = running.recent.misses else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Warning,
        misses.to_string(),
        "the table forgets flows in use; when the set of reals changes, they move and break",
        Fix::Advice(Misses::fix().to_owned()),
    ))
}

fn control_api(running: &Running) -> Option<Answer> {
    let control = running.control.as_ref()?;
    if control.listening {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!("no control API: {}", control.message),
        "programs that use it neither see the balancer nor change it; commands of lbctl work",
        Fix::Advice(format!(
            "remove that reason, and 'lbctl serve' listens at {} within seconds; or set control.socket to another path or \
             to \"off\", and 'lbctl reload'",
            control.socket
        )),
    ))
}

fn other_mac(running: &Running) -> Option<Answer> {
    let Some(frames) = running.recent.other_mac else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Warning,
        frames.to_string(),
        "the balancer leaves them to the kernel, which drops frames to other MACs; if they are meant for this host, their connections hang",
        Fix::Advice(OtherMac::fix().to_owned()),
    ))
}

fn tunnel_loop(running: &Running) -> Option<Answer> {
    let Some(found) = running.recent.tunnel_loop else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Warning,
        found.to_string(),
        "each of them crosses the link between the sites once for every hop that its TTL allows, mostly 64 times, and none arrives",
        Fix::Advice(TunnelLoop::fix().to_owned()),
    ))
}

fn tunnel_refused(running: &Running) -> Option<Answer> {
    let Some(found) = &running.recent.tunnel_refused else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Warning,
        found.to_string(),
        "if they are another site's, its clients get no answer; if not, somebody tries to get past filters, or a scan passes",
        Fix::Advice(found.fix()),
    ))
}

fn gue_port_unreachable(running: &Running) -> Option<Answer> {
    if let Some(found) = &running.recent.gue_refused {
        return Some(Answer::hurts(
            Severity::Error,
            found.to_string(),
            "packets to these reals are lost; ones that a filter on the way rejects look the same",
            Fix::Advice(GueRefused::fix().to_owned()),
        ));
    }
    if running.gue_refused == 0 {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Note,
        format!(
            "{} times since the instance was set up, a real answered \"port unreachable\" to a packet by gue, but not while \
             doctor looked",
            running.gue_refused
        ),
        "nothing took GUE there at that time: packets were lost",
        Fix::Advice(
            "if the real did not decapsulate yet, do nothing; 'lbctl stats --watch' shows whether gue_refused grows again"
                .to_owned(),
        ),
    ))
}

fn misses_with_room(running: &Running) -> Option<Answer> {
    let Some(misses) = running.recent.misses_with_room else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Warning,
        misses.to_string(),
        "the ring chooses the real of such packets: connections break if the set of reals has changed since they began",
        Fix::Advice(misses.fix().to_owned()),
    ))
}

fn new_flows_limited(running: &Running) -> Option<Answer> {
    let moves = "flows that are not remembered move if the set of reals changes; in a flood, the limit keeps known flows in the table";
    if let Some(flood) = &running.recent.flood {
        return Some(Answer::hurts(
            Severity::Warning,
            flood.to_string(),
            moves,
            Fix::Advice(Flood::fix().to_owned()),
        ));
    }
    if running.not_remembered == 0 {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Note,
        format!(
            "{} new flows were not remembered since the instance was set up, none of them in the last second",
            running.not_remembered
        ),
        "there were more within a second than the limit of that time; that is over",
        Fix::Advice(
            "if it was a flood, do nothing; if it was normal traffic, raise connection_table.new_connections_per_second".to_owned(),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(answer: impl Into<Option<Answer>>) -> bool {
        matches!(answer.into(), Some(Answer::Hurts { .. }))
    }

    #[test]
    fn a_flood_that_is_over_is_history() {
        let severity = |flood, not_remembered| {
            let recent = Recent { flood, ..Recent::default() };
            match new_flows_limited(&Running { recent, not_remembered, ..Running::default() }) {
                Some(Answer::Hurts { severity, .. }) => Some(severity),
                _ => None,
            }
        };
        let flood = Some(Flood { cpus: vec![0], not_remembered: 7 });
        assert_eq!(severity(flood, 7), Some(Severity::Warning));
        assert_eq!(severity(None, 7), Some(Severity::Note));
        assert_eq!(severity(None, 0), None);
    }

    #[test]
    fn frames_to_others_are_found() {
        let other_mac = OtherMac { other: 20, ours: 0 };
        let recent = Recent { other_mac: Some(other_mac), ..Recent::default() };
        assert!(found(super::other_mac(&Running { recent, ..Running::default() })));
        assert_eq!(super::other_mac(&Running::default()), Some(Answer::Well));
    }

    #[test]
    fn gue_that_was_refused_once_is_history() {
        let severity = |now, gue_refused| {
            let recent = Recent { gue_refused: now, ..Recent::default() };
            match gue_port_unreachable(&Running { recent, gue_refused, ..Running::default() }) {
                Some(Answer::Hurts { severity, .. }) => Some(severity),
                _ => None,
            }
        };
        assert_eq!(severity(Some(GueRefused { answers: 1 }), 7), Some(Severity::Error));
        assert_eq!(severity(None, 7), Some(Severity::Note));
        assert_eq!(severity(None, 0), None);
    }

    #[test]
    fn a_program_in_its_place_is_well() {
        assert!(found(program_not_in_place(&Running::default())));
        let running = Running { in_place: true, ..Running::default() };
        assert_eq!(program_not_in_place(&running), Some(Answer::Well));
        assert_eq!(chain_detour(&running), Some(Answer::Well));
        let detours = vec!["eth0".to_owned(), "eth1".to_owned()];
        assert!(found(chain_detour(&Running { detours, ..Running::default() })));
    }

    #[test]
    fn what_does_not_match_is_found() {
        let severity = |mismatches: &[Mismatch]| match map_mismatch(&Running {
            mismatches: mismatches.to_vec(),
            ..Running::default()
        }) {
            Some(Answer::Hurts { severity, what, .. }) => Some((severity, what)),
            _ => None,
        };
        assert_eq!(severity(&[]), None);
        let (worst, what) = severity(&[Mismatch::VipIndex, Mismatch::Leftovers]).expect("found");
        assert_eq!(worst, Severity::Error);
        assert!(what.ends_with("; and 1 more such maps"), "{what}");
        let (mild, _) = severity(&[Mismatch::Leftovers]).expect("found");
        assert_eq!(mild, Severity::Warning);
    }

    #[test]
    fn cpus_and_tables_are_compared() {
        let cpus = |tables: &[u32], receiving: &[u32]| TableCpus {
            auto: true,
            tables: tables.iter().copied().collect(),
            receiving: receiving.iter().copied().collect(),
        };
        let Some(Answer::Hurts { what, fix, .. }) =
            cpus_without_table(&cpus(&[0, 1], &[1, 2, 3]), "again")
        else {
            panic!("not found")
        };
        assert_eq!(what, "CPUs 2,3 may receive packets, but have no connection table");
        assert_eq!(fix, Fix::Command("again".to_owned()));
        assert!(found(idle_tables(&cpus(&[0, 1], &[1]), "again")));
        assert_eq!(idle_tables(&cpus(&[1], &[1, 2]), "again"), Some(Answer::Well));
        assert_eq!(cpus_without_table(&cpus(&[1, 2], &[1]), "again"), Some(Answer::Well));
    }
}
