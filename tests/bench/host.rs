//! Facts about the machine that its figures depend on.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sched::CpuSet;
use nix::sched::sched_getaffinity;
use nix::sched::sched_setaffinity;
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::Serialize;

use crate::Result;

/// Mitigations that cost time in the packet path, at each tail call and at each look-up.
const MITIGATIONS: [&str; 5] =
    ["spectre_v1", "spectre_v2", "retbleed", "spec_rstack_overflow", "indirect_target_selection"];

/// What the figures depend on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    version: &'static str,
    debug_build: bool,
    kernel: String,
    cpu: String,
    cpus: usize,
    virtual_machine: bool,
    clang: String,
    jit: String,
    mitigations: Vec<String>,
}

impl Host {
    /// Reads them.
    pub(crate) fn read() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim())).unwrap_or("unknown")
        };
        let clang = Command::new(env!("LB_CLANG")).arg("--version").output()?;
        let clang = String::from_utf8_lossy(&clang.stdout);
        let sysctl = |name| {
            let text = fs::read_to_string(format!("/proc/sys/net/core/{name}"));
            text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        let mitigations = MITIGATIONS.iter().filter_map(|name| {
            let file = format!("/sys/devices/system/cpu/vulnerabilities/{name}");
            let text = fs::read_to_string(file).ok()?;
            let text = text.trim().trim_start_matches("Mitigation: ");
            (text != "Not affected")
                .then(|| format!("{name}: {}", text.split(';').next().unwrap_or(text)))
        });
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            kernel: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
            cpu: field("model name").to_owned(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            virtual_machine: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            clang: clang.lines().next().unwrap_or("unknown").to_owned(),
            jit: match (sysctl("bpf_jit_enable").as_str(), sysctl("bpf_jit_harden").as_str()) {
                ("1", "0") => "on".to_owned(),
                (enabled, hardened) => {
                    format!("bpf_jit_enable {enabled}, bpf_jit_harden {hardened}")
                }
            },
            mitigations: mitigations.collect(),
        })
    }

    /// Those on which figures of two runs depend, by their names.
    pub(crate) fn facts(&self) -> BTreeMap<String, String> {
        let facts = [
            ("kernel", self.kernel.clone()),
            ("CPU", format!("{} {}", self.cpus, self.cpu)),
            ("clang", self.clang.clone()),
            ("JIT", self.jit.clone()),
            ("mitigations", self.mitigations.join(", ")),
        ];
        facts.map(|(name, fact)| (name.to_owned(), fact)).into()
    }

    /// Prints them, in one line of Markdown.
    pub(crate) fn print(&self) {
        let Self { version, kernel, cpu, cpus, clang, jit, .. } = self;
        let machine = if self.virtual_machine { "virtual, " } else { "" };
        let build = if self.debug_build { " (debug build)" } else { "" };
        let mitigations = self.mitigations.join(", ");
        println!(
            "l4lb {version}{build}; Linux {kernel}; {cpu}, {machine}{cpus} CPUs; {clang}; JIT: {jit}; \
             mitigations: {mitigations}."
        );
    }
}

/// Whether the kernel is this version or a later one.
pub(crate) fn kernel_has_come_to(version: (u32, u32)) -> Result<bool> {
    let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor) >= version),
        _ => Err(format!("the kernel's version {release} has no two numbers").into()),
    }
}

/// The CPUs that this process may use.
pub(crate) fn allowed_cpus() -> Result<Vec<u32>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let allowed = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false));
    Ok(allowed.map(u32::try_from).collect::<std::result::Result<_, _>>()?)
}

/// Keeps the calling thread on one CPU from here on.
pub(crate) fn stay_on(cpu: u32) -> Result {
    let mut set = CpuSet::new();
    set.set(cpu as usize)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Runs `work` on a thread that stays on one CPU.
pub(crate) fn on_cpu<T: Send>(cpu: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| stay_on(cpu).and_then(|()| work()));
        thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
    })
}

/// Moves this thread to the others of these CPUs, if there are any.
pub(crate) fn leave_cpu(cpus: &[u32]) -> Result {
    let own = u32::try_from(nix::sched::sched_getcpu()?)?;
    let mut others = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu != own) {
        others.set(*cpu as usize)?;
    }
    if others != CpuSet::new() {
        sched_setaffinity(Pid::from_raw(0), &others)?;
    }
    Ok(())
}

/// Nanoseconds of CPU time, in the kernel too, of this thread or of the process.
pub(crate) fn cpu_time(clock: ClockId) -> Result<f64> {
    let time = clock.now()?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

/// The kernel's thread that takes over softirqs, and so received packets, when they have kept a CPU busy for too long.
#[derive(Debug)]
pub(crate) struct SoftirqThread {
    statistics: PathBuf,
}

impl SoftirqThread {
    /// That of a CPU.
    pub(crate) fn of(cpu: u32) -> Result<Self> {
        let name = format!("ksoftirqd/{cpu}");
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
                return Ok(Self { statistics: path.join("schedstat") });
            }
        }
        Err(format!("there is no thread {name}").into())
    }

    /// Nanoseconds that it has had the CPU.
    pub(crate) fn cpu_time(&self) -> Result<f64> {
        let text = fs::read_to_string(&self.statistics)?;
        Ok(text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?)
    }
}

/// Bytes of memory that are available without swapping.
pub(crate) fn available_memory() -> Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kilobytes.ok_or("/proc/meminfo has no MemAvailable")?.parse::<u64>()? << 10)
}
