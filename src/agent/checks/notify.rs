//! `[notify]`: a program that is told what changed, one change at a time.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::Opts;
use prometheus::core::Collector;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::process::made;
use super::change::Change;
use super::job::Id;
use crate::kernel::child::Program;
use crate::kernel::child::command;
use crate::model::config::NotifyConfig;
use crate::model::error::Result;

/// The most changes that wait.
const MOST: usize = 4096;

/// The shortest time between two lines of the log about runs that failed: thousands can fail within a second.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Runs the program, until this is dropped.
#[derive(Debug)]
pub(in crate::agent) struct Notifier {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
    runs: IntCounterVec,
    lost: IntCounter,
}

impl Notifier {
    /// Begins. It needs a tokio runtime with I/O and time.
    pub(in crate::agent) fn start() -> Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            more: Notify::new(),
            runs: made(IntCounterVec::new(
                Opts::new(
                    "l4lb_notify_runs_total",
                    "Runs of the program of [notify], by how they ended.",
                ),
                &["result"],
            ))?,
            lost: made(IntCounter::new(
                "l4lb_notify_lost_total",
                "Changes that the program of [notify] is not told, since too many wait.",
            ))?,
        });
        let task = tokio::spawn(work(Arc::clone(&shared)));
        Ok(Self { shared, task })
    }

    /// What counts runs, and changes that are not told.
    pub(in crate::agent) fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.shared.runs.clone()), Box::new(self.shared.lost.clone())]
    }

    /// What is to be run from now on. A run under way ends.
    pub(in crate::agent) fn set(&self, config: &NotifyConfig) {
        self.shared.lock().config.clone_from(config);
    }

    /// What takes changes. It does not wait for the program.
    pub(in crate::agent) fn teller(&self) -> impl Fn(Vec<Change>) + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move |changes| {
            let lost = {
                let mut waiting = shared.lock();
                changes.into_iter().filter(|change| !waiting.add(change)).count()
            };
            if lost > 0 {
                shared.lost.inc_by(lost as u64);
                tracing::warn!("notify.exec: {lost} changes are not told: {MOST} wait already");
            }
            shared.more.notify_one();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The changes that wait, in the order of their first ones; one for each real of each VIP.
#[derive(Debug, Default)]
struct Waiting {
    config: NotifyConfig,
    order: VecDeque<Id>,
    changes: HashMap<Id, Change>,
}

impl Waiting {
    /// Adds a change. `false`: there is no room.
    fn add(&mut self, change: &Change) -> bool {
        if self.config.exec.is_none() {
            return true;
        }
        let id = (change.vip, change.real);
        if let Some(waiting) = self.changes.get_mut(&id) {
            let old = waiting.old;
            *waiting = Change { old, ..change.clone() };
            return true;
        }
        if self.order.len() >= MOST {
            return false;
        }
        self.order.push_back(id);
        self.changes.insert(id, change.clone());
        true
    }

    /// Takes the first change that still is one.
    fn next(&mut self) -> Option<(Change, NotifyConfig)> {
        while let Some(id) = self.order.pop_front() {
            let change = self.changes.remove(&id);
            if let Some(change) = change.filter(|change| change.old != change.new) {
                return Some((change, self.config.clone()));
            }
        }
        None
    }
}

async fn work(shared: Arc<Shared>) {
    let mut failures = Failures::default();
    loop {
        let next = shared.lock().next();
        match next {
            Some((change, NotifyConfig { exec: Some(program), timeout })) => {
                let (result, why) = run(&program, timeout, &change).await;
                shared.runs.with_label_values(&[result]).inc();
                let line = why.map(|why| {
                    format!("{}: {why}; it was to be told: {change}", program.display())
                });
                if let Some(line) = failures.line(line) {
                    tracing::warn!("{line}");
                }
            }
            // It was switched off meanwhile.
            Some(_) => {}
            None => shared.more.notified().await,
        }
    }
}

/// What the log says about runs that failed.
#[derive(Debug, Default)]
struct Failures {
    said: Option<Instant>,
    /// How many failed since then.
    more: u64,
}

impl Failures {
    /// The line about a run, if one is due.
    fn line(&mut self, failure: Option<String>) -> Option<String> {
        let failure = failure?;
        if self.said.is_some_and(|said| said.elapsed() < BETWEEN_LINES) {
            self.more += 1;
            return None;
        }
        self.said = Some(Instant::now());
        match std::mem::take(&mut self.more) {
            0 => Some(failure),
            more => Some(format!("{failure} (and {more} runs before it failed)")),
        }
    }
}

/// Runs the program. Returns how it ended, for the metric, and why that is a failure.
async fn run(program: &Path, at_most: Duration, change: &Change) -> (&'static str, Option<String>) {
    let mut command = command(program);
    command
        .env("L4LB_VIP", change.vip.to_string())
        .env("L4LB_REAL", change.real.to_string())
        .env("L4LB_OLD", change.old.to_string())
        .env("L4LB_NEW", change.new.to_string())
        .env("L4LB_REASON", &change.reason)
        .env("L4LB_CHECKS", change.checks.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut program = match Program::start(&mut command) {
        Ok(program) => program,
        Err(error) => return ("not started", Some(format!("cannot start the program: {error}"))),
    };
    match timeout(at_most, program.wait()).await {
        Ok(Ok(status)) if status.success() => ("done", None),
        Ok(Ok(status)) => ("failed", Some(format!("ended with {status}"))),
        Ok(Err(error)) => ("failed", Some(format!("cannot be waited for: {error}"))),
        Err(_) => {
            let time = humantime::format_duration(at_most);
            ("timeout", Some(format!("did not end within {time} and is killed")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::health::Health;

    fn change(real: u8, old: Health, new: Health) -> Change {
        Change {
            vip: "tcp://10.200.1.1:80".parse().unwrap(),
            real: [10, 0, 0, real].into(),
            old,
            new,
            reason: format!("reason {real}"),
            checks: 3,
        }
    }

    fn waiting() -> Waiting {
        let config = NotifyConfig { exec: Some("/bin/true".into()), ..NotifyConfig::default() };
        Waiting { config, ..Waiting::default() }
    }

    #[test]
    fn changes_of_a_real_become_one() {
        let (healthy, unhealthy, unknown) = (Health::Healthy, Health::Unhealthy, Health::Unknown);
        let mut waiting = waiting();
        for one in [
            change(1, unknown, healthy),
            change(2, healthy, unhealthy),
            change(1, healthy, unhealthy),
            change(2, unhealthy, healthy),
            change(3, healthy, unhealthy),
        ] {
            assert!(waiting.add(&one));
        }
        let mut next = || waiting.next().map(|(change, _)| (change.real, change.old, change.new));
        assert_eq!(next(), Some(([10, 0, 0, 1].into(), unknown, unhealthy)));
        // The second is as it was.
        assert_eq!(next(), Some(([10, 0, 0, 3].into(), healthy, unhealthy)));
        assert_eq!(next(), None);
        assert!(waiting.changes.is_empty());
    }

    #[test]
    fn only_so_many_wait() {
        let mut waiting = waiting();
        let mut one = change(1, Health::Healthy, Health::Unhealthy);
        for port in 1..=5000 {
            one.vip.port = port;
            assert_eq!(waiting.add(&one), usize::from(port) <= MOST);
        }
        one.vip.port = 1;
        assert!(waiting.add(&one));
        waiting.config.exec = None;
        one.vip.port = 6000;
        assert!(waiting.add(&one), "nobody is to be told");
    }

    /// Runs a shell script at three changes, of reals 10.0.0.1 to 10.0.0.3. It has a folder `$D` of its own. Returns what it
    /// wrote to `$D/told`, once that is `lines` long, and the runs by their end.
    async fn told(script: &str, timeout: Duration, lines: usize) -> (Vec<String>, Notifier) {
        let folder = tempfile::tempdir().unwrap();
        let (path, program) = (folder.path(), folder.path().join("program"));
        let file = path.join("told");
        fs::write(&program, format!("#!/bin/sh\nD={}\n{script}\n", path.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let notifier = Notifier::start().unwrap();
        notifier.set(&NotifyConfig { exec: Some(program), timeout });
        let tell = notifier.teller();
        tell((1..=3).map(|real| change(real, Health::Healthy, Health::Unhealthy)).collect());
        let begun = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let text = fs::read_to_string(&file).unwrap_or_default();
            let ended: u64 = ["done", "failed", "timeout", "not started"]
                .map(|end| runs(&notifier, end))
                .iter()
                .sum();
            if text.lines().count() >= lines && ended == 3 {
                return (text.lines().map(ToOwned::to_owned).collect(), notifier);
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{ended} runs: {text}");
        }
    }

    fn runs(notifier: &Notifier, end: &str) -> u64 {
        notifier.shared.runs.with_label_values(&[end]).get()
    }

    #[tokio::test]
    async fn programs_run_one_after_the_other_and_not_for_ever() {
        let script = "echo \"$L4LB_VIP $L4LB_REAL $L4LB_OLD $L4LB_NEW $L4LB_CHECKS $L4LB_REASON\" >>$D/told\n\
                      [ $L4LB_REAL != 10.0.0.2 ] || sleep 60\necho $L4LB_REAL ends >>$D/told\n\
                      [ $L4LB_REAL != 10.0.0.3 ] || exit 7";
        let (told, notifier) = told(script, Duration::from_secs(2), 5).await;
        assert_eq!(
            told,
            [
                "tcp://10.200.1.1:80 10.0.0.1 healthy unhealthy 3 reason 1",
                "10.0.0.1 ends",
                "tcp://10.200.1.1:80 10.0.0.2 healthy unhealthy 3 reason 2",
                "tcp://10.200.1.1:80 10.0.0.3 healthy unhealthy 3 reason 3",
                "10.0.0.3 ends",
            ]
        );
        let ends = ["done", "failed", "timeout"].map(|end| runs(&notifier, end));
        assert_eq!(ends, [1, 1, 1]);
    }

    /// The program ends at once, and leaves children that hold what it got. They are killed with it.
    #[tokio::test]
    async fn what_a_program_leaves_running_ends_with_it() {
        let script = "sleep 300 &\necho $! >>$D/told";
        let (left, notifier) = told(script, Duration::from_secs(30), 3).await;
        assert_eq!(runs(&notifier, "done"), 3);
        let is_alive = |id: &String| {
            let state = fs::read_to_string(Path::new("/proc").join(id).join("stat"));
            // Its new parent may not have asked for its exit code yet.
            state.is_ok_and(|state| state.contains("(sleep)") && !state.contains(") Z "))
        };
        let begun = Instant::now();
        while left.iter().any(is_alive) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{left:?} live on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn programs_get_nothing_of_this_process() {
        use nix::fcntl::FcntlArg;
        use nix::fcntl::FdFlag;
        use nix::fcntl::fcntl;
        use nix::sys::signal::SigSet;
        use nix::sys::signal::Signal;
        // Whoever started this process may have given it files.
        let secret = tempfile::NamedTempFile::with_prefix("secret").unwrap();
        fcntl(&secret, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        // Children inherit what their parent's thread blocks. SIGPIPE is ignored in all processes of Rust.
        let blocked: SigSet = [Signal::SIGUSR1, Signal::SIGTERM].into_iter().collect();
        blocked.thread_block().unwrap();
        let script = "ls -l /proc/self/fd | grep -c secret >>$D/told\n\
                      env | cut -d= -f1 | grep -v '^_$\\|^PWD$\\|^SHLVL$\\|^OLDPWD$' | sort | tr '\\n' ' ' >>$D/told\n\
                      echo >>$D/told\n\
                      grep '^Sig[BI]' /proc/self/status | tr -d '\\t\\n' >>$D/told\necho >>$D/told";
        let (told, _notifier) = told(script, Duration::from_secs(30), 9).await;
        blocked.thread_unblock().unwrap();
        assert_eq!(told[0], "0");
        let variables = "L4LB_CHECKS L4LB_NEW L4LB_OLD L4LB_REAL L4LB_REASON L4LB_VIP PATH ";
        assert_eq!(told[1], variables);
        // 32 and 33 are the C library's own. Whoever starts a process by `posix_spawn` may let it ignore them.
        let (blocked, ignored) = told[2].split_once("SigIgn:").unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap() & !(0b11 << 31);
        assert_eq!((blocked, ignored), ("SigBlk:0000000000000000", 0));
    }

    #[test]
    fn the_log_has_one_line_a_second_about_failures() {
        let mut failures = Failures::default();
        assert_eq!(failures.line(None), None);
        assert_eq!(failures.line(Some("first".to_owned())).as_deref(), Some("first"));
        for _ in 0..4000 {
            assert_eq!(failures.line(Some("more".to_owned())), None);
        }
        failures.said = failures.said.and_then(|said| said.checked_sub(BETWEEN_LINES));
        let line = failures.line(Some("last".to_owned()));
        assert_eq!(line.as_deref(), Some("last (and 4000 runs before it failed)"));
    }

    /// All reals of a large balancer change, and the program hangs: nobody who tells waits, and what is not told counts.
    #[tokio::test]
    async fn thousands_of_changes_at_once_hold_up_nobody() {
        let notifier = Notifier::start().unwrap();
        let (exec, timeout) = (Some("/bin/cat".into()), Duration::from_secs(600));
        notifier.set(&NotifyConfig { exec, timeout });
        let tell = notifier.teller();
        let mut one = change(1, Health::Healthy, Health::Unhealthy);
        let all: Vec<_> = (1..=6000)
            .map(|port| {
                one.vip.port = port;
                one.clone()
            })
            .collect();
        tell(all.clone());
        tell(all);
        assert_eq!(notifier.shared.lost.get(), 2 * (6000 - MOST as u64));
        assert_eq!(notifier.shared.lock().order.len(), MOST);
    }
}
