//! `[notify]`: a program that is told what changed.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::Config;
use super::ConfigError;
use super::errors::Errors;
use super::health_checks::duration;
use crate::model::text::quote;

/// How long the program may be allowed to take.
const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);

/// `[notify]`: what `lbctl serve` runs when the health of a real changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct NotifyConfig {
    /// The program, by its absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<PathBuf>,
    /// How long one run may take.
    #[cfg_attr(test, schemars(with = "super::schema::Time"))]
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self { exec: None, timeout: Duration::from_secs(10) }
    }
}

impl Config {
    pub(super) fn check_notify(&self, errors: &mut Errors) {
        let NotifyConfig { exec, timeout } = &self.notify;
        if let Some(exec) = exec
            && !is_program(exec)
        {
            let text = exec.to_string_lossy();
            let hint = if text.contains(char::is_whitespace) {
                "; it takes no command line: name a script that has the arguments"
            } else {
                ""
            };
            let what = format!(
                "'{}' is no absolute path of a program: write one such as \"/usr/local/bin/told\", without \
                 arguments{hint}",
                quote(&text)
            );
            errors.push(ConfigError::at("notify.exec", what));
        }
        if !TIMEOUTS.contains(timeout) {
            let what = format!(
                "{} is not within {} to {}",
                humantime::format_duration(*timeout),
                humantime::format_duration(*TIMEOUTS.start()),
                humantime::format_duration(*TIMEOUTS.end())
            );
            errors.push(ConfigError::at("notify.timeout", what));
        }
    }
}

fn is_program(path: &Path) -> bool {
    path.is_absolute() && path.file_name().is_some() && path.as_os_str().len() < 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_an_absolute_path_and_a_time() {
        let read = |text: &str| {
            Config::from_toml(&format!("[notify]\n{text}")).and_then(|config| config.check())
        };
        assert!(read("exec = \"/usr/local/bin/told\"\ntimeout = \"3s\"").is_ok());
        for (text, why) in [
            ("exec = \"told\"", "notify.exec"),
            ("exec = \"\"", "notify.exec"),
            ("exec = \"told --quiet\"", "it takes no command line: name a script"),
            ("timeout = \"1ms\"", "notify.timeout"),
            ("timeout = \"1h\"", "notify.timeout"),
            ("timeout = 3", "notify.timeout"),
            ("program = \"/bin/true\"", "program"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
