//! Pieces of code that programs end with.
//!
//! Those that name maps do so by descriptors, which must be open until the program is loaded.

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use libbpf_sys as sys;

use super::registers::CONTEXT;
use crate::kernel::insn::Alu;
use crate::kernel::insn::Insn;
use crate::kernel::insn::Operand;
use crate::kernel::insn::Operand::Imm;
use crate::kernel::insn::Reg;
use crate::kernel::insn::Size;

/// Ends the program with this value, such as `XDP_PASS`.
pub fn verdict(value: u32) -> Vec<Insn> {
    vec![Insn::alu64(Alu::Mov, Reg::R0, Imm(value.cast_signed())), Insn::exit()]
}

/// Continues in the program that `array`, a program array, has at `index`; if it has none, goes on behind
/// this piece.
pub fn tail_call(array: BorrowedFd<'_>, index: u32) -> Vec<Insn> {
    let mut code = vec![Insn::alu64(Alu::Mov, Reg::R1, Operand::Reg(CONTEXT))];
    code.extend(Insn::load_map(Reg::R2, array.as_raw_fd()));
    code.push(Insn::alu64(Alu::Mov, Reg::R3, Imm(index.cast_signed())));
    code.push(Insn::call(sys::BPF_FUNC_tail_call));
    code
}

/// Continues in the program that `array` has at the place which `next`, an array of one value, holds in its
/// word `at`, of 64 bits. If there is none any more, the places from `at` to `end` are tried; if they have
/// none, goes on behind this piece.
pub(crate) fn follow(array: BorrowedFd<'_>, next: BorrowedFd<'_>, at: u32, end: u32) -> Vec<Insn> {
    let offset = at.cast_signed() * i32::try_from(size_of::<u64>()).unwrap_or_default();
    let mut code = Vec::from(Insn::load_map_value(Reg::R3, next.as_raw_fd(), offset));
    // The half that says all, on little-endian machines.
    code.push(Insn::load(Size::W, Reg::R3, Reg::R3, 0));
    code.push(Insn::alu64(Alu::Mov, Reg::R1, Operand::Reg(CONTEXT)));
    code.extend(Insn::load_map(Reg::R2, array.as_raw_fd()));
    code.push(Insn::call(sys::BPF_FUNC_tail_call));
    for place in at..=end {
        code.extend(tail_call(array, place));
    }
    code
}

/// Goes on with a whole program, which takes the context where programs get it.
pub(crate) fn program(code: &[Insn]) -> Vec<Insn> {
    let mut piece = vec![Insn::alu64(Alu::Mov, Reg::R1, Operand::Reg(CONTEXT))];
    piece.extend(code);
    piece
}
