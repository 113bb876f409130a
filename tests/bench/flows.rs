//! How long `lbctl flows list` takes for a full connection table: the command as users run it.

use std::fs;
use std::io;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::flows::FlowFilter;
use nix::libc;

use crate::Result;
use crate::args::Control;
use crate::args::Filter;
use crate::control::Took;
use crate::control::row;
use crate::frames::Kind;
use crate::host::on_cpu;
use crate::lab::Lab;
use crate::lab::Site;
use crate::lab::TableKind;
use crate::programs::Flows;
use crate::programs::Runner;
use crate::report::Section;

/// The formats of the list.
const FORMATS: [(&str, &[&str]); 2] = [("text", &[]), ("JSON lines", &["--json"])];

/// Measures if the filter names it.
pub(crate) fn measure(
    lab: &Lab<'_>,
    effort: Control,
    filter: &Filter,
    section: &mut Section,
) -> Result {
    const NAME: &str = "flows-list";
    if !filter.has(NAME) {
        return Ok(());
    }
    let cpu = *lab.cpus.last().ok_or("there is no CPU to run on")?;
    for kind in TableKind::ALL {
        eprintln!("{NAME} {}", kind.name());
        // Twice the room, so that hardly any flow gives way to another, and some more flows for those that do.
        let site = Site::new(lab, "flows", kind, &[cpu], effort.flows * 2)?;
        site.without_limit(|| on_cpu(cpu, || fill(lab, &site, effort.flows / 100 * 107)))?;
        let listed = Balancer::open(site.instance())?.flows(&FlowFilter::default())?.count();
        for (format, arguments) in FORMATS {
            let mut took = Vec::new();
            let mut resident = 0;
            for _ in 0..effort.rounds {
                let (one, kilobytes) = run(site.lbctl().args(["flows", "list"]).args(arguments))?;
                took.push(one);
                resident = resident.max(kilobytes);
            }
            let what = format!("{listed} flows as {format}, {}", kind.name());
            row(section, NAME, &what, &took);
            section.note(format!(
                "{NAME}: {what}: at most {:.1} MB resident.",
                f64::from(u32::try_from(resident)?) * 1024.0 / 1e6
            ));
        }
    }
    Ok(())
}

/// Begins so many flows.
fn fill(lab: &Lab<'_>, site: &Site<'_>, flows: u32) -> Result {
    let packets = Kind::Tcp4Ack.packets();
    let root = site.program("root")?;
    let flows_of = Flows::new_ones(0);
    let runner = Runner::wrapper(&lab.programs, &packets, flows_of, site.ingress()?, Some(&root))?;
    runner.run(flows)?;
    Ok(())
}

/// Runs a command and throws its output away. Gives how long it took, and the most memory that it had, in kilobytes.
#[expect(unsafe_code, reason = "the standard library does not tell what a child took")]
fn run(command: &mut Command) -> Result<(Took, u64)> {
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let pid = libc::pid_t::try_from(child.id())?;
    let (mut status, mut resident) = (0, 0);
    // SAFETY: any bytes are a valid `rusage`, which holds numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are valid for the call; nobody else waits for the child.
        match unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) } {
            0 => {}
            ended if ended == pid => break,
            _ => return Err(io::Error::last_os_error().into()),
        }
        // `ru_maxrss` would count the memory of this process at the time of the fork.
        resident = resident.max(most_resident(pid));
        thread::sleep(Duration::from_millis(1));
    }
    let wall = begin.elapsed().as_secs_f64() * 1e3;
    if status != 0 {
        return Err(format!("{command:?} ended with status {status}").into());
    }
    let milliseconds = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    let cpu = milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime);
    Ok((Took { wall, cpu }, resident))
}

/// `VmHWM` of a process; 0 when it is about to end.
fn most_resident(pid: libc::pid_t) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
