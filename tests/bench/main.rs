//! `make bench`: nanoseconds per packet on every path, packets per second over a virtual link, the time of the control
//! plane, and how often the connection table hits.
//!
//! The figures are of the product as users run it: the library sets balancers up from a configuration, in a namespace and
//! a BPF filesystem of the benchmark's own. docs/performance.md tells how to read them.
#![expect(clippy::cast_precision_loss, reason = "counts become figures")]

mod args;
mod chain;
mod checks;
mod comparison;
mod control;
mod endpoint;
mod endtoend;
#[path = "../suite/fixtures/mod.rs"]
mod fixtures;
mod flows;
mod frames;
mod hit_ratio;
mod host;
mod instructions;
mod lab;
mod nanoseconds;
mod paths;
mod programs;
mod report;
mod rounds;
mod saved;
mod scrape;
mod spread;
mod yardstick;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::Args;
use crate::fixtures::NetNs;
use crate::host::Host;
use crate::lab::Lab;
use crate::report::Section;

/// An error of any kind, which ends the benchmark with one line.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let args = Args::parse();
    // What libbpf and the verifier say about the programs.
    let asked = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(tracing::Level::ERROR));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(layer).init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result {
    if !nix::unistd::geteuid().is_root() {
        return Err(
            "the benchmark needs root: it makes network namespaces and loads BPF programs".into()
        );
    }
    let (effort, filter) = (args.effort(), args.filter());
    let cpus = host::allowed_cpus()?;
    let cpu = args.cpu.or(cpus.last().copied()).ok_or("there is no CPU to run on")?;
    if !cpus.contains(&cpu) {
        return Err(
            format!("this process may not use CPU {cpu}: --cpu takes one of {cpus:?}").into()
        );
    }
    // What cannot be compared or saved is refused before minutes go by.
    let before = args.compare.as_deref().map(|file| saved::read(file, &args.settings()));
    let before = before.transpose()?;
    let save = args.save.as_deref().map(saved::Writer::new).transpose()?;
    let host = Host::read()?;
    if !args.json {
        host.print();
    }
    let ns = NetNs::new();
    let done = |section: Section| {
        if !args.json {
            section.print();
        }
        section
    };
    let mut sections = ns.run(|| -> Result<Vec<Section>> {
        let lab = Lab::new(&ns, cpus)?;
        let [nanoseconds, instructions] =
            host::on_cpu(cpu, || nanoseconds::measure(&lab, cpu, &effort, &filter))?;
        Ok(vec![
            done(nanoseconds),
            done(instructions),
            done(endtoend::measure(&lab, &effort, &filter)?),
            done(host::on_cpu(cpu, || hit_ratio::measure(&lab, cpu, effort.hit_entries, &filter))?),
            done(control::measure(&lab, effort.control, &filter)?),
            done(endpoint::measure(&lab, effort.control, &filter)?),
            done(checks::measure(effort.checks, &filter)?),
        ])
    })?;
    if sections.iter().all(Section::is_empty) {
        return Err(
            "no measurement has a name that begins like this; docs/performance.md lists them"
                .into(),
        );
    }
    let now = comparison::Run {
        format: comparison::FORMAT,
        settings: args.settings(),
        host: host.facts(),
        figures: sections.iter().flat_map(Section::figures).cloned().collect(),
    };
    if let Some(save) = save {
        save.write(&now)?;
    }
    if let Some(before) = before {
        sections.push(done(saved::compared(&before, &now)));
    }
    if args.json {
        let mut document = json!({ "host": host });
        for (name, section) in sections.iter().map(Section::json) {
            document[name] = section;
        }
        println!("{document:#}");
    }
    Ok(())
}
