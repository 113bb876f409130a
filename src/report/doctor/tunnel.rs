//! Checks that go through the tunnel: whether they can, and whether their answers come back.

use std::net::IpAddr;

use super::Missing;
use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::is_root;
use super::report::Answer;
use super::report::Fix;
use super::report::Report;
use crate::control::healthcheck_path::Outlook;
use crate::control::healthcheck_path::outlook;
use crate::kernel::host::Files;
use crate::kernel::host::text;
use crate::kernel::netlink::MarkRule;
use crate::kernel::netlink::Ways;
use crate::kernel::netlink::mark_rules_blocking;
use crate::kernel::netlink::ways_blocking;
use crate::kernel::source::interface_of;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::Config;
use crate::model::config::Delivery;
use crate::model::config::RealConfig;
use crate::model::error::TunnelObstacle;
use crate::model::health::policies::Policies;
use crate::model::vip_table::Table;

/// Looks at the VIPs of a configuration that are checked through the tunnel. `served`: what the packet path is told, or
/// will be told, of the balancer's interfaces.
pub(super) fn check(
    report: &mut Report,
    wanted: &Config,
    served: &[abi::interface],
    files: &Files,
) {
    let vips = Policies::from(&Table::from(wanted)).tunnel_addresses();
    if vips.is_empty() {
        return;
    }
    if !is_root() {
        // Only root may mark a socket.
        return report.add(FindingId::TunnelBlocked, "host", Some(Missing::not_root().answer()));
    }
    let first_mark = wanted.health.first_mark;
    let rules = mark_rules_blocking().map_err(|error| error.to_string());
    report.add(FindingId::MarkRule, "host", Some(mark_rule(rules, first_mark)));
    let found = match outlook(served, &vips, first_mark) {
        Ok(found) => found,
        Err(error) => {
            let why = Answer::Unknown(error.to_string());
            return report.add(FindingId::TunnelBlocked, "host", Some(why));
        }
    };
    for (vip, outlook) in found {
        let place = format!("VIP address {vip}");
        let obstacle = outlook.as_ref().err().filter(|obstacle| {
            let is_here = matches!(obstacle, TunnelObstacle::OwnAddress { .. });
            !is_here || !are_reals_here(wanted, vip, first_mark)
        });
        report.add(FindingId::TunnelBlocked, &place, Some(blocked(obstacle)));
        if let Ok(outlook) = outlook
            && vip.is_ipv4()
        {
            let filter = Filter::read(&outlook, files);
            report.add(FindingId::AnswersFiltered, &place, Some(answers_filtered(vip, filter)));
        }
    }
}

/// Whether all reals of a VIP's address are this host itself. Their checks need no tunnel if the address is, too.
fn are_reals_here(wanted: &Config, vip: IpAddr, first_mark: u32) -> bool {
    let reals = wanted.vips.iter().filter(|one| one.address == vip).flat_map(|one| &one.reals);
    let (silent, said): (Vec<&RealConfig>, Vec<&RealConfig>) =
        reals.partition(|real| real.delivery() == Delivery::AsVip);
    let silent: Vec<_> = silent.into_iter().map(|real| real.address).collect();
    said.into_iter().all(|real| real.delivery().is_local())
        && ways_blocking(&silent, first_mark)
            .is_ok_and(|ways| ways.iter().all(|ways| matches!(ways, Ways::Local)))
}

fn blocked(obstacle: Option<&TunnelObstacle>) -> Answer {
    let Some(obstacle) = obstacle else { return Answer::Well };
    Answer::hurts(
        Severity::Error,
        obstacle.to_string(),
        "nobody checks its reals: their health stays what it was, or unknown",
        Fix::Advice("add what is missing, or set via = \"direct\" for the check".to_owned()),
    )
}

fn mark_rule(rules: Result<Vec<MarkRule>, String>, first_mark: u32) -> Answer {
    let rules = match rules {
        Ok(rules) => rules,
        Err(why) => return Answer::Unknown(why),
    };
    let matching = |rule: &MarkRule, first| rule.first_match(first, consts::REAL_IDS);
    let Some((rule, mark)) =
        rules.iter().find_map(|rule| Some((rule, matching(rule, first_mark)?)))
    else {
        return Answer::Well;
    };
    let free = (1..=u32::from(u16::MAX)).map(|n| n << 16);
    let free =
        free.into_iter().find(|first| rules.iter().all(|rule| matching(rule, *first).is_none()));
    let (version, MarkRule { priority, mark: wanted, mask, .. }) =
        (if rule.v6 { " -6" } else { "" }, rule);
    Answer::hurts(
        Severity::Warning,
        format!(
            "rule {priority} of 'ip{version} rule' is for packets with mark {wanted:#x}/{mask:#x}, and checks have \
             the {} marks from {first_mark:#x} on, {mark:#x} among them",
            consts::REAL_IDS
        ),
        "packets of some checks take other routes than those of others, or none",
        Fix::Advice(match free {
            Some(free) => format!("set health.first_mark = {free:#x}, which no rule matches"),
            None => "give the rule a mask with bits that health.first_mark does not set".to_owned(),
        }),
    )
}

/// What the reverse path filter does with answers of reals.
#[derive(Debug)]
struct Filter {
    /// The interface that has the address to which reals answer.
    answers_to: Option<String>,
    /// Those by which packets to the VIP leave.
    leaves_by: Vec<String>,
    /// `rp_filter` of the first.
    setting: Option<i64>,
}

impl Filter {
    fn read(outlook: &Outlook, files: &Files) -> Self {
        let answers_to = interface_of(outlook.source);
        let conf = files.proc.join("sys/net/ipv4/conf");
        let of =
            |name: &str| -> Option<i64> { text(&conf.join(name).join("rp_filter"))?.parse().ok() };
        let setting = answers_to.as_deref().and_then(|name| Some(of("all")?.max(of(name)?)));
        Self { answers_to, leaves_by: outlook.interfaces.clone(), setting }
    }
}

/// The kernel looks up the route back to an answer's source, which is the VIP's address.
fn answers_filtered(vip: IpAddr, filter: Filter) -> Answer {
    let Filter { answers_to, leaves_by, setting } = filter;
    let Some(name) = answers_to else {
        return Answer::Unknown(
            "the interface that has the source address is not known".to_owned(),
        );
    };
    if name == "lo" || leaves_by.contains(&name) {
        return Answer::Well;
    }
    match setting {
        None => Answer::Unknown("without procfs rp_filter cannot be read".to_owned()),
        Some(1) => Answer::hurts(
            Severity::Error,
            format!(
                "packets of checks leave by {}, with an address of {name}, and rp_filter of {name} is 1, strict (the \
                 larger of its own and that of all)",
                leaves_by.join(", ")
            ),
            format!(
                "answers come in at {name} from {vip}, to which no route leads by {name}: the kernel drops them, and \
                 the checks fail"
            ),
            Fix::Command(format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", name.replace('.', "/"))),
        ),
        Some(_) => Answer::Well,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::CheckResult;
    use super::*;

    fn filter(answers_to: &str, setting: i64) -> Filter {
        let leaves_by = vec!["eth0".to_owned()];
        Filter { answers_to: Some(answers_to.to_owned()), leaves_by, setting: Some(setting) }
    }

    #[test]
    fn answers_at_another_interface_are_filtered_if_that_is_strict() {
        let vip = IpAddr::from([192, 0, 2, 1]);
        let result = |filter| {
            let mut report = Report::default();
            let answer = answers_filtered(vip, filter);
            report.add(FindingId::AnswersFiltered, "here", Some(answer));
            report.checked.pop().map(|checked| checked.result)
        };
        assert_eq!(result(filter("eth1", 1)), Some(CheckResult::Found));
        for well in [filter("eth0", 1), filter("eth1", 2), filter("eth1", 0), filter("lo", 1)] {
            assert_eq!(result(well), Some(CheckResult::Well));
        }
    }

    #[test]
    fn a_range_of_marks_that_no_rule_matches_is_named() {
        let rule = MarkRule { v6: true, priority: 77, mark: 0x4c34_0007, mask: u32::MAX };
        let all = MarkRule { mark: 1, mask: 0xffff_0001, ..rule };
        let mut report = Report::default();
        let answer = mark_rule(Ok(vec![all, rule]), 0x4c34_0000);
        report.add(FindingId::MarkRule, "host", Some(answer));
        let finding = report.findings.pop().expect("a finding");
        assert!(finding.what.starts_with("rule 77 of 'ip -6 rule'"), "{}", finding.what);
        assert_eq!(
            finding.fix,
            Fix::Advice("set health.first_mark = 0x10000, which no rule matches".to_owned())
        );
    }
}
