//! Checks against servers in this process that lie, drip, stop and never end.

mod datagrams;
mod exec;
mod http;
mod streams;
mod tls;

use std::future::Future;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::Class;
use super::MAX_REASON;
use super::Outcome;
use super::Prepared;
use super::Probe;
use super::Report;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::config::Via;

/// A check of this kind with a timeout that a slow machine keeps, and that a test can wait for.
fn check(kind: CheckKind) -> CheckConfig {
    let mut check = CheckConfig::new(kind);
    check.timeout = Some(Duration::from_secs(2));
    check.via = Some(Via::Direct);
    check
}

/// Runs a check of a server at this address.
async fn run(config: &CheckConfig, server: SocketAddr) -> Report {
    let check = Prepared::new(config).expect("it can be prepared");
    let vip = Vip { address: [10, 0, 0, 1].into(), port: server.port(), protocol: Protocol::Tcp };
    let probe = Probe { check: Arc::new(check), vip, real: server.ip(), mark: None };
    let report = super::explain(&probe).await;
    assert!(report.reason.len() <= MAX_REASON, "{}", report.reason);
    let timeout = config.timeout();
    assert!(report.took >= Duration::ZERO && report.took < timeout + Duration::from_secs(2));
    report
}

/// Runs a check that must fail, and returns why it did.
async fn fails(config: &CheckConfig, server: SocketAddr) -> (Class, String) {
    let report = run(config, server).await;
    assert_eq!(report.outcome, Outcome::Unhealthy, "{report:?}");
    (report.class, report.reason)
}

/// A server that does this with each connection.
async fn server<F: Future<Output = ()> + Send + 'static>(
    with: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(with(stream));
        }
    });
    address
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    listener.local_addr().expect("its address")
}
