//! The agent of a balancer.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;

use super::api::Api;
use super::api::ControlEndpoint;
use super::checks::Following;
use super::checks::Notifier;
use super::control::Control;
use super::drift;
use super::endpoint::Endpoint;
use super::endpoint::listen;
use super::endpoint::listen_or_warn;
use super::event::Event;
use super::event::Outcome;
use super::http::Answers;
use super::page::Page;
use super::printed::Printer;
use super::process::blocking;
use super::process::claim;
use super::process::follow_decap;
use super::process::host;
use super::process::next_change;
use super::process::pin_again;
use super::reloads::Reloads;
use super::repairs::Repairs;
use super::warnings::Warnings;
use super::warnings::log_lines;
use super::warnings::log_plan;
use crate::capture::remove_abandoned;
use crate::control::options::ApplyOptions;
use crate::control::options::OnUnserved;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::instance::serving::Part;
use crate::kernel::audit::Entry;
use crate::kernel::audit::Who;
use crate::kernel::netlink::CHECK_INTERVAL;
use crate::kernel::netlink::Changes;
use crate::kernel::outside::TIME_TO_READ;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::plan::InterfaceAction;
use crate::plan::Plan;

/// The setting that says where the endpoint listens.
const LISTEN: &str = "metrics.listen";

/// How an [`Agent`] applies its file.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// All or nothing: if an interface cannot be served, the agent does not start or reload. Otherwise it tries such an
    /// interface again every few seconds. At the start, the same holds for the metrics address.
    pub strict: bool,
    /// Puts the XDP program that an interface has already into this slot of the chain.
    pub adopt: Option<u32>,
    /// `--watch`: reload when the file, or one that it includes, was written.
    pub watch: bool,
}

impl Options {
    fn apply(self) -> ApplyOptions {
        ApplyOptions {
            on_unserved: if self.strict { OnUnserved::Fail } else { OnUnserved::Wait },
            adopt: self.adopt,
            allow_breaking: true,
            repair: true,
            // With `strict` too: a start or reload is no request for another router.
            keep_gateways: true,
            ..ApplyOptions::default()
        }
    }
}

/// Keeps a balancer as its configuration file says: see [the module](super).
#[derive(Debug)]
pub struct Agent {
    instance: Instance,
    file: PathBuf,
    config: Config,
    options: Options,
    printer: Option<Printer>,
}

impl Agent {
    /// Reads the file. Nothing is changed before [`Self::run`].
    ///
    /// # Errors
    ///
    /// The errors of [`Config::from_file`].
    pub fn from_file(
        instance: &Instance,
        file: impl Into<PathBuf>,
        options: Options,
    ) -> Result<Self> {
        let file = file.into();
        let config = Config::from_file(&file)?;
        Ok(Self { instance: instance.clone(), file, config, options, printer: None })
    }

    /// The same, with what runs commands for users of the control API who lack the rights to read by themselves.
    #[must_use]
    pub fn with_printer(self, printer: Printer) -> Self {
        Self { printer: Some(printer), ..self }
    }

    /// Applies the file, then runs until it is stopped. It follows gateways and interfaces, serves interfaces that
    /// appear, reloads the file, restores pins, fixes maps that do not match, and answers at `metrics.listen`. Starting
    /// and reloading consent to what the file says: changes that break established flows are logged.
    ///
    /// `tell` gets the agent's events. The agent's future calls it, so it must not block.
    ///
    /// # Errors
    ///
    /// Only errors of the start: those of [`Balancer::apply`], and [`Error::Serving`] if another process serves the
    /// balancer. Later failures are logged and tried again.
    pub async fn run(self, control: &Control, mut tell: impl FnMut(Event<'_>)) -> Result<()> {
        let options = self.options.apply();
        // A stop must be noticed while another command holds the lock.
        let instance = &self.instance.with_interrupt(control.interrupt());
        let changes = Some(Changes::subscribe()?);
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Some(serving) = claim(instance, vec![Part::Balancer], control).await? else {
            return Ok(());
        };
        let listener = if self.options.strict {
            Some(listen(self.config.metrics.listen, LISTEN).await?)
        } else {
            listen_or_warn(self.config.metrics.listen, LISTEN).await
        };
        let socket = ControlEndpoint::make(instance, &self.config.control).await;
        let socket = if self.options.strict { Ok(socket?) } else { socket };
        let server = match Server::apply(instance, self.config, options).await {
            Err(error @ Error::LockInterrupted { .. }) => {
                tracing::info!("{error}");
                return Ok(());
            }
            applied => applied.map_err(|error| error.in_file(&self.file))?,
        };
        tell_audit(instance, &format!("serve -f {}", self.file.display()), true, &server.changed);
        let reloads = Reloads::new(serving)?;
        reloads.set_own(&server.config);
        let watch = self.options.watch.then(|| control.clone());
        drift::follow(self.file.clone(), reloads.clone(), watch);
        let repairs = Repairs::new()?;
        let notifier = Notifier::start()?;
        notifier.set(&server.config.notify);
        let checks = Following::start(instance, notifier.teller())?;
        let failed = reloads.clone();
        let collectors =
            [Box::new(reloads.clone()) as _, repairs.collector(), Box::new(checks.metrics())]
                .into_iter()
                .chain(notifier.collectors());
        let per_real = Arc::new(AtomicBool::new(server.config.metrics.per_real));
        let answers = Answers::of_balancer(instance, collectors, Arc::clone(&per_real))
            .with_note(move || failed.failure());
        let failed = reloads.clone();
        let api = Api::new(instance, move || failed.failure()).with_printer(self.printer);
        let page = Page::new(instance, &api, &server.config);
        let answers = answers.with_page(page.clone());
        let endpoint = Endpoint::new(server.config.metrics.listen, LISTEN, listener, answers);
        let api = ControlEndpoint::new(api, instance, &server.config.control, socket);
        let running = Running {
            file: self.file,
            server,
            reloads,
            repairs,
            checks,
            notifier,
            endpoint,
            page,
            per_real,
            api,
            noted: None,
        };
        running.stay(control, changes, check, &mut tell).await;
        tell(Event::Stopping);
        tracing::info!("stopped; forwarding goes on without this process");
        Ok(())
    }
}

/// An agent whose file is in force.
struct Running {
    file: PathBuf,
    server: Server,
    reloads: Reloads,
    repairs: Repairs,
    checks: Following,
    notifier: Notifier,
    endpoint: Endpoint,
    page: Page,
    /// Whether the metrics have series of each real.
    per_real: Arc<AtomicBool>,
    api: ControlEndpoint,
    /// What was told last about the file and the last reload.
    noted: Option<String>,
}

impl Running {
    /// Runs until it is stopped.
    async fn stay(
        mut self,
        control: &Control,
        mut changes: Option<Changes>,
        mut check: Interval,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        self.note_endpoints();
        tell(Event::Ready);
        while !control.is_stopped() {
            tell(Event::Alive);
            tokio::select! {
                () = control.wait_for_stop() => {}
                () = control.wait_for_reload() => self.reload(control, tell).await,
                () = next_change(&mut changes) => self.follow().await,
                () = self.repairs.are_due() => self.repairs.make(&self.server.instance).await,
                _ = check.tick() => {
                    pin_again(&self.server.instance).await;
                    self.follow().await;
                    self.server.tidy().await;
                    self.endpoint.retry(self.server.config.metrics.listen).await;
                    self.api.retry().await;
                    self.note_endpoints();
                    self.note_file(tell);
                }
            }
        }
        self.api.end().await;
    }

    async fn follow(&mut self) {
        self.server.follow(self.reloads.clone()).await;
    }

    /// Moves metrics and the control API to where the file says.
    async fn move_endpoints(&mut self) -> Outcome {
        let metrics = self.endpoint.move_to(self.server.config.metrics.listen).await;
        let api = self.api.move_to(&self.server.config.control).await;
        match (metrics, api) {
            (Ok(()), Ok(())) => Outcome::Done,
            (Ok(()), Err(error)) => Outcome::ControlElsewhere(error),
            (Err(error), Ok(())) => Outcome::MetricsElsewhere(error),
            (Err(error), Err(also)) => {
                tracing::error!("{also}");
                Outcome::MetricsElsewhere(error)
            }
        }
    }

    /// Tells other processes where metrics and the control API are.
    fn note_endpoints(&self) {
        self.reloads.set_metrics(self.endpoint.listens_at(self.server.config.metrics.listen));
        self.reloads.set_control(self.api.status().as_ref());
    }

    /// Tells if something else is wrong with the file than before, or nothing any longer.
    fn note_file(&mut self, tell: &mut impl FnMut(Event<'_>)) {
        let now = self.reloads.failure();
        if now != self.noted {
            tell(Event::Noted(now.as_deref()));
            self.noted = now;
        }
    }

    /// Reads the file again and reports the outcome, unless it is stopped meanwhile.
    async fn reload(&mut self, control: &Control, tell: &mut impl FnMut(Event<'_>)) {
        self.reloads.begin(&mut *tell);
        self.server.options.refuse_removals = !self.reloads.is_consented();
        let reloaded = self.server.reload(&self.file, control).await;
        if control.is_stopped() {
            return;
        }
        self.checks.look_now();
        self.notifier.set(&self.server.config.notify);
        self.page.set(&self.server.config);
        self.per_real.store(self.server.config.metrics.per_real, Ordering::Relaxed);
        self.reloads.set_own(&self.server.config);
        let outcome = if let Err(error) = reloaded {
            Outcome::Failed(error)
        } else {
            // Until the next look, the file is what was read.
            self.reloads.set_drift(None);
            self.move_endpoints().await
        };
        self.note_endpoints();
        let what = format!("reload of {}", self.file.display());
        match outcome.failure().filter(|_| !outcome.is_applied()) {
            Some(why) => tell_audit(&self.server.instance, &what, false, &why),
            None => tell_audit(&self.server.instance, &what, true, &self.server.changed),
        }
        self.reloads.end(&outcome, tell);
        self.noted = self.reloads.failure();
    }
}

/// What the agent keeps as the file says.
struct Server {
    instance: Instance,
    options: ApplyOptions,
    config: Config,
    /// The digest of the configuration.
    digest: u64,
    warnings: Warnings,
    /// The interfaces that could not be served at the last try.
    unserved: BTreeSet<String>,
    /// What the last change of the configuration changed, in one line.
    changed: String,
}

impl Server {
    /// Applies a configuration.
    async fn apply(instance: &Instance, config: Config, options: ApplyOptions) -> Result<Self> {
        let mut server = Self {
            instance: instance.clone(),
            options,
            config: Config::default(),
            digest: 0,
            warnings: Warnings::default(),
            unserved: BTreeSet::new(),
            changed: String::new(),
        };
        server.change(config).await?;
        Ok(server)
    }

    /// Applies the file again. If that fails, the agent keeps what was applied before.
    async fn reload(&mut self, file: &Path, control: &Control) -> Result<()> {
        // A mount that does not answer must not block the loop, so another thread reads the file.
        let path = file.to_owned();
        let read = blocking(move || Ok(Config::from_file(&path)?));
        let failed = |kind, what: &str| {
            let what = format!("{}: {what}", file.display());
            host("read the file")(io::Error::new(kind, what))
        };
        let config = tokio::select! {
            read = timeout(TIME_TO_READ * 2, read) => {
                read.map_err(|_| failed(io::ErrorKind::TimedOut, "no answer in time"))?
            }
            () = control.wait_for_stop() => return Err(failed(io::ErrorKind::Interrupted, "interrupted")),
        };
        let config = config?;
        self.change(config).await.map_err(|error| error.in_file(file))
    }

    async fn change(&mut self, config: Config) -> Result<()> {
        let (instance, wanted, options) =
            (self.instance.clone(), config.clone(), self.options.clone());
        let applied = blocking(move || {
            Balancer::apply_announced(&instance, &wanted, options, |plan| {
                plan.memory.iter().for_each(log_lines);
            })
        });
        let mut plan = applied.await?;
        // The announcement above logged it, before the kernel allocated the memory.
        plan.memory = None;
        self.digest = config.digest();
        self.config = config;
        self.changed = plan.summary();
        report_changes(&plan);
        for effect in plan.breaking() {
            tracing::warn!(
                "{} established flows broke: {}",
                effect.moved.unwrap_or_default(),
                effect.change
            );
        }
        let warnings = self.not_served(&mut plan);
        self.warnings.report_reloaded(warnings);
        Ok(())
    }

    /// Follows gateways and interfaces, and addresses if the instance decapsulates as well. If another command has
    /// applied something else than this process, the interfaces are those that it left: one that it took out must not
    /// come back.
    async fn follow(&mut self, reloads: Reloads) {
        let (instance, config, digest) = (self.instance.clone(), self.config.clone(), self.digest);
        let followed = blocking(move || {
            if reloads.is_last(digest) {
                return Balancer::follow_while(&instance, &config, || reloads.is_last(digest));
            }
            let runs = Balancer::open(&instance).and_then(|balancer| balancer.save());
            Balancer::follow(&instance, runs.as_ref().unwrap_or(&config))
        });
        let mut warnings = follow_decap(&self.instance).await;
        match followed.await {
            Ok(plan) if plan.overtaken => {
                // The warnings stay in force until the next look.
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
            Err(error @ Error::LockInterrupted { .. }) => {
                tracing::debug!("{error}");
                return;
            }
            Err(error) => {
                warnings.push(error.to_string());
                self.warnings.add(warnings);
                return;
            }
        }
        self.warnings.report(warnings);
    }

    /// The warnings of a plan that was carried out, those about interfaces first.
    fn not_served(&mut self, plan: &mut Plan) -> Vec<String> {
        self.unserved = plan.unserved.iter().map(|unserved| unserved.name.clone()).collect();
        let mut warnings: Vec<_> = plan.unserved.iter().map(ToString::to_string).collect();
        warnings.append(&mut plan.warnings);
        warnings
    }

    /// Removes what captures that were killed have left.
    async fn tidy(&self) {
        let instance = self.instance.clone();
        match blocking(move || remove_abandoned(&instance)).await {
            Ok(true) => tracing::info!("removed what a killed capture had left"),
            Ok(false) => {}
            Err(error) => tracing::warn!("cannot remove what killed captures have left: {error}"),
        }
    }
}

/// Tells the system's log what this process changed; who asked a signal for it is not known.
fn tell_audit(instance: &Instance, what: &str, done: bool, result: &str) {
    let (who, instance) = (Who::here(), instance.name());
    Entry { instance, who: &who, what, result, done }.send();
}

/// Logs what changed. `Warnings` logs the rest.
fn report_changes(plan: &Plan) {
    let mut changes = plan.clone();
    changes.unserved.clear();
    log_plan(&changes);
}
