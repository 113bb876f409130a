//! The agent of a host that decapsulates.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use super::control::Control;
use super::endpoint::Endpoint;
use super::endpoint::listen_or_warn;
use super::event::Event;
use super::event::Outcome;
use super::http::Answers;
use super::process::blocking;
use super::process::claim;
use super::process::follow_decap;
use super::process::next_change;
use super::process::pin_again;
use super::reloads;
use super::warnings::Warnings;
use crate::control::decap;
use crate::control::decap::Request;
use crate::instance::Instance;
use crate::instance::serving::Part;
use crate::instance::serving::Serving;
use crate::kernel::audit::Entry;
use crate::kernel::audit::Who;
use crate::kernel::netlink::CHECK_INTERVAL;
use crate::kernel::netlink::Changes;
use crate::kernel::netlink::own_name;
use crate::model::config::XdpMode;
use crate::model::error::Error;
use crate::model::error::Result;

/// The option that says where the endpoint listens.
const LISTEN: &str = "--metrics";

/// What a [`DecapAgent`] does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DecapOptions {
    /// The interfaces, by their names or alternative names.
    pub interfaces: Vec<String>,
    /// The XDP mode.
    pub mode: XdpMode,
    /// Which packets are decapsulated.
    pub request: Request,
    /// Puts the XDP program that an interface has already into this slot of the chain.
    pub adopt: Option<u32>,
    /// Where to answer Prometheus; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// Keeps a host decapsulating for its addresses: see [the module](super).
#[derive(Debug)]
pub struct DecapAgent {
    server: Server,
    metrics: Option<SocketAddr>,
}

impl DecapAgent {
    /// Finds the interfaces' own names. Nothing is changed before [`Self::run`].
    ///
    /// # Errors
    ///
    /// The errors of [`own_name`].
    pub fn new(instance: &Instance, options: DecapOptions) -> Result<Self> {
        let DecapOptions { interfaces, mode, request, adopt, metrics } = options;
        // Otherwise the agent would serve an interface twice that is given by two names.
        let names = interfaces.iter().map(|name| own_name(name));
        let interfaces: BTreeSet<_> =
            names.collect::<std::result::Result<_, _>>().map_err(Error::from)?;
        let interfaces = interfaces.into_iter().collect();
        let server = Server { instance: instance.clone(), interfaces, mode, request, adopt };
        Ok(Self { server, metrics })
    }

    /// Attaches, then runs until it is stopped. It follows the host's addresses, attaches to interfaces that are made
    /// anew, restores pins, and answers Prometheus.
    ///
    /// `tell` gets the agent's events. The agent's future calls it, so it must not block.
    ///
    /// # Errors
    ///
    /// Only errors of the start: those of [`decap::attach`], and [`Error::Serving`] if another process serves one of
    /// the interfaces. Later failures are logged and tried again.
    pub async fn run(self, control: &Control, mut tell: impl FnMut(Event<'_>)) -> Result<()> {
        let Self { mut server, metrics } = self;
        // A stop must be noticed while another command holds the lock.
        server.instance = server.instance.with_interrupt(control.interrupt());
        let changes = Some(Changes::subscribe()?);
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let parts = server.interfaces.iter().cloned().map(Part::Decap).collect();
        let Some(serving) = claim(&server.instance, parts, control).await? else {
            return Ok(());
        };
        let listener = match metrics {
            Some(address) => Some((address, listen_or_warn(address, LISTEN).await)),
            None => None,
        };
        for interface in &server.interfaces {
            match server.attach(interface).await {
                Err(error @ Error::LockInterrupted { .. }) => {
                    tracing::info!("{error}");
                    return Ok(());
                }
                attached => attached?,
            }
        }
        let endpoint = listener.map(|(address, listener)| {
            let answers = Answers::of_decap(&server.instance);
            (address, Endpoint::new(address, LISTEN, listener, answers))
        });
        tracing::info!("decapsulating on {}", server.interfaces.join(", "));
        let (who, interfaces) = (Who::here(), server.interfaces.join(" "));
        let what = format!("decap serve {interfaces}");
        let result = "decapsulates on these interfaces";
        let instance = server.instance.name();
        Entry { instance, who: &who, what: &what, result, done: true }.send();
        let running = Running { server, serving, endpoint, warnings: Warnings::default() };
        running.stay(control, changes, check, &mut tell).await;
        tell(Event::Stopping);
        tracing::info!(
            "stopped; decapsulation goes on without this process, but nobody follows the host's addresses"
        );
        Ok(())
    }
}

/// An agent whose interfaces are attached.
struct Running {
    server: Server,
    serving: Serving,
    endpoint: Option<(SocketAddr, Endpoint)>,
    warnings: Warnings,
}

impl Running {
    /// Runs until it is stopped.
    async fn stay(
        mut self,
        control: &Control,
        mut changes: Option<Changes>,
        mut check: Interval,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        tell(Event::Ready);
        while !control.is_stopped() {
            tell(Event::Alive);
            tokio::select! {
                () = control.wait_for_stop() => {}
                () = control.wait_for_reload() => self.reload(control, tell).await,
                () = next_change(&mut changes) => self.warnings.report(self.server.follow().await),
                _ = check.tick() => {
                    pin_again(&self.server.instance).await;
                    self.warnings.report(self.server.follow().await);
                    if let Some((address, endpoint)) = &mut self.endpoint {
                        self.serving.set_metrics(endpoint.retry(*address).await);
                    }
                }
            }
        }
    }

    /// Reads the addresses again and reports the outcome, unless it is stopped meanwhile.
    async fn reload(&mut self, control: &Control, tell: &mut impl FnMut(Event<'_>)) {
        reloads::begin(&self.serving, &mut *tell);
        let failures = self.server.follow().await;
        if control.is_stopped() {
            return;
        }
        let why = failures.join("; ");
        self.warnings.report(failures);
        let outcome = if why.is_empty() {
            tracing::info!("addresses are read again");
            Outcome::Done
        } else {
            Outcome::NotFollowed { why }
        };
        reloads::end(&self.serving, &outcome, tell);
    }
}

/// What was asked for.
#[derive(Debug)]
struct Server {
    instance: Instance,
    interfaces: Vec<String>,
    mode: XdpMode,
    request: Request,
    adopt: Option<u32>,
}

impl Server {
    /// Attaches. An interface may get its first address later.
    async fn attach(&self, interface: &str) -> Result<()> {
        let (instance, name) = (self.instance.clone(), interface.to_owned());
        let (mode, request, adopt) = (self.mode, self.request.clone(), self.adopt);
        let attached = blocking(move || {
            decap::attach_to_follow(&instance, &name, mode, &request, adopt)?;
            decap::waits_for_address(&name, &request)
        });
        if attached.await? {
            tracing::warn!(
                "interface {interface} has no address to decapsulate for yet; wait until it has one, or give one with \
                 --address"
            );
        }
        Ok(())
    }

    /// Attaches again, if the interface has lost the program and was not detached by command.
    async fn attach_again(&self, interface: &str) -> Result<bool> {
        let (instance, interface) = (self.instance.clone(), interface.to_owned());
        let (mode, request, adopt) = (self.mode, self.request.clone(), self.adopt);
        blocking(move || decap::attach_again(&instance, &interface, mode, &request, adopt)).await
    }

    /// Follows addresses, and attaches to interfaces that were made anew. Returns the warnings.
    async fn follow(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for interface in &self.interfaces {
            match self.attach_again(interface).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!("interface {interface} did not run the program: attached again");
                }
                Err(error @ Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        warnings.extend(follow_decap(&self.instance).await);
        warnings
    }
}
