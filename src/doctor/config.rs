//! What a configuration, or what runs, asks for, beside what the host is.

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::report::Answer;
use super::report::Mend;
use super::report::Report;
use crate::config::Config;
use crate::outweighed::outweighed;
use crate::own_host::OwnHost;
use crate::own_host::refusals;
use crate::table::Table;

/// Looks for addresses of the host in the place of others'.
pub(super) fn own_addresses(report: &mut Report, wanted: &Config) {
    let id = FindingId::OwnAddress;
    let own = match OwnHost::read(wanted) {
        Ok(own) => own,
        Err(error) => return report.add(id, "host", Some(Answer::Unknown(error.to_string()))),
    };
    let refused = refusals(wanted, &own);
    if refused.is_empty() {
        report.add(id, "host", Some(Answer::Well));
    }
    for refusal in refused {
        let mend = Mend::Advice(refusal.mend.to_owned());
        let answer = Answer::hurts(Severity::Error, refusal.what, refusal.why, mend);
        report.add(id, &refusal.place, Some(answer));
    }
}

/// Looks for reals that get no new flows beside the weights of others.
pub(super) fn weights(report: &mut Report, wanted: &Config) {
    let id = FindingId::RealOutweighed;
    let table = Table::from(wanted);
    let found: Vec<_> =
        table.vips.iter().flat_map(|(vip, spec)| outweighed(*vip, &spec.members())).collect();
    if found.is_empty() {
        report.add(id, "host", Some(Answer::Well));
    }
    for real in found {
        let why = "it counts as up, and the others carry its part";
        let mend = Mend::Advice(real.mend());
        let answer = Answer::hurts(Severity::Warning, real.to_string(), why, mend);
        report.add(id, &format!("VIP {}", real.vip), Some(answer));
    }
}
