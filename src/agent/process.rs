//! What agents share: claims, the changes that they wait for, and what they do at each look.

use std::time::Duration;

use tokio::task::JoinError;
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

/// How long to wait before the kernel is asked again to tell of changes.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// Claims what this process is to serve; `None`: it was told to stop while somebody else had it.
pub(super) async fn claim(
    instance: &Instance,
    parts: Vec<Part>,
    control: &Control,
) -> Result<Option<Serving>> {
    let instance = instance.clone();
    let claimed = spawn_blocking(move || Serving::begin(&instance, &parts));
    match claimed.await.map_err(panicked)? {
        Err(error @ Error::Serving(_)) if control.is_stopped() => {
            tracing::info!("{error}");
            Ok(None)
        }
        claimed => claimed.map(Some),
    }
}

/// An error of the host's.
pub(super) fn host(operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Host { operation, source }
}

/// A metric that was made.
pub(super) fn made<T>(metric: prometheus::Result<T>) -> Result<T> {
    metric.map_err(|error| host("make metrics")(std::io::Error::other(error)))
}

/// Waits for what may alter a gateway or the host's own addresses. A subscription that ended is made anew, but not at once: meanwhile
/// the timer does.
pub(super) async fn next_change(changes: &mut Option<Changes>) {
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

/// What ends a task that was waited for.
pub(super) fn panicked(error: JoinError) -> Error {
    host("finish a change")(std::io::Error::other(error))
}

/// Pins again what somebody removed the pins of. What that does not bring back, whoever follows finds, too, and warns
/// of.
pub(super) async fn pin_again(instance: &Instance) {
    let instance = instance.clone();
    let pinned = spawn_blocking(move || Balancer::pin_again(&instance));
    match pinned.await.map_err(panicked).and_then(|pinned| pinned) {
        Ok(lost) if lost.is_empty() => {}
        Ok(lost) => tracing::warn!("{}: pinned again", lost.what()),
        Err(error) => tracing::debug!("{error}"),
    }
}

/// Follows the addresses of the host where the instance decapsulates. What there is to warn of.
pub(super) async fn follow_decap(instance: &Instance) -> Vec<String> {
    let instance = instance.clone();
    let followed = spawn_blocking(move || decap::follow(&instance));
    match followed.await.map_err(panicked).and_then(|followed| followed) {
        Ok(followed) => log_lines(&followed),
        Err(Error::Decap(DecapError::None { .. })) => {}
        Err(error @ Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
        Err(error) => return vec![error.to_string()],
    }
    Vec::new()
}
