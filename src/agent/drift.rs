//! Whether the file on disk is what was applied last; and `--watch`, which reloads when it is not.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::control::Control;
use super::reloads::Reloads;
use crate::kernel::config_files::FilesNow;
use crate::model::config::Config;

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// How often it is looked at with `--watch`. It is read when it was the same for two looks, so that an editor can write
/// it in several steps.
const WATCH_PERIOD: Duration = Duration::from_millis(500);

/// What was seen of the files at the last look.
#[derive(Default)]
struct Seen {
    files: Option<FilesNow>,
    /// Whether these files were read, and what they say: their configuration, or what is wrong.
    read: Option<Result<Config, String>>,
    /// Whether a reload was asked for because of them, or their error was logged.
    dealt_with: bool,
}

/// Looks at the file from time to time, until the runtime ends.
pub(super) fn follow(file: PathBuf, reloads: Reloads, watch: Option<Control>) {
    tokio::spawn(async move {
        let mut seen = Seen::default();
        loop {
            sleep(if watch.is_some() { WATCH_PERIOD } else { PERIOD }).await;
            let path = file.clone();
            // A mount that does not answer holds up only this task.
            let Ok(looked) = spawn_blocking(move || look(&path, seen)).await else { return };
            seen = looked;
            judge(&mut seen, &reloads, watch.as_ref());
        }
    });
}

/// Looks at the files, and reads them if they were written, and have been the same for two looks.
fn look(path: &Path, mut seen: Seen) -> Seen {
    let now = FilesNow::look(path, seen.files.as_ref());
    if now != seen.files {
        return Seen { files: now, ..Seen::default() };
    }
    if seen.files.is_some() && seen.read.is_none() {
        seen.read = Some(Config::from_file(path).map_err(|error| error.to_string()));
    }
    seen
}

/// Notes whether what was read is what was applied.
fn judge(seen: &mut Seen, reloads: &Reloads, watch: Option<&Control>) {
    let Some(read) = &seen.read else { return };
    let is_applied = read.as_ref().is_ok_and(|config| reloads.is_applied(config));
    reloads.set_drift((!is_applied).then_some(read.is_ok()));
    if is_applied || seen.dealt_with {
        return;
    }
    seen.dealt_with = true;
    match (read, watch) {
        (Ok(_), Some(control)) => {
            tracing::info!("the file has changed");
            control.reload();
        }
        (Ok(_), None) => {}
        (Err(error), _) => {
            tracing::error!("the file on disk cannot be applied, what runs goes on: {error}");
        }
    }
}
