//! A run of a check, from its start to the report.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use super::agent;
use super::dns;
use super::exec;
use super::failure::Failure;
use super::failure::Success;
use super::http;
use super::prepared::Kind;
use super::prepared::Prepared;
use super::quic;
use super::report::Class;
use super::report::Outcome;
use super::report::Report;
use super::session::Session;
use super::session::Silence;
use super::tcp;
use super::tls;
use super::udp;
use crate::kernel::netlink::links_blocking;
use crate::kernel::netlink::route_blocking;
use crate::kernel::tcp::progress;
use crate::model::address::Vip;
use crate::model::config::CheckKind;
use crate::model::config::Via;
use crate::model::text::quote;

/// A check of one real of a VIP.
#[derive(Clone, Debug)]
pub struct Probe {
    /// How it is checked.
    pub check: Arc<Prepared>,
    /// The VIP that it serves.
    pub vip: Vip,
    /// The real's address.
    pub real: IpAddr,
    /// The mark (`SO_MARK`) that sends packets through the tunnel to this real. Checks with `via = "direct"` do without.
    pub mark: Option<u32>,
}

/// Runs a check once, within its timeout. It needs a tokio runtime with I/O and time.
pub async fn run(probe: &Probe) -> Report {
    go(probe, false).await
}

/// As [`run`], and records each step with its time.
pub async fn explain(probe: &Probe) -> Report {
    go(probe, true).await
}

async fn go(probe: &Probe, explain: bool) -> Report {
    let check = &*probe.check;
    let timeout = check.config.timeout();
    let target = target(probe);
    let mark = probe.mark.filter(|_| check.config.via() == Via::Tunnel);
    let route = if explain { route(target.ip()).await } else { None };
    let mut session = Session::new((probe.vip, probe.real), target, mark, timeout, explain);
    if let Some(route) = route {
        session.step("route", || route);
    }
    let result = match possible(probe, target) {
        Ok(()) => {
            let run = perform(&check.kind, &mut session);
            // Pinned in a box: some kinds have futures of several kilobytes, and callers keep many.
            match tokio::time::timeout(timeout, Box::pin(run)).await {
                Ok(result) => result,
                Err(_) => out_of_time(&session),
            }
        }
        Err(failure) => Err(failure),
    };
    let (outcome, class, reason) = match result {
        Ok(success) => (Outcome::Healthy { share: success.share }, Class::Ok, success.reason),
        Err(Failure { class: Class::Local, reason }) => (Outcome::Unknown, Class::Local, reason),
        Err(failure) => (Outcome::Unhealthy, failure.class, failure.reason),
    };
    session.step("verdict", || match outcome {
        Outcome::Healthy { share: 100 } => format!("healthy: {reason}"),
        Outcome::Healthy { share } => format!("healthy, {share} % of its weight: {reason}"),
        Outcome::Unhealthy => format!("unhealthy: {reason}"),
        Outcome::Unknown => format!("unknown: {reason}"),
    });
    Report {
        outcome,
        class,
        reason,
        took: session.start.elapsed(),
        certificate_expires: session.certificate_expires,
        steps: session.take_steps(),
    }
}

/// Where packets go.
fn target(probe: &Probe) -> SocketAddr {
    let config = &probe.check.config;
    let address = match config.via() {
        Via::Direct => probe.real,
        Via::Tunnel => probe.vip.address,
    };
    SocketAddr::new(address, config.port.unwrap_or(probe.vip.port))
}

/// The way that packets take. It is looked up before the run, whose time it does not take.
async fn route(to: IpAddr) -> Option<String> {
    let look = move || {
        let route = match route_blocking(to) {
            Ok(Some(route)) => route,
            Ok(None) => return "none".to_owned(),
            Err(error) => return quote(&error.to_string()),
        };
        let links = links_blocking().unwrap_or_default();
        let name = |index| links.iter().find(|facts| facts.link.index == index);
        let by = route.interface.and_then(name).map(|facts| quote(&facts.link.name));
        let by = by.unwrap_or_else(|| "several interfaces".to_owned());
        let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
        format!("{}{via} on {by}", route.destination)
    };
    tokio::task::spawn_blocking(look).await.ok()
}

/// Whether a run makes sense.
fn possible(probe: &Probe, target: SocketAddr) -> Result<(), Failure> {
    let config = &probe.check.config;
    if target.port() == 0 && config.kind != CheckKind::Exec {
        return Err(Failure::local("the VIP is for every port: the check needs a port"));
    }
    if config.via() == Via::Tunnel && probe.mark.is_none() {
        return Err(Failure::local("no mark: the tunnel to the real is not set up"));
    }
    Ok(())
}

async fn perform(kind: &Kind, session: &mut Session) -> Result<Success, Failure> {
    match kind {
        Kind::Tcp => tcp::run(session).await,
        Kind::Http(http) => http::run(session, http).await,
        Kind::Quic => quic::run(session).await,
        Kind::Udp(udp) => udp::run(session, udp).await,
        Kind::Tls(tls) => tls::run(session, tls).await,
        Kind::Https(both) => tls::run_http(session, &both.0, &both.1).await,
        Kind::Dns(dns) => dns::run(session, dns).await,
        Kind::Exec(exec) => exec::run(session, exec).await,
        Kind::Agent => agent::run(session).await,
    }
}

/// What it means that time is up.
fn out_of_time(session: &Session) -> Result<Success, Failure> {
    let timeout = humantime::format_duration(session.timeout);
    if let Some(failure) = stuck(session) {
        return Err(failure);
    }
    match session.silence {
        Silence::Fails(what) => Err(Failure::new(Class::Timeout, format!("{what} in {timeout}"))),
        Silence::Local(what) => Err(Failure::local(format!("{what}, for {timeout}"))),
        Silence::Succeeds => Ok(Success::new(format!("no answer in {timeout}, as allowed"))),
    }
}

/// Whether packets that fill the MTU did not arrive.
fn stuck(session: &Session) -> Option<Failure> {
    let progress = progress(session.full_size.as_deref()?).ok()?;
    if progress.unacknowledged == 0 || progress.sent_again == 0 {
        return None;
    }
    // The request is a little longer than one full segment. Its short rest arrived, so the way is open for it.
    if progress.arrived_later != 0 {
        return Some(Failure::new(Class::Mtu, "full-size packets do not arrive (MTU?)"));
    }
    let timeout = humantime::format_duration(session.timeout);
    let reason = format!("request not acknowledged in {timeout} (cut off, or MTU)");
    Some(Failure::new(Class::Timeout, reason))
}
