//! Secrets of checks: tokens and passwords, without which a real does not answer. Who may only read sees that there is
//! one.

use super::CheckChoice;
use super::CheckConfig;
use super::Config;
use super::ConfigError;
use super::errors::Errors;

/// What stands for a value that is not shown. No configuration with it is applied.
pub const HIDDEN: &str = "<hidden>";

/// The keys of a check whose values may be secret, and are not shown to everybody: the values of `headers`, what `path`
/// has behind a `?`, `send` and `args`.
const SECRETS: [&str; 4] = ["headers", "path", "send", "args"];

/// Whether a key without places in lists, such as `checks.NAME.headers.Authorization`, may have a secret.
pub(super) fn may_be_secret(path: &str) -> bool {
    let key = path.strip_prefix("checks.NAME.").and_then(|rest| rest.split('.').next());
    key.is_some_and(|key| SECRETS.contains(&key))
}

/// A text of a parser about a value, without the value that it quotes.
pub(super) fn without_value(what: &str) -> String {
    let quoted = what.find('"').zip(what.rfind("\", expected"));
    match quoted.filter(|(begin, end)| begin < end) {
        Some((begin, end)) => format!("{}…{}", &what[..=begin], &what[end..]),
        None => what.to_owned(),
    }
}

impl Config {
    /// Replaces what may be secret in its checks: what [`HIDDEN`] stands for then.
    ///
    /// ```
    /// let mut config = l4lb::Config::from_toml(
    ///     r#"
    ///     [checks.web]
    ///     type = "http"
    ///     headers = { Authorization = "Bearer 7Fjfp0ZBr1KtDRbnfVdmIw" }
    ///     "#,
    /// )?;
    /// config.hide_secrets();
    /// assert_eq!(config.checks["web"].headers["Authorization"], l4lb::HIDDEN);
    /// # Ok::<(), l4lb::ConfigError>(())
    /// ```
    pub fn hide_secrets(&mut self) {
        self.checks.values_mut().for_each(CheckConfig::hide_secrets);
        for vip in &mut self.vips {
            if let Some(CheckChoice::Inline(check)) = &mut vip.check {
                check.hide_secrets();
            }
        }
    }
}

impl CheckChoice {
    pub(crate) fn without_secrets(&self) -> Self {
        match self {
            Self::Named(name) => Self::Named(name.clone()),
            Self::Inline(check) => Self::Inline(Box::new(check.without_secrets())),
        }
    }
}

impl CheckConfig {
    pub(crate) fn without_secrets(&self) -> Self {
        let mut seen = self.clone();
        seen.hide_secrets();
        seen
    }

    fn hide_secrets(&mut self) {
        let hide = |text: &mut String| HIDDEN.clone_into(text);
        self.headers.values_mut().for_each(hide);
        self.args.iter_mut().for_each(hide);
        self.send.iter_mut().for_each(hide);
        if let Some(path) = &mut self.path
            && let Some(query) = path.find('?')
        {
            path.replace_range(query + 1.., HIDDEN);
        }
    }

    /// Refuses values that stand for others.
    pub(super) fn check_hidden(&self, place: &str, errors: &mut Errors) {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (format!("headers.{name}"), value));
        let args = self.args.iter().map(|arg| ("args".to_owned(), arg));
        let send = self.send.iter().map(|text| ("send".to_owned(), text));
        let path = self.path.iter().map(|text| ("path".to_owned(), text));
        for (key, text) in headers.chain(args).chain(send).chain(path) {
            if text.contains(HIDDEN) {
                let what = format!(
                    "\"{HIDDEN}\" stands for a value that was not shown to somebody who may only read; write the \
                     value, or save as root"
                );
                errors.push(ConfigError::at(format!("{place}.{key}"), what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [checks.web]
        type = "http"
        path = "/up?token=SECRET"
        headers = { Authorization = "Bearer SECRET", "X-Key" = "SECRET" }

        [checks.game]
        type = "udp"
        send = "SECRET"
        expect = "OK"

        [[vips]]
        address = "10.200.1.1"
        port = 80
        protocol = "tcp"
        check = { type = "exec", program = "/usr/local/bin/check", args = ["--password", "SECRET"] }
    "#;

    #[test]
    fn secrets_are_hidden_and_what_hides_them_is_refused() {
        let mut config = Config::from_toml(FILE).unwrap();
        config.check().unwrap();
        config.hide_secrets();
        let text = config.to_toml().unwrap();
        assert!(!text.contains("SECRET") && text.contains("X-Key"), "{text}");
        assert!(text.contains("\"/up?<hidden>\"") && text.contains("\"OK\""), "{text}");
        assert!(!serde_json::to_string(&config).unwrap().contains("SECRET"));
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("stands for a value that was not shown"), "{error}");
        let (errors, _) = config.errors().into_parts();
        let keys: Vec<_> = errors.iter().map(ConfigError::key).collect();
        for key in [
            "checks.web.headers.Authorization",
            "checks.web.headers.X-Key",
            "checks.web.path",
            "checks.game.send",
            "vips[0].check.args",
        ] {
            assert!(keys.contains(&key), "{key}: {keys:?}");
        }
        // Once hidden, always the same.
        let again = {
            let mut again = config.clone();
            again.hide_secrets();
            again
        };
        assert_eq!(again, config);
    }

    #[test]
    fn errors_do_not_tell_secrets() {
        for wrong in [
            "headers = \"SECRET\"",
            "headers = [\"SECRET\"]",
            "headers = { Authorization = \"SECRET\\u0007\" }",
            "headers = { \"a b\" = \"SECRET\" }",
            "path = \"up?SECRET\"",
            "headers = { Authorization = Bearer SECRET }",
            "args = \"SECRET\"",
            "args = { a = \"SECRET\" }",
            "args = [\"SECRET\\u0000\"]",
            "send = [\"SECRET\"]",
            "send = \"hex:SECRET\"",
        ] {
            for (table, kind) in [("http", "http"), ("udp", "udp"), ("exec", "exec")] {
                let text = format!("[checks.{table}]\ntype = \"{kind}\"\n{wrong}\n");
                let read = Config::from_toml(&text).and_then(|config| config.check());
                let error = read.expect_err(wrong).to_string();
                assert!(!error.contains("SECRET"), "{error}");
            }
        }
    }
}
