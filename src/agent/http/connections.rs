//! The open connections, and which one to close when there are too many.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;

/// The open connections, the oldest first.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    open: VecDeque<(Connection, JoinHandle<()>)>,
}

/// A connection. Requests have it as an extension.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Connection {
    asked: Arc<AtomicBool>,
    /// The client may do more than others, and they must not be able to push it out.
    trusted: bool,
}

impl Connection {
    /// Records that the client has sent a whole request, so that it only waits for us.
    pub(in crate::agent) fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Connections {
    /// None so far, and at most `most` at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: VecDeque::new() }
    }

    /// Starts a connection. If there are too many, closes the oldest that has not sent a whole request; if all have, the
    /// oldest. An honest client gets its answer long before: it sends what it has to say at once, and so is never older than
    /// those who do not. Connections of trusted clients are closed if there are no others.
    pub(super) fn start<F>(&mut self, trusted: bool, talk: impl FnOnce(Connection) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.open.retain(|(_, task)| !task.is_finished());
        if self.open.len() >= self.most {
            // Of those that are equal, this is the first: the oldest.
            let last =
                self.open.iter().enumerate().min_by_key(|(_, (connection, _))| {
                    (connection.trusted, connection.has_asked())
                });
            let last = last.map_or(0, |(at, _)| at);
            if let Some((_, task)) = self.open.remove(last) {
                task.abort();
            }
        }
        let connection = Connection { trusted, ..Connection::default() };
        let talking = tokio::spawn(talk(connection.clone()));
        self.open.push_back((connection, talking));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::Connections;

    const MAX: usize = 256;

    #[tokio::test]
    async fn who_says_nothing_goes_first() {
        let mut connections = Connections::new(MAX);
        let mut start = |asks: bool| {
            connections.start(false, |connection| {
                if asks {
                    connection.asked();
                }
                pending()
            });
            connections
                .open
                .iter()
                .map(|(connection, _)| connection.has_asked())
                .collect::<Vec<_>>()
        };
        start(true);
        start(false);
        for _ in 2..MAX {
            start(true);
        }
        let open = start(true);
        assert_eq!(open, [true; MAX], "the silent one is gone");
        // All have sent a request: close the oldest.
        let open = start(false);
        assert_eq!(open.len(), MAX);
        assert_eq!(open.iter().filter(|asked| **asked).count(), MAX - 1);
    }

    #[tokio::test]
    async fn who_is_trusted_goes_last() {
        let mut connections = Connections::new(3);
        let mut start = |trusted: bool| {
            connections.start(trusted, |_| pending());
            connections.open.iter().map(|(connection, _)| connection.trusted).collect::<Vec<_>>()
        };
        start(true);
        for _ in 0..MAX {
            start(false);
        }
        assert_eq!(start(false), [true, false, false], "others push out each other");
        start(true);
        start(true);
        assert_eq!(start(true), [true; 3]);
    }
}
