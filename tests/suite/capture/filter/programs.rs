//! Random programs in classic BPF: every instruction that libpcap knows, in any order.

use fastrand::Rng;
use l4lb::capture::filter::ClassicInsn;

/// All opcodes.
pub(crate) const OPCODES: [u16; 49] = [
    // Loads into A: absolute, behind X, constant, memory, length.
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x60, 0x80,
    // Into X: constant, memory, length, header length.
    0x01, 0x61, 0x81, 0xb1, // Stores, copies.
    0x02, 0x03, 0x07, 0x87, // Arithmetic with a constant, with X.
    0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0x84, 0x94, 0xa4, //
    0x0c, 0x1c, 0x2c, 0x3c, 0x4c, 0x5c, 0x6c, 0x7c, 0x9c, 0xac, // Jumps.
    0x05, 0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x3d, 0x4d, // Returns.
    0x06, 0x16,
];

fn constant(rng: &mut Rng) -> u32 {
    match rng.usize(..8) {
        0 => 0,
        1 => rng.u32(..),
        2 => 1 << rng.u32(..32),
        3 => u32::MAX - rng.u32(..4),
        4 => rng.u32(..0x1_0000),
        5 => 0xff,
        _ => rng.u32(..64),
    }
}

fn offset(rng: &mut Rng) -> u32 {
    match rng.usize(..40) {
        0 => constant(rng),
        // Around the limits of offsets in eBPF instructions, and of what the verifier follows.
        1 => 0x8000 - 5 + rng.u32(..8),
        2 => 0xffff - 5 + rng.u32(..8),
        3 => rng.u32(..1500),
        _ => rng.u32(..64),
    }
}

/// A program of up to about 80 instructions.
pub(crate) fn program(rng: &mut Rng) -> Vec<ClassicInsn> {
    let mut program = Vec::new();
    let memory = rng.usize(..4) == 0;
    if memory {
        for word in 0..16 {
            program.push(ClassicInsn { code: 0x02, k: word, ..Default::default() });
        }
    }
    let end = program.len() + rng.usize(2..64);
    // The last two return.
    while program.len() < end {
        let at = program.len();
        let left = end - at;
        let code = OPCODES[rng.usize(..OPCODES.len() - 2)];
        let k = match code {
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0xb1 => offset(rng),
            0x60 | 0x61 | 0x02 | 0x03 => rng.u32(..16),
            0x34 | 0x94 => constant(rng).max(1),
            0x64 | 0x74 => rng.u32(..32),
            // A jump that is always taken leaves what is behind it to others.
            0x05 => rng.u32(..u32::try_from(left.min(4)).expect("few")),
            _ => constant(rng),
        };
        // Memory is written at the beginning, or not used: libpcap leaves it as it finds it.
        if !memory && matches!(code, 0x60 | 0x61) {
            continue;
        }
        let mut skip = || u8::try_from(rng.usize(..=left.min(12))).expect("few");
        let (jt, jf) = if code & 7 == 5 && code != 0x05 { (skip(), skip()) } else { (0, 0) };
        program.push(ClassicInsn { code, jt, jf, k });
        if rng.usize(..16) == 0 {
            program.push(returns(rng));
            break;
        }
    }
    // As far as jumps lead.
    let farthest = program
        .iter()
        .enumerate()
        .map(|(at, insn)| {
            let skip = if insn.code == 0x05 { insn.k } else { u32::from(insn.jt.max(insn.jf)) };
            at + 1 + usize::try_from(skip).expect("64 bits")
        })
        .max()
        .unwrap_or(0);
    while program.len() <= farthest {
        program.push(returns(rng));
    }
    program
}

fn returns(rng: &mut Rng) -> ClassicInsn {
    if rng.usize(..3) == 0 {
        ClassicInsn { code: 0x16, ..Default::default() }
    } else {
        ClassicInsn { code: 0x06, k: constant(rng), ..Default::default() }
    }
}
