//! From an event of the kernel to a packet.

use std::time::Duration;
use std::time::SystemTime;

use super::names::Names;
use super::packet::CapturePoint;
use super::packet::Decision;
use super::packet::Packet;
use crate::abi;
use crate::abi::consts;
use crate::error::Result;
use crate::reason::reasons;
use crate::sys;
use crate::sys::perf::Event;

/// What time it is, by the clock that the kernel's events have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// When `CLOCK_MONOTONIC` was at 0.
    zero: SystemTime,
}

impl Clock {
    pub(super) fn now() -> Result<Self> {
        let since = Duration::from_nanos(sys::monotonic_ns()?);
        Ok(Self { zero: SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH) })
    }

    fn time(self, ns: u64) -> SystemTime {
        self.zero + Duration::from_nanos(ns)
    }
}

/// The packets of events that were read at once, in the order of their times.
pub(super) fn packets(events: Vec<Event>, clock: Clock, names: &mut Names) -> Result<Vec<Packet>> {
    let mut events: Vec<_> = events
        .into_iter()
        .filter_map(|event| Some((abi::from_bytes::<abi::dump_event>(&event.bytes)?, event)))
        .collect();
    // Those of one CPU are in order already: a stable sort keeps that where times are the same.
    events.sort_by_key(|(head, _)| head.time);
    events.into_iter().map(|(head, event)| packet(&head, event, clock, names)).collect()
}

fn packet(head: &abi::dump_event, event: Event, clock: Clock, names: &mut Names) -> Result<Packet> {
    let mut data = event.bytes;
    data.drain(..size_of::<abi::dump_event>());
    // The kernel fills events up to a multiple of 8 bytes.
    data.truncate(head.captured as usize);
    let (at, decision) = if head.point == consts::DUMP_EXIT {
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

fn decision(head: &abi::dump_event, names: &mut Names) -> Result<Option<Decision>> {
    // Index 0 is LB_GO_ON's.
    let reason = (head.reason as usize).checked_sub(1).and_then(|at| reasons().get(at));
    let Some(reason) = reason else { return Ok(None) };
    let vip = if head.vip == consts::DUMP_NO_VIP { None } else { names.vip(head.vip)? };
    let real = (head.real != 0).then(|| abi::address_of(head.real_addr.word));
    Ok(Some(Decision { reason, vip, real }))
}
