//! What the registers hold while a filter runs.
//!
//! | register | holds |
//! | --- | --- |
//! | R0, R1 | A and X, the upper halves 0 |
//! | R2 | temporary values |
//! | R4 | packet + X, once something was loaded from there |
//! | R6 | the context |
//! | R7, R8 | the packet's first byte, and the byte behind its last |
//! | R10 − 4 × (n + 1) | word n of scratch memory |
//!
//! Offsets stay in registers: before Linux 5.18, the verifier forgets the bounds of values on the stack.

use crate::kernel::insn::Reg;

pub(super) const A: Reg = Reg::R0;
pub(super) const X: Reg = Reg::R1;
pub(super) const BEHIND_X: Reg = Reg::R4;
pub(super) const CONTEXT: Reg = Reg::R6;
pub(super) const PACKET: Reg = Reg::R7;
pub(super) const END: Reg = Reg::R8;
pub(super) const STACK: Reg = Reg::R10;
