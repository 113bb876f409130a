//! An interpreter of classic BPF that says what it did: which instructions it ran, and which bytes its
//! branches were about. The answers that count are libpcap's; with this one, tests bend packets so that they
//! take other ways through a program.

use std::ops::Range;

use l4lb::capture::filter::ClassicInsn;

/// More steps than any program takes that ends.
const MOST_STEPS: usize = 200_000;

/// A branch that was decided by bytes of the packet.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    /// The bytes that A was loaded from.
    pub(crate) bytes: Range<usize>,
    /// What A was masked with.
    pub(crate) mask: u32,
    /// What it was compared with.
    pub(crate) value: u32,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// `None`: it runs for ever.
    pub(crate) matches: Option<bool>,
    /// The opcodes that were run.
    pub(crate) opcodes: Vec<u16>,
    pub(crate) branches: Vec<Branch>,
    /// Where a load found the packet too short.
    pub(crate) short: Option<usize>,
    /// Scratch memory was read before it was written: libpcap does not say what is in it.
    pub(crate) undefined: bool,
}

struct Machine<'a> {
    packet: &'a [u8],
    a: u32,
    x: u32,
    memory: [Option<u32>; 16],
    origin: Option<(Range<usize>, u32)>,
    run: Run,
}

/// Runs a valid program.
pub(crate) fn run(program: &[ClassicInsn], packet: &[u8]) -> Run {
    let mut machine =
        Machine { packet, a: 0, x: 0, memory: [None; 16], origin: None, run: Run::default() };
    let mut at = 0;
    for _ in 0..MOST_STEPS {
        let insn = program[at];
        machine.run.opcodes.push(insn.code);
        match machine.step(insn) {
            Step::Next(skip) => at = at.wrapping_add_signed(skip + 1),
            Step::End(matches) => {
                machine.run.matches = Some(matches);
                break;
            }
        }
    }
    machine.run
}

enum Step {
    /// Skips this many instructions.
    Next(isize),
    End(bool),
}

impl Machine<'_> {
    fn load(&mut self, at: u64, size: usize) -> Option<u32> {
        let start = usize::try_from(at).expect("64 bits");
        let Some(bytes) = self.packet.get(start..start + size) else {
            self.run.short = Some(start + size);
            return None;
        };
        self.origin = Some((start..start + size, u32::MAX));
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn word(&mut self, k: u32) -> u32 {
        let word = self.memory[k as usize];
        self.run.undefined |= word.is_none();
        word.unwrap_or(0)
    }

    fn step(&mut self, insn: ClassicInsn) -> Step {
        let k = insn.k;
        let operand = if insn.code & 0x08 != 0 { self.x } else { k };
        let len = u32::try_from(self.packet.len()).expect("a packet");
        match insn.code {
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => {
                let size = [4, 2, 1][usize::from(insn.code >> 3 & 3)];
                let x = if insn.code & 0x40 != 0 { self.x } else { 0 };
                match self.load(u64::from(x) + u64::from(k), size) {
                    Some(value) => self.a = value,
                    None => return Step::End(false),
                }
            }
            0xb1 => match self.load(u64::from(k), 1) {
                Some(value) => self.x = (value & 0xf) << 2,
                None => return Step::End(false),
            },
            0x00 => (self.a, self.origin) = (k, None),
            0x60 => (self.a, self.origin) = (self.word(k), None),
            0x80 => (self.a, self.origin) = (len, None),
            0x01 => self.x = k,
            0x61 => self.x = self.word(k),
            0x81 => self.x = len,
            0x02 => self.memory[k as usize] = Some(self.a),
            0x03 => self.memory[k as usize] = Some(self.x),
            0x07 => self.x = self.a,
            0x87 => (self.a, self.origin) = (self.x, None),
            0x06 => return Step::End(k != 0),
            0x16 => return Step::End(self.a != 0),
            0x05 => return Step::Next(k.cast_signed() as isize),
            code if code & 7 == 4 => return self.alu(code, operand),
            code if code & 7 == 5 => return self.branch(insn, operand),
            code => panic!("opcode {code:#x}"),
        }
        Step::Next(0)
    }

    fn alu(&mut self, code: u16, operand: u32) -> Step {
        let a = self.a;
        let result = match code & 0xf0 {
            0x00 => Some(a.wrapping_add(operand)),
            0x10 => Some(a.wrapping_sub(operand)),
            0x20 => Some(a.wrapping_mul(operand)),
            0x30 => a.checked_div(operand),
            0x40 => Some(a | operand),
            0x50 => Some(a & operand),
            0x60 => Some(a.checked_shl(operand).unwrap_or(0)),
            0x70 => Some(a.checked_shr(operand).unwrap_or(0)),
            0x80 => Some(a.wrapping_neg()),
            0x90 => a.checked_rem(operand),
            0xa0 => Some(a ^ operand),
            _ => panic!("opcode {code:#x}"),
        };
        let Some(result) = result else { return Step::End(false) };
        self.a = result;
        self.origin = self
            .origin
            .take()
            .filter(|_| code & 0xf0 == 0x50)
            .map(|(bytes, mask)| (bytes, mask & operand));
        Step::Next(0)
    }

    fn branch(&mut self, insn: ClassicInsn, operand: u32) -> Step {
        if let Some((bytes, mask)) = self.origin.clone() {
            self.run.branches.push(Branch { bytes, mask, value: operand });
        }
        let holds = match insn.code & 0xf0 {
            0x10 => self.a == operand,
            0x20 => self.a > operand,
            0x30 => self.a >= operand,
            0x40 => self.a & operand != 0,
            code => panic!("opcode {code:#x}"),
        };
        Step::Next(isize::from(if holds { insn.jt } else { insn.jf }))
    }
}
