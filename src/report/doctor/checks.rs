//! Checks of reals: whether this host can run them, whether somebody does, and whether they would ever take a real out.

use std::time::Duration;

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::report::Answer;
use super::report::Fix;
use super::report::Report;
use crate::control::unusable_checks::Unusable;
use crate::control::unusable_checks::all_unusable;
use crate::model::address::Vip;
use crate::model::config::CheckConfig;
use crate::model::config::Config;
use crate::model::config::VipConfig;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::observe::health_summary::HealthSummary;
use crate::observe::vips::VipStatus;

/// Clients give up sooner than this.
const SLOW: Duration = Duration::from_secs(60);

/// Looks at the checks of a configuration.
pub(super) fn of_config(report: &mut Report, wanted: &Config) {
    let unusable =
        all_unusable(wanted).map(|unusable| (unusable.place.clone(), unusable_answer(&unusable)));
    add(report, FindingId::CheckUnusable, unusable.collect());
    let table = Table::from(wanted);
    let checked =
        table.vips.iter().filter_map(|(vip, spec)| Some((vip, spec, table.check_of(spec)?)));
    let checked: Vec<_> =
        checked.map(|(vip, spec, check)| (format!("VIP {vip}"), spec, check)).collect();
    let open = checked.iter().filter_map(|(vip, spec, _)| Some((vip.clone(), always_open(spec)?)));
    add(report, FindingId::AlwaysFailsOpen, open.collect());
    let slow =
        checked.iter().filter_map(|(vip, _, check)| Some((vip.clone(), slow_detection(check)?)));
    add(report, FindingId::SlowDetection, slow.collect());
}

/// Looks for VIPs that have reals and no check: those of a file, or those that run, where somebody may have told how the
/// reals do.
pub(super) fn unchecked(report: &mut Report, wanted: &Config, running: Option<&[VipStatus]>) {
    let vips: Vec<Vip> = if let Some(vips) = running {
        vips.iter().filter(|vip| vip.is_unchecked()).map(|vip| vip.vip).collect()
    } else {
        let vips = wanted.vips.iter();
        let unchecked = vips.filter(|vip| vip.check.is_none() && !vip.reals.is_empty());
        unchecked.map(VipConfig::vip).collect()
    };
    let answer = (!wanted.vips.is_empty()).then(|| no_check(&vips));
    report.add(FindingId::NoCheck, "host", answer);
}

/// Looks whether somebody runs the checks of an instance.
pub(super) fn of_instance(report: &mut Report, place: &str, health: &HealthSummary, served: bool) {
    if health.checked_vips == 0 {
        return;
    }
    report.add(FindingId::NobodyChecks, place, Some(nobody(health, served)));
}

fn add(report: &mut Report, id: FindingId, found: Vec<(String, Answer)>) {
    if found.is_empty() {
        report.add(id, "host", Some(Answer::Well));
    }
    for (place, answer) in found {
        report.add(id, &place, Some(answer));
    }
}

fn unusable_answer(unusable: &Unusable) -> Answer {
    let why = if unusable.place == "notify" {
        "apply refuses the file; if that runs, nobody is told of changes"
    } else {
        "apply refuses the file; if that runs, nobody checks these reals, and their health stays what it was"
    };
    let fix = "put the file there, or name another; then apply, or reload lbctl serve";
    Answer::hurts(Severity::Error, unusable.error.to_string(), why, Fix::Advice(fix.to_owned()))
}

/// With one real, any `min_healthy` fails open when that real does.
fn always_open(spec: &VipSpec) -> Option<Answer> {
    let up = spec.reals.values().filter(|real| real.is_wanted()).count();
    let least = spec.health.min_healthy;
    if !spec.health.fail_open || up < 2 || least.of(up) < up {
        return None;
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!("min_healthy = {least} wants {} healthy reals, and {up} are up", least.of(up)),
        "as soon as one is unhealthy, all are used again (fail open): checks never take one out",
        Fix::Advice(format!(
            "set min_healthy to {} at most, or fail_open = false",
            // Half of them: what is left must carry the load.
            (up / 2).max(1)
        )),
    ))
}

fn slow_detection(check: &CheckConfig) -> Option<Answer> {
    let after = (check.interval() * check.fall()).saturating_add(check.timeout());
    (after > SLOW).then(|| {
        Answer::hurts(
            Severity::Note,
            format!(
                "a real that fails is found after {}: fall ({}) times interval ({}), and timeout ({})",
                humantime::format_duration(after),
                check.fall(),
                humantime::format_duration(check.interval()),
                humantime::format_duration(check.timeout()),
            ),
            "until then, its share of the requests fails",
            Fix::Advice("set a shorter interval, or fast_interval, which counts from the first failure on".to_owned()),
        )
    })
}

/// VIPs of whose reals nobody finds out how they do. That is no fault: something else may take failed reals out.
fn no_check(unchecked: &[Vip]) -> Answer {
    let Some(first) = unchecked.first() else { return Answer::Well };
    let what = match unchecked.len() {
        1 => format!("{first} has no check"),
        count => format!("{count} VIPs have no check, the first is {first}"),
    };
    Answer::hurts(
        Severity::Note,
        what,
        "how their reals do is not known, and one that fails keeps its share of the clients",
        Fix::Advice(format!(
            "give it a check, such as check = {{ type = \"tcp\" }}; 'lbctl probe {first}' asks the reals once"
        )),
    )
}

fn nobody(health: &HealthSummary, served: bool) -> Answer {
    if !health.nobody_checks {
        return Answer::Well;
    }
    let fix = if served {
        "look into the log of lbctl serve, which runs: it says why it does not check"
    } else {
        "start lbctl serve, such as by 'systemctl enable --now l4lb@INSTANCE'"
    };
    Answer::hurts(
        Severity::Warning,
        format!("nobody checks the reals; last check: {}", health.last_check_in_words()),
        "a real that fails keeps its flows, and one that is back gets none",
        Fix::Advice(fix.to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::CheckKind;

    fn table(min_healthy: &str, reals: usize) -> Table {
        let reals: Vec<_> =
            (1..=reals).map(|n| format!("{{ address = \"10.0.0.{n}\" }}")).collect();
        let text = format!(
            "[[interfaces]]\nname = \"eth0\"\n[[vips]]\naddress = \"10.200.1.1\"\nport = 80\nprotocol = \"tcp\"\n\
             check = {{ type = \"tcp\" }}\n{min_healthy}\nreals = [{}]\n",
            reals.join(", ")
        );
        Table::from(&Config::from_toml(&text).expect("it is right"))
    }

    #[test]
    fn min_healthy_that_no_failure_leaves_is_told() {
        let is_told = |min_healthy: &str, reals| {
            let table = table(min_healthy, reals);
            table.vips.values().any(|spec| always_open(spec).is_some())
        };
        assert!(!is_told("", 1) && !is_told("", 2));
        assert!(is_told("min_healthy = \"100%\"", 3));
        assert!(is_told("min_healthy = \"51%\"", 2));
        assert!(!is_told("min_healthy = \"50%\"", 2));
        assert!(is_told("min_healthy = 3", 3) && is_told("min_healthy = 3", 2));
        assert!(!is_told("min_healthy = 2", 3));
        assert!(!is_told("min_healthy = \"100%\"\nfail_open = false", 3));
    }

    #[test]
    fn a_check_that_takes_more_than_a_minute_is_told() {
        let mut check = CheckConfig::new(CheckKind::Tcp);
        assert!(slow_detection(&check).is_none());
        (check.interval, check.timeout) =
            (Some(Duration::from_secs(20)), Some(Duration::from_secs(1)));
        assert!(slow_detection(&check).is_some());
        check.fall = Some(2);
        assert!(slow_detection(&check).is_none());
    }
}
