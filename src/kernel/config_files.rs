//! Reads the files of a configuration: one, and those that it includes.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use glob::MatchOptions;
use glob::Pattern;
use glob::glob_with;

use super::outside::Input;
use super::outside::MAX_FILE;
use super::outside::read_text;
use super::outside::read_text_from;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::config::ConfigReport;
use crate::model::config::MAX_INCLUDED;
use crate::model::config::Source;
use crate::model::config::Sources;
use crate::model::error::Error;
use crate::model::text::quote;

/// Wildcards stay within a folder, and do not find hidden files, such as those of editors.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// How long to wait before files that somebody writes are read again.
const PAUSE: Duration = Duration::from_millis(50);

/// The error for a file that cannot be read.
fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::at("", format!("cannot be read: {error}")).in_file(path)
}

/// Reads a file and those that it includes.
fn read(path: &Path) -> Result<Sources, ConfigError> {
    let text = read_text(path).map_err(|error| unreadable(path, &error))?;
    with_included(Source::of_file(path, &text), path)
}

/// Reads standard input, and the files that it includes.
fn read_stdin() -> Result<Sources, ConfigError> {
    let name = Path::new(Config::STDIN);
    let text = Input::stdin().and_then(|input| read_text_from(input, MAX_FILE));
    let text = text.map_err(|error| unreadable(name, &error))?;
    with_included(Source::of_stream(name, &text), name)
}

fn with_included(main: Source, path: &Path) -> Result<Sources, ConfigError> {
    let mut sources = Sources::one(main);
    let patterns = sources.includes()?;
    if !patterns.is_empty() {
        include(&mut sources, &patterns, path, read_text)?;
    }
    Ok(sources)
}

/// Reads the files that patterns match. Somebody may remove, rename or write some of them meanwhile: then the files would
/// not be one configuration, and it reads all of them again.
fn include(
    sources: &mut Sources,
    patterns: &[String],
    path: &Path,
    mut read: impl FnMut(&Path) -> io::Result<String>,
) -> Result<(), ConfigError> {
    let mut changed = PathBuf::new();
    for last in [false, false, false, false, true] {
        let Expanded { files, unmatched } = expand(sources, patterns, path)?;
        let stamps =
            |files: &[PathBuf]| -> Vec<_> { files.iter().map(|file| Stamp::of(file)).collect() };
        let before = stamps(&files);
        let included = read_all(sources, &files, &mut read);
        let now = expand(sources, patterns, path)?.files;
        let after = stamps(&now);
        if before == after {
            (sources.included, sources.unmatched) = (included?, unmatched);
            return Ok(());
        }
        let differs = before.iter().find(|stamp| !after.contains(stamp));
        let differs = differs.or_else(|| after.iter().find(|stamp| !before.contains(stamp)));
        changed = differs.map(|stamp| stamp.path.clone()).unwrap_or_default();
        if !last {
            std::thread::sleep(PAUSE);
        }
    }
    let what = "was written, renamed or removed each time that the files of 'include' were read; try again when that is over";
    Err(ConfigError::at("", what).in_file(&changed))
}

fn read_all(
    sources: &Sources,
    files: &[PathBuf],
    read: &mut impl FnMut(&Path) -> io::Result<String>,
) -> Result<Vec<Source>, ConfigError> {
    let mut left = MAX_FILE.saturating_sub(sources.main.text.len() as u64);
    let read = files.iter().map(|file| {
        let text = read(file).map_err(|error| unreadable(file, &error))?;
        left = left.checked_sub(text.len() as u64).ok_or_else(|| {
            let what = format!(
                "with it, the files have more than {} MiB; split the set of VIPs",
                MAX_FILE >> 20
            );
            ConfigError::at("", what).in_file(file)
        })?;
        Ok(Source::of_file(file, &text))
    });
    read.collect()
}

/// What tells that a file may have been written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    /// Device, inode, size, and when it was modified and changed. `None`: there is no such file, or it is a pipe.
    facts: Option<[i64; 7]>,
}

impl Stamp {
    #[expect(clippy::cast_possible_wrap, reason = "they are only compared")]
    fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        let facts = found.map(|found| {
            [
                found.dev() as i64,
                found.ino() as i64,
                found.size() as i64,
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec(),
            ]
        });
        Self { path: path.to_owned(), facts }
    }
}

/// Which files a configuration has now, and when they were written. It is cheap to ask for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilesNow {
    stamps: Vec<Stamp>,
    sources: Option<Box<[String]>>,
}

impl FilesNow {
    /// Looks at the files. `before`: what was seen the last time. `None`: it is a pipe, which is not read twice.
    pub(crate) fn look(path: &Path, before: Option<&Self>) -> Option<Self> {
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return None;
        }
        let main = Stamp::of(path);
        let same = before.filter(|before| before.stamps.first() == Some(&main));
        let includes = match same {
            Some(before) => before.sources.clone(),
            None => read_text(path).ok().and_then(|text| {
                let sources = Sources::one(Source::of_file(path, &text));
                sources.includes().ok().map(Vec::into_boxed_slice)
            }),
        };
        let nothing = Sources::one(Source::of_file(path, ""));
        let files = expand(&nothing, includes.as_deref().unwrap_or_default(), path);
        let files = files.map(|expanded| expanded.files).unwrap_or_default();
        let mut stamps = vec![main];
        stamps.extend(files.iter().map(|file| Stamp::of(file)));
        Some(Self { stamps, sources: includes })
    }
}

/// The files that patterns match.
#[derive(Debug, Default)]
struct Expanded {
    /// Sorted.
    files: Vec<PathBuf>,
    /// The patterns that match none, and their places in the list.
    unmatched: Vec<(usize, String)>,
}

fn expand(sources: &Sources, patterns: &[String], path: &Path) -> Result<Expanded, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut files, mut unmatched) = (Vec::new(), Vec::new());
    for (i, pattern) in patterns.iter().enumerate() {
        let refuse = |what: String| sources.place(&ConfigError::at(format!("include[{i}]"), what));
        let shown = quote(pattern);
        if pattern.is_empty() || pattern.contains('\0') {
            return Err(refuse(format!(
                "'{shown}' names no file; write one such as \"vips/*.toml\""
            )));
        }
        let is_absolute = Path::new(pattern).is_absolute();
        let whole = match folder.to_str() {
            _ if is_absolute => pattern.clone(),
            Some("") => pattern.clone(),
            Some(folder) => format!("{}/{pattern}", Pattern::escape(folder)),
            None => {
                return Err(refuse(
                    "the folder's name is not UTF-8; write an absolute path".to_owned(),
                ));
            }
        };
        let found = glob_with(&whole, MATCHING)
            .map_err(|error| refuse(format!("'{shown}' is no pattern of files: {}", error.msg)))?;
        let before = files.len();
        for file in found {
            let file = file.map_err(|error| refuse(format!("'{shown}': {error}")))?;
            if file.is_dir() || file == path {
                continue;
            }
            if files.len() >= MAX_INCLUDED {
                return Err(refuse(format!(
                    "'{shown}' brings more than {MAX_INCLUDED} files; join some of them"
                )));
            }
            files.push(file);
        }
        if files.len() != before {
            continue;
        }
        unmatched.push((i, pattern.clone()));
        let is_name = !pattern.contains(['*', '?', '[']);
        if is_name {
            return Err(refuse(format!(
                "'{shown}' is no file here; create it, or remove it from include"
            )));
        }
    }
    files.sort();
    files.dedup();
    Ok(Expanded { files, unmatched })
}

impl Config {
    /// Reads a file, and those that it includes: JSON if its name ends in `.json`, else TOML.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        read(path)?.read()
    }

    /// What errors call standard input.
    pub const STDIN: &str = "standard input";

    /// Reads standard input, at most as much of it, and for as long, as of a file: JSON if it begins with a brace, else
    /// TOML. Files that it includes are relative to the folder where the process runs.
    pub fn from_stdin() -> Result<Self, ConfigError> {
        read_stdin()?.read()
    }

    /// As [`Self::check_file`], of standard input.
    pub fn check_stdin() -> ConfigReport {
        report(read_stdin())
    }

    /// All that is wrong with a file and those that it includes, and what is right but hurts. It asks nothing of this
    /// host.
    pub fn check_file(path: &Path) -> ConfigReport {
        report(read(path))
    }
}

fn report(sources: Result<Sources, ConfigError>) -> ConfigReport {
    match sources {
        Ok(sources) => sources.report(),
        Err(error) => ConfigReport::unreadable(&error),
    }
}

impl Error {
    /// The error. If it is about a configuration, it names the file, and the line of its key: the file is read for
    /// that, unless it is a pipe.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Self {
        let Self::Config(error) = self else { return self };
        let is_file = || std::fs::metadata(path).is_ok_and(|found| found.is_file());
        let sources = (error.lacks_line() && is_file()).then(|| read(path).ok()).flatten();
        Self::Config(match sources {
            Some(sources) => sources.place(&error),
            None => error.in_file(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: &str = "vips/*.toml";

    /// A folder with a file that includes two others.
    fn folder() -> (tempfile::TempDir, Sources, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("vips")).expect("a folder");
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(format!("vips/{name}.toml")), name).expect("write");
        }
        let main = folder.path().join("lb.toml");
        (folder, Sources::one(Source::of_file(&main, "")), main)
    }

    /// Includes the files; `disturb` runs before each is read, and gets how many were read before.
    fn included(disturb: impl Fn(usize, &Path)) -> Result<Vec<String>, String> {
        let (folder, mut sources, main) = folder();
        let mut count = 0;
        let read = |path: &Path| {
            disturb(count, &folder.path().join("vips"));
            count += 1;
            read_text(path)
        };
        include(&mut sources, &[PATTERN.to_owned()], &main, read)
            .map_err(|error| error.to_string())?;
        Ok(sources.included.into_iter().map(|source| source.text).collect())
    }

    #[test]
    fn files_that_change_meanwhile_are_read_again() {
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("write");
        let all = |text: &[&str]| Ok(text.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(included(|_, _| {}), all(&["a", "b"]));
        // Before the second one is read, it goes, gets another name, or is written; or another one appears.
        let gone = |n, vips: &Path| {
            if n == 1 {
                std::fs::remove_file(vips.join("b.toml")).expect("remove");
            }
        };
        assert_eq!(included(gone), all(&["a"]));
        let renamed = |n, vips: &Path| {
            if n == 1 {
                std::fs::rename(vips.join("a.toml"), vips.join("c.toml")).expect("rename");
            }
        };
        assert_eq!(included(renamed), all(&["b", "a"]));
        let written = |n, vips: &Path| {
            if n == 1 {
                write(&vips.join("a.toml"), "later");
            }
        };
        assert_eq!(included(written), all(&["later", "b"]));
        let more = |n, vips: &Path| {
            if n == 1 {
                write(&vips.join("c.toml"), "c");
            }
        };
        assert_eq!(included(more), all(&["a", "b", "c"]));
    }

    #[test]
    fn files_that_never_rest_are_an_error() {
        let error = included(|n, vips| {
            std::fs::write(vips.join("b.toml"), "x".repeat(n + 2)).expect("write");
        });
        let error = error.expect_err("it changes each time");
        assert!(error.contains("vips/b.toml: was written, renamed or removed"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
