//! `lbctl real drain --wait`: drains, shows how many flows are left, and ends when none is.

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::Error;
use l4lb::Instance;
use l4lb::Plan;
use l4lb::RealChange;
use l4lb::Vip;
use l4lb::flows::DrainWatch;
use l4lb::flows::FlowsLeft;
use serde_json::json;

use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::args::Drain;
use crate::args::Then;
use crate::cmd::plan;
use crate::cmd::progress::Progress;
use crate::cmd::progress::event;
use crate::output;
use crate::signals::interruption;

/// How many VIPs a line names.
const NAMED: usize = 3;

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Empty,
    TimedOut,
    Interrupted,
    TakenBack(Vip),
}

pub(super) fn drain(instance: &Instance, args: &Drain, json: bool) -> Result {
    let targets = args.which.targets()?;
    let (real, vip) = targets[0];
    if targets.iter().any(|(other, _)| *other != real) {
        let what = "--wait is for one real: run it for each, or drain them without --wait";
        return Err(Failure::Usage(what.to_owned()));
    }
    // It must come before other threads start.
    let interrupted = interruption()?;
    let balancer = Balancer::open(instance)?;
    let plan = balancer.edit(|table| {
        targets
            .iter()
            .try_for_each(|(real, vip)| table.change_real_in(*vip, *real, RealChange::Drain))
    })?;
    plan::warn(&plan);
    if json {
        event(&json!({ "event": "drain", "plan": plan }))?;
    } else {
        output::text(&plan)?;
    }
    let vips: Vec<Vip> = match vip {
        Some(_) => targets.iter().filter_map(|(_, vip)| *vip).collect(),
        None => balancer.table()?.vips_of(real).map(|(vip, _)| vip).collect(),
    };
    drop(balancer);
    let mut progress = Progress::new(args.timeout, json);
    let watch = DrainWatch::new(real, vips.iter().copied(), args.idle);
    let ended = wait(instance, watch, real, &interrupted, &mut progress);
    progress.finish();
    let (end, left) = ended?;
    let outcome = Outcome { real, vips: &vips, args, left: &left, progress: &progress };
    outcome.report(instance, &end, json)
}

fn wait(
    instance: &Instance,
    mut watch: DrainWatch,
    real: IpAddr,
    interrupted: &AtomicBool,
    progress: &mut Progress,
) -> Result<(End, FlowsLeft)> {
    loop {
        let looked = Instant::now();
        let left = watch.look(instance)?;
        progress.show(left.flows(), &format!("{real}: {}", sentence(&left)), &left)?;
        let end = match left.taken_back.first() {
            _ if interrupted.load(Ordering::Relaxed) => Some(End::Interrupted),
            Some(vip) => Some(End::TakenBack(*vip)),
            None if left.none => Some(End::Empty),
            None if progress.is_over() => Some(End::TimedOut),
            None => None,
        };
        if let Some(end) = end {
            return Ok((end, left));
        }
        progress.pause(DrainWatch::pause(looked.elapsed()), interrupted);
    }
}

fn name(then: Then) -> &'static str {
    match then {
        Then::Down => "down",
        Then::Delete => "delete",
    }
}

fn sentence(left: &FlowsLeft) -> String {
    let flows = |flows: u64| match flows {
        1 => "1 flow left".to_owned(),
        flows => format!("{flows} flows left"),
    };
    match (left.active, left.unsure, left.server_ids) {
        (active, 0, false) => flows(active),
        (active, 0, true) => format!("{}, and QUIC connections that no table has", flows(active)),
        // "0 flows left" would be no reason to wait.
        (0, unsure, _) => format!("{} that may have ended: not certain yet", flows(unsure)),
        (active, unsure, _) => format!("{}, {unsure} more that may have ended", flows(active)),
    }
}

/// What is said and done in the end.
struct Outcome<'a> {
    real: IpAddr,
    vips: &'a [Vip],
    args: &'a Drain,
    left: &'a FlowsLeft,
    progress: &'a Progress,
}

impl Outcome<'_> {
    fn report(&self, instance: &Instance, end: &End, json: bool) -> Result {
        let done = *end == End::Empty || (*end == End::TimedOut && self.args.force);
        let then = match self.args.then.filter(|_| done) {
            Some(then) => Some(self.then(instance, then)?),
            None => None,
        };
        if let Some(then) = &then {
            plan::warn(then);
        }
        if json {
            let outcome = match end {
                End::Empty => "drained",
                End::TimedOut => "timeout",
                End::Interrupted => "interrupted",
                End::TakenBack(_) => "taken_back",
            };
            event(&json!({
                "event": "end",
                "outcome": outcome,
                "seconds": self.progress.elapsed().as_secs(),
                "flows": self.left.flows(),
                "plan": then,
            }))?;
        } else if *end == End::Empty {
            let (real, place, took) = (self.real, self.place(), self.progress.took());
            output::line(format_args!("{real} has no flows left in {place}, after {took}"))?;
        }
        if let Some(complaint) = self.complaint(end) {
            output::complain(complaint);
        }
        if let Some(then) = then.filter(|_| !json) {
            output::text(&then)?;
        }
        Ok(if done { Exit::Done } else { Exit::Failed })
    }

    /// Why it did not end as asked for.
    fn complaint(&self, end: &End) -> Option<String> {
        let Self { real, left, .. } = self;
        let back = format!("'lbctl real undrain {}' takes that back", self.target());
        match end {
            End::Empty => None,
            End::TimedOut => {
                let level = if self.args.force { "warning" } else { "error" };
                let next = match self.args.then {
                    Some(then) if self.args.force => format!("{} all the same", name(then)),
                    Some(then) => {
                        format!("it stays drained, and --then {} is not done; {back}", name(then))
                    }
                    None => format!("it stays drained; {back}"),
                };
                let of_vips = left.vips.iter().take(NAMED);
                let of_vips: Vec<_> =
                    of_vips.map(|(vip, flows)| format!("{flows} of {vip}")).collect();
                let more = left.vips.len().saturating_sub(NAMED);
                let more =
                    if more == 0 { String::new() } else { format!(" and of {more} more VIPs") };
                let named = if of_vips.is_empty() {
                    String::new()
                } else {
                    format!(" ({}{more})", of_vips.join(", "))
                };
                Some(format!(
                    "{level}: {real}: {}{named} after {}: {next}",
                    sentence(left),
                    humantime::format_duration(self.args.timeout)
                ))
            }
            End::Interrupted => Some(format!(
                "interrupted: {real} stays drained in {}, with {} flows left; {back}",
                self.place(),
                left.flows()
            )),
            End::TakenBack(vip) => Some(format!(
                "error: somebody let {real} take flows of {vip} again; 'lbctl real drain {}' begins anew",
                self.target()
            )),
        }
    }

    fn then(&self, instance: &Instance, then: Then) -> Result<Plan> {
        let change = match then {
            Then::Down => RealChange::Down,
            Then::Delete => RealChange::Delete,
        };
        // VIPs that got the real meanwhile are not meant.
        let plan = Balancer::open(instance)?.edit(|table| {
            self.vips.iter().try_for_each(|vip| {
                match table.change_real_in(Some(*vip), self.real, change) {
                    Err(Error::NoSuchVip(_) | Error::NoSuchReal { .. }) => Ok(()),
                    changed => changed,
                }
            })
        })?;
        Ok(plan)
    }

    fn place(&self) -> String {
        match self.vips {
            [vip] => vip.to_string(),
            vips => format!("{} VIPs", vips.len()),
        }
    }

    /// The arguments that name the real again.
    fn target(&self) -> String {
        match self.vips {
            _ if self.args.which.all => format!("--all {}", self.real),
            vips => {
                let vips = vips.iter().map(ToString::to_string);
                vips.chain([self.real.to_string()]).collect::<Vec<_>>().join(" ")
            }
        }
    }
}
