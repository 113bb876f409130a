//! What checks of many reals cost: CPU time, memory, and how many of them begin on time.
//!
//! The servers are in this process, on a thread of their own, at addresses of the loopback interface. The checks run as
//! in `lbctl serve`, on a runtime with one thread, whose CPU time is what counts; only the instance is missing.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use l4lb::CheckConfig;
use l4lb::CheckKind;
use l4lb::HealthPolicy;
use l4lb::HealthResult;
use l4lb::Via;
use l4lb::agent::checks::Checks;
use l4lb::agent::checks::Sink;
use l4lb::agent::checks::Target;
use l4lb::probe::Class;
use l4lb::probe::Prepared;
use nix::time::ClockId;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::runtime;

use crate::Result;
use crate::args::Filter;
use crate::host::cpu_time;
use crate::report::Section;
use crate::report::count;

/// Where the servers listen.
const PORT: u16 = 8080;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) reals: u32,
    pub(crate) interval: Duration,
    /// How long it is measured, after a first round.
    pub(crate) seconds: u64,
}

/// Counts what is recorded.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Sink for Count {
    fn record(&self, results: &[HealthResult]) -> l4lb::Result<()> {
        self.0.fetch_add(results.len(), Ordering::Relaxed);
        Ok(())
    }
}

/// Measures what the filter names.
pub(crate) fn measure(effort: Effort, filter: &Filter) -> Result<Section> {
    let mut section = Section::new(
        "checks",
        "Checks of reals",
        ["checks", "a second", "CPU", "memory", "begun on time", "failed"],
    );
    for (name, kind) in [("checks-tcp", CheckKind::Tcp), ("checks-http", CheckKind::Http)] {
        if filter.has(name) {
            eprintln!("{name}");
            one(&mut section, name, kind, effort)?;
        }
    }
    if !section.is_empty() {
        section.note(format!(
            "checks-…: {} reals, each checked every {:?}, direct; CPU and memory of the checks alone, without their servers.",
            effort.reals, effort.interval
        ));
    }
    Ok(section)
}

fn one(section: &mut Section, name: &str, kind: CheckKind, effort: Effort) -> Result {
    l4lb::raise_limit_of_open_files()?;
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    let server = thread::spawn(move || serve(listener));
    let resident = resident()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        let sink = Arc::new(Count::default());
        let checks = Checks::start(Arc::clone(&sink) as Arc<dyn Sink>, 512)?;
        let mut config = CheckConfig::new(kind);
        config.interval = Some(effort.interval);
        config.via = Some(Via::Direct);
        let check = Arc::new(Prepared::new(&config)?);
        let vip = format!("tcp://10.200.1.1:{PORT}").parse()?;
        let policy = HealthPolicy::default();
        let target = |n: u32| {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + n);
            Target::new(vip, IpAddr::V4(address), &check, &policy)
        };
        checks.set_targets((1..=effort.reals).map(target).collect()).await;
        tokio::time::sleep(effort.interval * 2).await;
        let (cpu, begun, before) = (
            cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?,
            Instant::now(),
            checks.metrics().starts(),
        );
        tokio::time::sleep(Duration::from_secs(effort.seconds)).await;
        let cpu = (cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)? - cpu) / 1e9;
        let (wall, after) = (begun.elapsed().as_secs_f64(), checks.metrics().starts());
        let failed: u64 = Class::ALL
            .into_iter()
            .filter(|class| *class != Class::Ok)
            .map(|class| checks.metrics().results(kind, class))
            .sum();
        if sink.0.load(Ordering::Relaxed) < effort.reals as usize {
            return Err("some reals have no result".into());
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((
            cpu / wall,
            (after.0 - before.0) as f64 / wall,
            1.0 - (after.1 - before.1) as f64 / (after.0 - before.0).max(1) as f64,
            failed,
        ))
    });
    let (cpu, rate, on_time, failed) = measured?;
    let memory = (self::resident()?.saturating_sub(resident)) as f64 / 1e6;
    drop(runtime);
    // The last client ends the servers.
    drop(std::net::TcpStream::connect((Ipv4Addr::new(127, 255, 0, 1), PORT)));
    server.join().map_err(|_| "the servers panicked")??;
    let json = json!({
        "name": name, "reals": effort.reals, "interval_seconds": effort.interval.as_secs_f64(),
        "checks_per_second": rate, "cpus": cpu, "resident_mb": memory, "on_time": on_time, "failed": failed,
    });
    section.row(
        vec![
            format!("{name}: {} reals", count(effort.reals)),
            format!("{rate:.0}"),
            format!("{:.1} %", cpu * 100.0),
            format!("{memory:.0} MB"),
            format!("{:.2} %", on_time * 100.0),
            failed.to_string(),
        ],
        json,
    );
    Ok(())
}

/// Answers HTTP, until somebody connects to 127.255.0.1.
fn serve(listener: std::net::TcpListener) -> Result {
    listener.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            if stream.local_addr()?.ip() == Ipv4Addr::new(127, 255, 0, 1) {
                return Ok(());
            }
            tokio::spawn(async move {
                let mut request = [0; 2048];
                // Who only connects sends nothing.
                while let Ok(1..) = stream.read(&mut request).await {
                    let answer =
                        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

/// Bytes of this process that are in memory.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.ok_or("no VmRSS in /proc/self/status")? * 1024)
}
