//! What is known at each operation of a program. With it, the translation checks bounds once for many loads, and leaves
//! out code that is never run.

use super::classic::Op;
use super::classic::Source;
use crate::kernel::insn::Size;

/// What an operation and those after it need for a match. `None` in its place: no match is possible from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// The packet is at least this long.
    pub(super) packet: u32,
    /// With the value that X has here, this many bytes of the packet are behind X.
    pub(super) behind_x: u32,
}

/// What is certain before an operation, on every path to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The packet is at least this long, and the verifier knows it.
    pub(super) packet: u32,
    /// This many bytes are behind X; `None`: there is no pointer to them yet.
    pub(super) behind_x: Option<u32>,
    /// X is at most this.
    pub(super) x_max: u32,
    /// What has been written, see [`Slot`].
    written: u32,
}

/// See [`Known::checks_behind_x`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checks {
    /// X must be at most this, or the verifier loses track of packet + X. No packet is longer.
    pub(super) x_max: Option<u32>,
    /// The pointer to packet + X must be made first.
    pub(super) pointer: bool,
    /// This many bytes must be behind X.
    pub(super) behind_x: u32,
}

/// A register or word of scratch memory, as a bit of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    A,
    X,
    Memory(u32),
}

impl Slot {
    pub(super) const fn bit(self) -> u32 {
        match self {
            Self::Memory(word) => 1 << word,
            Self::A => 1 << 30,
            Self::X => 1 << 31,
        }
    }
}

/// The analysed program.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) needs: Vec<Option<Need>>,
    /// `None`: the operation is never reached.
    pub(super) known: Vec<Option<Known>>,
    /// The [`Slot`]s that are read before they are written, as a mask: classic BPF starts with zeros.
    pub(super) read_unset: u32,
}

/// The operations that may come next. All of them are behind this one: there are no loops.
fn successors(op: Op, at: usize) -> impl Iterator<Item = usize> {
    let (first, second) = match op {
        Op::Branch { then, otherwise, .. } => (Some(then), Some(otherwise)),
        Op::Goto(to) | Op::Turn(to) => (Some(to), None),
        Op::Accept | Op::Reject | Op::AcceptIfA => (None, None),
        _ => (Some(at + 1), None),
    };
    first.into_iter().chain(second)
}

/// Where `at` leads after operations without effect.
pub(super) fn resolve(ops: &[Op], mut at: usize) -> usize {
    while let Op::Goto(to) = ops[at] {
        at = to;
    }
    at
}

/// Whether any packet could match.
pub(super) fn has_match(ops: &[Op]) -> bool {
    needs(ops).first().is_some_and(Option::is_some)
}

/// `limit`: no packet has bytes beyond this offset.
pub(super) fn analyse(ops: &[Op], limit: u32) -> Flow {
    let needs = needs(ops);
    let known = known(ops, &needs, limit);
    let read_unset = ops
        .iter()
        .zip(&known)
        .filter_map(|(op, known)| known.map(|known| reads(*op) & !known.written))
        .fold(0, |all, unset| all | unset);
    Flow { needs, known, read_unset }
}

fn needs(ops: &[Op]) -> Vec<Option<Need>> {
    let mut needs = vec![None; ops.len()];
    for at in (0..ops.len()).rev() {
        let after = successors(ops[at], at).filter_map(|next| needs[next]).reduce(|a: Need, b| {
            Need { packet: a.packet.min(b.packet), behind_x: a.behind_x.min(b.behind_x) }
        });
        needs[at] = need_of(ops[at], after);
    }
    needs
}

fn need_of(op: Op, after: Option<Need>) -> Option<Need> {
    match op {
        Op::Accept | Op::AcceptIfA => Some(Need::default()),
        Op::Reject => None,
        Op::LoadAt { size, at } => after.map(|n| n.packet_to(at + size.bytes())),
        Op::LoadBehindX { size, at } => {
            after.map(|n| Need { behind_x: n.behind_x.max(at + size.bytes()), ..n })
        }
        Op::LoadXHeaderLength { at } => {
            after.map(|n| Need { behind_x: 0, ..n.packet_to(at + Size::B.bytes()) })
        }
        Op::LoadXConstant(_) | Op::LoadXMemory(_) | Op::LoadXLength | Op::CopyToX | Op::Turn(_) => {
            after.map(|n| Need { behind_x: 0, ..n })
        }
        _ => after,
    }
}

impl Need {
    fn packet_to(self, end: u32) -> Self {
        Self { packet: self.packet.max(end), ..self }
    }
}

fn known(ops: &[Op], needs: &[Option<Need>], limit: u32) -> Vec<Option<Known>> {
    let mut known: Vec<Option<Known>> = vec![None; ops.len()];
    known[resolve(ops, 0)] = Some(Known { packet: 0, behind_x: None, x_max: 0, written: 0 });
    for at in 0..ops.len() {
        let (Some(before), Some(need)) = (known[at], needs[at]) else { continue };
        let after = before.after(ops[at], need, limit);
        for next in successors(ops[at], at) {
            let next = resolve(ops, next);
            known[next] = Some(known[next].map_or(after, |other| after.merged(other)));
        }
    }
    known
}

impl Known {
    fn merged(self, other: Self) -> Self {
        Self {
            packet: self.packet.min(other.packet),
            behind_x: self.behind_x.zip(other.behind_x).map(|(a, b)| a.min(b)),
            x_max: self.x_max.max(other.x_max),
            written: self.written & other.written,
        }
    }

    fn after(self, op: Op, need: Need, limit: u32) -> Self {
        let mut known = Self { written: self.written | writes(op), ..self };
        match op {
            Op::LoadAt { size, at } => {
                known.packet = self.packet_checked(at + size.bytes(), need);
            }
            Op::LoadBehindX { size, at } => {
                let checks = self.checks_behind_x(at + size.bytes(), need, limit);
                if let Some(x_max) = checks.x_max {
                    known.x_max = x_max;
                }
                known.behind_x = Some(checks.behind_x);
            }
            Op::LoadXHeaderLength { at } => {
                known.packet = self.packet_checked(at + Size::B.bytes(), need);
                known.set_x_max(4 * 0xf);
            }
            Op::LoadXConstant(value) => known.set_x_max(value),
            Op::LoadXMemory(_) | Op::LoadXLength | Op::CopyToX | Op::Turn(_) => {
                known.set_x_max(u32::MAX);
            }
            _ => {}
        }
        known
    }

    /// How long the packet is known to be after a load that ends at `end`.
    pub(super) fn packet_checked(self, end: u32, need: Need) -> u32 {
        // Check now what later operations need: without it there is no match anyway.
        if self.packet < end { need.packet } else { self.packet }
    }

    /// What a load that ends at `end` behind X must check.
    pub(super) fn checks_behind_x(self, end: u32, need: Need, limit: u32) -> Checks {
        match self.behind_x {
            Some(behind_x) if behind_x >= end => Checks { x_max: None, pointer: false, behind_x },
            _ => {
                // The needed bytes end within the limit; otherwise this would be a `Reject`.
                let x_max = limit - need.behind_x;
                let x_max = (self.x_max > x_max).then_some(x_max);
                let pointer = x_max.is_some() || self.behind_x.is_none();
                Checks { x_max, pointer, behind_x: need.behind_x }
            }
        }
    }

    fn set_x_max(&mut self, x_max: u32) {
        (self.x_max, self.behind_x) = (x_max, None);
    }
}

fn reads(op: Op) -> u32 {
    let source = |source| if source == Source::X { Slot::X.bit() } else { 0 };
    match op {
        Op::LoadBehindX { .. } | Op::StoreX(_) | Op::CopyToA | Op::Turn(_) => Slot::X.bit(),
        Op::LoadMemory(word) | Op::LoadXMemory(word) => Slot::Memory(word).bit(),
        Op::StoreA(_) | Op::Negate | Op::CopyToX | Op::AcceptIfA => Slot::A.bit(),
        Op::Alu(_, from) | Op::Branch { source: from, .. } => Slot::A.bit() | source(from),
        Op::LoadAt { .. }
        | Op::LoadConstant(_)
        | Op::LoadLength
        | Op::LoadInterface
        | Op::LoadXHeaderLength { .. }
        | Op::LoadXConstant(_)
        | Op::LoadXLength
        | Op::Goto(_)
        | Op::Accept
        | Op::Reject => 0,
    }
}

fn writes(op: Op) -> u32 {
    match op {
        Op::LoadAt { .. }
        | Op::LoadBehindX { .. }
        | Op::LoadConstant(_)
        | Op::LoadMemory(_)
        | Op::LoadLength
        | Op::LoadInterface
        | Op::Alu(..)
        | Op::Negate
        | Op::CopyToA => Slot::A.bit(),
        Op::LoadXHeaderLength { .. }
        | Op::LoadXConstant(_)
        | Op::LoadXMemory(_)
        | Op::LoadXLength
        | Op::CopyToX
        | Op::Turn(_) => Slot::X.bit(),
        Op::StoreA(word) | Op::StoreX(word) => Slot::Memory(word).bit(),
        Op::Branch { .. } | Op::Goto(_) | Op::Accept | Op::Reject | Op::AcceptIfA => 0,
    }
}
