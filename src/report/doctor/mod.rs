//! What on this host would hurt a balancer or a real, and what fixes it.
//!
//! Doctor looks, and changes nothing: it takes no lock, and leaves no program loaded. As [`crate::Balancer::plan`]
//! does, it has the kernel ask for the MACs of gateways.
//!
//! Each check is a function of facts that were read before. So tests can describe what no network namespace has, such as
//! a card that merges packets, or interrupts on one CPU. docs/doctor.md explains every finding.
//!
//! ```no_run
//! let report = l4lb::doctor::balancer(&l4lb::Instance::default(), None);
//! for finding in &report.findings {
//!     println!("{} {}: {}", finding.severity, finding.place, finding.what);
//! }
//! ```

#![expect(
    clippy::unnecessary_wraps,
    reason = "checks have one type, whether or not the question always arises"
)]

mod attachment;
mod catalogue;
mod checks;
mod config;
mod folders;
mod gather;
mod instance;
mod kernel;
mod native;
mod network;
mod nic;
mod offloads;
mod queues;
mod real;
mod report;
#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

pub use catalogue::FindingId;
pub use catalogue::Severity;
pub use report::CheckResult;
pub use report::Checked;
pub use report::Facility;
pub use report::Finding;
pub use report::Fix;
pub use report::Report;

use crate::dataplane::balancer::Balancer;
use crate::instance::DEFAULT_BPFFS;
use crate::instance::DEFAULT_INSTANCE;
use crate::instance::Instance;
use crate::instance::kernel_release;
use crate::kernel::host::Files;
use crate::kernel::rights;
use crate::model::config::Config;
use crate::model::config::Encapsulation;
use crate::model::error::Error;
use crate::observe::interfaces::InterfaceStatus;
use crate::observe::readiness::InterfaceState;
use gather::Look;
use kernel::Jit;
use nic::Nic;
use report::Answer;
use report::Check;

/// A fact that doctor could not find out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    why: String,
    /// Root would find it out.
    is_a_matter_of_rights: bool,
}

impl Missing {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_a_matter_of_rights: false }
    }

    fn not_root() -> Self {
        Self { why: "needs root".to_owned(), is_a_matter_of_rights: true }
    }

    fn because(error: &impl ToString) -> Self {
        Self::new(error.to_string())
    }

    /// The answer of a check that needs the fact.
    fn answer(&self) -> Answer {
        Answer::Unknown(self.why.clone())
    }
}

/// The checks of a balancer's interface.
const OF_NICS: [&[Check<Nic>]; 5] =
    [attachment::CHECKS, native::CHECKS, offloads::CHECKS, queues::CHECKS, network::CHECKS];

/// Looks at a balancer's host: the interfaces of a configuration that is to be applied, or, without one, those
/// of the instance, if it runs.
pub fn balancer(instance: &Instance, config: Option<&Config>) -> Report {
    let files = Files::host();
    let mut report = of_host(instance, &files);
    let mut look = Look::new(instance, &files, lbctl(instance));
    if report.has_errors() || !is_root() {
        // What runs cannot be read, but what a file asks for can be checked all the same.
        look.closed = true;
    }
    look.run(&mut report, config);
    report.sort();
    report
}

/// Findings for `lbctl status`: about the interfaces of a balancer that runs, without asking any gateway. It leaves out
/// what [`InterfaceState::unready`] tells.
pub(crate) fn of_interfaces(
    balancer: &Balancer,
    interfaces: &BTreeMap<String, InterfaceStatus>,
    observed: &[InterfaceState],
) -> Vec<Finding> {
    let (instance, files) = (balancer.instance(), Files::host());
    let look = Look::new(instance, &files, lbctl(instance));
    let mut report = match look.at_interfaces(balancer, interfaces, observed) {
        Ok(report) => report,
        Err(error) => {
            // Doctor reports this error itself. Status does not need it.
            tracing::debug!("cannot look at the interfaces: {error}");
            return Vec::new();
        }
    };
    report.findings.retain(|finding| {
        !matches!(
            finding.id,
            FindingId::InterfaceMissing
                | FindingId::InterfaceDown
                | FindingId::NotAttached
                | FindingId::MacChanged
        )
    });
    report.sort();
    report.findings
}

/// Looks at a real's host. The real serves the VIPs that are named here, and all addresses of its loopback interface.
pub fn real(instance: &Instance, vips: &[IpAddr]) -> Report {
    real_by(instance, vips, &[])
}

/// As [`real`], where packets come by these ways only. None: that is not known.
pub fn real_by(instance: &Instance, vips: &[IpAddr], ways: &[Encapsulation]) -> Report {
    let files = Files::host();
    let mut report = of_host(instance, &files);
    match real::read(instance, &files, vips, &lbctl(instance)) {
        Ok(facts) => {
            let facts = real::Real { ways: ways.to_vec(), ..facts };
            real::check(&mut report, &facts);
        }
        Err(error) => {
            let why = Answer::Unknown(error.to_string());
            report.add(FindingId::NoDecap, "host", Some(why));
        }
    }
    report.sort();
    report
}

/// Checks for any host, balancer or real.
fn of_host(instance: &Instance, files: &Files) -> Report {
    let mut report = Report {
        kernel: kernel_release().unwrap_or_else(|error| error.to_string()),
        facilities: kernel::facilities(),
        ..Report::default()
    };
    let checked = instance.check_host();
    for (id, answer) in [
        (FindingId::NotRoot, not_root(&checked)),
        (FindingId::KernelTooOld, kernel_too_old(&checked)),
        (FindingId::NoBpffs, no_bpffs(&checked)),
        (FindingId::NoSystemFiles, no_system_files(files)),
        (FindingId::ExposedPins, folders::exposed_pins(instance, &checked)),
    ] {
        report.add(id, "host", answer);
    }
    report.run(kernel::CHECKS, "host", &Jit::read(files));
    report
}

/// Whether doctor may look at everything.
fn is_root() -> bool {
    rights::missing().is_ok_and(|missing| missing.is_none())
}

fn not_root(checked: &Result<(), Error>) -> Option<Answer> {
    Some(match checked {
        Err(error @ Error::MissingRights(missing)) => Answer::hurts(
            Severity::Note,
            error.to_string(),
            "doctor does not look at instances, gateways and what the kernel can do",
            if missing.is_root {
                Fix::Advice(missing.remedy())
            } else {
                Fix::Command("sudo lbctl doctor".to_owned())
            },
        ),
        _ => Answer::Well,
    })
}

fn kernel_too_old(checked: &Result<(), Error>) -> Option<Answer> {
    match checked {
        // Missing capabilities come first, and the other checks are not made.
        Err(Error::MissingRights(_)) => None,
        Err(error @ Error::KernelTooOld { .. }) => Some(Answer::hurts(
            Severity::Error,
            error.to_string(),
            "every command refuses",
            Fix::Advice("boot a newer kernel".to_owned()),
        )),
        _ => Some(Answer::Well),
    }
}

fn no_bpffs(checked: &Result<(), Error>) -> Option<Answer> {
    match checked {
        Err(Error::MissingRights(_) | Error::KernelTooOld { .. }) => None,
        Err(Error::NoBpffs { path }) => {
            let path = path.display();
            Some(Answer::hurts(
                Severity::Error,
                format!("there is no bpf filesystem at {path}"),
                "without it, programs and maps do not outlive a command",
                Fix::Command(format!("mkdir -p {path} && mount -t bpf -o mode=0700 bpf {path}")),
            ))
        }
        _ => Some(Answer::Well),
    }
}

/// Doctor reads most facts from these files. What it cannot read must not count as [`Answer::Well`].
fn no_system_files(files: &Files) -> Option<Answer> {
    let (what, command) = match (files.has_sysfs(), files.has_procfs()) {
        (true, true) => return Some(Answer::Well),
        (false, true) => ("there is no sysfs at /sys", "mount -t sysfs sysfs /sys"),
        (true, false) => ("there is no procfs at /proc", "mount -t proc proc /proc"),
        (false, false) => (
            "there is no sysfs at /sys, and no procfs at /proc",
            "mount -t sysfs sysfs /sys && mount -t proc proc /proc",
        ),
    };
    Some(Answer::hurts(
        Severity::Error,
        what,
        "commands cannot count the CPUs or read the sizes of maps; doctor does not look at the instance, nor at what else it reads there",
        Fix::Command(command.to_owned()),
    ))
}

/// How `lbctl` is called for an instance.
fn lbctl(instance: &Instance) -> String {
    let mut command = lbctl_at(instance);
    if instance.name() != DEFAULT_INSTANCE {
        command += " --instance ";
        command += instance.name();
    }
    command
}

/// How `lbctl` is called for any instance in the same bpf filesystem.
fn lbctl_at(instance: &Instance) -> String {
    if instance.bpffs() == Path::new(DEFAULT_BPFFS) {
        "lbctl".to_owned()
    } else {
        format!("lbctl --bpffs {}", instance.bpffs().display())
    }
}
