//! Where an agent's metrics endpoint listens.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinError;
use tokio::task::JoinHandle;

use super::http;
use super::http::Answers;
use super::process::host;
use crate::kernel::netlink::CHECK_INTERVAL;
use crate::model::error::Result;

/// Listens; `option` is the setting that names the address.
pub(super) async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| {
        let what = format!("{source} ({option} = \"{address}\")");
        host("listen for metrics")(std::io::Error::new(source.kind(), what))
    })
}

/// The same, but a failure is a warning, as an [`Endpoint`] tries again.
pub(super) async fn listen_or_warn(address: SocketAddr, option: &str) -> Option<TcpListener> {
    let listener = listen(address, option).await;
    let every = CHECK_INTERVAL.as_secs();
    listener
        .inspect_err(|error| tracing::warn!("no metrics: {error}; trying again every {every} s"))
        .ok()
}

/// The metrics endpoint.
pub(super) struct Endpoint {
    answers: Answers,
    /// The setting that says where it listens.
    option: &'static str,
    /// Where it listens; `None`: nowhere, because it can use neither this address nor the one before.
    listening: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Endpoint {
    pub(super) fn new(
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

    /// Listens at another address; if that fails, at the former one. Answers in progress are finished.
    pub(super) async fn move_to(&mut self, address: SocketAddr) -> Result<()> {
        if self.listens_at(address) {
            return Ok(());
        }
        let before = self.listening.as_ref().map(|(before, _)| *before);
        // The former listener must go first: nothing can listen at one address while another listens at the same port
        // of all addresses.
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
                Err(error) => tracing::error!("nor can it listen at its former address: {error}"),
            }
        }
        Err(error)
    }

    /// Tries to listen at the address: its port may have become free, or the address may be back. Returns whether it
    /// listens there.
    pub(super) async fn retry(&mut self, address: SocketAddr) -> bool {
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
    pub(super) fn listens_at(&self, address: SocketAddr) -> bool {
        self.listening.as_ref().is_some_and(|(listening, _)| *listening == address)
    }
}
