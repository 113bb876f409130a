//! `-f FILE`, of commands that work on a configuration.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;

/// The configuration of an instance.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration: TOML, or JSON if its name ends in .json; -: standard input, JSON if it begins with a brace
    /// [default: /etc/l4lb/INSTANCE.toml]
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Where a configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In a file that was named.
    Named(PathBuf),
    /// In the file that the instance has if none is named.
    Default(PathBuf),
    /// It comes from standard input.
    StandardInput,
}

impl Source {
    /// What `-f` says.
    pub(crate) fn named(file: &Path) -> Self {
        if file.as_os_str() == "-" { Self::StandardInput } else { Self::Named(file.to_owned()) }
    }
}

impl ConfigFile {
    /// Where the configuration of an instance is.
    pub(crate) fn source(&self, instance: &str) -> Source {
        let default = || Source::Default(format!("/etc/l4lb/{instance}.toml").into());
        self.file.as_deref().map_or_else(default, Source::named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let of = |file: Option<&str>| ConfigFile { file: file.map(Into::into) }.source("blue");
        assert_eq!(of(None), Source::Default("/etc/l4lb/blue.toml".into()));
        assert_eq!(of(Some("-")), Source::StandardInput);
        assert_eq!(of(Some("./-")), Source::Named("./-".into()));
    }
}
