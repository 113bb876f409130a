//! Whether an instance does well, and what to do if it does not.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::instance::serving::FileDrift;
use crate::kernel::clock::time_in_words;
use crate::model::address::Vip;
use crate::model::config::XdpMode;
use crate::model::error::Result;
use crate::model::host::cpus_in_words;
use crate::model::mismatch::Mismatch;
use crate::model::outweighed::OutweighedReal;
use crate::model::outweighed::outweighed;
pub use crate::observe::gue_refused::GueRefused;
use crate::observe::readiness::Unready;
use crate::observe::readiness::unready_interfaces;
pub use crate::observe::recent::Flood;
pub use crate::observe::recent::Misses;
pub use crate::observe::recent::MissesWithRoom;
pub use crate::observe::recent::OtherMac;
use crate::observe::recent::Recent;
pub use crate::observe::tunnel_loop::TunnelLoop;
pub use crate::observe::tunnel_refused::TunnelRefused;
use crate::observe::vips::VipStatus;
use crate::plan::Unserved;
use crate::report::doctor;
use crate::report::doctor::FindingId;
use crate::report::doctor::Fix;
use crate::report::doctor::Severity;
use crate::report::readings::Readings;
pub use crate::report::reals::FailingOpen;
pub use crate::report::reals::UnhealthyReal;
use crate::report::reals::failing_open;
use crate::report::reals::reals_in_words;
use crate::report::reals::unhealthy;
use crate::report::reals::vips_in_words;

/// How many VIPs a problem's text names; its JSON has all of them.
const NAMED: usize = 3;

/// Something that is not as it should be. Its text says what it is; [`Self::fix`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// The instance is not ready for traffic, or some of its interfaces are not.
    Unready {
        /// Why.
        why: Unready,
    },
    /// The maps that the packet path reads do not match the VIPs and reals.
    MapMismatch {
        /// Which maps.
        mismatches: Vec<Mismatch>,
    },
    /// `lbctl serve` could not reload: what runs is not what its file says.
    ReloadFailed {
        /// When, in seconds since 1970.
        at: u64,
        /// Why, in one line.
        message: String,
    },
    /// The file of `lbctl serve` is not what was applied last.
    FileDiffers {
        /// When that was seen first, in seconds since 1970.
        since: u64,
        /// Whether the file can be applied, as far as the file itself shows.
        valid: bool,
    },
    /// [`crate::report::doctor`] found something about the host that loses packets or makes a command fail.
    Doctor {
        /// What it found.
        finding: doctor::Finding,
    },
    /// Reals get their packets by their own MACs, and these are not known: their packets are dropped.
    RealsWithoutMac {
        /// The reals.
        reals: Vec<IpAddr>,
    },
    /// Reals are up, but their weight is too small beside the others of their VIP: they get no new flows.
    OutweighedReals {
        /// The reals.
        reals: Vec<OutweighedReal>,
    },
    /// An interface runs the programs in generic mode, and nobody asked for that.
    GenericMode {
        /// The interface.
        interface: String,
    },
    /// An interface cannot be served as it is asked for now. It is served as it was asked for before.
    ServedAsBefore {
        /// The interface.
        interface: String,
        /// Why not, and what to do about it.
        reason: String,
    },
    /// VIPs have no real at all.
    NoReal {
        /// The VIPs.
        vips: Vec<Vip>,
    },
    /// VIPs have reals, but none that takes new flows.
    NoUsableReal {
        /// The VIPs.
        vips: Vec<Vip>,
        /// Reals of theirs that the operator wants and that are unhealthy.
        unhealthy: Vec<UnhealthyReal>,
    },
    /// VIPs use all reals that the operator has up, because too few of them are healthy.
    FailsOpen {
        /// The VIPs.
        vips: Vec<FailingOpen>,
    },
    /// VIPs have checks, and nobody runs them.
    NobodyChecks {
        /// How many VIPs.
        vips: usize,
        /// When somebody last checked, in seconds since 1970.
        last_check: Option<u64>,
        /// Whether `lbctl serve` runs all the same.
        served: bool,
    },
    /// Reals are unhealthy that the operator wants to take flows.
    UnhealthyReals {
        /// The reals.
        reals: Vec<UnhealthyReal>,
    },
    /// There are more new flows within a second than CPUs remember.
    FloodGuardLimits(Flood),
    /// Packets for VIPs came to CPUs that have no connection table of their own.
    CpusWithoutTable {
        /// The CPUs.
        cpus: Vec<u32>,
    },
    /// A connection table is full, and packets within connections do not find their flow.
    TableTooSmall(Misses),
    /// Packets for VIPs come in frames to MACs that are not this host's.
    OtherMac(OtherMac),
    /// Packets within connections do not find their flow, though no table is full.
    MissesWithRoom(MissesWithRoom),
    /// Packets go round between sites.
    TunnelLoop(TunnelLoop),
    /// Packets of other sites are dropped.
    TunnelRefused(TunnelRefused),
    /// Reals do not take packets that go by GUE.
    GueRefused(GueRefused),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unready { why } => why.fmt(f),
            Self::MapMismatch { mismatches } => f.write_str(&Mismatch::summary(mismatches)),
            Self::ReloadFailed { at, message } => {
                write!(f, "the last reload failed ({}): {message}", time_in_words(*at))
            }
            Self::FileDiffers { since, valid } => {
                let valid = if *valid { "" } else { ", and has errors" };
                let since = time_in_words(*since);
                write!(f, "the file differs from what was applied, since {since}{valid}")
            }
            Self::Doctor { finding } if finding.what.starts_with(&finding.place) => {
                f.write_str(&finding.what)
            }
            Self::Doctor { finding } => write!(f, "{}: {}", finding.place, finding.what),
            Self::GenericMode { interface } => {
                write!(f, "interface {interface}: generic mode, slower than native")
            }
            Self::ServedAsBefore { interface, reason } => write!(
                f,
                "interface {interface}: served as before, not as configured: {}",
                Unserved::reason(reason)
            ),
            Self::NoReal { vips } => write!(f, "no reals: {}", some(vips)),
            Self::NoUsableReal { vips, unhealthy } => {
                write!(f, "no real takes new flows of {}", some(vips))?;
                if unhealthy.is_empty() {
                    return Ok(());
                }
                write!(f, ", which do not fail open; unhealthy: {}", reals_in_words(unhealthy))
            }
            Self::FailsOpen { vips } => write!(
                f,
                "FAIL OPEN: too few reals are healthy, so all that are up are used: {}",
                vips_in_words(vips)
            ),
            Self::NobodyChecks { vips, last_check, served } => {
                match last_check {
                    Some(last) => write!(f, "nobody checks reals since {}", time_in_words(*last))?,
                    None => f.write_str("nobody has checked reals yet")?,
                }
                let whose = if *vips == 1 { "1 VIP has a check" } else { "VIPs have checks" };
                let serve = if *served {
                    "lbctl serve runs all the same"
                } else {
                    "lbctl serve does not run"
                };
                write!(f, ", though {whose} ({serve})")
            }
            Self::UnhealthyReals { reals } => {
                write!(f, "unhealthy reals: {}", reals_in_words(reals))
            }
            Self::RealsWithoutMac { reals } => {
                let named: Vec<_> = reals.iter().take(NAMED).map(IpAddr::to_string).collect();
                let more = match reals.len().saturating_sub(NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let named = named.join(", ");
                write!(
                    f,
                    "no MAC is known of reals that need one (l2), so their packets are dropped: {named}{more}"
                )
            }
            Self::OutweighedReals { reals } => {
                let Some(first) = reals.first() else { return Ok(()) };
                write!(f, "{first}")?;
                match reals.len() - 1 {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more such reals"),
                }
            }
            Self::FloodGuardLimits(flood) => flood.fmt(f),
            Self::CpusWithoutTable { cpus } => {
                write!(f, "{}: packets, but no connection table", cpus_in_words(cpus))
            }
            Self::TableTooSmall(misses) => misses.fmt(f),
            Self::OtherMac(frames) => frames.fmt(f),
            Self::MissesWithRoom(misses) => misses.fmt(f),
            Self::TunnelLoop(found) => found.fmt(f),
            Self::TunnelRefused(found) => found.fmt(f),
            Self::GueRefused(found) => found.fmt(f),
        }
    }
}

/// The names of the first few VIPs, and how many more there are.
fn some(vips: &[Vip]) -> String {
    let named: Vec<_> = vips.iter().take(NAMED).map(Vip::to_string).collect();
    let named = named.join(", ");
    match vips.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The first VIP, as the argument of a command.
fn one(vips: &[Vip]) -> String {
    vips.first().map_or_else(|| "VIP".to_owned(), Vip::to_string)
}

/// How to find out what a real lacks.
fn probe(reals: &[UnhealthyReal]) -> String {
    let first = reals.first().map(|real| format!(" {} {}", real.vip, real.real));
    format!("'lbctl probe{}' shows each step of the check", first.unwrap_or_default())
}

impl Problem {
    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Unready { why } => why.fix(),
            Self::ReloadFailed { .. } => {
                "what ran before goes on; correct the file ('lbctl plan -f FILE' checks it), then run lbctl reload"
                    .to_owned()
            }
            Self::FileDiffers { valid: true, .. } => {
                "'lbctl plan -f FILE' shows the difference; lbctl reload applies the file".to_owned()
            }
            Self::FileDiffers { .. } => {
                "'lbctl check -f FILE' lists the errors; correct them, then run lbctl reload".to_owned()
            }
            Self::Doctor { finding } => match &finding.fix {
                Fix::Command(text) | Fix::Advice(text) => text.clone(),
            },
            Self::MapMismatch { mismatches } => Mismatch::remedy(mismatches).to_owned(),
            Self::GenericMode { interface } => {
                format!("'lbctl doctor' says, at interface {interface}, why it is not native")
            }
            Self::ServedAsBefore { reason, .. } => Unserved::remedy_as_before(reason),
            Self::NoReal { vips } => format!(
                "lbctl real add {} ADDRESS; or add reals to the file, then lbctl apply -f FILE",
                one(vips)
            ),
            Self::NoUsableReal { unhealthy, .. } if !unhealthy.is_empty() => format!(
                "{}; or use them all the same: fail_open = true, then lbctl apply -f FILE",
                probe(unhealthy)
            ),
            Self::FailsOpen { vips } => {
                let vip = vips.first().map_or_else(|| "VIP".to_owned(), |open| open.vip.to_string());
                format!(
                    "'lbctl real list {vip}' shows why; if the reals do well, this host does not reach them: look at its network"
                )
            }
            Self::NobodyChecks { served: true, .. } => {
                "the log of lbctl serve says why; until then the last results stay in force".to_owned()
            }
            Self::NobodyChecks { .. } => {
                "start lbctl serve; until then the last results stay in force".to_owned()
            }
            Self::UnhealthyReals { reals } => {
                format!("{}; or 'lbctl real drain' if it is to stay out", probe(reals))
            }
            Self::NoUsableReal { vips, .. } => {
                format!("'lbctl real list {}' shows why; then lbctl real up, weight or add", one(vips))
            }
            Self::RealsWithoutMac { reals } => {
                let real = reals.first().map(IpAddr::to_string).unwrap_or_default();
                format!(
                    "'ip neigh show {real}' shows whether it answers; when it does, lbctl serve or the next apply finds it; or \
                     drain it"
                )
            }
            Self::OutweighedReals { reals } => {
                reals.first().map(OutweighedReal::fix).unwrap_or_default()
            }
            Self::FloodGuardLimits(_) => Flood::fix().to_owned(),
            Self::CpusWithoutTable { .. } => {
                "set connection_table.cpus to \"auto\", or add these CPUs to it, then lbctl apply -f FILE"
                    .to_owned()
            }
            Self::TableTooSmall(_) => Misses::fix().to_owned(),
            Self::OtherMac(_) => OtherMac::fix().to_owned(),
            Self::MissesWithRoom(misses) => misses.fix().to_owned(),
            Self::TunnelLoop(_) => TunnelLoop::fix().to_owned(),
            Self::TunnelRefused(found) => found.fix(),
            Self::GueRefused(_) => GueRefused::fix().to_owned(),
        }
    }
}

/// A [`Problem`] with its texts, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The problem itself.
    #[serde(flatten)]
    pub problem: Problem,
    /// What it is, in one line.
    pub what: String,
    /// What to do about it, in one line.
    pub fix: String,
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self { what: problem.to_string(), fix: problem.fix(), problem }
    }
}

/// Whether an instance does well: the balancer itself, while "health" is a word for reals. It is judged by the
/// instance's own maps and by its interfaces, without asking any gateway. [`crate::report::doctor`] looks at all of
/// the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Whether there is nothing to do.
    pub well: bool,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
    /// How many warnings doctor has about the interfaces, beside these findings.
    pub warnings: usize,
}

impl Condition {
    /// Judges what was read. Watches counters for about a second if those since the start do not settle it.
    pub(crate) fn judge(balancer: &Balancer, readings: &Readings) -> Result<Self> {
        let mut problems = Vec::new();
        let mut unready = |why| problems.push(Problem::Unready { why });
        if !balancer.is_in_place()? {
            unready(Unready::NotInChain);
        }
        unready_interfaces(&readings.observed, &readings.unserved).into_iter().for_each(unready);
        let as_before = readings.unserved.iter().filter(|unserved| unserved.as_before);
        problems.extend(as_before.map(|unserved| Problem::ServedAsBefore {
            interface: unserved.name.clone(),
            reason: unserved.why.clone(),
        }));
        let mismatches = balancer.mismatches()?;
        if !mismatches.is_empty() {
            problems.push(Problem::MapMismatch { mismatches });
        }
        let reload = readings.serve.as_ref().and_then(|server| server.reload.as_ref());
        let failed = reload
            .filter(|reload| !reload.applied)
            .map(|reload| Problem::ReloadFailed { at: reload.at, message: reload.message.clone() });
        // A failed reload says why the file is not applied.
        let drift = readings.serve.as_ref().and_then(|server| server.drift);
        let drift = drift.filter(|_| failed.is_none());
        problems.extend(failed);
        problems
            .extend(drift.map(|FileDrift { since, valid }| Problem::FileDiffers { since, valid }));
        let mut warnings = 0;
        for finding in doctor::of_interfaces(balancer, &readings.interfaces, &readings.observed) {
            match (finding.severity, finding.id) {
                (Severity::Error, _) => problems.push(Problem::Doctor { finding }),
                // [`Problem::GenericMode`] says so.
                (Severity::Warning, FindingId::GenericMode) | (Severity::Note, _) => {}
                (Severity::Warning, _) => warnings += 1,
            }
        }
        // The CPUs that packets came to count here, not those that the interrupts name.
        let cpus = balancer.table_cpus([].into())?;
        let without_table = cpus.without_table().map_or_else(Vec::new, |cpus| cpus.0);
        problems.extend(counted(readings, without_table, readings.watch(balancer)?));
        Ok(Self { warnings, ..Self::of(problems) })
    }

    fn of(problems: Vec<Problem>) -> Self {
        Self {
            well: problems.is_empty(),
            findings: problems.into_iter().map(Finding::from).collect(),
            warnings: 0,
        }
    }
}

/// Problems that the configuration and the counters show.
fn counted(readings: &Readings, without_table: Vec<u32>, recent: Recent) -> Vec<Problem> {
    let idle = readings.vips.iter().filter(|vip| vip.usable_reals() == 0);
    let (bare, idle): (Vec<_>, Vec<_>) = idle.partition(|vip| vip.reals.is_empty());

    let mut problems = Vec::new();
    let names = |vips: Vec<&VipStatus>| vips.into_iter().map(|vip| vip.vip).collect();
    if !bare.is_empty() {
        problems.push(Problem::NoReal { vips: names(bare) });
    }
    let sick = |vips: &[&VipStatus]| vips.iter().copied().flat_map(unhealthy).collect::<Vec<_>>();
    // What the operator wanted so has another remedy than what checks found.
    let (sickly, wanted): (Vec<_>, Vec<_>) =
        idle.into_iter().partition(|vip| unhealthy(vip).next().is_some());
    for idle in [sickly, wanted] {
        if !idle.is_empty() {
            problems.push(Problem::NoUsableReal { unhealthy: sick(&idle), vips: names(idle) });
        }
    }
    let open: Vec<_> = readings.vips.iter().filter_map(failing_open).collect();
    if !open.is_empty() {
        problems.push(Problem::FailsOpen { vips: open });
    }
    if readings.health.nobody_checks {
        problems.push(Problem::NobodyChecks {
            vips: readings.health.checked_vips,
            last_check: readings.health.last_check,
            served: readings.serve.is_some(),
        });
    }
    let others = readings.vips.iter().filter(|vip| vip.usable_reals() != 0);
    let sick: Vec<_> = others.flat_map(unhealthy).collect();
    if !sick.is_empty() {
        problems.push(Problem::UnhealthyReals { reals: sick });
    }
    let lacking = readings.vips.iter().flat_map(|vip| &vip.reals).filter(|real| real.lacks_mac());
    let lacking: BTreeSet<_> = lacking.map(|real| real.address).collect();
    if !lacking.is_empty() {
        problems.push(Problem::RealsWithoutMac { reals: lacking.into_iter().collect() });
    }
    let outweighed: Vec<_> =
        readings.vips.iter().flat_map(|vip| outweighed(vip.vip, &vip.members())).collect();
    if !outweighed.is_empty() {
        problems.push(Problem::OutweighedReals { reals: outweighed });
    }
    problems.extend(
        readings
            .interfaces
            .iter()
            .filter(|(_, interface)| {
                interface.mode == Some(XdpMode::Generic)
                    && interface.config.xdp_mode != XdpMode::Generic
            })
            .map(|(name, _)| Problem::GenericMode { interface: name.clone() }),
    );
    problems.extend(recent.gue_refused.map(Problem::GueRefused));
    problems.extend(recent.flood.map(Problem::FloodGuardLimits));
    if !without_table.is_empty() {
        problems.push(Problem::CpusWithoutTable { cpus: without_table });
    }
    problems.extend(recent.misses.map(Problem::TableTooSmall));
    problems.extend(recent.other_mac.map(Problem::OtherMac));
    problems.extend(recent.misses_with_room.map(Problem::MissesWithRoom));
    problems.extend(recent.tunnel_loop.map(Problem::TunnelLoop));
    problems.extend(recent.tunnel_refused.map(Problem::TunnelRefused));
    problems
}

#[cfg(test)]
mod tests;
