//! The health of reals: what was found, and what others than the checks of the VIP say.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::answer::Answer;
use super::answer::Refusal;
use super::read::address;
use super::read::named;
use super::request::Asked;
use crate::control::health::LONGEST_LIFETIME;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::model::address::Vip;
use crate::model::config::from_json;
use crate::model::error::Error;
use crate::model::health::Health;
use crate::model::vip_table::Table;
use crate::plan::Plan;

type Result<T> = std::result::Result<T, Refusal>;

/// The parameters that select reals.
pub(super) const SELECT: [&str; 3] = ["vip", "real", "health"];

const STATES: [Health; 3] = [Health::Unknown, Health::Healthy, Health::Unhealthy];

/// `GET /v1/health`
pub(super) fn all(instance: &Instance, asked: &Asked) -> Result<Answer> {
    let query = &asked.query;
    let vip: Option<Vip> = query.read("vip", str::parse)?;
    let real = query.read("real", address)?;
    let health = query.read("health", |text| named(&STATES, text))?;
    let balancer = Balancer::open(instance)?;
    if vip.is_some() || real.is_some() {
        exists(&balancer.table()?, vip, real)?;
    }
    let mut known = balancer.health()?;
    known.retain(|status| {
        vip.is_none_or(|vip| status.vip == vip)
            && real.is_none_or(|real| status.real == real)
            && health.is_none_or(|health| status.details.state == health)
    });
    Answer::json(&known)
}

/// The error if there is no such VIP or real: nothing known and nothing there are not the same.
fn exists(table: &Table, vip: Option<Vip>, real: Option<IpAddr>) -> std::result::Result<(), Error> {
    match (vip, real) {
        (None, None) => Ok(()),
        (None, Some(real)) if table.vips_of(real).next().is_some() => Ok(()),
        (None, Some(real)) => Err(Error::RealOfNoVip(real)),
        (Some(vip), real) => {
            let reals = &table.vips.get(&vip).ok_or(Error::NoSuchVip(vip))?.reals;
            match real.filter(|real| !reals.contains_key(real)) {
                Some(real) => Err(Error::NoSuchReal { vip, real }),
                None => Ok(()),
            }
        }
    }
}

/// `GET /v1/vips/…/reals/…/health`
pub(super) fn of_real(instance: &Instance, asked: &Asked) -> Result<Answer> {
    let (vip, real) = (asked.vip()?, asked.real()?);
    let balancer = Balancer::open(instance)?;
    let known = balancer.health()?;
    if let Some(found) = known.iter().find(|status| status.vip == vip && status.real == real) {
        return Answer::json(found);
    }
    exists(&balancer.table()?, Some(vip), Some(real))?;
    // It was added just now.
    Err(Error::NoSuchReal { vip, real }.into())
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
    no_conditions(asked, "health")?;
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
    no_conditions(asked, "health")?;
    if !asked.body.is_empty() {
        return Err(Refusal::bad("DELETE takes no body"));
    }
    let plan = Balancer::open(instance)?.forget_told_health(asked.vip()?, asked.real()?)?;
    Ok((Answer::json(&plan)?, plan))
}

/// What is found, and whether the node drains, is no part of what has a version.
pub(super) fn no_conditions(asked: &Asked, what: &str) -> Result<()> {
    if asked.conditions.matches.is_some() || asked.conditions.matches_none.is_some() {
        let what = format!("{what} has no ETag: leave out If-Match and If-None-Match");
        return Err(Refusal::bad(what));
    }
    Ok(())
}
