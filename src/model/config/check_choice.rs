//! `check` of a VIP.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use super::CheckConfig;
use crate::model::vip_table::config_name;

/// `check` of a VIP: the name of one of the checks, or a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum CheckChoice {
    /// `[checks.NAME]`.
    Named(String),
    /// This one.
    Inline(Box<CheckConfig>),
}

/// Its name, or its type if it has no name.
impl fmt::Display for CheckChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.pad(name),
            Self::Inline(check) => f.pad(&config_name(&check.kind)),
        }
    }
}

impl<'de> Deserialize<'de> for CheckChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = CheckChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a check, or a table with its type")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<CheckChoice, E> {
                Ok(CheckChoice::Named(name.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<CheckChoice, A::Error> {
                let inline = serde::de::value::MapAccessDeserializer::new(map);
                CheckConfig::deserialize(inline).map(|check| CheckChoice::Inline(Box::new(check)))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
