//! The part of the API that the metrics endpoint answers over TCP, for the status page. Anybody who reaches the port may
//! ask, so it only reads, tells nothing of clients or of the configuration, and costs one reading a second at most.

use std::path::Path;

use hyper::Method;
use hyper::StatusCode;
use hyper::header;

use super::Api;
use super::answer::Answer;
use super::answer::Refusal;
use super::read;
use super::request::Query;
use super::routes;
use crate::instance::Instance;
use crate::model::text::quote;

/// The paths that are answered.
const OVERVIEW: &str = "/v1/overview";
const REALS: &str = "/v1/vips/{protocol}/{address}/{port}/reals";
const INDEX: &str = "/v1";
const OPENAPI: &str = "/v1/openapi.json";
const VERSION: &str = "/v1/version";

/// What answers over TCP.
#[derive(Clone)]
pub(in crate::agent) struct Network {
    instance: Instance,
    overview: super::Overview,
}

impl Network {
    /// From the same readings as the API.
    pub(in crate::agent) fn new(api: &Api) -> Self {
        Self { instance: api.instance.clone(), overview: api.overview.clone() }
    }

    /// Answers a request. `socket` is where the whole API is, if it is anywhere.
    pub(in crate::agent) async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        socket: Option<&Path>,
    ) -> hyper::Response<http_body_util::Full<hyper::body::Bytes>> {
        let answered = self.handle(method, path, query, socket).await;
        answered.unwrap_or_else(Refusal::into_answer).into_response()
    }

    async fn handle(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        socket: Option<&Path>,
    ) -> Result<Answer, Refusal> {
        let instead = || match socket {
            Some(socket) => format!("ask the control API at {}", socket.display()),
            None => "the control API does that, once control.socket names one".to_owned(),
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let what = format!("{} is not possible here: {}", quote(method.as_str()), instead());
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, what);
            return Err(refusal.with_header(header::ALLOW, "GET, HEAD".to_owned()));
        }
        let (resource, asked) = routes::find(path)?;
        let known = matches!(resource.template, OVERVIEW | REALS | INDEX | OPENAPI | VERSION);
        if !known {
            let what = format!("{} is not answered here: {}", quote(path), instead());
            return Err(Refusal::new(StatusCode::FORBIDDEN, what));
        }
        Query::parse(query, &[])?;
        match resource.template {
            OVERVIEW => self.overview.answer().await,
            REALS => self.overview.reals(asked.vip()?).await,
            OPENAPI => Ok(read::openapi()),
            VERSION => read::version(&self.instance),
            _ => read::index(&self.instance),
        }
    }
}
