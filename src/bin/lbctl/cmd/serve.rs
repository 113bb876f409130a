//! `lbctl serve`: forwarding needs no process; this one follows the gateways, reloads and is asked for
//! metrics.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use l4lb::OnUnresolved;
use l4lb::Plan;
use l4lb::metrics::Collector;
use l4lb::netlink::CHECK_INTERVAL;
use l4lb::netlink::Changes;
use prometheus::Registry;
use sd_notify::NotifyState;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinHandle;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::ConfigFile;
use crate::http;

pub(crate) fn serve(instance: &Instance, file: &ConfigFile) -> Result {
    let config = Config::from_file(&file.file)?;
    let plan = Balancer::apply_with(instance, &config, OnUnresolved::KeepLast)?;
    report(&plan);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(host("start the event loop"))?;
    runtime.block_on(run(instance, &file.file, config, plan.warnings))
}

fn host(operation: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |source| l4lb::Error::Host { operation, source }.into()
}

/// Logs what changed.
fn report(plan: &Plan) {
    if !plan.is_empty() {
        for line in plan.to_string().lines() {
            tracing::info!("{line}");
        }
    }
}

/// The metrics endpoint, while it is open.
struct Endpoint {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Endpoint {
    async fn open(address: SocketAddr, instance: &Instance) -> Result<Self> {
        let registry = Registry::new();
        if let Err(error) = registry.register(Box::new(Collector::new(instance.clone()))) {
            tracing::warn!("metrics: {error}");
        }
        let listener = http::bind(address).await.map_err(|source| {
            let what = format!("{source} (metrics.listen = \"{address}\")");
            host("listen for metrics")(std::io::Error::new(source.kind(), what))
        })?;
        tracing::info!("metrics at http://{address}/metrics");
        Ok(Self { address, task: tokio::spawn(http::serve(listener, registry)) })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    instance: &Instance,
    file: &Path,
    mut config: Config,
    warnings: Vec<String>,
) -> Result {
    let mut hangup = signal(SignalKind::hangup()).map_err(host("wait for signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(host("wait for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(host("wait for signals"))?;
    let mut changes = Changes::subscribe().map_err(l4lb::Error::from)?;
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    let mut endpoint = Endpoint::open(config.metrics.listen, instance).await?;
    // Warnings that were given already: one that lasts is given once.
    let mut known = BTreeSet::new();
    report_warnings(warnings, &mut known);
    notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                reload(instance, file, &mut config, &mut known).await;
                if config.metrics.listen != endpoint.address {
                    match Endpoint::open(config.metrics.listen, instance).await {
                        Ok(new) => endpoint = new,
                        Err(Failure::Library(error)) => tracing::error!("{error}"),
                        Err(Failure::Output(error)) => tracing::error!("{error}"),
                    }
                }
            }
            event = changes.next() => match event {
                Some(()) => follow(instance, &config, &mut known).await,
                None => changes = Changes::subscribe().map_err(l4lb::Error::from)?,
            },
            _ = check.tick() => follow(instance, &config, &mut known).await,
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("leaving; the data plane goes on forwarding");
    Ok(Exit::Done)
}

/// Tells systemd, if it asked.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Applies the file again. A file that is wrong changes nothing.
async fn reload(
    instance: &Instance,
    file: &Path,
    config: &mut Config,
    known: &mut BTreeSet<String>,
) {
    let now = NotifyState::monotonic_usec_now();
    match now {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("cannot tell the time: {error}"),
    }
    let new = match Config::from_file(file) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!("not reloaded: {error}");
            notify(&[NotifyState::Ready]);
            return;
        }
    };
    let (instance, wanted) = (instance.clone(), new.clone());
    let applied = tokio::task::spawn_blocking(move || {
        Balancer::apply_with(&instance, &wanted, OnUnresolved::KeepLast)
    });
    match applied.await {
        Ok(Ok(plan)) => {
            report(&plan);
            report_warnings(plan.warnings, known);
            *config = new;
            tracing::info!("reloaded");
        }
        Ok(Err(error)) => tracing::error!("not reloaded: {error}"),
        Err(error) => tracing::error!("not reloaded: {error}"),
    }
    notify(&[NotifyState::Ready]);
}

/// Follows gateways and interfaces.
async fn follow(instance: &Instance, config: &Config, known: &mut BTreeSet<String>) {
    let (instance, config) = (instance.clone(), config.clone());
    let followed = tokio::task::spawn_blocking(move || Balancer::follow(&instance, &config));
    let warnings = match followed.await {
        Ok(Ok(plan)) => {
            report(&plan);
            plan.warnings
        }
        Ok(Err(error)) => vec![error.to_string()],
        Err(error) => vec![error.to_string()],
    };
    report_warnings(warnings, known);
}

/// Logs what there is to warn of now and was not before, and what there is no longer.
fn report_warnings(warnings: Vec<String>, known: &mut BTreeSet<String>) {
    let warnings: BTreeSet<_> = warnings.into_iter().collect();
    for warning in warnings.difference(known) {
        tracing::warn!("{warning}");
    }
    for gone in known.difference(&warnings) {
        tracing::info!("no longer: {gone}");
    }
    *known = warnings;
}
