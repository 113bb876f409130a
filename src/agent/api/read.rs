//! What the API shows: the reports that `lbctl … --json` prints.

use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::answer::Answer;
use super::answer::Refusal;
use super::request::Asked;
use crate::agent::printed::Secrets;
use crate::control::flows::FlowFilter;
use crate::control::flows::FlowState;
use crate::control::flows::GroupBy;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::model::abi::consts;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::versions::JSON_FORMAT;
use crate::model::vip_table::Table;
use crate::model::vip_table::config_name;
use crate::observe::readiness::readiness;
use crate::observe::vips::VipStatus;

/// The parameter of `readiness` that makes it check the file, too.
pub(super) const STRICT: &str = "strict";

/// The parameters that select flows, and the one that says what to count by.
pub(super) const FLOWS: [&str; 8] =
    ["by", "vip", "real", "client", "client_port", "older_than", "younger_than", "state"];

type Result<T = Answer> = std::result::Result<T, Refusal>;

pub(super) fn index(instance: &Instance) -> Result {
    Answer::json(&json!({ "instance": instance.name(), "openapi": "/v1/openapi.json" }))
}

/// docs/openapi.json
pub(super) fn openapi() -> Answer {
    Answer::text(include_str!("../../../docs/openapi.json"))
}

pub(super) fn version(instance: &Instance) -> Result {
    Answer::json(&json!({
        "instance": instance.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "abi": consts::ABI_VERSION,
        "json_format": JSON_FORMAT,
    }))
}

/// Whether the instance can forward.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What else is not as it should be.
    notes: Vec<String>,
}

/// `/readyz`, as JSON. `note` is about the file of this process.
pub(super) fn ready(instance: &Instance, asked: &Asked, note: Option<String>) -> Result {
    let strict = asked.query.is_set(STRICT)?;
    let (error, mut notes) = match readiness(instance) {
        Ok(lost) if lost.is_empty() => (None, Vec::new()),
        Ok(lost) => (None, vec![lost.to_string()]),
        Err(unready) => (Some(unready.to_string()), Vec::new()),
    };
    notes.extend(note);
    let ready = error.is_none() && (notes.is_empty() || !strict);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(Answer::json(&Readiness { ready, error, notes })?.with_status(status))
}

pub(super) fn status(instance: &Instance, _: &Asked) -> Result {
    Answer::json(&Balancer::open(instance)?.status()?)
}

pub(super) fn stats(instance: &Instance, _: &Asked) -> Result {
    Answer::json(&Balancer::open(instance)?.stats()?)
}

/// Opens the balancer, and reads the table first: its version is never newer than what the answer shows.
fn open(instance: &Instance) -> Result<(Balancer, Table, String)> {
    let balancer = Balancer::open(instance)?;
    let table = balancer.table()?;
    let version = table.version();
    Ok((balancer, table, version))
}

/// A configuration as the client may see it.
fn seen(asked: &Asked, mut config: Config) -> Config {
    if asked.secrets == Secrets::Hidden {
        config.hide_secrets();
    }
    config
}

pub(super) fn config(instance: &Instance, asked: &Asked) -> Result {
    let (balancer, _, version) = open(instance)?;
    Ok(Answer::json(&seen(asked, balancer.save()?))?.with_version(&version))
}

/// An answer that the version alone decides. A client that has this version gets no body.
fn versioned(asked: &Asked, version: &str, report: &impl Serialize) -> Result {
    let answer = Answer::json(report)?.with_version(version);
    let has_it = asked.conditions.matches_none.as_ref().is_some_and(|tags| tags.contain(version));
    Ok(if has_it { answer.not_modified() } else { answer })
}

/// The VIPs as a file with the running `[packets]` would have them.
fn vip_configs(asked: &Asked, table: &Table) -> Config {
    let mut config = Config::default();
    config.packets.encapsulation = table.encapsulation;
    table.write_to(&mut config);
    seen(asked, config)
}

pub(super) fn vips(instance: &Instance, asked: &Asked) -> Result {
    let (_, table, version) = open(instance)?;
    versioned(asked, &version, &vip_configs(asked, &table).vips)
}

pub(super) fn vip(instance: &Instance, asked: &Asked) -> Result {
    let (_, table, version) = open(instance)?;
    let vip = asked.vip()?;
    let config = vip_configs(asked, &table).vips.into_iter().find(|config| config.vip() == vip);
    versioned(asked, &version, &config.ok_or(Error::NoSuchVip(vip))?)
}

pub(super) fn all_reals(instance: &Instance, _: &Asked) -> Result {
    let (balancer, _, version) = open(instance)?;
    Ok(Answer::json(&balancer.vips()?)?.with_version(&version))
}

/// The VIPs that have a real, with this real alone.
pub(super) fn real_everywhere(instance: &Instance, asked: &Asked) -> Result {
    let (balancer, _, version) = open(instance)?;
    let (real, mut vips) = (asked.real()?, balancer.vips()?);
    for vip in &mut vips {
        vip.reals.retain(|found| found.address == real);
    }
    vips.retain(|vip| !vip.reals.is_empty());
    if vips.is_empty() {
        return Err(Error::RealOfNoVip(real).into());
    }
    Ok(Answer::json(&vips)?.with_version(&version))
}

/// The VIP of the path, with its reals, and the version of the table.
fn status_of_vip(instance: &Instance, asked: &Asked) -> Result<(VipStatus, String)> {
    let (balancer, _, version) = open(instance)?;
    let vip = asked.vip()?;
    let found = balancer.vips()?.into_iter().find(|status| status.vip == vip);
    Ok((found.ok_or(Error::NoSuchVip(vip))?, version))
}

pub(super) fn reals(instance: &Instance, asked: &Asked) -> Result {
    let (vip, version) = status_of_vip(instance, asked)?;
    Ok(Answer::json(&vip.reals)?.with_version(&version))
}

pub(super) fn real(instance: &Instance, asked: &Asked) -> Result {
    let (status, version) = status_of_vip(instance, asked)?;
    let (vip, real) = (status.vip, asked.real()?);
    let found = status.reals.into_iter().find(|found| found.address == real);
    let found = found.ok_or(Error::NoSuchReal { vip, real })?;
    Ok(Answer::json(&found)?.with_version(&version))
}

/// The value whose name in JSON is `text`.
pub(super) fn named<T: Serialize + Copy>(
    values: &[T],
    text: &str,
) -> std::result::Result<T, String> {
    let found = values.iter().find(|value| config_name(*value) == text);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = values.iter().map(config_name).collect();
        format!("write one of {}", names.join(", "))
    })
}

/// The address of a real.
pub(super) fn address(text: &str) -> std::result::Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "write it like 192.0.2.1 or 2001:db8::1")
}

/// An age. The longest is what `lbctl flows` takes, too.
fn age(text: &str) -> std::result::Result<Duration, &'static str> {
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
    let age = humantime::parse_duration(text).ok().filter(|age| *age <= LONGEST);
    age.ok_or("write it like 90s, 15m or 2h; ten years at most")
}

fn states(text: &str) -> std::result::Result<Vec<FlowState>, String> {
    if text == "stale" {
        return Ok(FlowState::ALL.into_iter().filter(|state| state.is_stale()).collect());
    }
    let one = named(&FlowState::ALL, text);
    one.map(|state| vec![state]).map_err(|error| format!("{error}, stale"))
}

fn filter(asked: &Asked) -> Result<FlowFilter> {
    let query = &asked.query;
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or("it is 1 to 65535");
    Ok(FlowFilter {
        vip: query.read("vip", str::parse)?,
        real: query.read("real", address)?,
        client: query.read("client", |text| {
            text.parse().map_err(|_| "write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1")
        })?,
        client_port: query.read("client_port", port)?,
        older_than: query.read("older_than", age)?,
        younger_than: query.read("younger_than", age)?,
        states: query.read("state", states)?.unwrap_or_default(),
    })
}

pub(super) fn count_flows(instance: &Instance, asked: &Asked) -> Result {
    let filter = filter(asked)?;
    let all = [GroupBy::Vip, GroupBy::Real, GroupBy::Cpu, GroupBy::State];
    let by = asked.query.read("by", |text| named(&all, text))?.unwrap_or_default();
    Answer::json(&Balancer::open(instance)?.count_flows(&filter, by)?)
}
