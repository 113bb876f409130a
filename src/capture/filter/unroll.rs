//! Unrolls loops: the turns of a loop are written out one after the other.
//!
//! libpcap emits loops for `protochain`. The verifier would follow every path through every turn of a loop, and give
//! up. The program runs through each copy once, so the verifier checks one copy after the other.

use super::classic::Op;

/// The most turns. A header of a chain has 8 bytes or more, so a frame of 1514 bytes has no room for more of them.
pub(super) const MOST_TURNS: usize = 184;

/// The most operations of all copies together. With more, eBPF jumps could not reach across them.
const MOST_COPIED: usize = 10_000;

/// The operations from the target of a jump back to the jump.
struct Loop {
    start: usize,
    /// The place behind the jump.
    end: usize,
}

impl Loop {
    fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The loops of a program; overlapping loops count as one.
fn loops(ops: &[Op]) -> Vec<Loop> {
    let mut loops: Vec<Loop> = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let Op::Goto(to) = *op else { continue };
        if to > at {
            continue;
        }
        let mut start = to;
        while let Some(last) = loops.pop_if(|last| last.end > start) {
            start = start.min(last.start);
        }
        loops.push(Loop { start, end: at + 1 });
    }
    loops
}

/// Unrolls loops. A packet that would take more turns than there are copies does not match.
pub(super) fn unroll(ops: Vec<Op>) -> Vec<Op> {
    let loops = loops(&ops);
    let looped: usize = loops.iter().map(Loop::len).sum();
    if looped == 0 {
        return ops;
    }
    let turns = (MOST_COPIED / looped).clamp(1, MOST_TURNS);
    // The place of an operation. If there are several copies, it is the place in the first one.
    let place = |at: usize| {
        let before = loops.iter().filter(|l| l.end <= at).map(Loop::len).sum::<usize>();
        at + before * (turns - 1)
    };

    let mut unrolled = Vec::with_capacity(ops.len() + looped * turns);
    let mut at = 0;
    while at < ops.len() {
        let Some(repeated) = loops.iter().find(|l| l.start == at) else {
            unrolled.push(retargeted(ops[at], place));
            at += 1;
            continue;
        };
        for turn in 0..turns {
            for (here, op) in (repeated.start..).zip(&ops[repeated.start..repeated.end]) {
                let target = |to: usize| {
                    let inside = (repeated.start..repeated.end).contains(&to);
                    place(to) + if inside { turn * repeated.len() } else { 0 }
                };
                unrolled.push(match *op {
                    Op::Goto(to) if to <= here && turn + 1 == turns => Op::Reject,
                    Op::Goto(to) if to <= here => Op::Turn(target(to) + repeated.len()),
                    op => retargeted(op, target),
                });
            }
        }
        at = repeated.end;
    }
    unrolled
}

fn retargeted(op: Op, target: impl Fn(usize) -> usize) -> Op {
    match op {
        Op::Branch { test, source, then, otherwise } => {
            Op::Branch { test, source, then: target(then), otherwise: target(otherwise) }
        }
        Op::Goto(to) => Op::Goto(target(to)),
        op => op,
    }
}
