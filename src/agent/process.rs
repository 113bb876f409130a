//! What commands share that stay: signals and changes that they wait for, the log, systemd, the endpoint.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use l4lb::Balancer;
use l4lb::Instance;
use l4lb::decap;
use l4lb::netlink::CHECK_INTERVAL;
use l4lb::netlink::Changes;
use l4lb::outside::message;
use l4lb::serving::Part;
use l4lb::serving::Serving;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::task::JoinHandle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::http;
use crate::http::Answers;

/// How long to wait before the kernel is asked again to tell of changes.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// Runs what waits for several things.
pub(crate) fn block_on<T>(work: impl Future<Output = l4lb::Result<T>>) -> l4lb::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(host("start the event loop"))?;
    let done = runtime.block_on(work);
    // Whatever still waits for something, as a file that does not come, is not waited for.
    runtime.shutdown_background();
    done
}

/// SIGHUP. From here on it does not end the process.
pub(crate) fn hangup() -> l4lb::Result<Signal> {
    signal(SignalKind::hangup()).map_err(host("wait for signals"))
}

/// SIGTERM and SIGINT, which are heard also while it waits for a command that is changing the instance.
pub(crate) struct Stop {
    pub(crate) is_set: Arc<AtomicBool>,
    told: Arc<Notify>,
}

impl Stop {
    /// From here on neither ends it in the middle of something.
    pub(crate) fn listen() -> l4lb::Result<Self> {
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

    /// Waits for either.
    pub(crate) async fn wait(&self) {
        while !self.is_set.load(Ordering::Relaxed) {
            self.told.notified().await;
        }
    }
}

/// Claims what this process is to serve; `None`: it was told to stop while somebody else had it.
pub(crate) async fn claim(
    instance: &Instance,
    parts: Vec<Part>,
    stop: &Stop,
) -> l4lb::Result<Option<Serving>> {
    let instance = instance.clone();
    let claimed = spawn_blocking(move || Serving::begin(&instance, &parts));
    match claimed.await.map_err(panicked)? {
        Err(error @ l4lb::Error::Serving(_)) if stop.is_set.load(Ordering::Relaxed) => {
            tracing::info!("{error}");
            Ok(None)
        }
        claimed => claimed.map(Some),
    }
}

pub(crate) fn host(operation: &'static str) -> impl Fn(std::io::Error) -> l4lb::Error {
    move |source| l4lb::Error::Host { operation, source }
}

/// A metric that was made.
pub(crate) fn made<T>(metric: prometheus::Result<T>) -> l4lb::Result<T> {
    metric.map_err(|error| host("make metrics")(std::io::Error::other(error)))
}

/// Waits for what may alter a gateway or the host's own addresses. A subscription that ended is made anew, but not at once: meanwhile
/// the timer does.
pub(crate) async fn next_change(changes: &mut Option<Changes>) {
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
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Ready: after the start, and after each reload, whatever became of it. `status` is for `systemctl status`.
pub(crate) fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&message(status))]);
}

pub(crate) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]),
        Err(error) => tracing::debug!("cannot tell the time: {error}"),
    }
}

/// What was warned of already: a warning that lasts is given once.
#[derive(Debug, Default)]
pub(crate) struct Warnings(BTreeSet<String>);

impl Warnings {
    /// Logs what there is to warn of now and was not before, and what there is no longer.
    pub(crate) fn report(&mut self, warnings: Vec<String>) {
        let warnings: BTreeSet<_> = warnings.into_iter().collect();
        for warning in warnings.difference(&self.0) {
            tracing::warn!("{warning}");
        }
        for gone in self.0.difference(&warnings) {
            // Not what was to be done about it.
            let what = gone.split_once(';').map_or(gone.as_str(), |(what, _)| what);
            tracing::info!("no longer: {what}");
        }
        self.0 = warnings;
    }
}

pub(crate) fn log_lines(report: &impl Display) {
    report.to_string().lines().for_each(|line| tracing::info!("{line}"));
}

pub(crate) fn panicked(error: JoinError) -> l4lb::Error {
    host("finish a change")(std::io::Error::other(error))
}

/// Pins again what somebody removed the pins of. What that does not bring back, whoever follows finds, too, and warns
/// of.
pub(crate) async fn pin_again(instance: &Instance) {
    let instance = instance.clone();
    let pinned = spawn_blocking(move || Balancer::pin_again(&instance));
    match pinned.await.map_err(panicked).and_then(|pinned| pinned) {
        Ok(lost) if lost.is_empty() => {}
        Ok(lost) => tracing::warn!("{}: pinned again", lost.what()),
        Err(error) => tracing::debug!("{error}"),
    }
}

/// Follows the addresses of the host where the instance decapsulates. What there is to warn of.
pub(crate) async fn follow_decap(instance: &Instance) -> Vec<String> {
    let instance = instance.clone();
    let followed = spawn_blocking(move || decap::follow(&instance));
    match followed.await.map_err(panicked).and_then(|followed| followed) {
        Ok(followed) => log_lines(&followed),
        Err(l4lb::Error::NoDecap { .. }) => {}
        Err(error @ l4lb::Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
        Err(error) => return vec![error.to_string()],
    }
    Vec::new()
}

/// Listens; `option` is what says where.
pub(crate) async fn listen(address: SocketAddr, option: &str) -> l4lb::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| {
        let what = format!("{source} ({option} = \"{address}\")");
        host("listen for metrics")(std::io::Error::new(source.kind(), what))
    })
}

/// The same; that it cannot is a warning, as an [`Endpoint`] tries again.
pub(crate) async fn listen_or_warn(address: SocketAddr, option: &str) -> Option<TcpListener> {
    let listener = listen(address, option).await;
    let every = CHECK_INTERVAL.as_secs();
    listener
        .inspect_err(|error| tracing::warn!("no metrics: {error}; tried again every {every} s"))
        .ok()
}

/// The metrics endpoint.
pub(crate) struct Endpoint {
    answers: Answers,
    /// What says where it listens.
    option: &'static str,
    /// Where it listens; `None`: nowhere, as the address cannot be had, nor one that there was before.
    listening: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Endpoint {
    pub(crate) fn new(
        address: SocketAddr,
        option: &'static str,
        listener: Option<TcpListener>,
        answers: Answers,
    ) -> Self {
        let mut endpoint = Self { answers, option, listening: None };
        if let Some(listener) = listener {
            endpoint.begin(address, listener);
        }
        endpoint
    }

    fn begin(&mut self, address: SocketAddr, listener: TcpListener) {
        tracing::info!("metrics at http://{address}/metrics");
        let task = tokio::spawn(http::serve(listener, self.answers.clone()));
        self.listening = Some((address, task));
    }

    /// Listens elsewhere; where it did, if that fails. Answers that are under way are finished.
    pub(crate) async fn move_to(&mut self, address: SocketAddr) -> l4lb::Result<()> {
        if self.listens_at(address) {
            return Ok(());
        }
        let before = self.listening.as_ref().map(|(before, _)| *before);
        // First, as a port of one address cannot be listened at when it is that of all.
        if let Some((_, task)) = self.listening.take() {
            task.abort();
            let _: std::result::Result<(), JoinError> = task.await;
        }
        let error = match listen(address, self.option).await {
            Ok(listener) => {
                self.begin(address, listener);
                return Ok(());
            }
            Err(error) => error,
        };
        if let Some(before) = before {
            match listen(before, self.option).await {
                Ok(listener) => self.begin(before, listener),
                Err(error) => tracing::error!("nor where it listened before: {error}"),
            }
        }
        Err(error)
    }

    /// Listens there, if it does not and now can: a port may be free, or an address back. Whether it does.
    pub(crate) async fn retry(&mut self, address: SocketAddr) -> bool {
        if self.listens_at(address) {
            return true;
        }
        match listen(address, self.option).await {
            Ok(listener) => {
                if let Some((_, task)) = self.listening.take() {
                    task.abort();
                }
                self.begin(address, listener);
                true
            }
            Err(error) => {
                tracing::debug!("{error}");
                false
            }
        }
    }

    /// Whether it listens there.
    pub(crate) fn listens_at(&self, address: SocketAddr) -> bool {
        self.listening.as_ref().is_some_and(|(listening, _)| *listening == address)
    }
}
