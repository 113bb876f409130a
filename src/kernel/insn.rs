//! Instructions of eBPF, for programs that l4lb assembles.

use libbpf_sys as sys;

/// One of the eleven registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "they are numbers")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How many bytes a load or store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One.
    B,
    /// Two.
    H,
    /// Four.
    W,
}

impl Size {
    /// In bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
        }
    }

    const fn code(self) -> u8 {
        low(match self {
            Self::B => sys::BPF_B,
            Self::H => sys::BPF_H,
            Self::W => sys::BPF_W,
        })
    }
}

/// What an arithmetic instruction does to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are named after what they do")]
pub enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
    Mov,
}

impl Alu {
    const fn code(self) -> u8 {
        low(match self {
            Self::Add => sys::BPF_ADD,
            Self::Sub => sys::BPF_SUB,
            Self::Mul => sys::BPF_MUL,
            Self::Div => sys::BPF_DIV,
            Self::Or => sys::BPF_OR,
            Self::And => sys::BPF_AND,
            Self::Lsh => sys::BPF_LSH,
            Self::Rsh => sys::BPF_RSH,
            Self::Mod => sys::BPF_MOD,
            Self::Xor => sys::BPF_XOR,
            Self::Mov => sys::BPF_MOV,
        })
    }
}

/// When a jump is taken. All comparisons are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Some bit is set in both.
    Set,
}

impl Test {
    const fn code(self) -> u8 {
        low(match self {
            Self::Eq => sys::BPF_JEQ,
            Self::Ne => sys::BPF_JNE,
            Self::Gt => sys::BPF_JGT,
            Self::Ge => sys::BPF_JGE,
            Self::Lt => sys::BPF_JLT,
            Self::Le => sys::BPF_JLE,
            Self::Set => sys::BPF_JSET,
        })
    }

    /// The test that succeeds where this one fails, if there is an instruction for it.
    pub(crate) const fn inverse(self) -> Option<Self> {
        match self {
            Self::Eq => Some(Self::Ne),
            Self::Ne => Some(Self::Eq),
            Self::Gt => Some(Self::Le),
            Self::Le => Some(Self::Gt),
            Self::Ge => Some(Self::Lt),
            Self::Lt => Some(Self::Ge),
            Self::Set => None,
        }
    }
}

/// The second operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant; 64-bit instructions extend its sign.
    Imm(i32),
}

impl Operand {
    const fn source(self) -> u8 {
        low(match self {
            Self::Reg(_) => sys::BPF_X,
            Self::Imm(_) => sys::BPF_K,
        })
    }
}

/// The low byte: the kernel's headers have opcodes, which are bytes, as wider constants.
const fn low(code: u32) -> u8 {
    code.to_le_bytes()[0]
}

/// An instruction of eBPF, by its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insn {
    /// The opcode.
    pub code: u8,
    /// Number of the destination register.
    pub dst: u8,
    /// Number of the source register.
    pub src: u8,
    /// Displacement of a load or store in bytes, of a jump in instructions behind the next one.
    pub off: i16,
    /// The constant.
    pub imm: i32,
}

impl Insn {
    fn operate(class: u32, operation: u8, dst: Reg, operand: Operand) -> Self {
        let code = low(class) | operation | operand.source();
        match operand {
            Operand::Reg(src) => Self { code, dst: dst as u8, src: src as u8, ..Self::default() },
            Operand::Imm(imm) => Self { code, dst: dst as u8, imm, ..Self::default() },
        }
    }

    /// `dst = dst operation operand`, in 64 bits.
    pub fn alu64(operation: Alu, dst: Reg, operand: Operand) -> Self {
        Self::operate(sys::BPF_ALU64, operation.code(), dst, operand)
    }

    /// `dst = dst operation operand`, in 32 bits; the upper half of `dst` becomes 0.
    pub fn alu32(operation: Alu, dst: Reg, operand: Operand) -> Self {
        Self::operate(sys::BPF_ALU, operation.code(), dst, operand)
    }

    /// `dst = -dst`, in 32 bits.
    pub fn neg32(dst: Reg) -> Self {
        Self::operate(sys::BPF_ALU, low(sys::BPF_NEG), dst, Operand::Imm(0))
    }

    /// Turns the low two or four bytes of `dst` from network to host byte order, and clears the rest.
    pub fn from_network(size: Size, dst: Reg) -> Self {
        Self {
            code: low(sys::BPF_ALU | sys::BPF_END | sys::BPF_TO_BE),
            dst: dst as u8,
            imm: (size.bytes() * 8).cast_signed(),
            ..Self::default()
        }
    }

    /// `dst = *(base + off)`, the upper bytes 0.
    pub fn load(size: Size, dst: Reg, base: Reg, off: i16) -> Self {
        let code = low(sys::BPF_LDX | sys::BPF_MEM) | size.code();
        Self { code, dst: dst as u8, src: base as u8, off, imm: 0 }
    }

    /// `*(base + off) = src`.
    pub fn store(size: Size, base: Reg, off: i16, src: Reg) -> Self {
        let code = low(sys::BPF_STX | sys::BPF_MEM) | size.code();
        Self { code, dst: base as u8, src: src as u8, off, imm: 0 }
    }

    /// `*(base + off) = value`.
    pub fn store_imm(size: Size, base: Reg, off: i16, value: i32) -> Self {
        let code = low(sys::BPF_ST | sys::BPF_MEM) | size.code();
        Self { code, dst: base as u8, src: 0, off, imm: value }
    }

    /// Goes on `off` instructions behind the next one.
    pub fn jump(off: i16) -> Self {
        Self { code: low(sys::BPF_JMP | sys::BPF_JA), off, ..Self::default() }
    }

    /// Jumps if the test holds for 64 bits.
    pub fn jump64(test: Test, dst: Reg, operand: Operand, off: i16) -> Self {
        Self { off, ..Self::operate(sys::BPF_JMP, test.code(), dst, operand) }
    }

    /// Jumps if the test holds for the low 32 bits.
    pub fn jump32(test: Test, dst: Reg, operand: Operand, off: i16) -> Self {
        Self { off, ..Self::operate(sys::BPF_JMP32, test.code(), dst, operand) }
    }

    /// Calls a helper of the kernel (`BPF_FUNC_*`); R1 to R5 are gone afterwards.
    pub fn call(helper: u32) -> Self {
        let code = low(sys::BPF_JMP | sys::BPF_CALL);
        Self { code, imm: helper.cast_signed(), ..Self::default() }
    }

    /// Ends the program with R0.
    pub fn exit() -> Self {
        Self { code: low(sys::BPF_JMP | sys::BPF_EXIT), ..Self::default() }
    }

    /// `dst` = the map behind a descriptor, which must be open when the program is loaded.
    pub fn load_map(dst: Reg, fd: i32) -> [Self; 2] {
        let code = low(sys::BPF_LD | sys::BPF_IMM | sys::BPF_DW);
        let src = low(sys::BPF_PSEUDO_MAP_FD);
        [Self { code, dst: dst as u8, src, off: 0, imm: fd }, Self::default()]
    }

    /// `dst` = where the value of an array with one value begins, and `offset` bytes; as [`Self::load_map`].
    pub fn load_map_value(dst: Reg, fd: i32, offset: i32) -> [Self; 2] {
        let [mut first, mut second] = Self::load_map(dst, fd);
        first.src = low(sys::BPF_PSEUDO_MAP_VALUE);
        second.imm = offset;
        [first, second]
    }

    /// Whether `off` is a jump target. Calls and exits have the class of jumps, but no target.
    pub(crate) fn is_jump(self) -> bool {
        let class = self.code & 7;
        let operation = self.code & 0xf0;
        (class == low(sys::BPF_JMP) || class == low(sys::BPF_JMP32))
            && operation != low(sys::BPF_CALL)
            && operation != low(sys::BPF_EXIT)
    }
}
