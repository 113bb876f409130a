//! Pieces of code that programs end with.
//!
//! Those that name maps do so by descriptors, which must be open until the program is loaded.

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use libbpf_sys as sys;

use super::insn::Alu;
use super::insn::Insn;
use super::insn::Operand;
use super::insn::Operand::Imm;
use super::insn::Reg;
use super::insn::Size;
use super::insn::Test;
use super::translate::CONTEXT;
use crate::abi::consts::CHAIN_SLOTS;

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

/// Hands on to the programs behind `slot` of a chain, by its maps `chain` and `chain_next`: what
/// `l4lb_hand_on` in `include/l4lb/chain.h` does.
pub fn hand_on(chain: BorrowedFd<'_>, chain_next: BorrowedFd<'_>, slot: u32) -> Vec<Insn> {
    const KEY: i16 = -4;
    let pass = verdict(sys::XDP_PASS);
    let behind = slot + 1;

    let mut code = vec![Insn::store_imm(Size::W, Reg::R10, KEY, behind.cast_signed())];
    code.extend(Insn::load_map(Reg::R1, chain_next.as_raw_fd()));
    code.push(Insn::alu64(Alu::Mov, Reg::R2, Operand::Reg(Reg::R10)));
    code.push(Insn::alu64(Alu::Add, Reg::R2, Imm(i32::from(KEY))));
    code.push(Insn::call(sys::BPF_FUNC_map_lookup_elem));
    // Over the verdict, which has two instructions.
    code.push(Insn::jump64(Test::Ne, Reg::R0, Imm(0), 2));
    code.extend(&pass);
    code.push(Insn::load(Size::W, Reg::R3, Reg::R0, 0));
    code.push(Insn::jump64(Test::Lt, Reg::R3, Imm(CHAIN_SLOTS.cast_signed()), 2));
    code.extend(&pass);
    code.push(Insn::alu64(Alu::Mov, Reg::R1, Operand::Reg(CONTEXT)));
    code.extend(Insn::load_map(Reg::R2, chain.as_raw_fd()));
    code.push(Insn::call(sys::BPF_FUNC_tail_call));
    // The slot was emptied meanwhile: all that are behind it are tried.
    for slot in behind..CHAIN_SLOTS {
        code.extend(tail_call(chain, slot));
    }
    code.extend(pass);
    code
}
