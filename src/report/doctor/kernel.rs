//! The kernel: which features of later versions it has, and how it runs BPF programs.

use std::io;

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::report::Answer;
use super::report::Check;
use super::report::Facility;
use super::report::Fix;
use crate::instance::kernel_is_at_least;
use crate::kernel::host::Files;
use crate::kernel::host::text;
use crate::kernel::probe;
use crate::plan::map_cost::KERNEL_COUNTS_ALL;

/// How to find out whether a kernel has something.
enum Proof {
    Trial(fn() -> io::Result<bool>),
    Version,
}

/// A feature's name, first version, how to find out, and what it is good for.
type Known = (&'static str, (u32, u32), Proof, &'static str);

const FACILITIES: &[Known] = &[
    (
        "map memory charged to control groups",
        (5, 11),
        Proof::Version,
        "memory.max limits the maps; memlock does not",
    ),
    (
        "batched reads of per-CPU arrays",
        (5, 13),
        Proof::Trial(probe::percpu_batch),
        "the counters of all VIPs and reals are read in a few calls",
    ),
    (
        "XDP frames in several pieces",
        (5, 18),
        Proof::Trial(probe::frags),
        "frames longer than a page, which this version does not balance",
    ),
    ("bpf_xdp_load_bytes", (5, 18), Proof::Trial(probe::xdp_load_bytes), "the same"),
    (
        "batched updates of maps in maps",
        (5, 19),
        Proof::Trial(probe::batch_of_maps),
        "an apply waits once for all rings that it replaces",
    ),
    (
        "loops of any layout",
        (6, 2),
        Proof::Version,
        "programs of your own in the chain; l4lb's programs do without",
    ),
    (
        "drivers tell of native XDP",
        (6, 3),
        Proof::Version,
        "doctor finds native-unsupported before an apply",
    ),
    (
        "all memory of a map in fdinfo",
        KERNEL_COUNTS_ALL,
        Proof::Version,
        "'lbctl status --all' shows it beside the planned size",
    ),
];

/// Looks at all facilities. Trials need root.
pub(super) fn facilities() -> Vec<Facility> {
    let root = super::is_root();
    FACILITIES.iter().map(|known| facility(known, root, kernel_is_at_least)).collect()
}

fn facility<E>(
    (name, since, proof, good_for): &Known,
    root: bool,
    kernel_is_at_least: fn((u32, u32)) -> Result<bool, E>,
) -> Facility {
    let (present, tried) = match proof {
        Proof::Trial(trial) => (root.then(trial).and_then(Result::ok), true),
        Proof::Version => (kernel_is_at_least(*since).ok(), false),
    };
    let since = format!("{}.{}", since.0, since.1);
    Facility { name, present, since, tried, good_for }
}

/// How the kernel runs BPF programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Jit {
    /// Whether the kernel compiled a program that doctor loaded to find out; `None`: it could not be loaded.
    pub(super) compiles: Option<bool>,
    /// `net.core.bpf_jit_enable`, which only the first network namespace shows.
    pub(super) enable: Option<String>,
    /// `net.core.bpf_jit_harden`, likewise.
    pub(super) harden: Option<String>,
}

impl Jit {
    pub(super) fn read(files: &Files) -> Self {
        let core = files.proc.join("sys/net/core");
        Self {
            compiles: probe::jit().ok(),
            enable: text(&core.join("bpf_jit_enable")),
            harden: text(&core.join("bpf_jit_harden")),
        }
    }
}

pub(super) const CHECKS: &[Check<Jit>] =
    &[(FindingId::JitOff, jit_off), (FindingId::JitHardening, jit_hardening)];

const NOT_SHOWN: &str = "the kernel shows it in the host's network namespace only";

fn jit_off(jit: &Jit) -> Option<Answer> {
    let compiles = jit.compiles.or_else(|| Some(jit.enable.as_deref()? != "0"));
    Some(match compiles {
        Some(true) => Answer::Well,
        None => Answer::Unknown(NOT_SHOWN.to_owned()),
        Some(false) => Answer::hurts(
            Severity::Warning,
            "the kernel interprets BPF programs: net.core.bpf_jit_enable is 0",
            "a packet takes several times as long",
            // A program that is loaded stays as it is.
            Fix::Command(
                "sysctl -w net.core.bpf_jit_enable=1   # then 'lbctl down' and 'lbctl apply -f FILE'"
                    .to_owned(),
            ),
        ),
    })
}

fn jit_hardening(jit: &Jit) -> Option<Answer> {
    Some(match jit.harden.as_deref() {
        None => Answer::Unknown(NOT_SHOWN.to_owned()),
        Some("2") => Answer::hurts(
            Severity::Note,
            "the kernel blinds constants in BPF programs, in root's too: net.core.bpf_jit_harden is 2",
            "each constant costs more instructions; 1 blinds only those of other users",
            Fix::Command(
                "sysctl -w net.core.bpf_jit_harden=1   # then 'lbctl down' and 'lbctl apply -f FILE'"
                    .to_owned(),
            ),
        ),
        Some(_) => Answer::Well,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jit(compiles: Option<bool>, enable: &str, harden: &str) -> Jit {
        let setting = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Jit { compiles, enable: setting(enable), harden: setting(harden) }
    }

    fn severity(answer: impl Into<Option<Answer>>) -> Option<Severity> {
        match answer.into() {
            Some(Answer::Hurts { severity, .. }) => Some(severity),
            _ => None,
        }
    }

    /// On Linux 6.1: a missing feature names the version that brings it, a trial counts for more than a version, and
    /// what could not be tried is not known.
    #[test]
    fn facilities_that_are_missing_name_their_version() {
        let at_6_1 = |since| Ok::<_, io::Error>(since <= (6, 1));
        let says = |since, proof, root| {
            facility(&("loops", since, proof, "speed"), root, at_6_1).to_string()
        };
        let trial = |answer: fn() -> io::Result<bool>| Proof::Trial(answer);
        let absent = says((5, 18), trial(|| Ok(false)), true);
        assert_eq!(absent, "no  loops (Linux 5.18): speed", "switched off");
        assert_eq!(
            says((6, 9), trial(|| Ok(true)), true),
            "yes loops (Linux 6.9): speed",
            "backported"
        );
        let failed = || Err(io::Error::other("no room"));
        assert_eq!(says((5, 18), trial(failed), true), "?   loops (Linux 5.18): speed");
        assert_eq!(
            says((5, 18), trial(|| Ok(true)), false),
            "?   loops (Linux 5.18): speed",
            "not root"
        );
        let (old, new) = (says((6, 1), Proof::Version, true), says((6, 2), Proof::Version, true));
        assert_eq!(old, "yes loops (Linux 6.1, by its version): speed");
        assert_eq!(new, "no  loops (Linux 6.2, by its version): speed");
    }

    #[test]
    fn interpreted_programs_are_found() {
        // A trial counts for more than the setting.
        assert_eq!(jit_off(&jit(Some(true), "0", "")), Some(Answer::Well));
        assert_eq!(severity(jit_off(&jit(Some(false), "1", ""))), Some(Severity::Warning));
        assert_eq!(severity(jit_off(&jit(None, "0", ""))), Some(Severity::Warning));
        assert_eq!(jit_off(&jit(None, "1", "")), Some(Answer::Well));
        assert!(matches!(jit_off(&jit(None, "", "")), Some(Answer::Unknown(_))));
    }

    #[test]
    fn hardening_counts_where_it_is_for_root_too() {
        assert_eq!(severity(jit_hardening(&jit(None, "", "2"))), Some(Severity::Note));
        assert_eq!(jit_hardening(&jit(None, "", "1")), Some(Answer::Well));
        assert_eq!(jit_hardening(&jit(None, "", "0")), Some(Answer::Well));
        assert!(matches!(jit_hardening(&jit(None, "", "")), Some(Answer::Unknown(_))));
    }

    #[test]
    fn settings_are_read_from_procfs() {
        let dir = tempfile::tempdir().unwrap();
        let core = dir.path().join("proc/sys/net/core");
        std::fs::create_dir_all(&core).unwrap();
        std::fs::write(core.join("bpf_jit_enable"), "0\n").unwrap();
        std::fs::write(core.join("bpf_jit_harden"), "2\n").unwrap();
        let files = Files { sys: dir.path().join("sys"), proc: dir.path().join("proc") };
        let read = Jit::read(&files);
        assert_eq!((read.enable.as_deref(), read.harden.as_deref()), (Some("0"), Some("2")));
    }
}
