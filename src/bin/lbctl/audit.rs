//! Tells the system's log who changed what by a command.

use std::sync::Mutex;
use std::sync::PoisonError;

use l4lb::Plan;
use l4lb::audit::Entry;
use l4lb::audit::Who;
use l4lb::outside::quote;

use crate::Exit;
use crate::Failure;
use crate::Result;

/// What the command has changed so far, in words.
static CHANGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The command made a plan. If it changes something, [`report`] tells that.
pub(crate) fn note(plan: &Plan) {
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner).push(plan.summary());
}

/// The command has ended.
pub(crate) fn report(instance: &str, result: &Result) {
    let changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
    let said = |words: &str| if changed.is_empty() { words.to_owned() } else { changed.clone() };
    let (done, result) = match result {
        Ok(Exit::Done | Exit::Differences) => (true, said("it is done")),
        Ok(Exit::Failed) => (false, said("not all was done")),
        Err(Failure::Library(error)) => (false, error.to_string()),
        // The change was made, and its report was not read.
        Err(Failure::Output(_)) => (true, said("its report could not be written")),
        // Nothing was tried.
        Err(Failure::Usage(_)) => return,
    };
    let words = std::env::args_os().skip(1).map(|word| quote(&word.to_string_lossy()));
    let what = format!("lbctl {}", words.collect::<Vec<_>>().join(" "));
    Entry { instance, who: &Who::here(), what: &what, result: &result, done }.send();
}
