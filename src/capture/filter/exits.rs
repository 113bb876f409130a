//! Pieces of code that end filter programs.
//!
//! Pieces that use maps name them by descriptors, which must be open until the program is loaded.

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

/// Continues in the program at `index` of `array`, a program array. If there is none, continues behind this piece.
pub fn tail_call(array: BorrowedFd<'_>, index: u32) -> Vec<Insn> {
    let mut code = vec![Insn::alu64(Alu::Mov, Reg::R1, Operand::Reg(CONTEXT))];
    code.extend(Insn::load_map(Reg::R2, array.as_raw_fd()));
    code.push(Insn::alu64(Alu::Mov, Reg::R3, Imm(index.cast_signed())));
    code.push(Insn::call(sys::BPF_FUNC_tail_call));
    code
}

/// Continues in a program of `array`. Its place is in `next`, an array of one value, in the 64-bit word `at`. If there
/// is no program at that place any more, it tries the places from `at` to `end`; if these have none, it continues
/// behind this piece.
pub(crate) fn follow(array: BorrowedFd<'_>, next: BorrowedFd<'_>, at: u32, end: u32) -> Vec<Insn> {
    let offset = at.cast_signed() * i32::try_from(size_of::<u64>()).unwrap_or_default();
    let mut code = Vec::from(Insn::load_map_value(Reg::R3, next.as_raw_fd(), offset));
    // On little-endian machines, this half holds the whole number.
    code.push(Insn::load(Size::W, Reg::R3, Reg::R3, 0));
    code.push(Insn::alu64(Alu::Mov, Reg::R1, Operand::Reg(CONTEXT)));
    code.extend(Insn::load_map(Reg::R2, array.as_raw_fd()));
    code.push(Insn::call(sys::BPF_FUNC_tail_call));
    for place in at..=end {
        code.extend(tail_call(array, place));
    }
    code
}

/// Continues with a whole program, which gets the context in its usual register.
pub(crate) fn program(code: &[Insn]) -> Vec<Insn> {
    let mut piece = vec![Insn::alu64(Alu::Mov, Reg::R1, Operand::Reg(CONTEXT))];
    piece.extend(code);
    piece
}
