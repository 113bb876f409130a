//! Translates classic BPF to eBPF. `registers` says which register holds what.

use std::mem::offset_of;

use libbpf_sys::xdp_md;

use super::Exits;
use super::FilterScope;
use super::assembler::Assembler;
use super::assembler::Label;
use super::assembler::TooFar;
use super::assembler::falls_through;
use super::classic::MEMORY_WORDS;
use super::classic::Op;
use super::classic::Source;
use super::flow;
use super::flow::Flow;
use super::flow::Known;
use super::flow::Need;
use super::flow::Slot;
use super::inner;
use super::registers::A;
use super::registers::BEHIND_X;
use super::registers::CONTEXT;
use super::registers::END;
use super::registers::PACKET;
use super::registers::STACK;
use super::registers::X;
use crate::kernel::insn::Alu;
use crate::kernel::insn::Insn;
use crate::kernel::insn::Operand;
use crate::kernel::insn::Operand::Imm;
use crate::kernel::insn::Reg;
use crate::kernel::insn::Size;
use crate::kernel::insn::Test;
use crate::model::gue::GuePorts;

/// An offset in the type that instructions have.
const fn displacement(offset: usize) -> i16 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the context has a few bytes"
    )]
    let offset = offset as i16;
    offset
}

/// Offsets in the context, whose members have four bytes.
const CONTEXT_DATA: i16 = displacement(offset_of!(xdp_md, data));
const CONTEXT_DATA_END: i16 = displacement(offset_of!(xdp_md, data_end));
const CONTEXT_INTERFACE: i16 = displacement(offset_of!(xdp_md, ingress_ifindex));
const CONTEXT_QUEUE: i16 = displacement(offset_of!(xdp_md, rx_queue_index));

/// The verifier follows a pointer only this far into a packet (`MAX_PACKET_OFF`).
const MAX_PACKET_OFFSET: u32 = 0xffff;

/// The filter reads no bytes of a packet beyond this offset.
pub(super) const fn limit(scope: FilterScope) -> u32 {
    match scope {
        FilterScope::Frame => MAX_PACKET_OFFSET,
        FilterScope::Inner => MAX_PACKET_OFFSET - inner::MAX_OFFSET,
    }
}

/// Where an operation continues.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Op(usize),
    Match,
    Otherwise,
}

struct Translation<'a> {
    ops: &'a [Op],
    flow: Flow,
    limit: u32,
    gue: GuePorts,
    code: Assembler,
    /// A label for each operation, then for both exits.
    labels: Vec<Label>,
}

/// Translates a program that can match.
pub(super) fn translate(
    ops: &[Op],
    scope: FilterScope,
    gue: GuePorts,
    exits: &Exits,
) -> Result<Vec<Insn>, TooFar> {
    let limit = limit(scope);
    let mut code = Assembler::default();
    let labels = (0..ops.len() + 2).map(|_| code.label()).collect();
    let mut translation =
        Translation { ops, flow: flow::analyse(ops, limit), limit, gue, code, labels };
    translation.prologue(scope);
    translation.body();
    let (on_match, otherwise) =
        (translation.label(Target::Match), translation.label(Target::Otherwise));
    let mut code = translation.code;
    code.place(on_match);
    code.emit_all(&exits.on_match);
    code.place(otherwise);
    // The verifier refuses code that is never reached.
    if code.is_used(otherwise) || falls_through(&exits.on_match) {
        code.emit_all(&exits.otherwise);
    }
    code.finish()
}

/// A constant for 32-bit instructions, which do not extend its sign.
fn imm(value: u32) -> Operand {
    Imm(value.cast_signed())
}

/// The place of a word of scratch memory on the stack.
fn stack(word: u32) -> i16 {
    debug_assert!(word < MEMORY_WORDS);
    -4 * (i16::try_from(word).unwrap_or(0) + 1)
}

impl Translation<'_> {
    /// The operations that are translated, in their order. Jumps to others lead past them.
    fn reached(&self) -> impl Iterator<Item = (usize, Op, Known, Need)> {
        self.ops.iter().enumerate().filter_map(|(at, op)| {
            let (known, need) = (self.flow.known[at]?, self.flow.needs[at]?);
            (*op != Op::Accept).then_some((at, *op, known, need))
        })
    }

    fn target(&self, at: usize) -> Target {
        let at = flow::resolve(self.ops, at);
        match (self.ops[at], self.flow.needs[at]) {
            (_, None) => Target::Otherwise,
            (Op::Accept, _) => Target::Match,
            _ => Target::Op(at),
        }
    }

    fn label(&self, target: Target) -> Label {
        match target {
            Target::Op(at) => self.labels[at],
            Target::Match => self.labels[self.ops.len()],
            Target::Otherwise => self.labels[self.ops.len() + 1],
        }
    }

    fn emit(&mut self, insn: Insn) {
        self.code.emit(insn);
    }

    fn jump(&mut self, insn: Insn, target: Target) {
        let label = self.label(target);
        self.code.emit_jump(insn, label);
    }

    /// Sets the registers and words that the operations start from.
    fn prologue(&mut self, scope: FilterScope) {
        self.emit(Insn::alu64(Alu::Mov, CONTEXT, Operand::Reg(Reg::R1)));
        let loads = self.reached().any(|(_, op, ..)| {
            matches!(
                op,
                Op::LoadAt { .. }
                    | Op::LoadBehindX { .. }
                    | Op::LoadXHeaderLength { .. }
                    | Op::LoadLength
                    | Op::LoadXLength
            )
        });
        if loads || scope == FilterScope::Inner {
            self.emit(Insn::load(Size::W, PACKET, CONTEXT, CONTEXT_DATA));
            self.emit(Insn::load(Size::W, END, CONTEXT, CONTEXT_DATA_END));
        }
        if scope == FilterScope::Inner {
            let otherwise = self.label(Target::Otherwise);
            inner::find(&mut self.code, self.gue, CONTEXT_DATA, otherwise);
        }
        let unset = |slot: Slot| self.flow.read_unset & slot.bit() != 0;
        let registers = [(Slot::A, A), (Slot::X, X)].into_iter().filter(|(slot, _)| unset(*slot));
        let words = (0..MEMORY_WORDS).filter(|word| unset(Slot::Memory(*word)));
        let zeros: Vec<_> = registers
            .map(|(_, reg)| Insn::alu32(Alu::Mov, reg, Imm(0)))
            .chain(words.map(|word| Insn::store_imm(Size::W, STACK, stack(word), 0)))
            .collect();
        self.code.emit_all(&zeros);
    }

    fn body(&mut self) {
        let ops: Vec<_> = self.reached().collect();
        let following =
            |index: usize| ops.get(index).map_or(Target::Match, |(at, ..)| Target::Op(*at));
        self.go_on(self.target(0), following(0));
        for (index, (at, op, known, need)) in ops.iter().enumerate() {
            self.code.place(self.labels[*at]);
            self.operation(*at, *op, *known, *need, following(index + 1));
        }
    }

    /// Gets to one target when another follows immediately.
    fn go_on(&mut self, target: Target, following: Target) {
        if target != following {
            self.jump(Insn::jump(0), target);
        }
    }

    fn operation(&mut self, at: usize, op: Op, known: Known, need: Need, following: Target) {
        match op {
            Op::LoadAt { size, at } => {
                self.check_packet(at + size.bytes(), known, need);
                self.load(PACKET, size, A, at);
                self.swap(size);
            }
            Op::LoadBehindX { size, at } => self.load_behind_x(size, at, known, need),
            Op::LoadXHeaderLength { at } => {
                self.check_packet(at + Size::B.bytes(), known, need);
                self.load(PACKET, Size::B, X, at);
                self.emit(Insn::alu32(Alu::And, X, Imm(0xf)));
                self.emit(Insn::alu32(Alu::Lsh, X, Imm(2)));
            }
            Op::LoadConstant(value) => self.emit(Insn::alu32(Alu::Mov, A, imm(value))),
            Op::LoadXConstant(value) => self.emit(Insn::alu32(Alu::Mov, X, imm(value))),
            Op::LoadMemory(word) => self.emit(Insn::load(Size::W, A, STACK, stack(word))),
            Op::LoadXMemory(word) => self.emit(Insn::load(Size::W, X, STACK, stack(word))),
            Op::StoreA(word) => self.emit(Insn::store(Size::W, STACK, stack(word), A)),
            Op::StoreX(word) => self.emit(Insn::store(Size::W, STACK, stack(word), X)),
            Op::LoadLength => self.length(A),
            Op::LoadXLength => self.length(X),
            Op::LoadInterface => {
                self.emit(Insn::load(Size::W, A, CONTEXT, CONTEXT_INTERFACE));
            }
            Op::Alu(operation, source) => self.alu(operation, source),
            Op::Negate => self.emit(Insn::neg32(A)),
            Op::CopyToX => self.emit(Insn::alu32(Alu::Mov, X, Operand::Reg(A))),
            Op::CopyToA => self.emit(Insn::alu32(Alu::Mov, A, Operand::Reg(X))),
            Op::Branch { test, source, then, otherwise } => {
                let source = operand(source);
                return self.branch(
                    test,
                    source,
                    self.target(then),
                    self.target(otherwise),
                    following,
                );
            }
            Op::AcceptIfA => {
                return self.branch(Test::Ne, Imm(0), Target::Match, Target::Otherwise, following);
            }
            Op::Turn(to) => {
                self.forget_x();
                return self.go_on(self.target(to), following);
            }
            // `reached` does not return these operations.
            Op::Goto(_) | Op::Accept | Op::Reject => return,
        }
        self.go_on(self.target(at + 1), following);
    }

    /// Goes to "otherwise" unless the packet reaches to `end`.
    fn check_packet(&mut self, end: u32, known: Known, need: Need) {
        let checked = known.packet_checked(end, need);
        if checked > known.packet {
            self.check(PACKET, checked);
        }
    }

    /// Goes to "otherwise" unless `bytes` bytes follow the pointer in `from`.
    fn check(&mut self, from: Reg, bytes: u32) {
        self.emit(Insn::alu64(Alu::Mov, Reg::R2, Operand::Reg(from)));
        self.emit(Insn::alu64(Alu::Add, Reg::R2, imm(bytes)));
        self.jump(Insn::jump64(Test::Gt, Reg::R2, Operand::Reg(END), 0), Target::Otherwise);
    }

    /// Loads from behind a pointer. The caller knows that the bytes are there.
    fn load(&mut self, base: Reg, size: Size, to: Reg, at: u32) {
        if let Ok(at) = i16::try_from(at) {
            self.emit(Insn::load(size, to, base, at));
        } else {
            self.emit(Insn::alu64(Alu::Mov, Reg::R2, Operand::Reg(base)));
            self.emit(Insn::alu64(Alu::Add, Reg::R2, imm(at)));
            self.emit(Insn::load(size, to, Reg::R2, 0));
        }
    }

    /// Converts A, just loaded, to host byte order.
    fn swap(&mut self, size: Size) {
        if size != Size::B {
            self.emit(Insn::from_network(size, A));
        }
    }

    fn load_behind_x(&mut self, size: Size, at: u32, known: Known, need: Need) {
        let checks = known.checks_behind_x(at + size.bytes(), need, self.limit);
        if let Some(x_max) = checks.x_max {
            self.jump(Insn::jump64(Test::Gt, X, imm(x_max), 0), Target::Otherwise);
        }
        if checks.pointer {
            self.emit(Insn::alu64(Alu::Mov, BEHIND_X, Operand::Reg(PACKET)));
            self.emit(Insn::alu64(Alu::Add, BEHIND_X, Operand::Reg(X)));
        }
        if checks.pointer || known.behind_x != Some(checks.behind_x) {
            self.check(BEHIND_X, checks.behind_x);
        }
        self.load(BEHIND_X, size, A, at);
        self.swap(size);
    }

    /// Makes the verifier forget what it knows about X, through a number that it does not know. Then all paths through
    /// a turn of a loop look the same afterwards, and it follows only one.
    fn forget_x(&mut self) {
        self.emit(Insn::load(Size::W, Reg::R2, CONTEXT, CONTEXT_QUEUE));
        self.emit(Insn::alu32(Alu::Xor, X, Operand::Reg(Reg::R2)));
        self.emit(Insn::alu32(Alu::Xor, X, Operand::Reg(Reg::R2)));
    }

    fn length(&mut self, to: Reg) {
        self.emit(Insn::alu64(Alu::Mov, to, Operand::Reg(END)));
        self.emit(Insn::alu64(Alu::Sub, to, Operand::Reg(PACKET)));
    }

    fn alu(&mut self, operation: Alu, source: Source) {
        match (operation, source) {
            (Alu::Div | Alu::Mod, Source::X) => {
                self.jump(Insn::jump32(Test::Eq, X, Imm(0), 0), Target::Otherwise);
            }
            // eBPF takes the shift distance modulo 32, classic BPF shifts all bits out.
            (Alu::Lsh | Alu::Rsh, Source::X) => {
                self.emit(Insn::jump32(Test::Lt, X, Imm(32), 1));
                self.emit(Insn::alu32(Alu::Mov, A, Imm(0)));
            }
            _ => {}
        }
        self.emit(Insn::alu32(operation, A, operand(source)));
    }

    fn branch(
        &mut self,
        test: Test,
        source: Operand,
        then: Target,
        otherwise: Target,
        following: Target,
    ) {
        if then == otherwise {
            return self.go_on(then, following);
        }
        if then == following
            && let Some(inverse) = test.inverse()
        {
            return self.jump(Insn::jump32(inverse, A, source, 0), otherwise);
        }
        self.jump(Insn::jump32(test, A, source, 0), then);
        self.go_on(otherwise, following);
    }
}

fn operand(source: Source) -> Operand {
    match source {
        Source::X => Operand::Reg(X),
        Source::K(value) => imm(value),
    }
}
