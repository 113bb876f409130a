//! What the API changes: VIPs and reals, as `lbctl vip` and `lbctl real` do.

use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use super::answer::Answer;
use super::answer::Refusal;
use super::request::Asked;
use super::request::Tags;
use super::request::path_of;
use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::model::address::Vip;
use crate::model::config::Delivery;
use crate::model::config::Encapsulation;
use crate::model::config::RealConfig;
use crate::model::config::VipConfig;
use crate::model::config::from_json;
use crate::model::error::Error;
use crate::model::real_change::RealChange;
use crate::model::text::quote;
use crate::model::vip_table::Table;
use crate::plan::Plan;

/// The parameter that makes a change a plan.
pub(super) const DRY_RUN: &str = "dry_run";

type Result<T = Change> = std::result::Result<T, Refusal>;

/// What changes the table, again if another command was quicker.
type Apply = Box<dyn Fn(&mut Table) -> crate::model::error::Result<()>>;

/// What a change is about.
#[derive(Clone, Copy, Debug)]
enum Target {
    Vip(Vip),
    Real(Vip, IpAddr),
    /// A real in every VIP that has it.
    EveryVipOf(IpAddr),
}

impl Target {
    fn exists(self, table: &Table) -> bool {
        match self {
            Self::Vip(vip) => table.vips.contains_key(&vip),
            Self::Real(vip, real) => {
                table.vips.get(&vip).is_some_and(|spec| spec.reals.contains_key(&real))
            }
            Self::EveryVipOf(real) => table.vips_of(real).next().is_some(),
        }
    }

    /// The error if it is missing.
    fn missing(self) -> Error {
        match self {
            Self::Vip(vip) => Error::NoSuchVip(vip),
            Self::Real(vip, real) => Error::NoSuchReal { vip, real },
            Self::EveryVipOf(real) => Error::RealOfNoVip(real),
        }
    }

    /// The error if it is there, and was to be added.
    fn there(self) -> Option<Error> {
        match self {
            Self::Vip(vip) => Some(Error::VipExists(vip)),
            Self::Real(vip, real) => Some(Error::RealExists { vip, real }),
            Self::EveryVipOf(_) => None,
        }
    }

    fn path(self) -> String {
        match self {
            Self::Vip(vip) => path_of(vip, None),
            Self::Real(vip, real) => path_of(vip, Some(real)),
            Self::EveryVipOf(real) => format!("/v1/reals/{real}"),
        }
    }
}

/// A change, and what it is about.
pub(super) struct Change {
    target: Target,
    apply: Apply,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Change {
    fn new(
        target: Target,
        apply: impl Fn(&mut Table) -> crate::model::error::Result<()> + 'static,
    ) -> Self {
        Self { target, apply: Box::new(apply) }
    }

    /// Checks `If-Match` and `If-None-Match`. The instance is locked when this decides.
    fn check(&self, asked: &Asked, table: &Table) -> crate::model::error::Result<()> {
        let (conditions, exists) = (&asked.conditions, self.target.exists(table));
        match &conditions.matches {
            None => {}
            Some(Tags::Any) if exists => {}
            Some(Tags::Any) => return Err(self.target.missing()),
            Some(tags) => {
                let current = table.version();
                if !tags.contain(&current) {
                    let expected = quote(tags.first());
                    return Err(Error::TableChanged { expected, current });
                }
            }
        }
        let none = conditions.matches_none == Some(Tags::Any) && exists;
        self.target.there().filter(|_| none).map_or(Ok(()), Err)
    }

    /// Makes the change, or only plans it. Returns the plan, and the answer, which is the plan, too.
    pub(super) fn make(
        &self,
        instance: &Instance,
        asked: &Asked,
    ) -> std::result::Result<(Answer, Option<Plan>), Refusal> {
        let dry_run = asked.query.is_set(DRY_RUN)?;
        match (&asked.conditions.matches_none, self.target) {
            (Some(Tags::These(_)), _) => {
                return Err(Refusal::bad("If-None-Match of a change can only be '*'"));
            }
            (Some(Tags::Any), Target::EveryVipOf(_)) => {
                return Err(Refusal::bad(
                    "a real of every VIP cannot be added: leave out If-None-Match",
                ));
            }
            _ => {}
        }
        let (refused, created) = (Cell::new(false), Cell::new(false));
        let version = RefCell::new(String::new());
        let edit = |table: &mut Table| {
            refused.set(true);
            self.check(asked, table)?;
            refused.set(false);
            created.set(!self.target.exists(table));
            (self.apply)(table)?;
            created.set(created.get() && self.target.exists(table));
            version.replace(table.version());
            Ok(())
        };
        let balancer = Balancer::open(instance)?;
        let plan = if dry_run { balancer.plan_edit(edit) } else { balancer.edit(edit) };
        let plan = plan.map_err(|error| {
            let refusal = Refusal::from(error);
            if refused.get() {
                return refusal.with_status(StatusCode::PRECONDITION_FAILED);
            }
            refusal
        })?;
        let answer = Answer::json(&plan)?;
        if dry_run {
            return Ok((answer, None));
        }
        let answer = answer.with_version(&version.into_inner());
        if !created.get() {
            return Ok((answer, Some(plan)));
        }
        let answer = answer.with_status(StatusCode::CREATED);
        Ok((answer.with_header(header::LOCATION, self.target.path()), Some(plan)))
    }
}

/// Completes an object by what the path says. It may say the same itself.
fn complete(object: &mut Map<String, Value>, key: &str, value: Value) {
    object.entry(key).or_insert(value);
}

/// Refuses a body about something else than the path.
fn same<T: PartialEq + fmt::Display>(body: &T, path: &T) -> Result<()> {
    if body == path {
        return Ok(());
    }
    Err(Refusal::bad(format!("the body is about {body}, and the path names {path}")))
}

fn vip_config(object: Map<String, Value>) -> Result<VipConfig> {
    Ok(from_json(object.into(), "vips")?)
}

fn real_config(object: Map<String, Value>) -> Result<RealConfig> {
    Ok(from_json(object.into(), "vips.reals")?)
}

/// `POST /v1/vips`
pub(super) fn add_vip(asked: &Asked) -> Result {
    let config = vip_config(asked.object()?)?;
    let vip = config.vip();
    Ok(Change::new(Target::Vip(vip), move |table| table.add_vip(vip, (&config).into())))
}

/// `PUT /v1/vips/…`
pub(super) fn put_vip(asked: &Asked) -> Result {
    let (vip, mut object) = (asked.vip()?, asked.object()?);
    complete(&mut object, "address", vip.address.to_string().into());
    complete(&mut object, "port", vip.port.into());
    complete(&mut object, "protocol", vip.protocol.to_string().into());
    let config = vip_config(object)?;
    same(&config.vip(), &vip)?;
    Ok(Change::new(Target::Vip(vip), move |table| {
        table.put_vip(&config);
        Ok(())
    }))
}

/// `DELETE /v1/vips/…`
pub(super) fn delete_vip(asked: &Asked) -> Result {
    let vip = asked.vip()?;
    no_body(asked)?;
    Ok(Change::new(Target::Vip(vip), move |table| table.remove_vip(vip)))
}

/// `POST /v1/vips/…/reals`
pub(super) fn add_real(asked: &Asked) -> Result {
    let (vip, config) = (asked.vip()?, real_config(asked.object()?)?);
    Ok(Change::new(Target::Real(vip, config.address), move |table| table.add_real(vip, &config)))
}

/// `PUT /v1/vips/…/reals/…`
pub(super) fn put_real(asked: &Asked) -> Result {
    let (vip, real, mut object) = (asked.vip()?, asked.real()?, asked.object()?);
    complete(&mut object, "address", real.to_string().into());
    let config = real_config(object)?;
    same(&config.address, &real)?;
    Ok(Change::new(Target::Real(vip, real), move |table| table.put_real(vip, &config)))
}

/// A state, or the way to it, as the commands are called.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateChange {
    Up,
    Drain,
    Undrain,
    Down,
}

impl From<StateChange> for RealChange {
    fn from(state: StateChange) -> Self {
        match state {
            StateChange::Up => Self::Up,
            StateChange::Drain => Self::Drain,
            StateChange::Undrain => Self::Undrain,
            StateChange::Down => Self::Down,
        }
    }
}

/// What `PATCH` changes of a real.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    weight: Option<u32>,
    state: Option<StateChange>,
    encapsulation: Option<EncapsulationChange>,
    local: Option<bool>,
}

/// An encapsulation, or that of the VIP.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncapsulationChange {
    Ipip,
    Gue,
    L2,
    Default,
}

impl From<EncapsulationChange> for Delivery {
    fn from(encapsulation: EncapsulationChange) -> Self {
        match encapsulation {
            EncapsulationChange::Ipip => Self::By(Encapsulation::Ipip),
            EncapsulationChange::Gue => Self::By(Encapsulation::Gue),
            EncapsulationChange::L2 => Self::By(Encapsulation::L2),
            EncapsulationChange::Default => Self::AsVip,
        }
    }
}

/// The way of packets that a body says.
fn delivery(
    encapsulation: Option<EncapsulationChange>,
    local: Option<bool>,
) -> Result<Option<RealChange>> {
    let delivery = match (encapsulation, local) {
        (None, None) => return Ok(None),
        (Some(_), Some(true)) => {
            let what =
                "packets for a local real are not encapsulated: write encapsulation or local";
            return Err(Refusal::bad(what));
        }
        (_, Some(true)) => Delivery::Local,
        (Some(encapsulation), _) => encapsulation.into(),
        (None, Some(false)) => {
            let what = "local is false, and that leaves open which way packets take instead: write {\"encapsulation\": \"default\"}";
            return Err(Refusal::bad(what));
        }
    };
    Ok(Some(RealChange::Deliver(delivery)))
}

/// Changes weight, state or the way of packets of a real, in one VIP or in all that have it.
fn patch(target: Target, vip: Option<Vip>, real: IpAddr, asked: &Asked) -> Result {
    let Patch { weight, state, encapsulation, local } =
        from_json(asked.object()?.into(), "vips.reals")?;
    let changes = weight.map(RealChange::Weight).into_iter().chain(state.map(Into::into));
    let changes: Vec<RealChange> = changes.chain(delivery(encapsulation, local)?).collect();
    if changes.is_empty() {
        let what = "the body changes nothing; write {\"weight\": 2} or {\"state\": \"drain\"}";
        return Err(Refusal::bad(what));
    }
    Ok(Change::new(target, move |table| {
        changes.iter().try_for_each(|change| table.change_real_in(vip, real, *change))
    }))
}

/// `PATCH /v1/vips/…/reals/…`
pub(super) fn change_real(asked: &Asked) -> Result {
    let (vip, real) = (asked.vip()?, asked.real()?);
    patch(Target::Real(vip, real), Some(vip), real, asked)
}

/// `PATCH /v1/reals/…`
pub(super) fn change_everywhere(asked: &Asked) -> Result {
    let real = asked.real()?;
    patch(Target::EveryVipOf(real), None, real, asked)
}

/// `DELETE /v1/reals/…`
pub(super) fn delete_everywhere(asked: &Asked) -> Result {
    let real = asked.real()?;
    no_body(asked)?;
    Ok(Change::new(Target::EveryVipOf(real), move |table| {
        table.change_real_in(None, real, RealChange::Delete)
    }))
}

/// `DELETE /v1/vips/…/reals/…`
pub(super) fn delete_real(asked: &Asked) -> Result {
    let (vip, real) = (asked.vip()?, asked.real()?);
    no_body(asked)?;
    Ok(Change::new(Target::Real(vip, real), move |table| table.remove_real(vip, real)))
}

/// Whoever deletes part of something by a body would delete all of it.
fn no_body(asked: &Asked) -> Result<()> {
    if asked.body.is_empty() {
        return Ok(());
    }
    Err(Refusal::bad("DELETE takes no body: it deletes all that the path names"))
}
