//! Reading the configuration that a command works on.

use std::path::Path;
use std::path::PathBuf;

use l4lb::Config;
use l4lb::ConfigReport;
use l4lb::Instance;

use crate::Failure;
use crate::Result;
use crate::args::ConfigFile;
use crate::args::Source;

/// A configuration, and the name of its file, for errors.
pub(super) fn read(instance: &Instance, file: &ConfigFile) -> Result<(Config, PathBuf)> {
    read_source(instance, file.source(instance.name()))
}

/// The same, of a source.
pub(super) fn read_source(instance: &Instance, source: Source) -> Result<(Config, PathBuf)> {
    if source == Source::StandardInput {
        return Ok((Config::from_stdin()?, PathBuf::from(Config::STDIN)));
    }
    let path = path_of(instance, source)?;
    Ok((Config::from_file(&path)?, path))
}

/// The file of a command that reads it again later.
pub(super) fn path(instance: &Instance, file: &ConfigFile) -> Result<PathBuf> {
    path_of(instance, file.source(instance.name()))
}

fn path_of(instance: &Instance, source: Source) -> Result<PathBuf> {
    let what = match source {
        Source::Named(path) => return Ok(path),
        Source::Default(path) if !is_missing(&path) => return Ok(path),
        Source::Default(path) => format!(
            "instance '{}' has no file {}; write it, or name another with -f FILE",
            instance.name(),
            path.display()
        ),
        Source::StandardInput => {
            "a reload reads the file again, which standard input cannot: name a file".to_owned()
        }
    };
    Err(Failure::Usage(what))
}

/// All that is wrong with a configuration, by itself.
pub(super) fn check(instance: &Instance, file: &ConfigFile) -> Result<ConfigReport> {
    match file.source(instance.name()) {
        Source::StandardInput => Ok(Config::check_stdin()),
        source => Ok(Config::check_file(&path_of(instance, source)?)),
    }
}

/// Whether a file does not exist. Other errors are told by who reads it.
fn is_missing(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}
