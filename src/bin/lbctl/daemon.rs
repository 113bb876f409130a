//! What commands that keep running share: the event loop, the signals that control an agent, and notifying systemd.

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

/// Tells systemd about an agent's event.
pub(crate) fn tell_systemd(event: Event<'_>) {
    match event {
        Event::Ready => notify_ready("serving"),
        Event::Reloading => notify_reloading(),
        Event::Reloaded(outcome) if outcome.is_done() => notify_ready("serving"),
        Event::Reloaded(outcome) => notify_ready(&outcome.to_string()),
        Event::Stopping => notify(&[NotifyState::Stopping]),
        _ => {}
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
