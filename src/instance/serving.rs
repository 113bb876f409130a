//! What `lbctl serve` shares with other processes: that it runs, and the results of its last reloads.
//!
//! systemd's protocol has no failed reload, and a signal has no answer. So the serving process writes each result to
//! shared memory. That is a map, pinned in the folder that the process has locked (`<instance>:serve`). It is valid
//! as long as the process lives. The packet path does not use it.

use std::fmt;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::Serialize;

use crate::instance::Instance;
use crate::instance::claim::Claim;
use crate::instance::claim::Holder;
use crate::instance::claim::holder;
use crate::instance::named;
use crate::instance::serving_record::APPLIED;
use crate::instance::serving_record::BEGUN;
use crate::instance::serving_record::CONSENT;
use crate::instance::serving_record::DIGEST;
use crate::instance::serving_record::DONE;
use crate::instance::serving_record::DRIFT;
use crate::instance::serving_record::NO_METRICS;
use crate::instance::serving_record::Record;
use crate::kernel::clock::seconds_since_1970;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::error::Result;

pub use crate::instance::serving_record::ControlStatus;
pub use crate::instance::serving_record::FileDrift;
pub use crate::instance::serving_record::Reload;
pub(crate) use crate::instance::serving_record::rfc3339;
pub use crate::model::error::ServingError;
pub use crate::model::part::Part;

/// How often [`reload`] checks for the result.
const PAUSE: Duration = Duration::from_millis(50);

/// A process that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Its process id; `None`: it cannot be seen from here, for example because it is in another container.
    pub pid: Option<u32>,
    /// Process id and command, in words.
    pub process: String,
    /// The result of its last reload; `None`: there was none, or another command has applied a file since.
    pub reload: Option<Reload>,
    /// Whether its metrics are where its file or its options say; `true` if they say nothing. Otherwise another
    /// process has the port, and the server tries again every five seconds.
    pub metrics: bool,
    /// Its control API; `None`: its file says that there is none, or another build serves.
    pub control: Option<ControlStatus>,
    /// How the file on disk differs from what was applied last; `None`: it does not, or nobody looks.
    pub drift: Option<FileDrift>,
}

/// The claim of this process to parts of an instance. No other process serves them while this lives.
#[derive(Debug)]
pub struct Serving {
    /// Dropped before the claims, whose folders hold the pin.
    records: Vec<Record>,
    _claims: Vec<Claim>,
}

impl Serving {
    /// Begins to serve. Waits for a process that was told to end: ten seconds at most, or as long as
    /// [`Instance::with_lock_timeout`] says.
    ///
    /// # Errors
    ///
    /// [`ServingError::Served`] names the process that already serves one of the parts.
    pub fn begin(instance: &Instance, parts: &[Part]) -> Result<Self> {
        instance.check_host()?;
        let mut parts = parts.to_vec();
        // In a fixed order, so that one of several processes that begin at once gets all parts.
        parts.sort();
        parts.dedup();
        let (mut records, mut claims) = (Vec::new(), Vec::new());
        for part in parts {
            // If no interface can have this name, nobody can serve it.
            let Some(folder) = part.folder(instance) else { continue };
            let claim = Claim::take(instance, &folder)?.map_err(|Holder(pid)| {
                let (instance, holder) = (instance.name().to_owned(), named(pid));
                ServingError::Served { part, instance, holder }
            })?;
            records.push(Record::create(claim.path())?);
            claims.push(claim);
        }
        Ok(Self { records, _claims: claims })
    }

    /// Notes that a reload begins. Call it once for all requests so far, before reading anything for the reload.
    pub fn reload_begins(&self) {
        self.records.iter().for_each(Record::begin);
    }

    /// Notes how the current reload ended. The error says why it failed; `applied` says whether it applied the file
    /// nevertheless.
    pub fn reload_ended(&self, outcome: Result<(), &str>, applied: bool) {
        let outcome = Reload {
            success: outcome.is_ok(),
            applied,
            at: seconds_since_1970(),
            message: outcome.err().unwrap_or_default().to_owned(),
        };
        self.records.iter().for_each(|record| record.end(&outcome));
    }

    /// Whether who asked for the current reload consents to removing much.
    pub(crate) fn is_consented(&self) -> bool {
        let consented = |record: &Record| record.get(CONSENT) == record.get(BEGUN);
        self.records.first().is_some_and(consented)
    }

    /// The digest of the configuration that was applied last, by whichever process; 0: not known.
    pub(crate) fn applied_digest(&self) -> u64 {
        self.records.first().map_or(0, |record| record.get(DIGEST))
    }

    /// Notes what this process has read of its file for itself.
    pub(crate) fn set_own(&self, config: &Config) {
        self.records.iter().for_each(|record| record.set_own(config));
    }

    /// Whether this process has read of its file for itself what this configuration says.
    pub(crate) fn has_own(&self, config: &Config) -> bool {
        let own = self.records.first().and_then(Record::own);
        own == Some(config.own_digests())
    }

    /// Notes whether the file on disk is what was applied: `None`, or whether it can be applied.
    pub(crate) fn set_drift(&self, drift: Option<bool>) {
        for record in &self.records {
            let since = record.drift().map_or_else(seconds_since_1970, |before| before.since);
            let word = drift.map_or(0, |valid| since * 4 + if valid { 1 } else { 2 });
            record.word(DRIFT).store(word, Ordering::Release);
        }
    }

    /// How the file on disk differs from what was applied.
    pub(crate) fn drift(&self) -> Option<FileDrift> {
        self.records.first()?.drift()
    }

    /// Notes whether the metrics are where they should be.
    pub fn set_metrics(&self, listening: bool) {
        for record in &self.records {
            record.word(NO_METRICS).store((!listening).into(), Ordering::Release);
        }
    }

    /// Notes where the control API listens; `None`: nowhere, as the file says.
    pub fn set_control(&self, control: Option<&ControlStatus>) {
        self.records.iter().for_each(|record| record.set_control(control));
    }

    /// The last reload, if its file was not applied, and no other command has applied one since then.
    pub fn failed_reload(&self) -> Option<Reload> {
        self.records.first()?.last().filter(|reload| !reload.applied)
    }
}

/// The process that serves a part of an instance.
pub fn server(instance: &Instance, part: &Part) -> Result<Option<Server>> {
    let Some(folder) = part.folder(instance) else { return Ok(None) };
    let Some(Holder(pid)) = holder(&folder)? else { return Ok(None) };
    let record = Record::open(&folder);
    let metrics = record.as_ref().is_none_or(|record| record.get(NO_METRICS) == 0);
    let control = record.as_ref().and_then(Record::control);
    let drift = record.as_ref().and_then(Record::drift);
    let reload = record.and_then(|record| record.last());
    Ok(Some(Server { pid, process: named(pid), reload, metrics, control, drift }))
}

/// What a process that serves reads for itself, when it starts and reloads, and has not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// Process id and command of `lbctl serve`, in words.
    pub process: String,
    /// The sections that say something else than what it has read, such as `[notify]`.
    pub sections: Vec<&'static str>,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sections, process) = (self.sections.join(", "), &self.process);
        write!(
            f,
            "{sections}: lbctl serve goes on with what it has read of its file ({process}); 'lbctl reload' makes it read \
             that again"
        )
    }
}

/// What of a configuration waits for the serving process to read its file again; `None`: nothing, nobody serves the
/// instance, or the process does not tell.
pub fn unread(instance: &Instance, config: &Config) -> Result<Option<Unread>> {
    let Some(folder) = Part::Balancer.folder(instance) else { return Ok(None) };
    let Some(Holder(pid)) = holder(&folder)? else { return Ok(None) };
    let Some(own) = Record::open(&folder).and_then(|record| record.own()) else { return Ok(None) };
    let each = Config::OF_SERVE.into_iter().zip(own).zip(config.own_digests());
    let sections: Vec<_> =
        each.filter_map(|((section, read), wanted)| (read != wanted).then_some(section)).collect();
    Ok((!sections.is_empty()).then(|| Unread { process: named(pid), sections }))
}

/// Notes that a configuration was applied: a failed reload of the serving process is then obsolete.
pub(crate) fn applied(instance: &Instance, config: &Config) {
    let folder = Part::Balancer.folder(instance).filter(|folder| folder.exists());
    if let Some(record) = folder.and_then(|folder| Record::open(&folder)) {
        record.word(APPLIED).store(record.get(DONE), Ordering::Release);
        record.word(DIGEST).store(config.digest(), Ordering::Release);
    }
}

/// Tells the process that serves a part of an instance to reload, and waits for the result, at most for `timeout`.
///
/// The result is that of a reload that read its file after this call, even if others reload at the same time.
///
/// # Errors
///
/// A failed reload is not an error, but a [`Reload`] without success. Errors are [`ServingError`]: nobody serves, or
/// the result is unknown.
pub fn reload(instance: &Instance, part: &Part, timeout: Duration) -> Result<Reload> {
    ask(instance, part, timeout, false)
}

/// As [`reload`], and consents to removing more than half of the VIPs or reals.
pub fn reload_consenting(instance: &Instance, part: &Part, timeout: Duration) -> Result<Reload> {
    ask(instance, part, timeout, true)
}

fn ask(instance: &Instance, part: &Part, timeout: Duration, consents: bool) -> Result<Reload> {
    let since = Instant::now();
    instance.check_host()?;
    let name = || instance.name().to_owned();
    let not_served = || ServingError::NotServed { part: part.clone(), instance: name() };
    let folder = part.folder(instance).ok_or_else(not_served)?;
    let found = holder(&folder)?.ok_or_else(not_served)?;
    let who = named(found.0);
    let Some(pid) = found.0 else {
        let (part, instance) = (part.clone(), name());
        return Err(ServingError::OutOfReach { part, instance, holder: who }.into());
    };
    let is_there = || {
        Ok::<_, Error>(match holder(&folder)? {
            None => false,
            // A process holds the lock, even if the kernel's list does not show which one at this moment.
            Some(Holder(None)) => true,
            Some(now) => now == found,
        })
    };
    // The pin appears a moment after the lock.
    let record = loop {
        match Record::open(&folder) {
            Some(record) => break record,
            None if !is_there()? => return Err(ServingError::Ended { holder: who }.into()),
            None if since.elapsed() >= Duration::from_secs(1) => {
                return Err(ServingError::OtherBuild { holder: who }.into());
            }
            None => thread::sleep(PAUSE),
        }
    };
    // Waits for the next reload that begins: a reload in progress may have read the file before it was written.
    let number = record.get(BEGUN) + 1;
    if consents {
        record.word(CONSENT).store(number, Ordering::Release);
    }
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGHUP).map_err(|errno| Error::Host {
        operation: "signal the process that serves",
        source: errno.into(),
    })?;
    loop {
        let ended = !is_there()?;
        let done = record.get(DONE);
        if done >= number
            && let Some(outcome) = record.outcome(number).or_else(|| record.outcome(done))
        {
            return Ok(outcome);
        }
        if ended {
            return Err(ServingError::Ended { holder: who }.into());
        }
        if since.elapsed() >= timeout {
            return Err(ServingError::TimedOut { holder: who, timeout }.into());
        }
        thread::sleep(PAUSE);
    }
}
