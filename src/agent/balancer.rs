//! `lbctl serve`: forwarding needs no process; this one follows the gateways, reloads and is asked for
//! metrics.

mod reloads;
mod repair;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use l4lb::ApplyOptions;
use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use l4lb::InterfaceAction;
use l4lb::OnUnserved;
use l4lb::Plan;
use l4lb::capture::remove_abandoned;
use l4lb::netlink::CHECK_INTERVAL;
use l4lb::netlink::Changes;
use l4lb::outside::TIME_TO_READ;
use l4lb::serving::Part;
use sd_notify::NotifyState;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;

use crate::Exit;
use crate::Result;
use crate::args::Apply;
use crate::daemon::Endpoint;
use crate::daemon::Stop;
use crate::daemon::Warnings;
use crate::daemon::block_on;
use crate::daemon::claim;
use crate::daemon::follow_decap;
use crate::daemon::hangup;
use crate::daemon::host;
use crate::daemon::listen;
use crate::daemon::listen_or_warn;
use crate::daemon::log_lines;
use crate::daemon::next_change;
use crate::daemon::notify;
use crate::daemon::notify_ready;
use crate::daemon::panicked;
use crate::daemon::pin_again;
use crate::http::Answers;
use reloads::Outcome;
use reloads::Reloads;
use repair::Repairs;

/// What says where the endpoint listens.
const LISTEN: &str = "metrics.listen";

pub(crate) fn serve(instance: &Instance, args: &Apply) -> Result {
    let file = &args.file.file;
    let config = Config::from_file(file)?;
    let options = ApplyOptions {
        on_unserved: if args.strict { OnUnserved::Fail } else { OnUnserved::Wait },
        adopt: args.adopt.adopt,
        allow_breaking: true,
        repair: true,
        // With `--strict`, too: who starts or reloads has not asked for another router.
        keep_gateways: true,
    };
    Ok(block_on(run(instance, file, config, options))?)
}

async fn run(
    instance: &Instance,
    file: &Path,
    config: Config,
    options: ApplyOptions,
) -> l4lb::Result<Exit> {
    let mut hangup = hangup()?;
    let stop = Stop::listen()?;
    // Nor is it heard only when another command is done.
    let instance = &instance.clone().with_interrupt(Arc::clone(&stop.is_set));
    let mut changes = Some(Changes::subscribe()?);
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Some(serving) = claim(instance, vec![Part::Balancer], &stop).await? else {
        return Ok(Exit::Done);
    };
    let listener = if options.on_unserved == OnUnserved::Fail {
        Some(listen(config.metrics.listen, LISTEN).await?)
    } else {
        listen_or_warn(config.metrics.listen, LISTEN).await
    };
    let mut server = match Server::apply(instance, config, options).await {
        Err(error @ l4lb::Error::LockInterrupted { .. }) => {
            tracing::info!("{error}");
            return Ok(Exit::Done);
        }
        applied => applied.map_err(|error| error.in_file(file))?,
    };
    let reloads = Reloads::new(serving)?;
    let mut repairs = Repairs::new()?;
    let failed = reloads.clone();
    let collectors = [Box::new(reloads.clone()) as _, repairs.collector()];
    let answers = Answers::of_balancer(instance, collectors).with_note(move || failed.failure());
    let mut endpoint = Endpoint::new(server.config.metrics.listen, LISTEN, listener, answers);
    reloads.set_metrics(endpoint.listens_at(server.config.metrics.listen));
    notify_ready("serving");
    while !stop.is_set.load(Ordering::Relaxed) {
        tokio::select! {
            () = stop.wait() => {}
            _ = hangup.recv() => {
                reloads.begin();
                let reloaded = server.reload(file, &stop).await;
                if stop.is_set.load(Ordering::Relaxed) {
                    continue;
                }
                let outcome = match reloaded {
                    Err(error) => Outcome::Failed(error),
                    Ok(()) => match endpoint.move_to(server.config.metrics.listen).await {
                        Err(error) => Outcome::MetricsElsewhere(error),
                        Ok(()) => Outcome::Done,
                    },
                };
                reloads.set_metrics(endpoint.listens_at(server.config.metrics.listen));
                reloads.end(&outcome);
            }
            () = next_change(&mut changes) => server.follow().await,
            () = repairs.are_due() => repairs.make(instance).await,
            _ = check.tick() => {
                pin_again(&server.instance).await;
                server.follow().await;
                server.tidy().await;
                reloads.set_metrics(endpoint.retry(server.config.metrics.listen).await);
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("leaving; forwarding needs no process");
    Ok(Exit::Done)
}

/// What is kept as the file says.
struct Server {
    instance: Instance,
    options: ApplyOptions,
    config: Config,
    warnings: Warnings,
    /// The interfaces that could not be served the last time.
    unserved: BTreeSet<String>,
}

impl Server {
    /// Applies a configuration.
    async fn apply(
        instance: &Instance,
        config: Config,
        options: ApplyOptions,
    ) -> l4lb::Result<Self> {
        let mut server = Self {
            instance: instance.clone(),
            options,
            config: Config::default(),
            warnings: Warnings::default(),
            unserved: BTreeSet::new(),
        };
        server.change(config).await?;
        Ok(server)
    }

    /// Applies the file again. If that fails, what was applied before is what is kept.
    async fn reload(&mut self, file: &Path, stop: &Stop) -> l4lb::Result<()> {
        // Beside the loop, which a mount that does not answer must not hold up.
        let path = file.to_owned();
        let read = spawn_blocking(move || Config::from_file(&path));
        let failed = |kind, what: &str| {
            let what = format!("{}: {what}", file.display());
            host("read the file")(std::io::Error::new(kind, what))
        };
        let config = tokio::select! {
            read = timeout(TIME_TO_READ * 2, read) => {
                read.map_err(|_| failed(std::io::ErrorKind::TimedOut, "it does not come"))?
            }
            () = stop.wait() => return Err(failed(std::io::ErrorKind::Interrupted, "interrupted")),
        };
        let config = config.map_err(panicked)??;
        self.change(config).await.map_err(|error| error.in_file(file))
    }

    async fn change(&mut self, config: Config) -> l4lb::Result<()> {
        let (instance, wanted, options) = (self.instance.clone(), config.clone(), self.options);
        let applied = spawn_blocking(move || {
            Balancer::apply_announced(&instance, &wanted, options, |plan| {
                plan.memory.iter().for_each(log_lines);
            })
        });
        let mut plan = applied.await.map_err(panicked)??;
        // It was logged before it was taken.
        plan.memory = None;
        self.config = config;
        report_changes(&plan);
        for effect in plan.breaking() {
            tracing::warn!(
                "{} established flows broke: {}",
                effect.moved.unwrap_or_default(),
                effect.change
            );
        }
        let warnings = self.not_served(&mut plan);
        self.warnings.report(warnings);
        Ok(())
    }

    /// Follows gateways and interfaces; and addresses, if the instance decapsulates as well.
    async fn follow(&mut self) {
        let (instance, config) = (self.instance.clone(), self.config.clone());
        let followed = spawn_blocking(move || Balancer::follow(&instance, &config));
        let mut warnings = follow_decap(&self.instance).await;
        match followed.await.map_err(panicked).and_then(|plan| plan) {
            Ok(plan) if plan.overtaken => {
                // What there was to warn of is not over; the next look tells.
                report_changes(&plan);
                return;
            }
            Ok(mut plan) => {
                for interface in &plan.interfaces {
                    let name = &interface.name;
                    let waits = plan.unserved.iter().any(|unserved| unserved.name == *name);
                    if self.unserved.contains(name) && !waits && !interface.made_anew {
                        tracing::info!("interface {name} is served now");
                    } else if interface.action == InterfaceAction::Attach {
                        let what = if interface.made_anew {
                            "was made anew"
                        } else {
                            "did not run the program"
                        };
                        tracing::warn!("interface {name} {what}: attached again");
                    }
                }
                report_changes(&plan);
                warnings.extend(self.not_served(&mut plan));
            }
            Err(error @ l4lb::Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
            Err(error) => warnings.push(error.to_string()),
        }
        self.warnings.report(warnings);
    }

    /// What there is to warn of in a plan that was carried out, and of interfaces above all.
    fn not_served(&mut self, plan: &mut Plan) -> Vec<String> {
        self.unserved = plan.unserved.iter().map(|unserved| unserved.name.clone()).collect();
        let mut warnings: Vec<_> = plan.unserved.iter().map(ToString::to_string).collect();
        warnings.append(&mut plan.warnings);
        warnings
    }

    /// Takes away what captures have left that were killed.
    async fn tidy(&self) {
        let instance = self.instance.clone();
        let tidied = spawn_blocking(move || remove_abandoned(&instance));
        match tidied.await.map_err(panicked).and_then(|tidied| tidied) {
            Ok(true) => tracing::info!("removed what a capture left that was killed"),
            Ok(false) => {}
            Err(error) => tracing::warn!("abandoned captures: {error}"),
        }
    }
}

/// Logs what changed; what did not, `Warnings` has.
fn report_changes(plan: &Plan) {
    if !plan.is_empty() {
        let mut changes = plan.clone();
        changes.unserved.clear();
        log_lines(&changes);
    }
}
