//! How long the control plane takes to build rings, and to read, plan and apply a large configuration.

use std::hint::black_box;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::Config;
use l4lb::Instance;
use l4lb::ring::Member;
use l4lb::ring::Ring;
use nix::time::ClockId;
use serde_json::json;

use crate::Result;
use crate::args::Control;
use crate::args::Filter;
use crate::flows;
use crate::frames::real;
use crate::host::cpu_time;
use crate::lab::Lab;
use crate::lab::interface;
use crate::lab::vip_with;
use crate::report::Section;
use crate::scrape;
use crate::spread::Spread;

/// Reals of all VIPs together: fewer than the limit, so that there is one to replace another.
const REALS: u16 = 4000;

/// How often a ring is built in a round.
const BUILDS: u32 = 20;

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Milliseconds on the clock.
    pub(crate) wall: f64,
    /// Milliseconds of CPU time, of all threads, in the kernel too.
    pub(crate) cpu: f64,
}

/// Measures what the filter names.
pub(crate) fn measure(lab: &Lab<'_>, effort: Control, filter: &Filter) -> Result<Section> {
    let mut section = Section::new(
        "control",
        "The control plane: milliseconds",
        ["operation", "on the clock", "CPU time"],
    );
    rings(effort, filter, &mut section)?;
    configuration(lab, effort, filter, &mut section)?;
    flows::measure(lab, effort, filter, &mut section)?;
    scrape::measure(lab, effort, filter, &mut section)?;
    Ok(section)
}

/// Runs `work`, which does something `times` times, and gives how long one of them took.
pub(crate) fn time<T>(times: u32, work: impl FnOnce() -> Result<T>) -> Result<(T, Took)> {
    let (begin, cpu_begin) = (Instant::now(), cpu_time(ClockId::CLOCK_PROCESS_CPUTIME_ID)?);
    let result = work()?;
    let wall = begin.elapsed().as_secs_f64() * 1e3;
    let cpu = (cpu_time(ClockId::CLOCK_PROCESS_CPUTIME_ID)? - cpu_begin) / 1e6;
    let times = f64::from(times);
    Ok((result, Took { wall: wall / times, cpu: cpu / times }))
}

pub(crate) fn row(section: &mut Section, name: &str, what: &str, took: &[Took]) {
    let wall = Spread::of(took.iter().map(|took| took.wall));
    let cpu = Spread::of(took.iter().map(|took| took.cpu));
    let json = json!({ "name": name, "what": what, "wall_ms": wall, "cpu_ms": cpu });
    section.row(vec![format!("{name}: {what}"), wall.text(2), cpu.text(2)], json);
}

fn rings(effort: Control, filter: &Filter, section: &mut Section) -> Result {
    let members = |count: u16, weight: fn(u16) -> u32| -> Vec<Member> {
        let member = |n| Member { address: real(false, n), weight: weight(n) };
        (1..=count).map(member).collect()
    };
    let cases = [
        ("ring-100", "a ring of 100 reals", members(100, |_| 1)),
        ("ring-100-weights", "a ring of 100 reals of weight 1 to 100", members(100, u32::from)),
        ("ring-4000", "a ring of 4000 reals", members(4000, |_| 1)),
    ];
    for (name, what, members) in cases {
        if !filter.has(name) {
            continue;
        }
        eprintln!("{name}");
        let build = || {
            for _ in 0..BUILDS {
                black_box(Ring::build(black_box(&members)));
            }
            Ok(())
        };
        let took = (0..effort.rounds).map(|_| Ok(time(BUILDS, build)?.1));
        row(section, name, what, &took.collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

/// The steps, in the order in which they are done in every round.
const STEPS: [(&str, &str); 5] = [
    ("config-parse", "reading the TOML text"),
    ("config-plan", "planning it where nothing runs"),
    ("config-apply", "applying it where nothing runs"),
    ("config-apply-again", "applying it again: nothing to change"),
    ("config-one-real", "applying it with one real replaced by another"),
];

fn configuration(lab: &Lab<'_>, effort: Control, filter: &Filter, section: &mut Section) -> Result {
    // A step needs those before it, so all are measured, or none.
    if !STEPS.iter().any(|(name, _)| filter.has(name)) {
        return Ok(());
    }
    eprintln!("config");
    let link = lab.link("control");
    let instance = lab.instance("control")?;
    let text = |replaced| {
        let vip = |number| vip(number, effort.reals, replaced == Some(number));
        let vips: String = (0..effort.vips).map(vip).collect();
        format!("{}{vips}", interface(&link.near))
    };
    let changed = Config::from_toml(&text(Some(effort.vips / 2)))?;
    let text = text(None);

    let mut took = vec![Vec::new(); STEPS.len()];
    for _ in 0..effort.rounds {
        let (config, parse) = time(1, || Ok(Config::from_toml(&text)?))?;
        let (_, plan) = time(1, || Ok(Balancer::plan(&instance, &config)?))?;
        let steps = apply_all(&instance, [&config, &config, &changed]);
        Balancer::down(&instance)?;
        for (all, one) in took.iter_mut().zip([parse, plan].into_iter().chain(steps?)) {
            all.push(one);
        }
    }
    for ((name, what), took) in STEPS.iter().zip(&took) {
        row(section, name, what, took);
    }
    section.note(format!(
        "config-…: {} VIPs with {} reals each, of {REALS}, no two VIPs the same ones; {} kB of TOML.",
        effort.vips,
        effort.reals,
        text.len() / 1000
    ));
    Ok(())
}

/// Applies one after the other. The second must change nothing, and the last one must change one VIP.
fn apply_all(instance: &Instance, configs: [&Config; 3]) -> Result<Vec<Took>> {
    let mut all = Vec::new();
    for config in configs {
        let (plan, took) = time(1, || Ok(Balancer::apply(instance, config)?))?;
        if plan.is_empty() != (all.len() == 1) {
            return Err(format!("apply {} did something else:\n{plan}", all.len() + 1).into());
        }
        all.push(took);
    }
    Ok(all)
}

/// VIP `number` with its own choice of reals, the first of which may be replaced by one that no VIP has.
pub(crate) fn vip(number: u16, reals: u16, replaced: bool) -> String {
    let [high, low] = number.to_be_bytes();
    // 7 and REALS have no common factor: the first one differs from VIP to VIP.
    let chosen = |n| match n {
        0 if replaced => REALS + 1,
        _ => (number * 7 + n) % REALS + 1,
    };
    vip_with(&format!("tcp://10.200.{}.{low}:80", 1 + high), (0..reals).map(chosen))
}
