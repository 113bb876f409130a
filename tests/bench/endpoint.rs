//! What scrapes of `lbctl serve` cost, as Prometheus makes them: the time until the last byte, the CPU time of the process,
//! and how much more memory it has than when nobody asks.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::Health;
use l4lb::Instance;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use nix::unistd::SysconfVar;
use nix::unistd::sysconf;
use serde_json::json;

use crate::Result;
use crate::args::Control;
use crate::args::Filter;
use crate::control::vip;
use crate::fixtures::wait_until;
use crate::lab::Lab;
use crate::lab::interface;
use crate::report::Section;
use crate::spread::Spread;

/// The scrape as Prometheus makes it.
const PROMETHEUS: &str = "scrape-serve-prometheus";

/// Where `lbctl serve` answers.
const LISTEN: &str = "127.0.0.1:9847";

/// How long the endpoint gives several clients the same reading, and somewhat more.
const NEXT_READING: Duration = Duration::from_millis(1300);

/// How long to wait for a start, an end, or an answer.
const PATIENCE: Duration = Duration::from_secs(60);

const OPEN_METRICS: &str =
    "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
const GZIP: &str = "Accept-Encoding: gzip\r\n";

/// Clients that ask.
struct Case {
    name: &'static str,
    what: &'static str,
    /// What their requests say, beside the path.
    headers: String,
    /// How many ask at the same time.
    clients: usize,
    /// How many others have asked for the same, and read a part of the answer.
    stalled: usize,
}

fn cases() -> [Case; 6] {
    let case = |name, what, headers: &[&str], clients, stalled| Case {
        name,
        what,
        headers: headers.concat(),
        clients,
        stalled,
    };
    [
        case("scrape-serve-text", "text", &[], 1, 0),
        case("scrape-serve-gzip", "text, gzip", &[GZIP], 1, 0),
        case("scrape-serve-openmetrics", "OpenMetrics", &[OPEN_METRICS], 1, 0),
        case(PROMETHEUS, "OpenMetrics, gzip", &[OPEN_METRICS, GZIP], 1, 0),
        case("scrape-serve-four", "text, four at a time", &[], 4, 0),
        case("scrape-serve-stalled", "text, beside 16 that do not read on", &[], 1, 16),
    ]
}

/// Measures what the filter names.
pub(crate) fn measure(lab: &Lab<'_>, effort: Control, filter: &Filter) -> Result<Section> {
    let head = ["scrape", "milliseconds", "CPU time", "answer", "memory beyond idle, at most"];
    let mut section = Section::new("scrapes", "Scrapes of lbctl serve", head);
    let mut cases = Vec::from(cases());
    cases.retain(|case| filter.has(case.name));
    cases.retain(|case| effort.every_scrape || case.name == PROMETHEUS);
    if cases.is_empty() {
        return Ok(section);
    }
    let link = lab.link("endpoint");
    let vips = effort.vips.min(500);
    let text: String = (0..vips).map(|number| vip(number, effort.reals, false)).collect();
    for (checked, what) in [(false, "no checks"), (true, "health known")] {
        let instance = lab.instance(if checked { "endpoint-health" } else { "endpoint" })?;
        let serve = Serve::start(&instance, &format!("{}{text}", interface(&link.near)))?;
        if checked {
            tell_health(&instance)?;
        }
        let idle = serve.memory("VmRSS:")?;
        for case in &cases {
            eprintln!("{}, {what}", case.name);
            serve.case(case, what, effort.rounds, &mut section)?;
        }
        section.note(format!(
            "scrape-serve-…, {what}: idle before the first scrape {:.1} MB, after the last {:.1} MB.",
            megabytes(idle),
            megabytes(serve.memory("VmRSS:")?)
        ));
        serve.stop()?;
        Balancer::down(&instance)?;
    }
    section.note(format!(
        "scrape-serve-…: {vips} VIPs with {} reals each; the client waits for the last byte. Memory beyond idle is that \
         of the process before it was first asked.",
        effort.reals
    ));
    Ok(section)
}

/// Gives every pair of VIP and real the most series that it may have.
fn tell_health(instance: &Instance) -> Result {
    let balancer = Balancer::open(instance)?;
    let statuses = balancer.vips()?;
    let reals = statuses.iter().flat_map(|vip| vip.reals.iter().map(|real| real.address));
    let mut targets: Vec<_> = reals.map(|real| (real, None)).collect();
    targets.sort();
    targets.dedup();
    balancer.tell_health_of(&targets, Health::Healthy, "the benchmark", None)?;
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The process. It ends with this.
struct Serve {
    child: Child,
    address: SocketAddr,
    idle: u64,
}

impl Serve {
    /// Starts it, and waits until it has nothing to do any longer.
    fn start(instance: &Instance, config: &str) -> Result<Self> {
        let mut file = tempfile::NamedTempFile::new()?;
        write!(file, "[metrics]\nlisten = \"{LISTEN}\"\n{config}")?;
        let bpffs = instance.dir().ancestors().nth(2).ok_or("no BPF filesystem")?.to_owned();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lbctl"));
        command.arg("--bpffs").arg(bpffs).args(["--instance", instance.name()]);
        command.args(["serve", "-f"]).arg(file.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut serve = Self { child: child.spawn()?, address: LISTEN.parse()?, idle: 0 };
        if !wait_until(PATIENCE, || serve.ask("/readyz", "").is_ok_and(|answer| answer.ready)) {
            return Err(format!("lbctl serve is not ready within {PATIENCE:?}").into());
        }
        let mut before = serve.cpu_time()?;
        let quiet = wait_until(PATIENCE, || {
            thread::sleep(Duration::from_secs(1));
            let now = serve.cpu_time().unwrap_or_default();
            let rests = now - before < 100.0;
            before = now;
            rests
        });
        if !quiet {
            return Err(format!("lbctl serve does not come to rest within {PATIENCE:?}").into());
        }
        serve.idle = serve.memory("VmRSS:")?;
        Ok(serve)
    }

    fn case(&self, case: &Case, what: &str, rounds: u32, section: &mut Section) -> Result {
        let (mut took, mut cpu, mut bytes, mut most) = (Vec::new(), Vec::new(), 0, 0);
        // Before the first round, a background thread reads what the answer contains beside the counters.
        for round in 0..=rounds {
            thread::sleep(NEXT_READING);
            // Sets the high-water mark to what the process has now.
            fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?;
            let cpu_before = self.cpu_time()?;
            let mut stalled = Vec::new();
            for _ in 0..case.stalled {
                let mut stream = self.request("/metrics", &case.headers)?;
                stream.read_exact(&mut [0; 1024])?;
                stalled.push(stream);
            }
            if case.stalled > 0 {
                thread::sleep(NEXT_READING);
            }
            let answers = thread::scope(|scope| {
                let ask = || self.ask("/metrics", &case.headers);
                let clients: Vec<_> = (0..case.clients).map(|_| scope.spawn(ask)).collect();
                let answer = |client: thread::ScopedJoinHandle<'_, Result<Answer>>| {
                    client.join().map_err(|_| "a client panicked")?
                };
                clients.into_iter().map(answer).collect::<Result<Vec<_>>>()
            })?;
            most = most.max(self.memory("VmHWM:")?);
            drop(stalled);
            for answer in &answers {
                bytes = bytes.max(answer.bytes);
            }
            if round > 0 {
                took.extend(answers.iter().map(|answer| answer.took));
                cpu.push(self.cpu_time()? - cpu_before);
            }
        }
        let (took, cpu) = (Spread::of(took), Spread::of(cpu));
        let beyond = megabytes(most.saturating_sub(self.idle));
        let json = json!({
            "name": case.name, "what": format!("{}; {what}", case.what), "wall_ms": took, "cpu_ms": cpu,
            "bytes": bytes, "memory_mb": beyond,
        });
        section.row(
            vec![
                format!("{}: {}; {what}", case.name, case.what),
                took.text(0),
                cpu.text(0),
                format!("{} kB", bytes / 1000),
                format!("{beyond:.1} MB"),
            ],
            json,
        );
        Ok(())
    }

    fn request(&self, path: &str, headers: &str) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")?;
        Ok(stream)
    }

    fn ask(&self, path: &str, headers: &str) -> Result<Answer> {
        let begin = Instant::now();
        let mut stream = self.request(path, headers)?;
        let (mut part, mut head, mut bytes) = (vec![0; 1 << 16], Vec::new(), 0);
        loop {
            let read = stream.read(&mut part)?;
            if read == 0 {
                break;
            }
            if head.len() < 32 {
                head.extend_from_slice(&part[..read.min(32)]);
            }
            bytes += read;
        }
        let took = begin.elapsed().as_secs_f64() * 1e3;
        let ready = head.starts_with(b"HTTP/1.1 200 ");
        if path == "/metrics" && !ready {
            return Err(format!("no metrics: {}", String::from_utf8_lossy(&head)).into());
        }
        Ok(Answer { took, bytes, ready })
    }

    /// Bytes, by a line of the process's status.
    fn memory(&self, line: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status.lines().find_map(|text| text.strip_prefix(line));
        let kilobytes =
            value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kilobytes.ok_or_else(|| format!("no {line} in the status of lbctl serve"))? * 1024)
    }

    /// Milliseconds that its threads have run.
    fn cpu_time(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        let second = sysconf(SysconfVar::CLK_TCK)?.ok_or("no ticks")?;
        Ok(ticks as f64 * 1e3 / second as f64)
    }

    fn stop(mut self) -> Result {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let ended = wait_until(PATIENCE, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)));
        if ended { Ok(()) } else { Err("lbctl serve does not end".into()) }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It has ended, unless something failed.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How long an answer took to its last byte, in milliseconds.
struct Answer {
    took: f64,
    bytes: usize,
    ready: bool,
}
