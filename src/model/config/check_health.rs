//! Checks of the checks: which kind takes which key, ranges, and names that VIPs use.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::CheckChoice;
use super::CheckConfig;
use super::CheckKind;
use super::Config;
use super::ConfigError;
use super::Flapping;
use super::HealthConfig;
use super::MinHealthy;
use super::VipConfig;
use super::check::check_limit;
use super::errors::Errors;
use super::nearest::nearest;
use crate::model::abi::consts;
use crate::model::text::quote;
use crate::model::vip_table::config_name;

/// The most checks that have a name.
pub(super) const MAX_CHECKS: u32 = 512;

/// The most characters of a text of a check.
const MAX_TEXT: usize = 1024;

/// The most headers, and the most arguments, of a check.
pub(super) const MAX_LIST: u32 = 32;

/// The most checks that may run at a time.
pub(super) const MAX_CONCURRENCY: u32 = 16_384;

/// The shortest interval, timeout and flapping window.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest of them.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The most runs in a row that `rise` and `fall` may ask for.
pub(super) const MAX_IN_A_ROW: u32 = 100;

/// The most failures that `flapping` may allow within its window.
pub(super) const MAX_FAILURES: u32 = 1000;

/// The keys that only some kinds have.
pub(super) const OF_KINDS: &[(&[&str], &[CheckKind])] = &[
    (
        &["method", "path", "host", "headers", "status", "text"],
        &[CheckKind::Http, CheckKind::Https],
    ),
    (&["server_name", "verify", "ca_file"], &[CheckKind::Tls, CheckKind::Https]),
    (&["name", "record", "rcode", "transport"], &[CheckKind::Dns]),
    (&["send", "expect", "silence_ok"], &[CheckKind::Udp]),
    (&["program", "args"], &[CheckKind::Exec]),
];

/// The keys that a kind cannot do without, with what to write.
pub(super) const NEEDED: &[(CheckKind, &str, &str)] = &[
    (CheckKind::Dns, "name", "the name to ask for, such as name = \"www.example.net\""),
    (CheckKind::Udp, "send", "what to send, such as send = \"ping\" or send = \"hex:00ff\""),
    (CheckKind::Exec, "program", "the program, such as program = \"/usr/local/bin/check\""),
    (CheckKind::Agent, "port", "the port that the agent listens on, such as port = 8888"),
];

impl Config {
    pub(super) fn check_health(&self, errors: &mut Errors) {
        let HealthConfig { concurrency, first_mark } = self.health;
        if !(1..=MAX_CONCURRENCY).contains(&concurrency) {
            let what = format!("{concurrency} is not within 1 to {MAX_CONCURRENCY}");
            errors.push(ConfigError::at("health.concurrency", what));
        }
        if first_mark == 0 || first_mark.checked_add(consts::REAL_IDS).is_none() {
            let most = u32::MAX - consts::REAL_IDS;
            let what = format!(
                "{first_mark} is not within 1 to {most}: it is the first of {} marks, and 0 is no mark",
                consts::REAL_IDS
            );
            errors.push(ConfigError::at("health.first_mark", what));
        }
        check_limit("checks", self.checks.len(), MAX_CHECKS, errors);
        for (name, check) in &self.checks {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
                let what = format!(
                    "'{}' is no name of a check: use up to 64 letters, digits, '-' and '_'",
                    quote(name)
                );
                errors.push(ConfigError::at("checks", what));
            }
            check.check(&format!("checks.{name}"), errors);
        }
        for (i, vip) in self.vips.iter().enumerate() {
            self.check_health_of(vip, &format!("vips[{i}]"), errors);
        }
    }

    fn check_health_of(&self, vip: &VipConfig, place: &str, errors: &mut Errors) {
        let key = |key: &str| format!("{place}.{key}");
        match vip.min_healthy {
            MinHealthy::Reals(number) if number > consts::MAX_REALS => {
                let what = format!("{number} is more than a VIP can have; or write a percentage");
                errors.push(ConfigError::at(key("min_healthy"), what));
            }
            _ => {}
        }
        if let Some(time) = vip.slow_start {
            check_time(time, &key("slow_start"), errors);
        }
        let Flapping { failures, window, hold, hold_at_most } = vip.flapping;
        let within = |field: &str| key(&format!("flapping.{field}"));
        if !(1..=MAX_FAILURES).contains(&failures) {
            let what = format!("{failures} is not within 1 to {MAX_FAILURES}");
            errors.push(ConfigError::at(within("failures"), what));
        }
        for (field, time) in [("window", window), ("hold", hold), ("hold_at_most", hold_at_most)] {
            check_time(time, &within(field), errors);
        }
        if hold > hold_at_most {
            let what = format!(
                "{} is below hold, {}",
                humantime::format_duration(hold_at_most),
                humantime::format_duration(hold)
            );
            errors.push(ConfigError::at(within("hold_at_most"), what));
        }
        let Some(choice) = &vip.check else { return };
        let check = match choice {
            CheckChoice::Inline(check) => {
                check.check(&key("check"), errors);
                check
            }
            CheckChoice::Named(name) => match self.checks.get(name) {
                Some(check) => check,
                None => return errors.push(ConfigError::at(key("check"), self.no_check(name))),
            },
        };
        if vip.port == 0 && check.port.is_none() && check.kind != CheckKind::Exec {
            let what = format!(
                "{} has every port, so nobody knows which to check: give the check a port",
                vip.vip()
            );
            errors.push(ConfigError::at(key("check"), what));
        }
    }
}

/// The keys that a check of this kind takes, of all keys that checks have.
pub(super) fn keys_of_kind<'a>(
    kind: CheckKind,
    all: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = &'a str> {
    let of_others = move |key: &str| {
        OF_KINDS.iter().any(|(keys, kinds)| keys.contains(&key) && !kinds.contains(&kind))
    };
    all.filter(move |key| !of_others(key))
}

impl Config {
    /// What to say of a name that no check has.
    pub(crate) fn no_check(&self, name: &str) -> String {
        no_check(self.checks.keys().map(String::as_str), name)
    }
}

/// What to say of a name that none of these checks has.
pub(crate) fn no_check<'a>(names: impl Iterator<Item = &'a str>, name: &str) -> String {
    let names: Vec<_> = names.collect();
    let known = &names[..names.len().min(8)];
    let others = match (known.is_empty(), names.len() - known.len()) {
        (true, _) => "no check has a name yet".to_owned(),
        (false, 0) => format!("there are {}", known.join(", ")),
        (false, more) => format!("there are {} and {more} more", known.join(", ")),
    };
    let meant = nearest(name, names.iter().copied());
    let meant = meant.map(|near| format!("did you mean \"{near}\"? If not, "));
    format!(
        "no check is called '{0}' ({others}); {1}write one of these, or add [checks.{0}] to the file",
        quote(name),
        meant.unwrap_or_default()
    )
}

impl CheckConfig {
    /// Checks one check. `place` is its key.
    fn check(&self, place: &str, errors: &mut Errors) {
        let error = |key: &str, what: String| ConfigError::at(format!("{place}.{key}"), what);
        let kind = config_name(&self.kind);
        let said = serde_json::to_value(self).unwrap_or_default();
        let is_said = |key: &str| said.get(key).is_some_and(|value| *value != Value::Null);
        for (keys, kinds) in OF_KINDS {
            if kinds.contains(&self.kind) {
                continue;
            }
            for key in keys.iter().filter(|key| is_said(key)) {
                let kinds: Vec<_> = kinds.iter().map(config_name).collect();
                let what = format!(
                    "a check of type \"{kind}\" has no such key; those of type \"{}\" have it",
                    kinds.join("\" and \"")
                );
                errors.push(error(key, what));
            }
        }
        let missing = NEEDED.iter().find(|(of, key, _)| *of == self.kind && !is_said(key));
        if let Some((_, key, what)) = missing {
            errors.push(error(key, format!("a check of type \"{kind}\" needs {what}")));
        }
        if self.port == Some(0) {
            errors.push(error("port", "0 is no port that can be checked".to_owned()));
        }
        self.check_times(place, errors);
        for (key, runs) in [("rise", self.rise()), ("fall", self.fall())] {
            if !(1..=MAX_IN_A_ROW).contains(&runs) {
                errors.push(error(key, format!("{runs} is not within 1 to {MAX_IN_A_ROW}")));
            }
        }
        self.check_texts(place, errors);
        self.check_hidden(place, errors);
    }

    fn check_times(&self, place: &str, errors: &mut Errors) {
        let key = |key: &str| format!("{place}.{key}");
        // The defaults of the others depend on the interval, and fit it.
        let times = [
            ("interval", Some(self.interval())),
            ("timeout", self.timeout),
            ("fast_interval", self.fast_interval),
        ];
        for (name, time) in times.into_iter().filter_map(|(name, time)| Some((name, time?))) {
            check_time(time, &key(name), errors);
            if time > self.interval() {
                let what = format!(
                    "{} is longer than interval, {}: runs would overlap",
                    humantime::format_duration(time),
                    humantime::format_duration(self.interval())
                );
                errors.push(ConfigError::at(key(name), what));
            }
        }
    }

    fn check_texts(&self, place: &str, errors: &mut Errors) {
        let key = |key: &str| format!("{place}.{key}");
        let texts = [
            ("method", &self.method),
            ("path", &self.path),
            ("host", &self.host),
            ("text", &self.text),
            ("server_name", &self.server_name),
            ("name", &self.name),
            ("record", &self.record),
            ("rcode", &self.rcode),
            ("send", &self.send),
            ("expect", &self.expect),
        ];
        for (name, text) in texts.iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
            if text.is_empty() || text.len() > MAX_TEXT {
                let what = format!("has {} bytes; 1 to {MAX_TEXT} are supported", text.len());
                errors.push(ConfigError::at(key(name), what));
            }
        }
        let token = |text: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            !text.is_empty() && text.chars().all(good)
        };
        let visible = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if !token(self.method()) {
            let what = format!("'{}' is no method of HTTP", quote(self.method()));
            errors.push(ConfigError::at(key("method"), what));
        }
        if !self.path().starts_with('/') || !visible(self.path()) {
            let what = format!(
                "'{}' is no path: it begins with '/', and other characters than ASCII are written as %XX",
                quote(self.path().split('?').next().unwrap_or_default())
            );
            errors.push(ConfigError::at(key("path"), what));
        }
        if self.method().contains(|c: char| c.is_ascii_lowercase()) {
            let what = format!(
                "'{0}' is no method of HTTP: their names are in capitals, such as {1}",
                quote(self.method()),
                self.method().to_ascii_uppercase()
            );
            errors.push(ConfigError::at(key("method"), what));
        }
        if let Some(host) = self.host.as_deref().filter(|host| !visible(host) || host.contains('/'))
        {
            let what = format!("'{}' is no host name", quote(host));
            errors.push(ConfigError::at(key("host"), what));
        }
        check_limit(&key("headers"), self.headers.len(), MAX_LIST, errors);
        for (name, value) in &self.headers {
            let printable = value.chars().all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic());
            if !token(name) || !printable || name.len() + value.len() > MAX_TEXT {
                // The value may be secret.
                let what = format!(
                    "'{}' and its value are no header, or longer than {MAX_TEXT} bytes",
                    quote(name)
                );
                errors.push(ConfigError::at(key("headers"), what));
            }
        }
        check_limit(&key("status"), self.status.len(), MAX_LIST, errors);
        for (name, text) in [("send", &self.send), ("expect", &self.expect)] {
            if let Some(digits) = text.as_deref().and_then(|text| text.strip_prefix("hex:"))
                && hex::decode(digits).is_err()
            {
                let what = "is no hexadecimal text behind \"hex:\": write two digits a byte";
                errors.push(ConfigError::at(key(name), what));
            }
        }
        check_limit(&key("args"), self.args.len(), MAX_LIST, errors);
        let bad = |arg: &String| arg.len() > MAX_TEXT || arg.contains('\0');
        if let Some(n) = self.args.iter().position(bad) {
            let what = format!("argument {} is longer than {MAX_TEXT} bytes, or has a zero", n + 1);
            errors.push(ConfigError::at(key("args"), what));
        }
        for (name, path) in [("ca_file", &self.ca_file), ("program", &self.program)] {
            if let Some(path) = path.as_deref().filter(|path| !is_file_path(path)) {
                let text = path.to_string_lossy();
                let what = match text.split_once(char::is_whitespace) {
                    Some((program, args)) if name == "program" => format!(
                        "'{}' is no absolute path, and no command line: write program = \"/path/of/{}\" and args = \
                         [{}]",
                        quote(&text),
                        quote(program),
                        quoted_words(args)
                    ),
                    _ => format!(
                        "'{}' is no absolute path: lbctl and lbctl serve may run in different folders",
                        quote(&text)
                    ),
                };
                errors.push(ConfigError::at(key(name), what));
            }
        }
        if self.ca_file.is_some() && !self.verify {
            let what = "nothing is verified: set verify = true, or leave ca_file out";
            errors.push(ConfigError::at(key("ca_file"), what));
        }
    }
}

/// The words of a command line, as a list of TOML.
fn quoted_words(args: &str) -> String {
    let words = args.split_whitespace().map(|word| format!("\"{}\"", quote(word)));
    words.collect::<Vec<_>>().join(", ")
}

fn is_file_path(path: &Path) -> bool {
    path.is_absolute() && path.as_os_str().len() < 4096
}

fn check_time(time: Duration, key: &str, errors: &mut Errors) {
    if (SHORTEST..=LONGEST).contains(&time) {
        return;
    }
    let what = format!(
        "{} is not within {} to {}",
        humantime::format_duration(time),
        humantime::format_duration(SHORTEST),
        humantime::format_duration(LONGEST)
    );
    errors.push(ConfigError::at(key, what));
}
