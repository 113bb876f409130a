//! What a run found.

use std::time::Duration;
use std::time::SystemTime;

use serde::Serialize;

use crate::model::epoch;

/// What a run says about the real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Outcome {
    /// It is well.
    Healthy {
        /// How much of its weight it wants, in percent: 100, unless an agent said otherwise. 0: no new flows.
        share: u8,
    },
    /// It is not.
    Unhealthy,
    /// The run says nothing about the real: this host could not even send, or the check itself cannot run.
    Unknown,
}

impl Outcome {
    /// Healthy, with all of its weight.
    pub const HEALTHY: Self = Self::Healthy { share: 100 };

    /// Whether the real is well.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy { .. })
    }
}

/// The kind of result, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Class {
    /// The check succeeded.
    Ok,
    /// The real refused the connection, or the port of the datagram.
    Refused,
    /// No answer came, or not all of it, before the timeout.
    Timeout,
    /// A router, or the real, said that the address or the protocol cannot be reached.
    Unreachable,
    /// Packets that fill the MTU do not arrive, and short ones do.
    Mtu,
    /// The real closed or reset the connection too early.
    Closed,
    /// The answer breaks the rules of its protocol.
    Protocol,
    /// The answer's code says that the real is not well: a status of HTTP, a response code of DNS.
    Status,
    /// The answer does not have the expected content.
    Content,
    /// The TLS handshake failed, or the certificate is not valid.
    Tls,
    /// The program failed.
    Exec,
    /// The agent on the real said that it is not well.
    Agent,
    /// This host could not send, or the check cannot run here. That says nothing about the real.
    Local,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::Refused,
        Self::Timeout,
        Self::Unreachable,
        Self::Mtu,
        Self::Closed,
        Self::Protocol,
        Self::Status,
        Self::Content,
        Self::Tls,
        Self::Exec,
        Self::Agent,
        Self::Local,
    ];

    /// Its name, as metrics and JSON have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Mtu => "mtu",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Content => "content",
            Self::Tls => "tls",
            Self::Exec => "exec",
            Self::Agent => "agent",
            Self::Local => "local",
        }
    }
}

/// The most bytes of a reason.
pub const MAX_REASON: usize = 72;

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When it was done, from the start of the run.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub at: Duration,
    /// What was done: `route`, `source`, `connected`, `status`, …
    pub name: &'static str,
    /// What came of it.
    pub text: String,
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What it says about the real.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The kind of result.
    pub class: Class,
    /// The result in a few words, at most [`MAX_REASON`] bytes: `HTTP 503`, `connection refused`.
    pub reason: String,
    /// How long the run took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// When the server's certificate expires, if the run saw one.
    #[serde(serialize_with = "epoch::seconds", skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<SystemTime>,
    /// What was done, in order. Only [`explain`](super::explain) records it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl Report {
    /// The report of a run that did not even begin, because this host cannot check the real.
    pub(crate) fn local(why: impl AsRef<str>) -> Self {
        Self {
            outcome: Outcome::Unknown,
            class: Class::Local,
            reason: short(why.as_ref()),
            took: Duration::ZERO,
            certificate_expires: None,
            steps: Vec::new(),
        }
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Text that may come from outside, fit for a reason: one line, at most [`MAX_REASON`] bytes.
pub(super) fn short(text: &str) -> String {
    let text = crate::model::text::quote(text.trim());
    if text.len() <= MAX_REASON {
        return text;
    }
    let cut = "…";
    let room = MAX_REASON - cut.len();
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last();
    format!("{}{cut}", &text[..end.unwrap_or(0)])
}
