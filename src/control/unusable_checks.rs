//! Checks that this host cannot run, and programs that it cannot tell of changes: a file is missing, or must not be
//! run. Files, commands and requests are refused for it, by the same words. What runs is not stopped for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::kernel::executable;
use crate::model::config::CheckChoice;
use crate::model::config::CheckConfig;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::error::CheckError;
use crate::model::error::Result;
#[cfg(feature = "agent")]
use crate::probe::Prepared;

/// Something of a configuration that this host cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// Its key.
    key: String,
    /// What it is, in words.
    pub(crate) place: String,
    /// Why not, and what to do.
    pub(crate) error: CheckError,
}

impl From<&Unusable> for ConfigError {
    fn from(unusable: &Unusable) -> Self {
        unusable.error.in_config(&unusable.key)
    }
}

/// Refuses a configuration with checks, or a program of `[notify]`, that this host cannot run.
pub(crate) fn check(config: &Config) -> Result<()> {
    match all_unusable(config).next() {
        Some(unusable) => Err(ConfigError::from(&unusable).into()),
        None => Ok(()),
    }
}

/// What of a configuration cannot be run.
pub(crate) fn all_unusable(config: &Config) -> impl Iterator<Item = Unusable> {
    unusable_checks(config, BTreeSet::new()).chain(unusable_program(config))
}

/// As [`check`], for a change to what runs: only of checks that are new or change.
pub(crate) fn check_change(before: &Config, after: &Config) -> Result<()> {
    let known = all(before).map(|(.., check)| check).collect();
    match unusable_checks(after, known).next() {
        Some(unusable) => {
            Err(ConfigError::from(&unusable).of_change(|place| after.vip_at(place)).into())
        }
        None => Ok(()),
    }
}

/// The checks that cannot be run, except for those that are `known`.
fn unusable_checks(
    config: &Config,
    known: BTreeSet<&CheckConfig>,
) -> impl Iterator<Item = Unusable> {
    let mut trusted = BTreeMap::new();
    let new = all(config).filter(move |(.., check)| !known.contains(check));
    new.filter_map(move |(key, place, check)| {
        let error = try_one(check, &mut trusted).err()?;
        Some(Unusable { key, place, error })
    })
}

/// The program of `[notify]`, if it cannot be run.
fn unusable_program(config: &Config) -> Option<Unusable> {
    let program = config.notify.exec.as_deref()?;
    let error = CheckError::file("exec", program, executable::why_not(program)?);
    Some(Unusable { key: "notify".to_owned(), place: "notify".to_owned(), error })
}

/// All checks of a configuration, each with its key and what it is in words.
fn all(config: &Config) -> impl Iterator<Item = (String, String, &CheckConfig)> {
    let named = config
        .checks
        .iter()
        .map(|(name, check)| (format!("checks.{name}"), format!("check {name}"), check));
    let inline = config.vips.iter().enumerate().filter_map(|(i, vip)| match &vip.check {
        Some(CheckChoice::Inline(check)) => {
            Some((format!("vips[{i}].check"), format!("VIP {}", vip.vip()), &**check))
        }
        _ => None,
    });
    named.chain(inline)
}

/// Without the feature `agent`, the library cannot run checks. Who runs them finds out.
#[cfg(not(feature = "agent"))]
#[expect(clippy::unnecessary_wraps, reason = "as the function of the same name below")]
fn try_one(
    _: &CheckConfig,
    _: &mut BTreeMap<Option<PathBuf>, Result<(), CheckError>>,
) -> Result<(), CheckError> {
    Ok(())
}

/// Makes a check ready. Certificates of a file, and the system's, are read once: hundreds of checks may trust them.
#[cfg(feature = "agent")]
fn try_one(
    check: &CheckConfig,
    trusted: &mut BTreeMap<Option<PathBuf>, Result<(), CheckError>>,
) -> Result<(), CheckError> {
    if !check.verify {
        return Prepared::new(check).map(drop);
    }
    let mut bare = check.clone();
    (bare.verify, bare.ca_file) = (false, None);
    Prepared::new(&bare)?;
    trusted.entry(check.ca_file.clone()).or_insert_with(|| Prepared::new(check).map(drop)).clone()
}
