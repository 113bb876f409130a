//! The health of reals: what was found, and what others than the checks of the VIP say.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use super::answer::Answer;
use super::answer::Refusal;
use super::request::Asked;
use crate::control::health::LONGEST_LIFETIME;
use crate::control::health::RealHealthStatus;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::model::config::from_json;
use crate::model::error::Error;
use crate::model::health::Health;
use crate::plan::Plan;

type Result<T> = std::result::Result<T, Refusal>;

/// `GET /v1/health`
pub(super) fn all(instance: &Instance, _: &Asked) -> Result<Answer> {
    Answer::json(&Balancer::open(instance)?.health()?)
}

/// `GET /v1/vips/…/reals/…/health`
pub(super) fn of_real(instance: &Instance, asked: &Asked) -> Result<Answer> {
    let (vip, real) = (asked.vip()?, asked.real()?);
    let known = Balancer::open(instance)?.health()?;
    let of_vip: Vec<RealHealthStatus> =
        known.into_iter().filter(|status| status.vip == vip).collect();
    match of_vip.iter().find(|status| status.real == real) {
        Some(found) => Answer::json(found),
        None => Err(missing(instance, asked)?.into()),
    }
}

/// The error about a VIP or real that is not there.
fn missing(instance: &Instance, asked: &Asked) -> Result<Error> {
    let (vip, real) = (asked.vip()?, asked.real()?);
    let table = Balancer::open(instance)?.table()?;
    let known = table.vips.contains_key(&vip);
    Ok(if known { Error::NoSuchReal { vip, real } } else { Error::NoSuchVip(vip) })
}

/// What can be told.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    Healthy,
    Unhealthy,
}

/// The body of `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Telling {
    health: Told,
    reason: Option<String>,
    /// How long it holds; `None`: until it is taken back.
    #[serde(rename = "for")]
    lifetime: Option<String>,
}

impl Telling {
    fn lifetime(&self) -> Result<Option<Duration>> {
        let Some(text) = &self.lifetime else { return Ok(None) };
        let time = humantime::parse_duration(text).ok();
        let time = time.filter(|time| (Duration::from_secs(1)..=LONGEST_LIFETIME).contains(time));
        let wrong = "for: write it like 30s, 15m or 2h; one second at least, ten years at most";
        time.map(Some).ok_or_else(|| Refusal::bad(wrong))
    }
}

/// `PUT /v1/vips/…/reals/…/health`
pub(super) fn tell(instance: &Instance, asked: &Asked) -> Result<(Answer, Plan)> {
    check_conditions(asked)?;
    let (vip, real) = (asked.vip()?, asked.real()?);
    let telling: Telling = from_json(asked.object()?.into(), "health")?;
    let health = match telling.health {
        Told::Healthy => Health::Healthy,
        Told::Unhealthy => Health::Unhealthy,
    };
    let reason = telling.reason.as_deref().unwrap_or_default();
    let balancer = Balancer::open(instance)?;
    let plan = balancer.tell_health(vip, real, health, reason, telling.lifetime()?)?;
    Ok((Answer::json(&plan)?, plan))
}

/// `DELETE /v1/vips/…/reals/…/health`
pub(super) fn forget(instance: &Instance, asked: &Asked) -> Result<(Answer, Plan)> {
    check_conditions(asked)?;
    if !asked.body.is_empty() {
        return Err(Refusal::bad("DELETE takes no body"));
    }
    let plan = Balancer::open(instance)?.forget_told_health(asked.vip()?, asked.real()?)?;
    Ok((Answer::json(&plan)?, plan))
}

/// What is found is no part of what has a version.
fn check_conditions(asked: &Asked) -> Result<()> {
    if asked.conditions.matches.is_some() || asked.conditions.matches_none.is_some() {
        let what = "health has no ETag: leave out If-Match and If-None-Match";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, what));
    }
    Ok(())
}
