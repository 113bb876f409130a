//! `lbctl decap serve`: decapsulation needs no process; this one follows the host's addresses, and is asked for
//! metrics.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use l4lb::Instance;
use l4lb::XdpMode;
use l4lb::decap;
use l4lb::decap::Request;
use l4lb::netlink::CHECK_INTERVAL;
use l4lb::netlink::Changes;
use l4lb::netlink::own_name;
use l4lb::serving::Part;
use sd_notify::NotifyState;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::Exit;
use crate::Result;
use crate::args::DecapServe;
use crate::daemon::Endpoint;
use crate::daemon::Stop;
use crate::daemon::Warnings;
use crate::daemon::block_on;
use crate::daemon::claim;
use crate::daemon::follow_decap;
use crate::daemon::hangup;
use crate::daemon::listen_or_warn;
use crate::daemon::next_change;
use crate::daemon::notify;
use crate::daemon::notify_ready;
use crate::daemon::notify_reloading;
use crate::daemon::panicked;
use crate::daemon::pin_again;
use crate::http::Answers;

/// What says where the endpoint listens.
const LISTEN: &str = "--metrics";

pub(super) fn serve(instance: &Instance, args: &DecapServe) -> Result {
    // Else one that is given by an alternative name would be served twice.
    let names = args.interfaces.iter().map(|name| own_name(name));
    let interfaces: BTreeSet<_> =
        names.collect::<std::result::Result<_, _>>().map_err(l4lb::Error::from)?;
    let server = Server {
        instance: instance.clone(),
        interfaces: interfaces.into_iter().collect(),
        mode: args.how.mode.into(),
        request: args.asked.request(),
        adopt: args.how.adopt.adopt,
    };
    Ok(block_on(run(server, args.metrics))?)
}

async fn run(mut server: Server, metrics: Option<SocketAddr>) -> l4lb::Result<Exit> {
    let mut hangup = hangup()?;
    let stop = Stop::listen()?;
    // Nor is it heard only when another command is done.
    server.instance = server.instance.with_interrupt(Arc::clone(&stop.is_set));
    let mut changes = Some(Changes::subscribe()?);
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let parts = server.interfaces.iter().cloned().map(Part::Decap).collect();
    let Some(serving) = claim(&server.instance, parts, &stop).await? else {
        return Ok(Exit::Done);
    };
    let listener = match metrics {
        Some(address) => Some((address, listen_or_warn(address, LISTEN).await)),
        None => None,
    };
    for interface in &server.interfaces {
        match server.attach(interface).await {
            Err(error @ l4lb::Error::LockInterrupted { .. }) => {
                tracing::info!("{error}");
                return Ok(Exit::Done);
            }
            attached => attached?,
        }
    }
    let mut endpoint = listener.map(|(address, listener)| {
        (address, Endpoint::new(address, LISTEN, listener, Answers::of_decap(&server.instance)))
    });
    let mut warnings = Warnings::default();
    tracing::info!("decapsulating on {}", server.interfaces.join(", "));
    notify_ready("serving");
    while !stop.is_set.load(Ordering::Relaxed) {
        tokio::select! {
            () = stop.wait() => {}
            _ = hangup.recv() => {
                serving.reload_begins();
                notify_reloading();
                let failures = server.follow().await;
                if stop.is_set.load(Ordering::Relaxed) {
                    continue;
                }
                let failure = failures.join("; ");
                warnings.report(failures);
                if failure.is_empty() {
                    tracing::info!("addresses are read again");
                    notify_ready("serving");
                    serving.reload_ended(Ok(()), true);
                } else {
                    notify_ready(&format!("not reloaded: {failure}"));
                    serving.reload_ended(Err(&failure), false);
                }
            }
            () = next_change(&mut changes) => warnings.report(server.follow().await),
            _ = check.tick() => {
                pin_again(&server.instance).await;
                warnings.report(server.follow().await);
                if let Some((address, endpoint)) = &mut endpoint {
                    serving.set_metrics(endpoint.retry(*address).await);
                }
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("leaving; decapsulation needs no process, but nobody follows addresses");
    Ok(Exit::Done)
}

/// What was asked for.
struct Server {
    instance: Instance,
    interfaces: Vec<String>,
    mode: XdpMode,
    request: Request,
    adopt: Option<u32>,
}

impl Server {
    /// Attaches. An interface without an address gets one later.
    async fn attach(&self, interface: &str) -> l4lb::Result<()> {
        let (instance, name) = (self.instance.clone(), interface.to_owned());
        let (mode, request, adopt) = (self.mode, self.request.clone(), self.adopt);
        let attached = spawn_blocking(move || {
            decap::attach_to_follow(&instance, &name, mode, &request, adopt)?;
            decap::waits_for_address(&name, &request)
        });
        if attached.await.map_err(panicked)?? {
            tracing::warn!(
                "interface {interface} has no address to decapsulate for yet; it is followed, or give one with --address"
            );
        }
        Ok(())
    }

    /// Attaches again, if an interface has lost the program without being detached.
    async fn attach_again(&self, interface: &str) -> l4lb::Result<bool> {
        let (instance, interface) = (self.instance.clone(), interface.to_owned());
        let (mode, request, adopt) = (self.mode, self.request.clone(), self.adopt);
        let attached = spawn_blocking(move || {
            decap::attach_again(&instance, &interface, mode, &request, adopt)
        });
        attached.await.map_err(panicked)?
    }

    /// Follows addresses, and attaches again to an interface that was made anew. What there is to warn of.
    async fn follow(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for interface in &self.interfaces {
            match self.attach_again(interface).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!("interface {interface} did not run the program: attached again");
                }
                Err(error @ l4lb::Error::LockInterrupted { .. }) => tracing::debug!("{error}"),
                Err(error) => warnings.push(error.to_string()),
            }
        }
        warnings.extend(follow_decap(&self.instance).await);
        warnings
    }
}
