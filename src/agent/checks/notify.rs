//! `[notify]`: a program that is told what changed, one change at a time.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::change::Change;
use super::job::Id;
use crate::model::config::NotifyConfig;

/// The most changes that wait.
const MOST: usize = 4096;

/// Where the program finds others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program, until this is dropped.
#[derive(Debug)]
pub(in crate::agent) struct Notifier {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
}

impl Notifier {
    /// Begins. It needs a tokio runtime with I/O and time.
    pub(in crate::agent) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(work(Arc::clone(&shared)));
        Self { shared, task }
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
    loop {
        let next = shared.lock().next();
        match next {
            Some((change, NotifyConfig { exec: Some(program), timeout })) => {
                if let Err(why) = run(&program, timeout, &change).await {
                    tracing::warn!("{}: {why}; it was to be told: {change}", program.display());
                }
            }
            // It was switched off meanwhile.
            Some(_) => {}
            None => shared.more.notified().await,
        }
    }
}

async fn run(program: &Path, at_most: Duration, change: &Change) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("L4LB_VIP", change.vip.to_string())
        .env("L4LB_REAL", change.real.to_string())
        .env("L4LB_OLD", change.old.to_string())
        .env("L4LB_NEW", change.new.to_string())
        .env("L4LB_REASON", &change.reason)
        .env("L4LB_CHECKS", change.checks.to_string())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().map_err(|error| format!("cannot start the program: {error}"))?;
    let mut child = Group(child);
    match timeout(at_most, child.0.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("ended with {status}")),
        Ok(Err(error)) => Err(format!("cannot be waited for: {error}")),
        Err(_) => {
            Err(format!("did not end within {} and is killed", humantime::format_duration(at_most)))
        }
    }
}

/// A program and what it started. It is killed when this goes, unless it has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // A child that nobody waited for keeps its number: no other group can have it.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // If there is none left, there is nothing to kill.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

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

    #[tokio::test]
    async fn programs_run_one_after_the_other_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let program = folder.path().join("program");
        let text = format!(
            "#!/bin/sh\necho \"$L4LB_VIP $L4LB_REAL $L4LB_OLD $L4LB_NEW $L4LB_CHECKS $L4LB_REASON\" >>{0}\n\
             [ $L4LB_REAL != 10.0.0.2 ] || sleep 60\necho $L4LB_REAL ends >>{0}\n",
            told.display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let notifier = Notifier::start();
        let timeout = Duration::from_secs(2);
        notifier.set(&NotifyConfig { exec: Some(program), timeout });
        let tell = notifier.teller();
        tell((1..=3).map(|real| change(real, Health::Healthy, Health::Unhealthy)).collect());
        let wanted = "tcp://10.200.1.1:80 10.0.0.1 healthy unhealthy 3 reason 1\n10.0.0.1 ends\n\
                      tcp://10.200.1.1:80 10.0.0.2 healthy unhealthy 3 reason 2\n\
                      tcp://10.200.1.1:80 10.0.0.3 healthy unhealthy 3 reason 3\n10.0.0.3 ends\n";
        let begun = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let text = fs::read_to_string(&told).unwrap_or_default();
            if text == wanted {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{text}");
        }
    }
}
