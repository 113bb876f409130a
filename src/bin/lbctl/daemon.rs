//! What commands that keep running share: the event loop, the signals that control an agent, and notifying systemd.

use std::time::Duration;
use std::time::Instant;

use l4lb::agent::Control;
use l4lb::agent::Event;
use l4lb::outside::message;
use sd_notify::NotifyState;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// Runs a future that waits for several things.
pub(crate) fn block_on<T>(work: impl Future<Output = l4lb::Result<T>>) -> l4lb::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(host("start the event loop"))?;
    let done = runtime.block_on(work);
    // Blocking threads that still wait, for example for a file that does not come, must not delay the end.
    runtime.shutdown_background();
    done
}

/// SIGHUP reloads, SIGTERM and SIGINT stop. From here on, none of them ends the process at once.
pub(crate) fn control() -> l4lb::Result<Control> {
    let listen = |kind| signal(kind).map_err(host("wait for signals"));
    let mut hangup = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let control = Control::default();
    let steered = control.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => steered.reload(),
                _ = terminate.recv() => return steered.stop(),
                _ = interrupt.recv() => return steered.stop(),
            }
        }
    });
    Ok(control)
}

fn host(operation: &'static str) -> impl Fn(std::io::Error) -> l4lb::Error {
    move |source| l4lb::Error::Host { operation, source }
}

/// The shortest time between two signs of life.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a reload may take before the watchdog counts it as hung.
const TIME_TO_RELOAD: Duration = Duration::from_secs(15 * 60);

/// How often the loop takes the lock of the instance on its way round, and how long everything else may take.
const LOCKS: u32 = 4;
const TIME_TO_WORK: Duration = Duration::from_secs(60);

/// What systemd is told: an agent's events, and that its loop is alive, if the unit has `WatchdogSec=`.
#[derive(Debug)]
pub(crate) struct Systemd {
    /// How long the watchdog waits for a sign of life; `None`: there is no watchdog.
    patience: Option<Duration>,
    /// What the unit says about that.
    of_unit: Option<Duration>,
    /// The last sign of life.
    last: Option<Instant>,
}

impl Systemd {
    /// For a process that waits as long for the lock of the instance.
    pub(crate) fn new(lock_timeout: Duration) -> Self {
        let of_unit = sd_notify::watchdog_enabled();
        let needed = lock_timeout.saturating_mul(LOCKS) + TIME_TO_WORK;
        Self { patience: of_unit.map(|of_unit| of_unit.max(needed)), of_unit, last: None }
    }

    /// Tells systemd about an agent's event.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Ready => {
                notify_ready("serving");
                if self.patience != self.of_unit {
                    self.wait_for(self.patience);
                }
            }
            Event::Alive => self.live(),
            Event::Reloading => {
                notify_reloading();
                self.wait_for(self.patience.map(|patience| patience.max(TIME_TO_RELOAD)));
            }
            Event::Reloaded(outcome) => {
                let status = outcome.to_string();
                notify_ready(if outcome.is_done() { "serving" } else { &status });
                self.wait_for(self.patience);
            }
            Event::Noted(note) => {
                let status = note.map_or("serving".to_owned(), |note| format!("serving; {note}"));
                notify(&[NotifyState::Status(&message(&status))]);
            }
            Event::Stopping => notify(&[NotifyState::Stopping]),
            _ => {}
        }
    }

    /// Gives the watchdog another time to wait, from now on.
    fn wait_for(&mut self, time: Option<Duration>) {
        let Some(time) = time else { return };
        let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        notify(&[NotifyState::WatchdogUsec(time)]);
        self.last = None;
    }

    fn live(&mut self) {
        let lately = self.last.is_some_and(|last| last.elapsed() < PAUSE);
        if self.patience.is_none() || lately {
            return;
        }
        self.last = Some(Instant::now());
        notify(&[NotifyState::Watchdog]);
    }
}

/// Tells systemd, if systemd started this process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Ready: after the start, and after each reload, even one that failed. `status` is for `systemctl status`.
fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&message(status))]);
}

fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]),
        Err(error) => tracing::debug!("cannot tell the time: {error}"),
    }
}
