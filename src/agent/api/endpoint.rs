//! Where the control API listens.

use std::io;
use std::path::PathBuf;

use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::Api;
use super::LIMITS;
use super::socket::Bound;
use super::socket::Place;
use crate::agent::http::server;
use crate::agent::process::blocking;
use crate::agent::process::host;
use crate::instance::Instance;
use crate::instance::serving::ControlStatus;
use crate::kernel::netlink::CHECK_INTERVAL;
use crate::model::config::ControlConfig;
use crate::model::error::Result;

/// A socket that this process listens at.
struct Listening {
    bound: Bound,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    /// Clients that are connected get their answers.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the control API is, for messages; `None`: nowhere.
pub(in crate::agent) fn socket_of(instance: &Instance, config: &ControlConfig) -> Option<PathBuf> {
    Place::of(instance, config).map(|place| place.path)
}

/// A socket that is made, and at which nobody is answered yet.
pub(in crate::agent) struct Made(Option<(Bound, std::os::unix::net::UnixListener)>);

/// Makes a socket. It may have to wait for name services that tell the number of a group.
async fn make(place: Place) -> Result<(Bound, std::os::unix::net::UnixListener)> {
    let path = place.path.display().to_string();
    blocking(move || {
        Bound::make(&place).map_err(|why| {
            let what = io::Error::other(format!("{why} (control.socket = \"{path}\")"));
            host("listen for the control API")(what)
        })
    })
    .await
}

/// The endpoint of the control API.
pub(in crate::agent) struct ControlEndpoint {
    api: Api,
    instance: Instance,
    /// Where it should listen; `None`: nowhere.
    wanted: Option<Place>,
    listening: Option<Listening>,
    /// Why it does not listen there.
    failure: String,
}

impl ControlEndpoint {
    /// Makes the socket, before anything is changed. Clients that connect wait until [`Self::new`].
    pub(in crate::agent) async fn make(
        instance: &Instance,
        config: &ControlConfig,
    ) -> Result<Made> {
        match Place::of(instance, config) {
            Some(place) => make(place).await.map(|made| Made(Some(made))),
            None => Ok(Made(None)),
        }
    }

    /// Answers at the socket that was made. An error is the reason why there is none: it is a warning, and tried again.
    pub(in crate::agent) fn new(
        api: Api,
        instance: &Instance,
        config: &ControlConfig,
        made: Result<Made>,
    ) -> Self {
        let wanted = Place::of(instance, config);
        api.let_others(config.group_may);
        let mut endpoint = Self {
            api,
            instance: instance.clone(),
            wanted,
            listening: None,
            failure: String::new(),
        };
        match made {
            Ok(Made(None)) => {}
            Ok(Made(Some((bound, listener)))) => {
                if let Err(error) = endpoint.begin(bound, listener) {
                    endpoint.fail(&error.to_string());
                }
            }
            Err(error) => endpoint.fail(&error.to_string()),
        }
        endpoint
    }

    fn fail(&mut self, why: &str) {
        let every = CHECK_INTERVAL.as_secs();
        tracing::warn!("no control API: {why}; trying again every {every} s");
        why.clone_into(&mut self.failure);
    }

    fn begin(&mut self, bound: Bound, listener: std::os::unix::net::UnixListener) -> Result<()> {
        let listener =
            UnixListener::from_std(listener).map_err(host("listen for the control API"))?;
        tracing::info!("control API at {}", bound.place().path.display());
        let api = self.api.clone();
        let answer = move |request, peer| api.clone().answer(request, peer);
        let task = tokio::spawn(server::serve(listener, LIMITS, answer));
        self.listening = Some(Listening { bound, task });
        self.failure.clear();
        Ok(())
    }

    /// Whether it listens where it should.
    fn is_right(&self) -> bool {
        match (&self.listening, &self.wanted) {
            (None, None) => true,
            (Some(listening), Some(wanted)) => {
                listening.bound.place() == wanted && listening.bound.is_there()
            }
            _ => false,
        }
    }

    /// Listens where it should. If it cannot, it goes on at another path where it does.
    async fn correct(&mut self) -> Result<()> {
        if self.is_right() {
            return Ok(());
        }
        let Some(place) = self.wanted.clone() else {
            self.listening = None;
            self.failure.clear();
            return Ok(());
        };
        // At the same path, the former socket has to go first: its group or mode are to change, or it is lost.
        if self.listening.as_ref().is_some_and(|old| old.bound.place().path == place.path) {
            self.listening = None;
        }
        let (bound, listener) = make(place).await?;
        self.begin(bound, listener)
    }

    /// Listens where a configuration says. If that fails, it goes on where it did, unless the path is the same.
    pub(in crate::agent) async fn move_to(&mut self, config: &ControlConfig) -> Result<()> {
        self.api.let_others(config.group_may);
        self.wanted = Place::of(&self.instance, config);
        let corrected = self.correct().await;
        if let Err(error) = &corrected {
            self.failure = error.to_string();
        }
        corrected
    }

    /// Tries again to listen where it should, and makes a socket again that somebody removed.
    pub(in crate::agent) async fn retry(&mut self) {
        if let Err(error) = self.correct().await {
            let error = error.to_string();
            if self.failure == error {
                tracing::debug!("{error}");
            } else {
                self.fail(&error);
            }
        }
    }

    /// What `lbctl status` shows.
    pub(in crate::agent) fn status(&self) -> Option<ControlStatus> {
        let wanted = self.wanted.as_ref()?;
        let socket = wanted.path.display().to_string();
        Some(ControlStatus {
            socket,
            listening: self.failure.is_empty(),
            message: self.failure.clone(),
        })
    }

    /// Waits a moment for a change that is being made, and removes the socket.
    pub(in crate::agent) async fn end(mut self) {
        self.listening = None;
        self.api.end().await;
    }
}
