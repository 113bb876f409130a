//! Who changed what: one line for each change, for the system's log.
//!
//! The line goes to journald, or to syslog where journald is not. It is a datagram that is sent without waiting: if
//! nobody takes it, the change is made all the same, and nothing is said.

use std::fmt;
use std::fs;
use std::io;
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::path::PathBuf;

use nix::unistd::Pid;
use nix::unistd::Uid;

use crate::model::text::message;
use crate::model::text::quote;

/// The environment variable that names another socket; `off`: no lines.
pub const SOCKET_VARIABLE: &str = "LBCTL_AUDIT";

/// journald's own protocol (`systemd.io/JOURNAL_NATIVE_PROTOCOL`).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The classic one (RFC 3164).
const SYSLOG: &str = "/dev/log";

/// Facility authpriv (10), severity notice (5).
const FACILITY: u8 = 10;
const SEVERITY: u8 = 5;

/// Files of the host that are larger are not read to the end.
const MOST_READ: u64 = 1 << 20;

/// Who changes something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Who {
    /// The real user id, as the kernel has it.
    pub uid: u32,
    /// The process, as the kernel has it.
    pub pid: Option<i32>,
    /// The user id of the login (`/proc/PID/loginuid`), which stays through `sudo` and `su`.
    pub login: Option<u32>,
    /// The terminal of standard input.
    pub tty: Option<PathBuf>,
    /// What `SUDO_USER` says. Only the environment says so.
    pub sudo_user: Option<String>,
}

impl Who {
    /// This process, and who started it.
    pub fn here() -> Self {
        let terminal = |file: &str| {
            let path = fs::read_link(file).ok()?;
            path.starts_with("/dev").then_some(path).filter(|path| path != Path::new("/dev/null"))
        };
        Self {
            uid: Uid::current().as_raw(),
            pid: Some(Pid::this().as_raw()),
            login: login("self"),
            tty: ["/proc/self/fd/0", "/proc/self/fd/2"].into_iter().find_map(terminal),
            sudo_user: std::env::var_os("SUDO_USER")
                .map(|user| user.to_string_lossy().into_owned()),
        }
    }

    /// The process at the other end of a socket.
    pub fn peer(uid: u32, pid: Option<i32>) -> Self {
        let login = pid.and_then(|pid| login(&pid.to_string()));
        Self { uid, pid, login, ..Self::default() }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |uid| user_name(uid).map_or_else(String::new, |name| format!(" ({name})"));
        write!(f, "user {}{}", self.uid, name(self.uid))?;
        if let Some(login) = self.login.filter(|login| *login != self.uid) {
            write!(f, ", logged in as {login}{}", name(login))?;
        }
        if let Some(user) = &self.sudo_user {
            write!(f, ", SUDO_USER claims {}", quote(user))?;
        }
        if let Some(pid) = self.pid {
            write!(f, ", process {pid}")?;
        }
        if let Some(tty) = &self.tty {
            write!(f, ", terminal {}", quote(&tty.display().to_string()))?;
        }
        Ok(())
    }
}

fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MOST_READ).read_to_string(&mut text)?;
    Ok(text)
}

/// The user id of a process's login; `None`: nobody logged in, or the kernel does not keep it.
fn login(process: &str) -> Option<u32> {
    let uid = read(format!("/proc/{process}/loginuid")).ok()?.trim().parse().ok()?;
    (uid != u32::MAX).then_some(uid)
}

/// The user's name. The C library could ask a directory in the network, and wait for it.
fn user_name(uid: u32) -> Option<String> {
    let users = read("/etc/passwd").ok()?;
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.map(|name| quote(&name))
}

/// A change, or an attempt.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The instance.
    pub instance: &'a str,
    /// Who.
    pub who: &'a Who,
    /// The way: a command with its arguments, or a request.
    pub what: &'a str,
    /// What came of it: what changed, or why nothing did.
    pub result: &'a str,
    /// Whether it was done.
    pub done: bool,
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.done { "done" } else { "FAILED" };
        let line = format!(
            "instance {}: {} by {}: {done}: {}",
            self.instance, self.what, self.who, self.result
        );
        f.write_str(&message(&line))
    }
}

impl Entry<'_> {
    /// Sends the line to journald or syslog. That never waits and never fails: the change counts, not the line.
    pub fn send(&self) {
        let other = std::env::var_os(SOCKET_VARIABLE).filter(|other| !other.is_empty());
        match other {
            Some(other) if other == "off" => {}
            Some(other) => {
                let _ = send(Path::new(&other), &self.for_syslog());
            }
            None => {
                if send(Path::new(JOURNAL), &self.for_journal()).is_err() {
                    let _ = send(Path::new(SYSLOG), &self.for_syslog());
                }
            }
        }
    }

    fn for_syslog(&self) -> String {
        let priority = FACILITY * 8 + SEVERITY;
        format!("<{priority}>lbctl[{}]: {self}", Pid::this())
    }

    /// A field a line. The values have no line ends.
    fn for_journal(&self) -> String {
        format!(
            "MESSAGE={self}\nPRIORITY={SEVERITY}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=lbctl\n\
             L4LB_INSTANCE={}\nL4LB_UID={}\nL4LB_RESULT={}\n",
            quote(self.instance),
            self.who.uid,
            if self.done { "done" } else { "failed" },
        )
    }
}

/// Sends a datagram, if the socket takes it at once.
fn send(path: &Path, text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    socket.send(text.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use std::time::Instant;

    fn entry(what: &str, test: impl FnOnce(&Entry<'_>)) {
        let who = Who {
            uid: 12_345_678,
            pid: Some(17),
            sudo_user: Some("ali\nce\u{1b}[2J".to_owned()),
            ..Who::default()
        };
        test(&Entry { instance: "default", who: &who, what, result: "1 real changed", done: true });
    }

    #[test]
    fn a_line_is_one_line() {
        entry("real health --reason '\nMESSAGE=forged\u{1b}'", |entry| {
            assert_eq!(
                entry.to_string(),
                "instance default: real health --reason '\\nMESSAGE=forged\\u{1b}' by user 12345678, SUDO_USER claims \
                 ali\\nce\\u{1b}[2J, process 17: done: 1 real changed"
            );
            let journal = entry.for_journal();
            assert_eq!(journal.lines().filter(|line| line.starts_with("MESSAGE=")).count(), 1);
            assert_eq!(journal.lines().count(), 7, "{journal}");
            assert!(entry.for_syslog().starts_with("<85>lbctl["));
        });
        entry(&"x".repeat(1 << 20), |entry| assert!(entry.for_journal().len() < 4000));
    }

    #[test]
    fn nobody_who_takes_it_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let begun = Instant::now();
        assert!(send(&path, "nobody is there").is_err());
        let full = UnixDatagram::bind(&path).expect("bind");
        let mut sent = 0;
        while send(&path, &"x".repeat(1000)).is_ok() && sent < 1_000_000 {
            sent += 1;
        }
        assert!((1..1_000_000).contains(&sent), "{sent}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        drop(full);
    }

    #[test]
    fn the_terminal_and_the_user_are_told() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        let who = Who::here();
        assert_eq!(who.uid, Uid::current().as_raw());
        assert!(who.to_string().contains(", process "), "{who}");
    }
}
