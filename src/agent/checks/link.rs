//! The way between the checks and an instance: what is to be checked comes from its maps, and results go there.
//!
//! The instance is looked at once a second, because `lbctl`, a reload or another program may change it at any time. If
//! it has no checks, a look asks whether two pins exist; else it reads VIPs and reals. What was found and is not in the
//! records, for whatever reason, is found missing by the next look and written again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::timeout;

use super::super::process::blocking;
use super::super::warnings::Warnings;
use super::change::Change;
use super::engine::Checks;
use super::engine::Sink;
use super::job::Id;
use super::job::Target;
use super::metrics::CheckMetrics;
use crate::control::health::HealthResult;
use crate::control::health::RealHealthStatus;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::health::HealthStore;
use crate::instance::Instance;
use crate::kernel::clock::seconds_since_1970;
use crate::kernel::netlink::CHECK_INTERVAL;
use crate::model::config::CheckConfig;
use crate::model::config::HealthConfig;
use crate::model::config::RealState;
use crate::model::config::Via;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::error::TunnelObstacle;
use crate::model::health::RealHealth;
use crate::model::health::flapping::FlapHistory;
use crate::model::health::flapping::FlapSummary;
use crate::model::health::judge::Known;
use crate::model::health::judge::Rules;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::observe::health::HealthDetails;
use crate::probe::Prepared;

/// Time between two looks at the instance.
const LOOK: Duration = Duration::from_secs(1);

/// After what time a check that could not be made ready is tried again.
const PREPARE_AGAIN: Duration = Duration::from_secs(10);

/// Checks of the reals of an instance, until this is dropped.
pub(in crate::agent) struct Following {
    metrics: CheckMetrics,
    task: JoinHandle<()>,
    look: Arc<Notify>,
}

impl Following {
    /// Begins. What follows from checks is told to `tell`, which must not wait.
    pub(in crate::agent) fn start(
        instance: &Instance,
        tell: impl Fn(Vec<Change>) + Send + Sync + 'static,
    ) -> Result<Self> {
        let sink = Records { instance: instance.clone(), tell: Box::new(tell) };
        let at_most = HealthConfig::default().concurrency;
        let checks = Checks::start(Arc::new(sink), at_most as usize)?;
        let (metrics, look) = (checks.metrics().clone(), Arc::new(Notify::new()));
        let link = Link::new(instance);
        let task = tokio::spawn(link.follow(checks, Arc::clone(&look)));
        Ok(Self { metrics, task, look })
    }

    /// Looks at the instance at once, and reads again what checks need from files.
    pub(in crate::agent) fn look_now(&self) {
        self.look.notify_one();
    }

    /// The metrics of its checks.
    pub(in crate::agent) fn metrics(&self) -> CheckMetrics {
        self.metrics.clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The records of an instance.
struct Records {
    instance: Instance,
    tell: Box<dyn Fn(Vec<Change>) + Send + Sync>,
}

impl Sink for Records {
    fn record(&self, results: &[HealthResult]) -> Result<()> {
        let plan = Balancer::open(&self.instance)?.record_health(results)?;
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    fn note_checking(&self) -> Result<()> {
        Balancer::open(&self.instance)?.note_checking()
    }

    fn tell(&self, changes: Vec<Change>) {
        (self.tell)(changes);
    }
}

/// What a look at the instance found.
struct Look {
    targets: Vec<Target>,
    /// What others told meanwhile.
    told: Vec<Change>,
    at_most: usize,
}

/// What is known from look to look.
struct Link {
    instance: Instance,
    seen: Option<Table>,
    /// Checks that are ready, or why they are not. `rise` and `fall` make no difference to a run.
    prepared: HashMap<CheckConfig, std::result::Result<Arc<Prepared>, String>>,
    prepare_again: Option<Instant>,
    tunnel: Tunnel,
    warnings: Warnings,
}

/// The way through the tunnel.
#[derive(Default)]
struct Tunnel {
    vips: BTreeSet<IpAddr>,
    marks: BTreeMap<IpAddr, u32>,
    /// Why there is none to a VIP's address.
    obstacles: BTreeMap<IpAddr, TunnelObstacle>,
    /// The reals that are this host itself.
    local: BTreeSet<IpAddr>,
    looked: Option<Instant>,
}

impl Tunnel {
    /// Why a real cannot be checked through the tunnel. One that is this host needs none to an address of the host.
    fn obstacle(&self, vip: IpAddr, real: IpAddr) -> Option<&TunnelObstacle> {
        let obstacle = self.obstacles.get(&vip)?;
        let is_here = matches!(obstacle, TunnelObstacle::OwnAddress { .. });
        Some(obstacle).filter(|_| !is_here || !self.local.contains(&real))
    }
}

impl Link {
    fn new(instance: &Instance) -> Self {
        Self {
            instance: instance.clone(),
            seen: None,
            prepared: HashMap::new(),
            prepare_again: None,
            tunnel: Tunnel::default(),
            warnings: Warnings::default(),
        }
    }

    async fn follow(mut self, checks: Checks, look: Arc<Notify>) {
        loop {
            let read_at = Instant::now();
            let (looked, link) = {
                let work = blocking(move || {
                    let mut link = self;
                    Ok((link.look(), link))
                });
                match work.await {
                    Ok(done) => done,
                    // It panicked, or the runtime ends.
                    Err(error) => return tracing::error!("reals are no longer checked: {error}"),
                }
            };
            self = link;
            match looked {
                Ok(Some(Look { targets, told, at_most })) => {
                    checks.tell(told).await;
                    checks.set_limit(at_most).await;
                    checks.set_targets_of(targets, read_at).await;
                }
                Ok(None) => {}
                Err(error) => {
                    let why = format!("cannot see what is to be checked: {error}");
                    self.warnings.add(vec![why]);
                }
            }
            if timeout(LOOK, look.notified()).await.is_ok() {
                self.prepared.clear();
                self.seen = None;
            }
        }
    }

    /// Looks at the instance. `None`: nothing is new.
    fn look(&mut self) -> Result<Option<Look>> {
        if self.is_idle() && !HealthStore::of(&self.instance).is_in_use() {
            return Ok(None);
        }
        let balancer = match Balancer::open(&self.instance) {
            Ok(balancer) => Some(balancer),
            Err(Error::NotRunning { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut table = balancer.as_ref().map_or_else(|| Ok(Table::default()), Balancer::table)?;
        let told =
            table.vips.values().flat_map(|spec| spec.reals.values()).any(|real| real.health.told);
        let same = self.seen.as_ref() == Some(&table);
        let prepare = self.prepare_again.is_some_and(|at| at <= Instant::now());
        if same && !prepare && !told && !self.tunnel.is_due() {
            return Ok(None);
        }
        let Some(balancer) = balancer else {
            self.seen = Some(table);
            return Ok(Some(Look { targets: Vec::new(), told: Vec::new(), at_most: 1 }));
        };
        let mut warnings = Vec::new();
        let tunnel_is_new = self.find_tunnel(&balancer, &table, same, &mut warnings)?;
        let mut known = balancer.health()?;
        let over = |RealHealthStatus { details: real, .. }: &RealHealthStatus| {
            real.told && real.expires != 0 && real.expires <= seconds_since_1970()
        };
        let ended = told && known.iter().any(over);
        if ended {
            balancer.record_health(&[])?;
            (table, known) = (balancer.table()?, balancer.health()?);
        }
        if same && !prepare && !tunnel_is_new && !ended {
            return Ok(None);
        }
        self.prepared.retain(|_, prepared| prepared.is_ok());
        let known = known.into_iter().map(|real| ((real.vip, real.real), real.details)).collect();
        let told = self.seen.as_ref().map(|seen| told_changes(seen, &table, &known));
        let told = told.unwrap_or_default();
        let targets = self.targets(&table, &known, &mut warnings);
        warnings.extend(fail_open(&table).chain(fail_closed(&table)));
        self.warnings.report(warnings);
        let at_most = table.health.concurrency as usize;
        self.seen = Some(table);
        Ok(Some(Look { targets, told, at_most }))
    }

    /// Whether the last look found nothing to check, and nothing that is attached for checks.
    fn is_idle(&self) -> bool {
        let checks = |table: &Table| table.vips.values().any(|spec| spec.health.check.is_some());
        self.tunnel.looked.is_some()
            && self.tunnel.vips.is_empty()
            && !self.seen.as_ref().is_some_and(checks)
    }

    /// Keeps the way through the tunnel. Returns whether it is another one than before.
    fn find_tunnel(
        &mut self,
        balancer: &Balancer,
        table: &Table,
        same: bool,
        warnings: &mut Vec<String>,
    ) -> Result<bool> {
        let through = table.vips.iter().filter(|(_, spec)| {
            table.check_of(spec).is_some_and(|check| check.via() == Via::Tunnel)
        });
        let vips: BTreeSet<_> = through.map(|(vip, _)| vip.address).collect();
        if same && vips == self.tunnel.vips && !self.tunnel.is_due() {
            return Ok(false);
        }
        // The program stays attached for nobody only until the next look.
        let obstacles =
            if vips.is_empty() && self.tunnel.vips.is_empty() && self.tunnel.looked.is_some() {
                BTreeMap::new()
            } else {
                Balancer::ensure_tunnel(&self.instance, &vips, table.health.first_mark)?.obstacles
            };
        let (marks, local) = if vips.is_empty() {
            (BTreeMap::new(), BTreeSet::new())
        } else {
            (balancer.tunnel_marks(table.health.first_mark)?, balancer.local_reals()?)
        };
        let tunnel = Tunnel { vips, marks, obstacles, local, looked: Some(Instant::now()) };
        let is_new = tunnel.marks != self.tunnel.marks
            || tunnel.obstacles != self.tunnel.obstacles
            || tunnel.local != self.tunnel.local;
        let blocked = table.vips.iter().filter(|(vip, spec)| {
            let mut reals = spec.reals.keys();
            reals.any(|real| tunnel.obstacle(vip.address, *real).is_some())
        });
        let blocked: BTreeSet<_> = blocked.map(|(vip, _)| vip.address).collect();
        warnings
            .extend(blocked.iter().filter_map(|vip| Some(tunnel.obstacles.get(vip)?.to_string())));
        self.tunnel = tunnel;
        Ok(is_new)
    }

    fn targets(
        &mut self,
        table: &Table,
        known: &BTreeMap<Id, HealthDetails>,
        warnings: &mut Vec<String>,
    ) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut used = BTreeSet::new();
        for (vip, spec) in &table.vips {
            let Some(config) = table.check_of(spec) else { continue };
            let rules = Rules::of(config, &spec.health);
            let mut config = config.clone();
            (config.rise, config.fall) = (None, None);
            let prepared = self.prepared.entry(config.clone()).or_insert_with(|| {
                Prepared::new(&config).map(Arc::new).map_err(|error| error.to_string())
            });
            used.insert(config.clone());
            let check = match prepared {
                Ok(check) => Arc::clone(check),
                Err(why) => {
                    warnings.push(format!("{vip}: its reals are not checked: {why}"));
                    continue;
                }
            };
            let tunnel = (config.via() == Via::Tunnel).then_some(&self.tunnel);
            for (real, of_real) in &spec.reals {
                let mut target = Target::new(*vip, *real, &check, &spec.health);
                target.rules = rules;
                target.paused = of_real.state == RealState::Down;
                target.mark = tunnel.and_then(|tunnel| tunnel.marks.get(real).copied());
                let obstacle = tunnel.and_then(|tunnel| tunnel.obstacle(vip.address, *real));
                target.obstacle = obstacle.map(ToString::to_string);
                if let Some(status) = known.get(&(*vip, *real)) {
                    target.recorded =
                        RealHealth { state: status.state, share: status.share, told: status.told };
                    target.known = known_of(status);
                    target.reason.clone_from(&status.reason);
                }
                targets.push(target);
            }
        }
        self.prepared.retain(|config, _| used.contains(config));
        self.prepare_again = self
            .prepared
            .values()
            .any(std::result::Result::is_err)
            .then(|| Instant::now() + PREPARE_AGAIN);
        targets
    }
}

impl Tunnel {
    /// Whether routes or interfaces may have changed since the last look.
    fn is_due(&self) -> bool {
        !self.vips.is_empty() && self.looked.is_none_or(|looked| looked.elapsed() >= CHECK_INTERVAL)
    }
}

/// The VIPs of which too few reals are healthy.
fn fail_open(table: &Table) -> impl Iterator<Item = String> {
    let open = table.vips.iter().filter(|(_, spec)| spec.fails_open());
    open.map(|(vip, spec)| {
        let least = spec.health.min_healthy;
        format!(
            "{vip}: all reals that are up are used, healthy or not, because fewer than {least} are healthy (fail-open)"
        )
    })
}

/// The VIPs that send nothing to any real, as they are told not to fail open.
fn fail_closed(table: &Table) -> impl Iterator<Item = String> {
    let is_closed = |spec: &VipSpec| {
        spec.health.check.is_some()
            && !spec.health.fail_open
            && spec.reals.values().any(|real| real.is_wanted())
            && spec.members().is_empty()
    };
    let closed = table.vips.iter().filter(move |(_, spec)| is_closed(spec));
    closed.map(|(vip, _)| {
        format!("{vip}: no real takes new flows: none that is up does well, and fail_open = false")
    })
}

/// Health that others told, or that holds no longer, since the last look. What checks find is told when it is recorded.
fn told_changes(before: &Table, now: &Table, known: &BTreeMap<Id, HealthDetails>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (vip, spec) in &now.vips {
        let Some(earlier) = before.vips.get(vip) else { continue };
        for (real, of_real) in &spec.reals {
            let Some(was) = earlier.reals.get(real).map(|real| real.health) else { continue };
            let is = of_real.health;
            if (was.told || is.told) && was.state != is.state {
                let status = known.get(&(*vip, *real)).filter(|_| is.told);
                let reason = match status {
                    Some(status) => format!("told: {}", status.reason),
                    None => "what was told holds no longer".to_owned(),
                };
                let (vip, real) = (*vip, *real);
                changes.push(Change {
                    vip,
                    real,
                    old: was.state,
                    new: is.state,
                    reason,
                    checks: 0,
                });
            }
        }
    }
    changes
}

/// What a judge goes on from. What others told is not what checks found.
fn known_of(status: &HealthDetails) -> Known {
    let since = Duration::from_secs(status.since);
    let flaps = FlapSummary {
        failures: status.flaps.failures,
        since: status.flaps.since,
        holds: status.flaps.holds,
        until: status.flaps.held_until,
    };
    let flaps = FlapHistory::restore(&flaps, since);
    if status.told {
        return Known { flaps, ..Known::default() };
    }
    Known { health: status.state, share: status.share, since, flaps }
}
