//! What the API answers: JSON, or an error in one line.

use http_body_util::Full;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde::Serialize;
use serde_json::json;

use crate::model::config::ConfigError;
use crate::model::error::Error;
use crate::model::text::message;

/// An answer of any kind.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
}

impl Answer {
    /// A report, as `lbctl … --json` prints it.
    pub(super) fn json(report: &impl Serialize) -> Result<Self, Refusal> {
        let mut body = serde_json::to_vec_pretty(report).map_err(|error| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write JSON: {error}"))
        })?;
        body.push(b'\n');
        Ok(Self::text(body))
    }

    /// JSON that is written already.
    pub(super) fn text(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: body.into() }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, with the version of the table that it is about.
    pub(super) fn with_version(self, version: &str) -> Self {
        self.with_header(header::ETAG, format!("\"{version}\""))
    }

    /// Without its body: the client has this version already.
    pub(super) fn not_modified(self) -> Self {
        Self { status: StatusCode::NOT_MODIFIED, body: Bytes::new(), ..self }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let empty = self.body.is_empty();
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !empty {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// Why a request is not answered as asked.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    kind: String,
    headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), kind: "request".to_owned(), headers: Vec::new() }
    }

    /// The request makes no sense.
    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// It can be repeated in a moment.
    pub(super) fn busy(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
            .with_header(header::RETRY_AFTER, "1".to_owned())
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Why, in one line.
    pub(super) fn error(&self) -> &str {
        &self.error
    }

    pub(super) fn into_answer(self) -> Answer {
        let Self { status, error, kind, headers } = self;
        let body = format!("{:#}\n", json!({ "error": message(&error), "kind": kind }));
        Answer { status, headers, body: body.into() }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (text, kind) = (error.to_string(), error.kind());
        let refusal = match error {
            Error::Config(_) => Self::bad(text),
            Error::NoSuchVip(_)
            | Error::NoSuchReal { .. }
            | Error::UnknownReal(_)
            | Error::RealOfNoVip(_)
            | Error::NotServed { .. } => Self::new(StatusCode::NOT_FOUND, text),
            Error::VipExists(_)
            | Error::RealExists { .. }
            | Error::RealIsDown { .. }
            | Error::DeliveryElsewhere { .. } => Self::new(StatusCode::CONFLICT, text),
            Error::TableChanged { .. } => Self::new(StatusCode::PRECONDITION_FAILED, text),
            Error::Locked { .. } | Error::LockInterrupted { .. } | Error::TablesReplaced => {
                Self::busy(text)
            }
            // It may run again, or be repaired, without this process.
            Error::NotRunning { .. }
            | Error::LostPins(_)
            | Error::Abi { .. }
            | Error::OtherNamespace { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, text),
            Error::Memory { .. } | Error::OutOfMemory { .. } | Error::RealIds => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, text)
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, text),
        };
        Self { kind, ..refusal }
    }
}
