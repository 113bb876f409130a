//! Controls an agent from outside.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

/// Stops an agent, or makes it reload. Clones control the same agent, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    stopped: Arc<Notify>,
    reload: Arc<Notify>,
}

impl Control {
    /// Stops the agent, even while it waits for a command that is changing the instance.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stopped.notify_one();
    }

    /// Makes the agent read its file, or the host's addresses, again. Several requests during a reload cause one more
    /// reload.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Whether the agent was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What interrupts waiting for locks.
    pub(super) fn interrupt(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Waits for [`Self::stop`].
    pub(super) async fn wait_for_stop(&self) {
        while !self.is_stopped() {
            self.stopped.notified().await;
        }
    }

    /// Waits for [`Self::reload`].
    pub(super) async fn wait_for_reload(&self) {
        self.reload.notified().await;
    }
}
