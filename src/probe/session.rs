//! What the parts of a run share.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tokio::net::TcpStream;

use super::report::Step;
use crate::model::address::Vip;

/// One run.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) vip: Vip,
    pub(super) real: IpAddr,
    /// Where packets go.
    pub(super) target: SocketAddr,
    /// What the sockets have as `SO_MARK`.
    pub(super) mark: Option<u32>,
    pub(super) start: Instant,
    pub(super) timeout: Duration,
    /// What it means if time runs out now.
    pub(super) silence: Silence,
    /// The connection whose packets are to fill the MTU.
    pub(super) full_size: Option<Arc<TcpStream>>,
    pub(super) certificate_expires: Option<SystemTime>,
    steps: Option<Vec<Step>>,
}

/// What it means if time runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// This did not come: `no answer to SYN`.
    Fails(&'static str),
    /// That is right, too.
    Succeeds,
    /// This host was not even as far: `too many programs run already`.
    Local(&'static str),
}

impl Session {
    pub(super) fn new(
        (vip, real): (Vip, IpAddr),
        target: SocketAddr,
        mark: Option<u32>,
        timeout: Duration,
        explain: bool,
    ) -> Self {
        Self {
            vip,
            real,
            target,
            mark,
            start: Instant::now(),
            timeout,
            silence: Silence::Fails("no result"),
            full_size: None,
            certificate_expires: None,
            steps: explain.then(Vec::new),
        }
    }

    /// Whether steps are recorded.
    pub(super) fn explains(&self) -> bool {
        self.steps.is_some()
    }

    /// Records a step, if somebody wants to know.
    pub(super) fn step(&mut self, name: &'static str, text: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step { at: self.start.elapsed(), name, text: text() });
        }
    }

    /// From now on, time that runs out means that this did not come.
    pub(super) fn wait_for(&mut self, what: &'static str) {
        self.silence = Silence::Fails(what);
    }

    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        self.steps.take().unwrap_or_default()
    }
}
