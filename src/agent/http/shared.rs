//! One reading for all clients that ask at the same time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio::time::sleep_until;

/// How old a reading may be. The endpoint makes at most one reading in this time, whatever clients do.
const FRESH: Duration = Duration::from_secs(1);

/// Something that takes milliseconds to read.
pub(in crate::agent) struct Shared<T> {
    read: Arc<dyn Fn() -> T + Send + Sync>,
    last: Arc<Mutex<Option<(Instant, T)>>>,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { read: Arc::clone(&self.read), last: Arc::clone(&self.last) }
    }
}

impl<T: Clone + Send + 'static> Shared<T> {
    pub(in crate::agent) fn new(read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), last: Arc::default() }
    }

    /// Returns a reading that ended within the last second, or the one in progress, or a new one. The error says why
    /// there is none. A second later the reading is dropped, because it can be large.
    pub(in crate::agent) async fn get(&self) -> Result<T, String> {
        let (read, last) = (Arc::clone(&self.read), Arc::clone(&self.last));
        let kept = Arc::clone(&self.last);
        // A separate task holds the lock until the reading has ended, even if the client has gone.
        let reading = tokio::spawn(async move {
            let mut last = last.lock_owned().await;
            if let Some((_, value)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
                return Ok(value.clone());
            }
            let value = spawn_blocking(move || read()).await.map_err(|error| error.to_string())?;
            let at = Instant::now();
            *last = Some((at, value.clone()));
            tokio::spawn(async move {
                sleep_until(at + FRESH).await;
                let mut last = kept.lock().await;
                last.take_if(|(of, _)| *of == at);
            });
            Ok(value)
        });
        reading.await.map_err(|error| error.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    use std::thread::sleep;
    use std::time::Duration;

    use super::Shared;

    #[tokio::test]
    async fn many_who_ask_get_one_reading() {
        let (under_way, reads) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counts = (Arc::clone(&under_way), Arc::clone(&reads));
        let shared = Shared::new(move || {
            let (under_way, reads) = &counts;
            assert_eq!(under_way.fetch_add(1, Ordering::Relaxed), 0, "two at a time");
            sleep(Duration::from_millis(100));
            under_way.fetch_sub(1, Ordering::Relaxed);
            reads.fetch_add(1, Ordering::Relaxed) + 1
        });
        // The first client does not wait for its answer.
        let impatient = tokio::spawn({
            let shared = shared.clone();
            async move { shared.get().await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        impatient.abort();
        let asking: Vec<_> = (0..100)
            .map(|_| {
                let shared = shared.clone();
                tokio::spawn(async move { shared.get().await })
            })
            .collect();
        for asking in asking {
            assert_eq!(asking.await.expect("an answer"), Ok(1));
        }
        tokio::time::sleep(super::FRESH).await;
        assert_eq!(shared.get().await, Ok(2));
        assert_eq!(reads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_passes() {
        let calls = AtomicU32::new(0);
        let shared = Shared::new(move || {
            assert_ne!(calls.fetch_add(1, Ordering::Relaxed), 0, "the first time");
        });
        assert!(shared.get().await.is_err());
        assert_eq!(shared.get().await, Ok(()));
    }
}
