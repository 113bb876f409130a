//! `lbctl node`: maintenance of the balancer itself.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::Instance;
use serde_json::json;

use super::progress::Progress;
use super::progress::event;
use crate::Exit;
use crate::Result;
use crate::args::NodeCommand;
use crate::args::NodeDrain;
use crate::numbers::si_unit;
use crate::output;
use crate::signals::interruption;

/// Time from one reading of the counters to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many readings in a row must be below the threshold: a pause of the clients is no end.
const BELOW: u32 = 3;

pub(crate) fn run(instance: &Instance, command: &NodeCommand, json: bool) -> Result {
    match command {
        NodeCommand::Drain(args) => drain(instance, args, json),
        NodeCommand::Undrain => {
            let since = Balancer::open(instance)?.undrain_node()?;
            if json {
                output::json(&json!({ "draining": false, "was_draining": since != 0 }))?;
            } else if since == 0 {
                output::line("the node was not draining")?;
            } else {
                output::line("the node is not draining any longer: /readyz says again how it is")?;
            }
            Ok(Exit::Done)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Quiet,
    TimedOut,
    Interrupted,
}

fn drain(instance: &Instance, args: &NodeDrain, json: bool) -> Result {
    // It must come before other threads start.
    let interrupted = if args.no_wait { None } else { Some(interruption()?) };
    let since = Balancer::open(instance)?.drain_node()?;
    if json {
        event(&json!({ "event": "drain", "draining_since": since }))?;
    } else {
        output::line("the node is draining: /readyz is 503, and packets are forwarded as before")?;
    }
    let Some(interrupted) = interrupted else { return Ok(Exit::Done) };
    let mut progress = Progress::new(args.timeout, json);
    let ended = wait(instance, args, &interrupted, &mut progress);
    progress.finish();
    let (end, rate) = ended?;
    let (below, rate_text) = (rate_of(f64::from(args.below)), rate_of(rate));
    if json {
        let outcome = match end {
            End::Quiet => "drained",
            End::TimedOut => "timeout",
            End::Interrupted => "interrupted",
        };
        event(&json!({
            "event": "end",
            "outcome": outcome,
            "seconds": progress.elapsed().as_secs(),
            "packets_per_second": rate,
        }))?;
    }
    let back = "the node goes on draining; 'lbctl node undrain' ends that";
    match end {
        End::Quiet if !json => {
            output::line(format_args!(
                "drained: {rate_text} for VIPs, below {below}, after {}",
                progress.took()
            ))?;
        }
        End::Quiet => {}
        End::TimedOut => output::complain(format_args!(
            "error: {rate_text} for VIPs, not below {below}, after {}: {back}",
            progress.took()
        )),
        End::Interrupted => output::complain(format_args!(
            "interrupted: {rate_text} for VIPs, not below {below}: {back}"
        )),
    }
    Ok(if end == End::Quiet { Exit::Done } else { Exit::Failed })
}

/// Waits until few packets come for VIPs. Returns the last rate.
fn wait(
    instance: &Instance,
    args: &NodeDrain,
    interrupted: &AtomicBool,
    progress: &mut Progress,
) -> Result<(End, f64)> {
    let (mut before, mut read) = (Balancer::open(instance)?.packets_for_vips()?, Instant::now());
    let mut below = 0;
    let mut rate = f64::INFINITY;
    loop {
        progress.pause(INTERVAL, interrupted);
        if interrupted.load(Ordering::Relaxed) {
            return Ok((End::Interrupted, rate));
        }
        let elapsed = read.elapsed();
        // The timeout may be over at once: a rate needs some time.
        if elapsed >= INTERVAL / 2 {
            let now = Balancer::open(instance)?.packets_for_vips()?;
            read = Instant::now();
            #[expect(
                clippy::cast_precision_loss,
                reason = "2^53 packets within a second are not to be had"
            )]
            let packets = now.saturating_sub(before) as f64;
            before = now;
            rate = packets / elapsed.as_secs_f64();
            below = if rate < f64::from(args.below) { below + 1 } else { 0 };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a bar needs no more"
            )]
            let left = rate as u64;
            progress.show(
                left,
                &format!("{} for VIPs", rate_of(rate)),
                &json!({ "packets_per_second": rate }),
            )?;
        }
        if below >= BELOW {
            return Ok((End::Quiet, rate));
        }
        if progress.is_over() {
            return Ok((End::TimedOut, rate));
        }
    }
}

fn rate_of(rate: f64) -> String {
    if rate.is_finite() { si_unit(rate, "packets/s") } else { "an unknown rate".to_owned() }
}
