//! `lbctl lab`: the demo's network with a prompt for each host. A script, examples/lab.sh, builds it; this starts the
//! script in namespaces of its own, ends them at a signal, and has what the script needs on its hosts.

mod hosts;

use std::env;
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::Exit;
use crate::Result;
use crate::args::HostCommand;
use crate::args::Lab;
use crate::args::LabCommand;
use crate::args::LabFile;
use crate::output;
use crate::signals;

const SCRIPT: &str = include_str!("../../../../../examples/lab.sh");
const LESSONS: &str = include_str!("../../../../../docs/lab.md");
const DROP_LIST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/drop_list.bpf.o"));

/// What the script calls, and the package that has it on Debian and Ubuntu.
const TOOLS: [(&str, &str); 11] = [
    ("bash", "bash"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("taskset", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("hostname", "hostname"),
    ("awk", "mawk"),
];

/// How often to look whether the lab's shell has ended, or a signal has come.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn run(lab: &Lab) -> Result {
    let arguments = match &lab.command {
        Some(LabCommand::Host(command)) => return on_host(command),
        None => vec![],
        Some(LabCommand::Run { command }) => vec!["run".to_owned(), command.clone()],
        Some(LabCommand::Check { lessons }) => {
            let all = (1..=8).collect();
            let lessons = if lessons.is_empty() { &all } else { lessons };
            let numbers = lessons.iter().map(u8::to_string);
            std::iter::once("check".to_owned()).chain(numbers).collect()
        }
    };
    if let Some(why) = refused() {
        output::complain(format_args!("error: lab: {why}"));
        return Ok(Exit::Failed);
    }
    start(&arguments)
}

/// Why there can be no lab here.
fn refused() -> Option<String> {
    if !geteuid().is_root() {
        return Some("network namespaces and BPF need root: sudo lbctl lab".to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let missing = |tool: &str| !env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let (tool, package) = TOOLS.into_iter().find(|(tool, _)| missing(tool))?;
    Some(format!("{tool} is missing: apt-get install {package}"))
}

/// Runs the script as process 1 of a PID namespace: with it, the kernel ends all that it has started. If this process is
/// killed, `setpriv` has the kernel kill `unshare`, and `--kill-child` the script.
fn start(arguments: &[String]) -> Result {
    let mut child = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
        ])
        .args([
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
            "bash",
            "-c",
            SCRIPT,
            "lab",
        ])
        .arg(env::current_exe()?)
        .args(arguments)
        .spawn()?;
    // Not before: the child would inherit that signals are blocked, and Ctrl-C would end nothing in the lab.
    let interrupted = signals::interruption()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Exit::Done } else { Exit::Failed });
        }
        if interrupted.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(Exit::Failed);
        }
        sleep(LOOK);
    }
}

fn on_host(command: &HostCommand) -> Result {
    match command {
        HostCommand::Web { name } => hosts::web(name)?,
        HostCommand::Ask { requests } => output::line(hosts::ask(*requests))?,
        HostCommand::Flood { seconds } => {
            output::line(hosts::flood(Duration::from_secs(*seconds))?)?;
        }
        HostCommand::Talk { connections, seconds } => {
            output::line(hosts::talk(*connections, Duration::from_secs(*seconds))?)?;
        }
        HostCommand::Block { network } => output::line(hosts::block(*network)?)?,
        HostCommand::Print { file } => {
            let mut out = std::io::stdout().lock();
            match file {
                LabFile::Lessons => out.write_all(LESSONS.as_bytes())?,
                LabFile::DropList => out.write_all(DROP_LIST)?,
            }
            out.flush()?;
        }
    }
    Ok(Exit::Done)
}
