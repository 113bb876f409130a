//! Parses and checks the classic BPF that libpcap emits.

use crate::kernel::insn::Alu;
use crate::kernel::insn::Size;
use crate::kernel::insn::Test;
use crate::kernel::pcap::ClassicInsn;
use nix::libc;

/// Words of scratch memory.
pub(super) const MEMORY_WORDS: u32 = libc::BPF_MEMWORDS.cast_unsigned();

/// At these offsets, the kernel's interpreter reads facts that are not in the packet. libpcap uses only these.
/// libpcap's own interpreter takes the packet for too short.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const INTERFACE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned();

/// XDP sees incoming packets, and libpcap only asks whether the type is `PACKET_OUTGOING`.
const RECEIVED: u32 = libc::PACKET_HOST as u32;

/// The second operand of an operation on A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    X,
    K(u32),
}

/// An operation. Jump targets are places in the program; all other operations continue with the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A = the packet's bytes at this offset, in network byte order. No match if it ends before.
    LoadAt {
        size: Size,
        at: u32,
    },
    /// The same at X + this offset.
    LoadBehindX {
        size: Size,
        at: u32,
    },
    LoadConstant(u32),
    LoadMemory(u32),
    LoadLength,
    /// A = index of the interface that the packet came in by.
    LoadInterface,
    /// X = 4 × the low half of the byte at this offset: the length of an IPv4 header.
    LoadXHeaderLength {
        at: u32,
    },
    LoadXConstant(u32),
    LoadXMemory(u32),
    LoadXLength,
    StoreA(u32),
    StoreX(u32),
    /// A = A operation source. No match if that divides by zero.
    Alu(Alu, Source),
    Negate,
    /// X = A
    CopyToX,
    /// A = X
    CopyToA,
    Branch {
        test: Test,
        source: Source,
        then: usize,
        otherwise: usize,
    },
    Goto(usize),
    /// The same at the end of a turn of a loop.
    Turn(usize),
    Accept,
    Reject,
    /// A match unless A is 0.
    AcceptIfA,
}

/// What is wrong with an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// Parses a program. `limit`: no packet has bytes beyond this offset.
pub(super) fn decode(program: &[ClassicInsn], limit: u32) -> Result<Vec<Op>, Invalid> {
    let mut ops = Vec::with_capacity(program.len());
    for (at, insn) in program.iter().enumerate() {
        let op =
            decode_one(*insn, at, program.len(), limit).map_err(|what| Invalid { at, what })?;
        ops.push(op);
    }
    match ops.last() {
        None => return Err(Invalid { at: 0, what: "the program is empty" }),
        Some(Op::Branch { .. } | Op::Goto(_) | Op::Accept | Op::Reject | Op::AcceptIfA) => {}
        Some(_) => {
            return Err(Invalid { at: ops.len() - 1, what: "it runs past the end of the program" });
        }
    }
    decide_constant_branches(&mut ops);
    Ok(ops)
}

fn decode_one(insn: ClassicInsn, at: usize, len: usize, limit: u32) -> Result<Op, &'static str> {
    let code = u32::from(insn.code);
    if code > 0xff {
        return Err("unknown opcode");
    }
    match code & 0x07 {
        libc::BPF_LD => decode_load(insn, limit),
        libc::BPF_LDX => decode_load_x(insn, limit),
        libc::BPF_ST if code == libc::BPF_ST => Ok(Op::StoreA(memory_word(insn.k)?)),
        libc::BPF_STX if code == libc::BPF_STX => Ok(Op::StoreX(memory_word(insn.k)?)),
        libc::BPF_ALU => decode_alu(insn),
        libc::BPF_JMP => decode_jump(insn, at, len),
        libc::BPF_RET => match code & !0x07 {
            libc::BPF_K if insn.k == 0 => Ok(Op::Reject),
            libc::BPF_K => Ok(Op::Accept),
            libc::BPF_A => Ok(Op::AcceptIfA),
            _ => Err("unknown opcode"),
        },
        libc::BPF_MISC => match code & !0x07 {
            libc::BPF_TAX => Ok(Op::CopyToX),
            libc::BPF_TXA => Ok(Op::CopyToA),
            _ => Err("unknown opcode"),
        },
        _ => Err("unknown opcode"),
    }
}

fn memory_word(k: u32) -> Result<u32, &'static str> {
    if k < MEMORY_WORDS { Ok(k) } else { Err("there is no such word of scratch memory") }
}

/// Whether `size` bytes at this offset can be in a packet.
fn in_packet(at: u32, size: Size, limit: u32) -> bool {
    u64::from(at) + u64::from(size.bytes()) <= u64::from(limit)
}

fn decode_load(insn: ClassicInsn, limit: u32) -> Result<Op, &'static str> {
    let code = u32::from(insn.code);
    let size = match code & 0x18 {
        libc::BPF_B => Size::B,
        libc::BPF_H => Size::H,
        libc::BPF_W => Size::W,
        _ => return Err("unknown opcode"),
    };
    let at = insn.k;
    match (code & 0xe0, size) {
        (libc::BPF_ABS, _) if at == PACKET_TYPE => Ok(Op::LoadConstant(RECEIVED)),
        (libc::BPF_ABS, _) if at == INTERFACE => Ok(Op::LoadInterface),
        (libc::BPF_ABS | libc::BPF_IND, _) if !in_packet(at, size, limit) => Ok(Op::Reject),
        (libc::BPF_ABS, _) => Ok(Op::LoadAt { size, at }),
        (libc::BPF_IND, _) => Ok(Op::LoadBehindX { size, at }),
        (libc::BPF_IMM, Size::W) => Ok(Op::LoadConstant(insn.k)),
        (libc::BPF_MEM, Size::W) => Ok(Op::LoadMemory(memory_word(insn.k)?)),
        (libc::BPF_LEN, Size::W) => Ok(Op::LoadLength),
        _ => Err("unknown opcode"),
    }
}

fn decode_load_x(insn: ClassicInsn, limit: u32) -> Result<Op, &'static str> {
    let code = u32::from(insn.code);
    match (code & 0xe0, code & 0x18) {
        (libc::BPF_MSH, libc::BPF_B) if !in_packet(insn.k, Size::B, limit) => Ok(Op::Reject),
        (libc::BPF_MSH, libc::BPF_B) => Ok(Op::LoadXHeaderLength { at: insn.k }),
        (libc::BPF_IMM, libc::BPF_W) => Ok(Op::LoadXConstant(insn.k)),
        (libc::BPF_MEM, libc::BPF_W) => Ok(Op::LoadXMemory(memory_word(insn.k)?)),
        (libc::BPF_LEN, libc::BPF_W) => Ok(Op::LoadXLength),
        _ => Err("unknown opcode"),
    }
}

fn source(insn: ClassicInsn) -> Source {
    if u32::from(insn.code) & libc::BPF_X == libc::BPF_X { Source::X } else { Source::K(insn.k) }
}

fn decode_alu(insn: ClassicInsn) -> Result<Op, &'static str> {
    let source = source(insn);
    let operation = match u32::from(insn.code) & 0xf0 {
        libc::BPF_ADD => Alu::Add,
        libc::BPF_SUB => Alu::Sub,
        libc::BPF_MUL => Alu::Mul,
        libc::BPF_DIV => Alu::Div,
        libc::BPF_OR => Alu::Or,
        libc::BPF_AND => Alu::And,
        libc::BPF_LSH => Alu::Lsh,
        libc::BPF_RSH => Alu::Rsh,
        libc::BPF_MOD => Alu::Mod,
        libc::BPF_XOR => Alu::Xor,
        libc::BPF_NEG if source != Source::X => return Ok(Op::Negate),
        _ => return Err("unknown opcode"),
    };
    match (operation, source) {
        (Alu::Div | Alu::Mod, Source::K(0)) => Err("it divides by zero"),
        (Alu::Lsh | Alu::Rsh, Source::K(32..)) => Ok(Op::LoadConstant(0)),
        _ => Ok(Op::Alu(operation, source)),
    }
}

fn decode_jump(insn: ClassicInsn, at: usize, len: usize) -> Result<Op, &'static str> {
    let target = |distance: i64| {
        i64::try_from(at)
            .ok()
            .and_then(|at| usize::try_from(at + 1 + distance).ok())
            .filter(|target| *target < len)
            .ok_or("it jumps out of the program")
    };
    let test = match u32::from(insn.code) & 0xf0 {
        // Signed: libpcap emits jumps back for `protochain`.
        libc::BPF_JA if u32::from(insn.code) == libc::BPF_JMP => {
            return Ok(Op::Goto(target(i64::from(insn.k.cast_signed()))?));
        }
        libc::BPF_JEQ => Test::Eq,
        libc::BPF_JGT => Test::Gt,
        libc::BPF_JGE => Test::Ge,
        libc::BPF_JSET => Test::Set,
        _ => return Err("unknown opcode"),
    };
    Ok(Op::Branch {
        test,
        source: source(insn),
        then: target(i64::from(insn.jt))?,
        otherwise: target(i64::from(insn.jf))?,
    })
}

/// Decides branches on a constant that was loaded just before: `inbound` and `outbound`.
fn decide_constant_branches(ops: &mut [Op]) {
    let mut entered = vec![false; ops.len()];
    for op in ops.iter() {
        match *op {
            Op::Branch { then, otherwise, .. } => {
                (entered[then], entered[otherwise]) = (true, true);
            }
            Op::Goto(to) => entered[to] = true,
            _ => {}
        }
    }
    for at in 1..ops.len() {
        if let (Op::LoadConstant(a), Op::Branch { test, source: Source::K(k), then, otherwise }) =
            (ops[at - 1], ops[at])
            && !entered[at]
        {
            let holds = match test {
                Test::Eq => a == k,
                Test::Ne => a != k,
                Test::Gt => a > k,
                Test::Ge => a >= k,
                Test::Lt => a < k,
                Test::Le => a <= k,
                Test::Set => a & k != 0,
            };
            ops[at] = Op::Goto(if holds { then } else { otherwise });
        }
    }
}
