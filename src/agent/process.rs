//! What agents share: claims, waiting for changes, and what they do at each look.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::control::Control;
use super::warnings::log_lines;
use crate::control::decap;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::instance::serving::Part;
use crate::instance::serving::Serving;
use crate::kernel::netlink::Changes;
use crate::model::error::DecapError;
use crate::model::error::Error;
use crate::model::error::Result;

/// How long to wait before subscribing to the kernel's changes again.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// Claims what this process is to serve; `None`: it was stopped while another process had the claim.
pub(super) async fn claim(
    instance: &Instance,
    parts: Vec<Part>,
    control: &Control,
) -> Result<Option<Serving>> {
    let instance = instance.clone();
    match blocking(move || Serving::begin(&instance, &parts)).await {
        Err(error @ Error::Serving(_)) if control.is_stopped() => {
            tracing::info!("{error}");
            Ok(None)
        }
        claimed => claimed.map(Some),
    }
}

/// An error of the host.
pub(super) fn host(operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Host { operation, source }
}

/// A metric, or an error of the host.
pub(super) fn made<T>(metric: prometheus::Result<T>) -> Result<T> {
    metric.map_err(|error| host("make metrics")(std::io::Error::other(error)))
}

/// Waits for a change that may affect a gateway or the host's own addresses. If the subscription ends, it subscribes
/// again after a second; until then the caller's timer checks.
pub(super) async fn next_change(changes: &mut Option<Changes>) {
    loop {
        if let Some(subscription) = changes {
            if subscription.next().await.is_some() {
                return;
            }
            tracing::warn!("the kernel no longer reports changes; subscribing again");
            *changes = None;
        }
        sleep(SUBSCRIBE_AGAIN).await;
        match Changes::subscribe() {
            Ok(subscription) => {
                *changes = Some(subscription);
                // A change may have been missed.
                return;
            }
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// Begins work on a thread that may block. The future waits for it; without the future, the work goes on.
pub(super) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let task = spawn_blocking(work);
    // The task itself fails if it panicked, or if the runtime ends.
    async { task.await.map_err(|error| host("finish a change")(std::io::Error::other(error)))? }
}

/// Restores pins that somebody removed. If some cannot be restored, following fails and warns.
pub(super) async fn pin_again(instance: &Instance) {
    let instance = instance.clone();
    match blocking(move || Balancer::pin_again(&instance)).await {
        Ok(lost) if lost.is_empty() => {}
        Ok(lost) => tracing::warn!("{}: pinned again", lost.what()),
        Err(error) => tracing::debug!("{error}"),
    }
}

/// Follows the host's addresses, if the instance decapsulates. Returns the warnings.
pub(super) async fn follow_decap(instance: &Instance) -> Vec<String> {
    let instance = instance.clone();
    match blocking(move || decap::follow(&instance)).await {
        Ok(followed) => log_lines(&followed),
        Err(Error::Decap(DecapError::None { .. })) => {}
        Err(error @ Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
        Err(error) => return vec![error.to_string()],
    }
    Vec::new()
}
