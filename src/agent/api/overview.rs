//! What the status page shows, read once a second for all who look at it.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Bytes;

use super::answer::Answer;
use super::answer::Refusal;
use crate::agent::http::shared::Shared;
use crate::instance::Instance;
use crate::model::address::Vip;
use crate::model::error::Error;
use crate::observe::vips::VipStatus;
use crate::report::overview::Overviews;

/// A reading, written already.
struct Seen {
    json: Bytes,
    vips: Vec<VipStatus>,
}

/// Readings. Clones have the same.
#[derive(Clone)]
pub(super) struct Overview(Shared<Result<Arc<Seen>, Refusal>>);

impl Overview {
    pub(super) fn new(instance: &Instance) -> Self {
        let overviews = Overviews::new(instance.clone());
        Self(Shared::new(move || {
            let (overview, vips) = overviews.read()?;
            // Browsers ask for it every other second: without the spaces that are for people.
            let json = serde_json::to_vec(&overview).map_err(|error| {
                let what = format!("cannot write JSON: {error}");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, what)
            })?;
            Ok(Arc::new(Seen { json: json.into(), vips }))
        }))
    }

    async fn seen(&self) -> Result<Arc<Seen>, Refusal> {
        let failed = |error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error);
        self.0.get().await.map_err(failed)?
    }

    pub(super) async fn answer(&self) -> Result<Answer, Refusal> {
        Ok(Answer::text(self.seen().await?.json.clone()))
    }

    /// The reals of a VIP, from the same reading.
    pub(super) async fn reals(&self, vip: Vip) -> Result<Answer, Refusal> {
        let seen = self.seen().await?;
        let found = seen.vips.iter().find(|status| status.vip == vip);
        Answer::json(&found.ok_or(Error::NoSuchVip(vip))?.reals)
    }
}
