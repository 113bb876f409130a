//! What is checked, and which checks are the same.

use std::hash::Hash;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::CheckKind;
use crate::model::config::HealthPolicy;
use crate::model::config::Via;
use crate::model::health::RealHealth;
use crate::model::health::judge::Known;
use crate::model::health::judge::Rules;
use crate::probe::Prepared;
use crate::probe::Probe;

/// A real of a VIP, and how it is checked.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) vip: Vip,
    pub(super) real: IpAddr,
    pub(super) check: Arc<Prepared>,
    pub(super) mark: Option<u32>,
    /// Why this host cannot check it.
    pub(super) obstacle: Option<String>,
    pub(super) rules: Rules,
    /// Whether the operator has it down: then nobody checks it.
    pub(super) paused: bool,
    /// What its record says.
    pub(super) recorded: RealHealth,
    /// The same, with details; for a target that is new.
    pub(super) known: Known,
    pub(super) reason: String,
}

impl Target {
    /// A real of which nothing is known yet. Targets that share `check` can share its runs. `rise` and `fall` are those
    /// of the check's configuration.
    pub fn new(vip: Vip, real: IpAddr, check: &Arc<Prepared>, policy: &HealthPolicy) -> Self {
        Self {
            vip,
            real,
            check: Arc::clone(check),
            mark: None,
            obstacle: None,
            rules: Rules::of(check.config(), policy),
            paused: false,
            recorded: RealHealth::default(),
            known: Known::default(),
            reason: String::new(),
        }
    }

    pub(super) fn id(&self) -> Id {
        (self.vip, self.real)
    }

    pub(super) fn key(&self) -> Key {
        let config = self.check.config();
        // What a direct check meets is the same for all VIPs, but a program is told the VIP.
        let shared = config.via() == Via::Direct && config.kind != CheckKind::Exec;
        Key {
            real: self.real,
            port: config.port.unwrap_or(self.vip.port),
            protocol: (config.kind == CheckKind::Dns && config.transport.is_none())
                .then_some(self.vip.protocol),
            vip: (!shared).then_some(self.vip),
            check: Same(Arc::clone(&self.check)),
        }
    }

    pub(super) fn probe(&self) -> Probe {
        Probe { check: Arc::clone(&self.check), vip: self.vip, real: self.real, mark: self.mark }
    }
}

/// A real of a VIP.
pub(super) type Id = (Vip, IpAddr);

/// What makes two checks one: they would send the same to the same place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    real: IpAddr,
    port: u16,
    protocol: Option<Protocol>,
    vip: Option<Vip>,
    check: Same,
}

/// A check, equal to others of the same configuration but for `rise` and `fall`, which only judges look at.
#[derive(Clone, Debug)]
struct Same(Arc<Prepared>);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        let mut other = other.0.config().clone();
        (other.rise, other.fall) = (self.0.config().rise, self.0.config().fall);
        other == *self.0.config()
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Whoever has more in common is compared.
        let config = self.0.config();
        (config.kind, config.interval, config.port).hash(state);
    }
}

/// A check that runs again and again, for one or more VIPs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) probe: Arc<Probe>,
    /// Why this host cannot run it.
    pub(super) obstacle: Option<String>,
    /// Whose results it gives. None: the run that is under way is the last one.
    pub(super) members: Vec<Id>,
    /// When the run that is under way began.
    pub(super) running_since: Option<Instant>,
    /// When the next run is due. An entry of the timetable with another time is not in force.
    pub(super) due: Option<Instant>,
    pub(super) runs: u64,
}
