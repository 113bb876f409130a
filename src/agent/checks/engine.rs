//! The task that starts checks, hears results, and hands on what changes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::sleep_until;

use super::book::Batch;
use super::book::Book;
use super::change::Change;
use super::change::Log;
use super::job::Id;
use super::job::Job;
use super::job::Key;
use super::job::Target;
use super::metrics::CheckMetrics;
use super::random;
use crate::control::health::HealthResult;
use crate::kernel::clock::since_1970;
use crate::model::error::Result;
use crate::probe::Outcome;
use crate::probe::Probe;
use crate::probe::Report;

/// How long after the first change all of them are written. Reals that fail together are found within this time of one
/// another, or by the next write.
const COLLECT: Duration = Duration::from_millis(100);

/// How long to wait after a write that failed.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// How often time is looked at, and how often it is noted that checks run.
const TICK: Duration = Duration::from_secs(1);

/// A start is late if it is later than this part of its interval, and than [`LATE_AT_LEAST`].
const LATE: f64 = 0.1;
const LATE_AT_LEAST: Duration = Duration::from_millis(100);

/// How many commands may wait. The senders wait for more.
const COMMANDS: usize = 4;

/// Where results go. Calls come one at a time, on a thread that may block.
pub trait Sink: Send + Sync + 'static {
    /// Records what follows from checks, all together. If it fails, it is called again a second later, with what is
    /// true by then.
    fn record(&self, results: &[HealthResult]) -> Result<()>;

    /// Notes that reals are being checked: called once a second at most.
    fn note_checking(&self) -> Result<()> {
        Ok(())
    }

    /// Tells others what changed, after it was recorded. It must not wait for anything.
    fn tell(&self, changes: Vec<Change>) {
        drop(changes);
    }
}

/// Runs one check: [`probe::run`](crate::probe::run), or what a test has in its place.
pub type Run =
    Arc<dyn Fn(Arc<Probe>) -> Pin<Box<dyn Future<Output = Report> + Send>> + Send + Sync>;

enum Command {
    /// With the time when their records were read.
    Targets(Vec<Target>, Instant),
    AtMost(usize),
    /// What others said about reals.
    Told(Vec<Change>),
}

/// Checks that run until this is dropped. Clones are not needed: targets and limits are set at any time.
#[derive(Debug)]
pub struct Checks {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
    metrics: CheckMetrics,
}

impl Checks {
    /// Begins, without targets. At most so many checks run at a time. It needs a tokio runtime with I/O and time.
    pub fn start(sink: Arc<dyn Sink>, at_most: usize) -> Result<Self> {
        Self::start_with(
            sink,
            at_most,
            Arc::new(|probe| Box::pin(async move { crate::probe::run(&probe).await })),
        )
    }

    /// The same, with another way to run a check.
    pub fn start_with(sink: Arc<dyn Sink>, at_most: usize, run: Run) -> Result<Self> {
        Self::start_by(sink, at_most, run, since_1970)
    }

    /// The same, by another clock.
    pub(super) fn start_by(
        sink: Arc<dyn Sink>,
        at_most: usize,
        run: Run,
        clock: fn() -> Duration,
    ) -> Result<Self> {
        let metrics = CheckMetrics::new()?;
        let (commands, received) = mpsc::channel(COMMANDS);
        let engine = Engine {
            run,
            sink,
            clock,
            metrics: metrics.clone(),
            at_most: at_most.max(1),
            jobs: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            due: BinaryHeap::new(),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            book: Book::default(),
            writing: None,
            write_at: None,
            write_failed: None,
            heard: false,
            noting: None,
            log: Log::default(),
        };
        Ok(Self { commands, task: tokio::spawn(engine.work(received)), metrics })
    }

    /// Replaces what is checked. Checks that stay go on as they are; a run under way ends.
    pub async fn set_targets(&self, targets: Vec<Target>) {
        self.set_targets_of(targets, Instant::now()).await;
    }

    /// The same, with targets whose records were read at that time.
    pub(super) async fn set_targets_of(&self, targets: Vec<Target>, read_at: Instant) {
        // Only a task that panicked does not receive it.
        let _ = self.commands.send(Command::Targets(targets, read_at)).await;
    }

    /// Logs and tells what others said about reals, as if checks had found it.
    pub(super) async fn tell(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            let _ = self.commands.send(Command::Told(changes)).await;
        }
    }

    /// Replaces how many checks run at a time.
    pub async fn set_limit(&self, at_most: usize) {
        let _ = self.commands.send(Command::AtMost(at_most.max(1))).await;
    }

    /// Their metrics.
    pub fn metrics(&self) -> &CheckMetrics {
        &self.metrics
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Engine {
    run: Run,
    sink: Arc<dyn Sink>,
    /// The time since 1970: records outlive this process.
    clock: fn() -> Duration,
    metrics: CheckMetrics,
    at_most: usize,
    jobs: HashMap<u64, Job>,
    numbers: HashMap<Key, u64>,
    next_number: u64,
    /// When which job is due. Entries that a job no longer has are skipped.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    running: JoinSet<Report>,
    /// Whose run a task is.
    tasks: HashMap<tokio::task::Id, u64>,
    book: Book,
    writing: Option<JoinHandle<(Batch, Result<()>)>>,
    write_at: Option<Instant>,
    /// Why the last write failed.
    write_failed: Option<String>,
    /// Whether a check has said something about a real since that was last noted.
    heard: bool,
    noting: Option<JoinHandle<Result<()>>>,
    log: Log,
}

impl Engine {
    async fn work(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.next_due();
            let write_at = self.write_at.filter(|_| self.writing.is_none());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Targets(targets, read_at)) => self.set_targets(&targets, read_at),
                    Some(Command::AtMost(at_most)) => self.at_most = at_most,
                    Some(Command::Told(changes)) => self.tell(changes),
                    None => return,
                },
                Some(ended) = self.running.join_next_with_id() => {
                    self.ended(ended);
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.ended(ended);
                    }
                }
                () = until(due) => self.start_due(),
                () = until(write_at) => self.write(),
                written = finished(&mut self.writing) => self.written(written),
                _ = tick.tick() => self.tick(),
            }
            if self.write_at.is_none() && self.book.has_pending() {
                self.write_at = Some(Instant::now() + COLLECT);
            }
        }
    }

    /// When the next check starts, if one may start.
    fn next_due(&mut self) -> Option<Instant> {
        if self.running.len() >= self.at_most {
            return None;
        }
        while let Some(Reverse((due, number))) = self.due.peek() {
            if self.jobs.get(number).is_some_and(|job| job.due == Some(*due)) {
                return Some(*due);
            }
            self.due.pop();
        }
        None
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            let Some(Reverse((_, number))) = self.due.pop() else { return };
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            (job.due, job.running_since) = (None, Some(now));
            let late = now - due;
            let allowed = job.probe.check.config().interval().mul_f64(LATE).max(LATE_AT_LEAST);
            self.metrics.started(late, late > allowed);
            let task = match job.obstacle.clone() {
                Some(why) => self.running.spawn(async { Report::local(why) }),
                None => self.running.spawn((self.run)(Arc::clone(&job.probe))),
            };
            self.tasks.insert(task.id(), number);
        }
        self.metrics.running(self.running.len());
    }

    fn ended(&mut self, ended: std::result::Result<(tokio::task::Id, Report), JoinError>) {
        let (task, report) = match ended {
            Ok((task, report)) => (task, Some(report)),
            Err(error) => {
                tracing::error!("a check ended without a result: {error}");
                (error.id(), None)
            }
        };
        self.metrics.running(self.running.len());
        let Some(number) = self.tasks.remove(&task) else { return };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let began = job.running_since.take().unwrap_or_else(Instant::now);
        if job.members.is_empty() {
            if let Some(job) = self.jobs.remove(&number) {
                self.numbers.remove(&job.key);
            }
            return;
        }
        let (kind, since_1970) = (job.probe.check.config().kind, (self.clock)());
        if let Some(report) = &report {
            self.heard |= report.outcome != Outcome::Unknown;
            self.metrics.ended(kind, &job.members, report);
            for member in &job.members {
                self.book.hear(*member, kind, report, since_1970);
            }
        }
        job.runs += 1;
        let every = job.members.iter().filter_map(|id| self.book.interval(*id)).min();
        let every = every.unwrap_or_else(|| job.probe.check.config().interval());
        let wait = if job.runs == 1 { random::second(every) } else { random::next(every) };
        self.schedule(number, (began + wait).max(Instant::now()));
    }

    fn schedule(&mut self, number: u64, due: Instant) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.due = Some(due);
            self.due.push(Reverse((due, number)));
        }
    }

    fn set_targets(&mut self, targets: &[Target], read_at: Instant) {
        let (now, since_1970) = (Instant::now(), (self.clock)());
        if self.book.is_empty() && !targets.is_empty() {
            // They are being checked from now on, though nothing is known yet.
            self.heard = true;
            self.note();
        }
        let ids: HashSet<Id> = targets.iter().map(Target::id).collect();
        self.book.retain(|id| ids.contains(id));
        self.metrics.retain(&ids);
        let mut members = HashMap::<u64, Vec<Id>>::new();
        for target in targets {
            self.book.keep(target, read_at, since_1970);
            if target.paused {
                continue;
            }
            let key = target.key();
            let number = *self.numbers.entry(key.clone()).or_insert_with(|| {
                self.next_number += 1;
                self.next_number
            });
            members.entry(number).or_default().push(target.id());
            let job = self.jobs.entry(number).or_insert_with(|| Job {
                key,
                probe: Arc::new(target.probe()),
                obstacle: None,
                members: Vec::new(),
                running_since: None,
                due: None,
                runs: 0,
            });
            if job.probe.mark != target.mark || !Arc::ptr_eq(&job.probe.check, &target.check) {
                job.probe = Arc::new(target.probe());
            }
            job.obstacle.clone_from(&target.obstacle);
        }
        let numbers: Vec<u64> = self.jobs.keys().copied().collect();
        for number in numbers {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            job.members = members.remove(&number).unwrap_or_default();
            if job.members.is_empty() {
                job.due = None;
                if job.running_since.is_none() {
                    self.numbers.remove(&job.key);
                    self.jobs.remove(&number);
                }
            } else if job.due.is_none() && job.running_since.is_none() {
                let first = random::first(job.probe.check.config().interval());
                self.schedule(number, now + first);
            }
        }
        // Entries of jobs that are gone are skipped when they are due. Those of many reloads must not pile up.
        if self.due.len() > 2 * self.jobs.len() + 64 {
            let jobs = &self.jobs;
            self.due.retain(|Reverse((due, number))| {
                jobs.get(number).is_some_and(|job| job.due == Some(*due))
            });
        }
        self.metrics.targets(targets.len(), self.jobs.len());
    }

    /// Writes what the records have to learn.
    fn write(&mut self) {
        self.write_at = None;
        let batch = self.book.take();
        if batch.results.is_empty() {
            return;
        }
        let sink = Arc::clone(&self.sink);
        self.writing = Some(spawn_blocking(move || {
            let recorded = sink.record(&batch.results);
            (batch, recorded)
        }));
    }

    fn written(&mut self, written: std::result::Result<(Batch, Result<()>), JoinError>) {
        let (batch, failure) = match written {
            Ok((batch, Ok(()))) => (batch, None),
            Ok((batch, Err(error))) => (batch, Some(error.to_string())),
            // The batch is lost: the next look at the records finds what they lack.
            Err(error) => {
                tracing::error!("cannot record the health of reals: {error}");
                return;
            }
        };
        if let Some(failure) = failure {
            if self.write_failed.as_ref() != Some(&failure) {
                let number = batch.results.len();
                tracing::warn!(
                    "cannot record the health of {number} reals, trying again: {failure}"
                );
            }
            self.write_failed = Some(failure);
            self.book.not_recorded(&batch);
            self.write_at = Some(Instant::now() + WRITE_AGAIN);
            return;
        }
        if self.write_failed.take().is_some() {
            tracing::info!("the health of reals can be recorded again");
        }
        self.book.recorded(&batch);
        let changes: Vec<_> =
            batch.changes.into_iter().filter(|change| change.old != change.new).collect();
        self.tell(changes);
    }

    fn tell(&mut self, changes: Vec<Change>) {
        self.log.add(&changes);
        self.metrics.changed(&changes);
        if !changes.is_empty() {
            self.sink.tell(changes);
        }
    }

    fn tick(&mut self) {
        self.book.tick((self.clock)());
        self.metrics.report_local();
        self.log.second();
        self.note();
    }

    /// Notes that reals are being checked, if that is so.
    fn note(&mut self) {
        if self.noting.as_ref().is_some_and(|noting| !noting.is_finished()) {
            return;
        }
        // If the operator has all of them down, nobody is missed.
        let nobody = self.jobs.is_empty() && !self.book.is_empty();
        if std::mem::take(&mut self.heard) || nobody {
            let sink = Arc::clone(&self.sink);
            self.noting = Some(spawn_blocking(move || sink.note_checking()));
        }
    }
}

/// Waits until then, or for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// Waits for the end of a task, if there is one.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> std::result::Result<T, JoinError> {
    match task {
        Some(running) => {
            let result = running.await;
            *task = None;
            result
        }
        None => pending().await,
    }
}
