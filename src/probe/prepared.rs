//! A check, ready to run any number of times.

use super::http::Http;
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
    Http(Box<Http>),
    Quic,
    Udp(Udp),
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
            _ => return Err(CheckError::Missing { key: "type" }),
        };
        Ok(Self { config: config.clone(), kind })
    }

    /// The configuration that it was made from.
    pub fn config(&self) -> &CheckConfig {
        &self.config
    }
}
