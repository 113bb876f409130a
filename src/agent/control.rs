//! What steers an agent.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

/// Stops an agent, or has it reload. Clones steer the same one, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    stopped: Arc<Notify>,
    reload: Arc<Notify>,
}

impl Control {
    /// Has the agent end. It is heard also while the agent waits for a command that is changing the instance.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stopped.notify_one();
    }

    /// Has the agent read its file, or the host's addresses, again. Several that come while a reload is under way cause
    /// one more.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Whether it was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What ends waiting for locks.
    pub(super) fn interrupt(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Waits until it is told to stop.
    pub(super) async fn wait_for_stop(&self) {
        while !self.is_stopped() {
            self.stopped.notified().await;
        }
    }

    /// Waits until it is told to reload.
    pub(super) async fn wait_for_reload(&self) {
        self.reload.notified().await;
    }
}
