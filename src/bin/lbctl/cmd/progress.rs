//! Progress of commands that wait: a bar on a terminal, a line now and then elsewhere, JSON lines for programs.

use std::io;
use std::io::IsTerminal as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde::Serialize;

use crate::output;

/// How long a signal may have to wait.
const NAP: Duration = Duration::from_millis(100);

/// How often a line tells of progress if something changed, and if nothing did.
const LINE_EVERY: Duration = Duration::from_secs(10);
const SAME_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Progress {
    begun: Instant,
    timeout: Duration,
    json: bool,
    bar: Option<ProgressBar>,
    /// The most that was left so far.
    most: u64,
    /// What the last line said was left, and when.
    said: Option<(u64, Instant)>,
}

impl Progress {
    pub(crate) fn new(timeout: Duration, json: bool) -> Self {
        let bar = (!json && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(1);
            // With a template that is wrong, the bar has its standard looks.
            match ProgressStyle::with_template("{bar:20} {msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { begun: Instant::now(), timeout, json, bar, most: 0, said: None }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long it took so far, in words.
    pub(crate) fn took(&self) -> String {
        seconds(self.elapsed())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.elapsed() >= self.timeout
    }

    /// Shows how much is left: in words, and as an object that JSON has under `left`.
    pub(crate) fn show(
        &mut self,
        left: u64,
        words: &str,
        object: &impl Serialize,
    ) -> io::Result<()> {
        if self.json {
            return event(&serde_json::json!({
                "event": "progress",
                "seconds": self.elapsed().as_secs(),
                "left": object,
            }));
        }
        self.most = self.most.max(left);
        let text = format!("{words}; {} of {}", self.took(), seconds(self.timeout));
        if let Some(bar) = &self.bar {
            bar.set_length(self.most.max(1));
            bar.set_position(self.most.max(1) - left);
            bar.set_message(text);
            bar.tick();
            return Ok(());
        }
        let due = self.said.is_none_or(|(said, at)| {
            at.elapsed() >= if said == left { SAME_EVERY } else { LINE_EVERY }
        });
        if due {
            self.said = Some((left, Instant::now()));
            output::line(text)?;
        }
        Ok(())
    }

    /// Sleeps, but not past the timeout, nor after an interruption.
    pub(crate) fn pause(&self, time: Duration, interrupted: &AtomicBool) {
        let until = Instant::now() + time.min(self.timeout.saturating_sub(self.elapsed()));
        while Instant::now() < until && !interrupted.load(Ordering::Relaxed) {
            thread::sleep(NAP.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A time to the second, in words.
fn seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// Prints a line of JSON.
pub(crate) fn event(object: &serde_json::Value) -> io::Result<()> {
    let mut lines = output::JsonLines::new();
    lines.line(object)?;
    lines.finish()
}
