//! A check, ready to run any number of times.

use super::dns::Dns;
use super::exec::Exec;
use super::http::Http;
use super::tls::Tls;
use super::udp::Udp;
use crate::model::config::CheckConfig;
use crate::model::config::CheckKind;
use crate::model::error::CheckError;

/// A check with everything that can be made before its first run: requests, TLS settings, trusted certificates.
#[derive(Debug)]
pub struct Prepared {
    pub(super) config: CheckConfig,
    pub(super) kind: Kind,
}

/// What a run of each kind needs.
#[derive(Debug)]
pub(super) enum Kind {
    Tcp,
    Tls(Tls),
    Http(Box<Http>),
    Https(Box<(Tls, Http)>),
    Dns(Dns),
    Quic,
    Udp(Udp),
    Exec(Exec),
    Agent,
}

impl Prepared {
    /// Makes a check ready. It reads the files that the check names, and says what is wrong with them.
    pub fn new(config: &CheckConfig) -> Result<Self, CheckError> {
        let kind = match config.kind {
            CheckKind::Tcp => Kind::Tcp,
            CheckKind::Http => Kind::Http(Box::new(Http::new(config)?)),
            CheckKind::Quic => Kind::Quic,
            CheckKind::Udp => Kind::Udp(Udp::new(config)?),
            CheckKind::Agent => Kind::Agent,
            CheckKind::Tls => Kind::Tls(Tls::new(config)?),
            CheckKind::Https => Kind::Https(Box::new((Tls::new(config)?, Http::new(config)?))),
            CheckKind::Dns => Kind::Dns(Dns::new(config)?),
            CheckKind::Exec => Kind::Exec(Exec::new(config)?),
        };
        Ok(Self { config: config.clone(), kind })
    }

    /// The configuration that it was made from.
    pub fn config(&self) -> &CheckConfig {
        &self.config
    }
}
