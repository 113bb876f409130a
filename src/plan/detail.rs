//! One difference within an object of a plan: for programs, and in words.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use crate::model::vip_table::RealSpec;

/// What happens to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// It is new.
    Add,
    /// It is removed.
    Remove,
    /// It changes.
    Change,
    /// Another one takes its place: a program, or the way in which an interface runs it.
    Replace,
    /// It was damaged or left half done, and is put right.
    Repair,
}

/// What a difference is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Object {
    /// The balancer's program.
    Program,
    /// The connection tables.
    ConnectionTable,
    /// An interface.
    Interface,
    /// A VIP.
    Vip,
    /// A real of a VIP.
    Real,
    /// A setting of another object.
    Setting,
    /// What an address does with packets that none of its VIPs takes.
    Address,
    /// A server id.
    ServerId,
    /// An address for packets that come in an outer header.
    Decapsulate,
    /// A check of reals.
    Check,
    /// A map of the packet path.
    Map,
    /// A pin.
    Pin,
    /// A program's place in the chain.
    Chain,
    /// What an interrupted command left.
    Leftovers,
}

/// One difference within an object of a [`Plan`](crate::Plan). Its text is a short phrase, for people.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Detail {
    /// What happens.
    pub action: Action,
    /// What it is about.
    pub object: Object,
    /// The real, if it is about one.
    pub real: Option<IpAddr>,
    /// The check, if it is about one.
    pub check: Option<String>,
    /// The key, if it is about a setting.
    pub key: Option<String>,
    /// The value before; `None`: there was none, or it is not told.
    pub old: Option<Value>,
    /// The value afterwards.
    pub new: Option<Value>,
    pub(crate) text: String,
    /// Whether the text of the plan leaves it out, as another line says as much.
    pub(crate) quiet: bool,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Detail {
    fn new(action: Action, object: Object, text: String) -> Self {
        Self {
            action,
            object,
            real: None,
            check: None,
            key: None,
            old: None,
            new: None,
            text,
            quiet: false,
        }
    }

    /// A setting that changes.
    pub(crate) fn setting(
        key: impl Into<String>,
        old: impl Serialize,
        new: impl Serialize,
        text: impl Into<String>,
    ) -> Self {
        Self {
            key: Some(key.into()),
            old: serde_json::to_value(old).ok(),
            new: serde_json::to_value(new).ok(),
            ..Self::new(Action::Change, Object::Setting, text.into())
        }
    }

    /// A real of a VIP that comes, changes or goes.
    pub(crate) fn real(
        real: IpAddr,
        old: Option<RealSpec>,
        new: Option<RealSpec>,
        text: String,
    ) -> Self {
        let action = match (old, new) {
            (None, _) => Action::Add,
            (_, None) => Action::Remove,
            _ => Action::Change,
        };
        let value = |spec: RealSpec| {
            serde_json::json!({
                "weight": spec.weight,
                "state": spec.state,
                "health": spec.health.state,
                "health_share": spec.health.share,
                "encapsulation": spec.delivery.encapsulation(),
                "local": spec.delivery.is_local(),
            })
        };
        Self {
            real: Some(real),
            old: old.map(value),
            new: new.map(value),
            ..Self::new(action, Object::Real, text)
        }
    }

    /// A check that comes, changes or goes. Its settings are not told: they may hold secrets.
    pub(crate) fn check(action: Action, name: &str, text: String) -> Self {
        Self { check: Some(name.to_owned()), ..Self::new(action, Object::Check, text) }
    }

    /// The same, but not in the text of the plan.
    pub(crate) fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }
}

/// The texts, in one line.
pub(crate) fn in_words(details: &[Detail]) -> String {
    let told = details.iter().filter(|detail| !detail.quiet);
    told.map(|detail| detail.text.as_str()).collect::<Vec<_>>().join(", ")
}
