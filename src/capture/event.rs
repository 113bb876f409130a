//! From the kernel's events to packets.

use std::ops::RangeInclusive;
use std::time::Duration;
use std::time::SystemTime;

use super::names::Names;
use super::packet::CapturePoint;
use super::packet::Decision;
use super::packet::Packet;
use crate::kernel::bpf;
use crate::kernel::perf::Event;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::error::Result;
use crate::model::reason::reasons;

/// Converts the clock of the kernel's events to the time of day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// The time of day when `CLOCK_MONOTONIC` was at 0.
    zero: SystemTime,
}

impl Clock {
    pub(super) fn now() -> Result<Self> {
        Ok(Self { zero: *Reading::take()?.zero().start() })
    }

    /// Follows the wall clock, which may have been set meanwhile.
    pub(super) fn follow(&mut self) -> Result<()> {
        *self = self.after(Reading::take()?);
        Ok(())
    }

    /// The clock after a reading. It changes only if the wall clock was set: times must not jitter with every reading.
    fn after(self, reading: Reading) -> Self {
        let zero = reading.zero();
        if zero.contains(&self.zero) { self } else { Self { zero: *zero.start() } }
    }

    fn time(self, ns: u64) -> SystemTime {
        self.zero + Duration::from_nanos(ns)
    }
}

/// Both clocks, which cannot be read at the same time.
#[derive(Clone, Copy, Debug)]
struct Reading {
    before: Duration,
    wall: SystemTime,
    after: Duration,
}

impl Reading {
    fn take() -> Result<Self> {
        let before = Duration::from_nanos(bpf::monotonic_ns()?);
        let wall = SystemTime::now();
        Ok(Self { before, wall, after: Duration::from_nanos(bpf::monotonic_ns()?) })
    }

    /// The range of times when `CLOCK_MONOTONIC` may have been at 0.
    fn zero(self) -> RangeInclusive<SystemTime> {
        let ago = |since| self.wall.checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH);
        ago(self.after)..=ago(self.before)
    }
}

/// The packets of events that were read together, in the order of their times.
pub(super) fn packets(events: Vec<Event>, clock: Clock, names: &mut Names) -> Result<Vec<Packet>> {
    let mut events: Vec<_> = events
        .into_iter()
        .filter_map(|event| Some((abi::from_bytes::<abi::capture_event>(&event.bytes)?, event)))
        .collect();
    // The events of one CPU are in order already. A stable sort keeps that order for equal times.
    events.sort_by_key(|(head, _)| head.time);
    events.into_iter().map(|(head, event)| packet(&head, event, clock, names)).collect()
}

fn packet(
    head: &abi::capture_event,
    event: Event,
    clock: Clock,
    names: &mut Names,
) -> Result<Packet> {
    let mut data = event.bytes;
    data.drain(..size_of::<abi::capture_event>());
    // The kernel fills events up to a multiple of 8 bytes.
    data.truncate(head.captured as usize);
    let (at, decision) = if head.point == consts::CAPTURE_EXIT {
        (CapturePoint::Exit, decision(head, names)?)
    } else {
        (CapturePoint::Entry, None)
    };
    Ok(Packet {
        time: clock.time(head.time),
        at,
        interface: names.interface(head.ifindex),
        ifindex: head.ifindex,
        queue: head.queue,
        cpu: event.cpu,
        length: head.length,
        data,
        decision,
    })
}

fn decision(head: &abi::capture_event, names: &mut Names) -> Result<Option<Decision>> {
    // Index 0 is LB_GO_ON's.
    let reason = (head.reason as usize).checked_sub(1).and_then(|at| reasons().get(at));
    let Some(reason) = reason else { return Ok(None) };
    let vip = if head.vip == consts::CAPTURE_NO_VIP { None } else { names.vip(head.vip)? };
    let real = (head.real != 0).then(|| abi::address_of(head.real_addr.word));
    Ok(Some(Decision { reason, vip, real }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: SystemTime = SystemTime::UNIX_EPOCH;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The wall clock was at `wall` when `CLOCK_MONOTONIC` was between `before` and `after`.
    fn reading(wall: u64, before: u64, after: u64) -> Reading {
        Reading { before: seconds(before), wall: NOON + seconds(wall), after: seconds(after) }
    }

    #[test]
    fn a_wall_clock_that_is_set_is_followed() {
        let clock = Clock { zero: NOON };
        for wall in [50, 200] {
            let followed = clock.after(reading(wall, 100, 100));
            assert_eq!(followed.time(101 * 1_000_000_000), NOON + seconds(wall + 1));
        }
        // The clock keeps its old value if that is still possible, however long the reading took.
        assert_eq!(clock.after(reading(105, 100, 110)).zero, clock.zero);
        assert_ne!(clock.after(reading(111, 100, 110)).zero, clock.zero);
    }

    #[test]
    fn this_machines_clock_is_its_clock() {
        let mut clock = Clock::now().expect("a clock");
        let earliest = SystemTime::now();
        clock.follow().expect("a clock");
        let now = clock.time(bpf::monotonic_ns().expect("a clock"));
        // The thread may be suspended between any two lines.
        let near = seconds(60);
        assert!(now > earliest - near && now < SystemTime::now() + near, "{now:?}");
    }
}
