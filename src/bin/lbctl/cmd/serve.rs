//! `lbctl serve`: forwarding needs no process; this one follows the gateways, reloads and is asked for
//! metrics.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use l4lb::ApplyOptions;
use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use l4lb::InterfaceAction;
use l4lb::OnUnresolved;
use l4lb::Plan;
use l4lb::capture::remove_abandoned;
use l4lb::netlink::CHECK_INTERVAL;
use l4lb::netlink::Changes;
use prometheus::Gauge;
use prometheus::IntGauge;
use prometheus::core::Collector;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::task::JoinHandle;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::sleep;

use crate::Exit;
use crate::Result;
use crate::args::Apply;
use crate::http;
use crate::http::Answers;

/// How long to wait before the kernel is asked again to tell of changes.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn serve(instance: &Instance, args: &Apply) -> Result {
    let file = &args.file.file;
    let config = Config::from_file(file)?;
    let options = ApplyOptions { on_unresolved: OnUnresolved::KeepLast, adopt: args.adopt.adopt };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(host("start the event loop"))?;
    Ok(runtime.block_on(run(instance, file, config, options))?)
}

async fn run(
    instance: &Instance,
    file: &Path,
    config: Config,
    options: ApplyOptions,
) -> l4lb::Result<Exit> {
    // From here on no signal ends it in the middle of something.
    let mut hangup = signal(SignalKind::hangup()).map_err(host("wait for signals"))?;
    let stop = Stop::listen()?;
    // Nor is it heard only when another command is done.
    let instance = &instance.clone().with_interrupt(Arc::clone(&stop.is_set));
    let mut changes = Some(Changes::subscribe()?);
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // If it cannot listen, it changes nothing.
    let listener = listen(config.metrics.listen).await?;
    let mut server = match Server::apply(instance, config, options).await {
        Err(error @ l4lb::Error::LockInterrupted { .. }) => {
            tracing::info!("{error}");
            return Ok(Exit::Done);
        }
        applied => applied.map_err(|error| error.in_file(file))?,
    };
    let reloads = Reloads::new()?;
    reloads.count(true);
    let answers = Answers::new(instance, reloads.collectors());
    let mut endpoint = Endpoint::new(server.config.metrics.listen, listener, answers);
    notify(&[NotifyState::Ready]);
    while !stop.is_set.load(Ordering::Relaxed) {
        tokio::select! {
            () = stop.told.notified() => {}
            _ = hangup.recv() => {
                notify_reloading();
                let reloaded = server.reload(file).await;
                if stop.is_set.load(Ordering::Relaxed) {
                    continue;
                }
                reloads.count(reloaded.is_ok());
                if let Err(error) = reloaded {
                    tracing::error!("not reloaded: {error}");
                } else if let Err(error) = endpoint.move_to(server.config.metrics.listen).await {
                    tracing::error!("reloaded, but for the metrics: {error}");
                } else {
                    tracing::info!("reloaded");
                }
                notify(&[NotifyState::Ready]);
            }
            () = next_change(&mut changes) => server.follow().await,
            _ = check.tick() => {
                server.follow().await;
                server.tidy().await;
                endpoint.retry(server.config.metrics.listen).await;
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("leaving; forwarding needs no process");
    Ok(Exit::Done)
}

/// SIGTERM and SIGINT, which are heard also while it waits for a command that is changing the instance.
struct Stop {
    is_set: Arc<AtomicBool>,
    told: Arc<Notify>,
}

impl Stop {
    fn listen() -> l4lb::Result<Self> {
        let mut terminate = signal(SignalKind::terminate()).map_err(host("wait for signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(host("wait for signals"))?;
        let stop = Self { is_set: Arc::default(), told: Arc::default() };
        let (is_set, told) = (Arc::clone(&stop.is_set), Arc::clone(&stop.told));
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            is_set.store(true, Ordering::Relaxed);
            told.notify_one();
        });
        Ok(stop)
    }
}

/// Whether the file is what runs.
struct Reloads {
    success: IntGauge,
    timestamp: Gauge,
}

impl Reloads {
    fn new() -> l4lb::Result<Self> {
        let make = || -> prometheus::Result<Self> {
            Ok(Self {
                success: IntGauge::new(
                    "l4lb_reload_success",
                    "Whether the file was applied when it was last read: 1 or 0.",
                )?,
                timestamp: Gauge::new(
                    "l4lb_reload_success_timestamp_seconds",
                    "When the file was last applied, in seconds since 1970.",
                )?,
            })
        };
        make().map_err(|error| host("make metrics")(std::io::Error::other(error)))
    }

    fn count(&self, success: bool) {
        self.success.set(success.into());
        if success {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            self.timestamp.set(now.unwrap_or_default().as_secs_f64());
        }
    }

    fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.success.clone()), Box::new(self.timestamp.clone())]
    }
}

fn host(operation: &'static str) -> impl Fn(std::io::Error) -> l4lb::Error {
    move |source| l4lb::Error::Host { operation, source }
}

/// Waits for what may alter a gateway. A subscription that ended is made anew, but not at once: meanwhile
/// the timer does.
async fn next_change(changes: &mut Option<Changes>) {
    loop {
        if let Some(subscription) = changes {
            if subscription.next().await.is_some() {
                return;
            }
            tracing::warn!("the kernel tells of no more changes; asking again");
            *changes = None;
        }
        sleep(SUBSCRIBE_AGAIN).await;
        match Changes::subscribe() {
            Ok(subscription) => {
                *changes = Some(subscription);
                // Something may have been missed.
                return;
            }
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// Tells systemd, if it asked.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("cannot tell the time: {error}"),
    }
}

/// What is kept as the file says.
struct Server {
    instance: Instance,
    options: ApplyOptions,
    config: Config,
    /// What was warned of already: a warning that lasts is given once.
    warnings: BTreeSet<String>,
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
            warnings: BTreeSet::new(),
        };
        server.change(config).await?;
        Ok(server)
    }

    /// Applies the file again. If that fails, what was applied before is what is kept.
    async fn reload(&mut self, file: &Path) -> l4lb::Result<()> {
        self.change(Config::from_file(file)?).await.map_err(|error| error.in_file(file))
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
        self.report_warnings(plan.warnings);
        Ok(())
    }

    /// Follows gateways and interfaces.
    async fn follow(&mut self) {
        let (instance, config) = (self.instance.clone(), self.config.clone());
        let followed = spawn_blocking(move || Balancer::follow(&instance, &config));
        match followed.await.map_err(panicked).and_then(|plan| plan) {
            Ok(plan) => {
                for interface in &plan.interfaces {
                    if interface.action == InterfaceAction::Attach {
                        let name = &interface.name;
                        tracing::warn!("interface {name} did not run the program: attached again");
                    }
                }
                report_changes(&plan);
                self.report_warnings(plan.warnings);
            }
            Err(error @ l4lb::Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
            Err(error) => self.report_warnings(vec![error.to_string()]),
        }
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

    /// Logs what there is to warn of now and was not before, and what there is no longer.
    fn report_warnings(&mut self, warnings: Vec<String>) {
        let warnings: BTreeSet<_> = warnings.into_iter().collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!("{warning}");
        }
        for gone in self.warnings.difference(&warnings) {
            // Not what was to be done about it.
            let what = gone.split_once(';').map_or(gone.as_str(), |(what, _)| what);
            tracing::info!("no longer: {what}");
        }
        self.warnings = warnings;
    }
}

fn report_changes(plan: &Plan) {
    if !plan.is_empty() {
        log_lines(plan);
    }
}

fn log_lines(report: &impl Display) {
    report.to_string().lines().for_each(|line| tracing::info!("{line}"));
}

fn panicked(error: JoinError) -> l4lb::Error {
    host("finish a change")(std::io::Error::other(error))
}

async fn listen(address: SocketAddr) -> l4lb::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| {
        let what = format!("{source} (metrics.listen = \"{address}\")");
        host("listen for metrics")(std::io::Error::new(source.kind(), what))
    })
}

/// The metrics endpoint.
struct Endpoint {
    answers: Answers,
    /// Where it listens; `None`: nowhere, as neither the address of the file nor the one before can be had.
    listening: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Endpoint {
    fn new(address: SocketAddr, listener: TcpListener, answers: Answers) -> Self {
        let mut endpoint = Self { answers, listening: None };
        endpoint.begin(address, listener);
        endpoint
    }

    fn begin(&mut self, address: SocketAddr, listener: TcpListener) {
        tracing::info!("metrics at http://{address}/metrics");
        let task = tokio::spawn(http::serve(listener, self.answers.clone()));
        self.listening = Some((address, task));
    }

    /// Listens elsewhere; where it did, if that fails. Answers that are under way are finished.
    async fn move_to(&mut self, address: SocketAddr) -> l4lb::Result<()> {
        let before = self.listening.as_ref().map(|(before, _)| *before);
        if before == Some(address) {
            return Ok(());
        }
        // First, as a port of one address cannot be listened at when it is that of all.
        if let Some((_, task)) = self.listening.take() {
            task.abort();
            let _: std::result::Result<(), JoinError> = task.await;
        }
        let error = match listen(address).await {
            Ok(listener) => {
                self.begin(address, listener);
                return Ok(());
            }
            Err(error) => error,
        };
        if let Some(before) = before {
            match listen(before).await {
                Ok(listener) => self.begin(before, listener),
                Err(error) => tracing::error!("nor where it listened before: {error}"),
            }
        }
        Err(error)
    }

    /// Listens, if it does nowhere and now can: an address may have come back.
    async fn retry(&mut self, address: SocketAddr) {
        if self.listening.is_none() {
            match listen(address).await {
                Ok(listener) => self.begin(address, listener),
                Err(error) => tracing::debug!("{error}"),
            }
        }
    }
}
