//! Why a check of reals cannot be made from its configuration.

use std::path::Path;

use strum::IntoStaticStr;
use strum::VariantNames;

use crate::model::error::config::ConfigError;
use crate::model::text::quote;

/// Why a check cannot be made. The text is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum CheckError {
    /// A key that the kind needs is not there.
    #[error("{key}: a check of this type needs it")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// The value of a key makes no sense.
    #[error("{key}: {why}")]
    Wrong {
        /// The key.
        key: &'static str,
        /// What is wrong with it, and what it could be.
        why: String,
    },
    /// A file cannot be used.
    #[error("{key}: {file}: {why}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// This host lacks something.
    #[error("{0}")]
    Host(String),
}

impl CheckError {
    /// The same, as an error of a configuration. `place`: the key of the check there.
    pub(crate) fn in_config(&self, place: &str) -> ConfigError {
        let (key, what) = match self {
            Self::Missing { key } => (key, "a check of this type needs it".to_owned()),
            Self::Wrong { key, why } => (key, why.clone()),
            Self::File { key, file, why } => (key, format!("{file}: {why}")),
            Self::Host(why) => return ConfigError::at(place, why),
        };
        ConfigError::at(format!("{place}.{key}"), what)
    }

    pub(crate) fn wrong(key: &'static str, why: impl Into<String>) -> Self {
        Self::Wrong { key, why: why.into() }
    }

    pub(crate) fn file(key: &'static str, file: &Path, why: impl Into<String>) -> Self {
        Self::File { key, file: quote(&file.display().to_string()), why: why.into() }
    }
}
