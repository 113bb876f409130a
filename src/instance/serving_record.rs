//! The memory that a process that serves shares with others: a map, pinned in the folder that the process has locked. It is
//! valid as long as the process lives. The packet path does not use it.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use libbpf_rs::MapType;
use serde::Serialize;

use crate::instance::pin_error;
use crate::instance::remove_pin;
use crate::kernel::bpf;
use crate::kernel::bpf::ArrayMemory;
use crate::kernel::maps;
use crate::kernel::maps::MapError;
use crate::model::config::Config;
use crate::model::error::Result;
use crate::model::text::message;

/// The name of the map and of its pin.
const MAP: &str = "l4lb_serve";

/// The layout of the map's memory, in words of 64 bits: this number; reloads begun; reloads done; how many were done
/// when another command last applied a file; whether the metrics are not where they should be; then the results; then
/// where the control API listens, and what it has read of its file for itself, which processes of older builds lack.
const LAYOUT: u64 = 1;
pub(super) const BEGUN: usize = 1;
pub(super) const DONE: usize = 2;
pub(super) const APPLIED: usize = 3;
pub(super) const NO_METRICS: usize = 4;
/// The digest of the configuration that was applied last, by whichever process; 0: not known.
pub(super) const DIGEST: usize = 5;
/// Whether the file on disk differs from what was applied: four times the time in seconds since 1970 when that was seen
/// first, plus 1, or 2 if it cannot be applied; 0: it does not differ.
pub(super) const DRIFT: usize = 6;
/// The number of the reload that may remove much.
pub(super) const CONSENT: usize = 7;
const OUTCOMES: usize = 8;

/// How many results are kept, so that each of several callers who reload at once finds its own.
const KEPT: usize = 4;

/// Words of a result: the reload's number, or 0 while it is written; whether the file was applied; seconds since
/// 1970; bytes of text; the text.
const OUTCOME: usize = 512;
const NUMBER: usize = 0;
const WAS_APPLIED: usize = 1;
const TIME: usize = 2;
const LENGTH: usize = 3;
const TEXT: usize = 4;

/// Words about the control API: four times how often it was noted, plus one of the states below, or none of them
/// while it is written; bytes of text; the text, which is the socket's path, a zero, and why it does not listen.
const CONTROL: usize = OUTCOMES + KEPT * OUTCOME;
const CONTROL_WORDS: usize = 512;
const CONTROL_OFF: u64 = 1;
const CONTROL_LISTENS: u64 = 2;
const CONTROL_FAILED: u64 = 3;

/// The digests of the sections of its file that only the process itself reads ([`Config::OF_SERVE`]); 0: not known.
const OWN: usize = CONTROL + CONTROL_WORDS;

const WORDS: usize = OWN + Config::OF_SERVE.len();

/// What errors call the control API.
const CONTROL_API: &str = "the control API";

/// The control API of a process that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlStatus {
    /// The path of the socket where it should listen.
    pub socket: String,
    /// Whether it listens there. If not, the server tries again every five seconds.
    pub listening: bool,
    /// Why not, in one line; empty: it listens.
    pub message: String,
}

/// The result of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reload {
    /// Whether it did everything that the file says.
    pub success: bool,
    /// Whether the file was applied. This is also true if only the metrics could not move.
    pub applied: bool,
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// Why it failed, in one line; empty: it succeeded.
    pub message: String,
}

impl Reload {
    /// What it did, in words.
    pub fn what(&self) -> &'static str {
        match (self.success, self.applied) {
            (true, _) => "reloaded",
            (false, true) if self.message.contains(CONTROL_API) => {
                "reloaded, but for the control API"
            }
            (false, true) => "reloaded, but for the metrics",
            (false, false) => "not reloaded",
        }
    }

    /// When it ended, as RFC 3339: `2026-11-27T15:45:00Z`.
    pub fn time(&self) -> String {
        rfc3339(self.at)
    }
}

/// Seconds since 1970 as RFC 3339.
pub(crate) fn rfc3339(seconds: u64) -> String {
    // RFC 3339 has no years after 9999.
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The file on disk is not what was applied last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileDrift {
    /// When that was seen first, in seconds since 1970.
    pub since: u64,
    /// Whether the file can be read and has no errors.
    pub valid: bool,
}

/// The shared memory.
#[derive(Debug)]
pub(super) struct Record {
    memory: ArrayMemory,
}

impl Record {
    /// Creates it, pinned in a folder.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let pin = folder.join(MAP);
        remove_pin(&pin)?;
        let bytes = WORDS * size_of::<u64>();
        let flags = libbpf_sys::BPF_F_MMAPABLE;
        let map = maps::create_inner(MAP, MapType::Array, size_of::<u32>(), bytes, 1, flags, 0)?;
        let error = |source| MapError::new(MAP, "map its memory", source);
        let record = Self { memory: ArrayMemory::new(&map).map_err(error)? };
        record.word(0).store(LAYOUT, Ordering::Release);
        bpf::pin(map.as_fd(), &pin).map_err(|source| pin_error("pin", &pin, source))?;
        Ok(record)
    }

    /// Opens it; `None`: there is none, or another build created it with another layout.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let map = maps::open(&folder.join(MAP)).ok()?;
        let record = Self { memory: ArrayMemory::new(&map).ok()? };
        let fits = record.memory.words().len() >= CONTROL && record.get(0) == LAYOUT;
        fits.then_some(record)
    }

    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[at]
    }

    pub(super) fn get(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn place(number: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "it is below KEPT")]
        let place = (number % KEPT as u64) as usize;
        OUTCOMES + place * OUTCOME
    }

    pub(super) fn begin(&self) {
        self.word(BEGUN).fetch_add(1, Ordering::AcqRel);
    }

    /// Notes the result of the current reload.
    pub(super) fn end(&self, outcome: &Reload) {
        let number = self.get(BEGUN);
        let at = Self::place(number);
        let set = |word: usize, value: u64| self.word(at + word).store(value, Ordering::Release);
        set(NUMBER, 0);
        set(WAS_APPLIED, outcome.applied.into());
        set(TIME, outcome.at);
        self.write_text(at + LENGTH, OUTCOME - TEXT, message(&outcome.message));
        set(NUMBER, number);
        self.word(DONE).store(number, Ordering::Release);
    }

    /// Writes the length of a text, and behind it as much of the text as so many words hold.
    fn write_text(&self, at: usize, most: usize, mut text: String) {
        while text.len() > most * size_of::<u64>() {
            text.pop();
        }
        let set = |word: usize, value: u64| self.word(at + word).store(value, Ordering::Release);
        set(0, text.len() as u64);
        for (word, bytes) in text.as_bytes().chunks(size_of::<u64>()).enumerate() {
            let mut value = [0; size_of::<u64>()];
            value[..bytes.len()].copy_from_slice(bytes);
            set(1 + word, u64::from_ne_bytes(value));
        }
    }

    /// Reads what [`Self::write_text`] wrote.
    fn read_text(&self, at: usize, most: usize) -> String {
        let most = most * size_of::<u64>();
        let length = usize::try_from(self.get(at)).unwrap_or(most).min(most);
        let words = (0..length.div_ceil(size_of::<u64>())).map(|word| self.get(at + 1 + word));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        bytes.truncate(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Notes where the control API listens.
    pub(super) fn set_control(&self, control: Option<&ControlStatus>) {
        let times = self.get(CONTROL) / 4;
        self.word(CONTROL).store(times * 4, Ordering::Release);
        let state = match control {
            None => CONTROL_OFF,
            Some(control) if control.listening => CONTROL_LISTENS,
            Some(_) => CONTROL_FAILED,
        };
        let text = control.map(|control| {
            let ControlStatus { socket, message: why, .. } = control;
            format!("{socket}\0{}", message(why))
        });
        self.write_text(CONTROL + 1, CONTROL_WORDS - 2, text.unwrap_or_default());
        self.word(CONTROL).store((times.wrapping_add(1)) * 4 + state, Ordering::Release);
    }

    /// How the file on disk differs from what was applied.
    pub(super) fn drift(&self) -> Option<FileDrift> {
        let word = self.get(DRIFT);
        (word != 0).then_some(FileDrift { since: word / 4, valid: word % 4 == 1 })
    }

    /// Where the control API listens, if it does or should.
    pub(super) fn control(&self) -> Option<ControlStatus> {
        if self.memory.words().len() < OWN {
            return None;
        }
        let state = self.get(CONTROL);
        let text = self.read_text(CONTROL + 1, CONTROL_WORDS - 2);
        let listening = match state % 4 {
            CONTROL_LISTENS => true,
            CONTROL_FAILED => false,
            _ => return None,
        };
        let (socket, message) = text.split_once('\0')?;
        let (socket, message) = (socket.to_owned(), message.to_owned());
        (self.get(CONTROL) == state).then_some(ControlStatus { socket, listening, message })
    }

    /// Notes what the process has read of its file for itself.
    pub(super) fn set_own(&self, config: &Config) {
        for (section, digest) in config.own_digests().into_iter().enumerate() {
            self.word(OWN + section).store(digest, Ordering::Release);
        }
    }

    /// What the process has read of its file for itself; `None`: that is not known.
    pub(super) fn own(&self) -> Option<[u64; Config::OF_SERVE.len()]> {
        if self.memory.words().len() < WORDS {
            return None;
        }
        let own = std::array::from_fn(|section| self.get(OWN + section));
        own.iter().all(|digest| *digest != 0).then_some(own)
    }

    /// The result of a finished reload; `None`: later reloads have overwritten it.
    pub(super) fn outcome(&self, number: u64) -> Option<Reload> {
        let at = Self::place(number);
        let is_whole = || self.get(at + NUMBER) == number;
        if number == 0 || !is_whole() {
            return None;
        }
        let message = self.read_text(at + LENGTH, OUTCOME - TEXT);
        let (applied, time) = (self.get(at + WAS_APPLIED) != 0, self.get(at + TIME));
        let success = message.is_empty();
        is_whole().then_some(Reload { success, applied, at: time, message })
    }

    /// The last result, unless another command has applied a file since.
    pub(super) fn last(&self) -> Option<Reload> {
        let done = self.get(DONE);
        self.outcome(done).filter(|reload| reload.applied || self.get(APPLIED) < done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let memory = ArrayMemory::anonymous(WORDS * size_of::<u64>()).unwrap();
        Record { memory }
    }

    fn outcome(message: &str) -> Reload {
        let success = message.is_empty();
        Reload { success, applied: success, at: 1_800_000_000, message: message.to_owned() }
    }

    #[test]
    fn outcomes_are_kept_by_number() {
        let record = record();
        assert_eq!((record.outcome(0), record.last()), (None, None));
        for number in 1..=9_u64 {
            record.begin();
            assert_eq!(record.get(BEGUN), number);
            assert_eq!(record.outcome(number), None, "it is not done");
            record.end(&outcome(&format!("number {number}")));
            assert_eq!(record.last(), Some(outcome(&format!("number {number}"))));
        }
        for number in 1..=9_u64 {
            let kept = (number > 9 - KEPT as u64).then(|| outcome(&format!("number {number}")));
            assert_eq!(record.outcome(number), kept);
        }
        record.begin();
        record.end(&outcome(""));
        assert_eq!(record.last(), Some(outcome("")));
    }

    #[test]
    fn messages_are_one_line_and_fit() {
        let record = record();
        for text in ["\u{1b}[2J\n".repeat(1000), "ä".repeat(5000), "\u{10ffff}".repeat(1300)] {
            record.begin();
            record.end(&outcome(&text));
            let kept = record.last().unwrap().message;
            assert!(!kept.is_empty() && kept.len() <= (OUTCOME - TEXT) * size_of::<u64>());
            assert!(!kept.contains(['\n', '\u{1b}', '\u{fffd}']), "{kept}");
        }
        // Another process may write wrong numbers.
        record.word(Record::place(3) + LENGTH).store(u64::MAX, Ordering::Relaxed);
        assert!(record.last().unwrap().message.len() <= OUTCOME * size_of::<u64>());
        record.word(Record::place(3) + TIME).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(record.last().unwrap().time(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn where_the_control_api_listens() {
        let record = record();
        assert_eq!(record.control(), None);
        let mut status = ControlStatus {
            socket: "/run/ä.sock".to_owned(),
            listening: true,
            message: String::new(),
        };
        record.set_control(Some(&status));
        assert_eq!(record.control().as_ref(), Some(&status));
        status.listening = false;
        status.message = "x".repeat(100_000);
        record.set_control(Some(&status));
        let kept = record.control().unwrap();
        assert!(!kept.listening && kept.socket == status.socket && kept.message.len() > 1000);
        record.set_control(None);
        assert_eq!(record.control(), None);
        // Processes of older builds have less memory.
        let older = Record { memory: ArrayMemory::anonymous(CONTROL * size_of::<u64>()).unwrap() };
        assert_eq!((older.control(), older.own()), (None, None));
    }

    #[test]
    fn what_is_applied_by_hand_counts() {
        let record = record();
        record.begin();
        record.end(&outcome("broken"));
        record.word(APPLIED).store(record.get(DONE), Ordering::Relaxed);
        assert_eq!(record.last(), None);
        record.begin();
        record.end(&outcome("broken again"));
        assert_eq!(record.last(), Some(outcome("broken again")));
    }
}
