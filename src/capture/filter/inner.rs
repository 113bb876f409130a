//! Finds the packet inside an encapsulated frame.

use nix::libc;

use super::assembler::Assembler;
use super::assembler::Label;
use super::registers::CONTEXT;
use super::registers::END;
use super::registers::PACKET;
use crate::kernel::insn::Alu;
use crate::kernel::insn::Insn;
use crate::kernel::insn::Operand;
use crate::kernel::insn::Operand::Imm;
use crate::kernel::insn::Reg;
use crate::kernel::insn::Size;
use crate::kernel::insn::Test;
use crate::model::gue::GuePorts;

const ETHERNET: u32 = 14;
const ETHER_TYPE: i16 = 12;
const TAG: u32 = 4;
/// As many VLAN tags as the balancer accepts.
const MOST_TAGS: u32 = 2;

const IPV4: u32 = 20;
const IPV4_FRAGMENT: i16 = 6;
const IPV4_FRAGMENT_OFFSET: u16 = 0x1fff;
const IPV4_PROTOCOL: i16 = 9;
const IPV4_LONGEST: u32 = 60;
const IPV6: u32 = 40;
const IPV6_NEXT_HEADER: i16 = 6;

const UDP: u32 = 8;
const UDP_DESTINATION: i16 = 2;
/// The shortest header of GUE, variant 0.
const GUE: u32 = 4;
const GUE_PROTOCOL: i16 = 1;
/// The bits for variant and control: neither is set in front of a packet.
const GUE_NO_PACKET: i32 = 0xe0;
/// The bits for the length of what follows the shortest header, in words.
const GUE_WORDS: u32 = 0x1f;
const GUE_LONGEST: u32 = GUE + GUE_WORDS * 4;

/// The packet begins at most this far into the frame.
pub(super) const MAX_OFFSET: u32 = ETHERNET + MOST_TAGS * TAG + IPV4_LONGEST + UDP + GUE_LONGEST;

/// A constant to compare with two bytes as they were loaded.
fn network(value: i32) -> Operand {
    let value = u16::try_from(value).unwrap_or_default();
    Imm(i32::from(value.to_be()))
}

fn constant(value: u32) -> Operand {
    Imm(value.cast_signed())
}

/// Moves [`PACKET`] from the frame to the packet inside its outer header: of IP in IP, or of GUE to one of these ports.
/// Goes to `otherwise` if there is none, or if the frame is a later fragment. `data` is where the context has the
/// frame's beginning.
pub(super) fn find(code: &mut Assembler, gue: GuePorts, data: i16, otherwise: Label) {
    let [network_header, ipv6, protocol, found] = [(); 4].map(|()| code.label());
    let value = Reg::R0;
    let length = Reg::R1;

    check(code, ETHERNET, otherwise);
    code.emit(Insn::load(Size::H, value, PACKET, ETHER_TYPE));
    for _ in 0..MOST_TAGS {
        let tagged = code.label();
        let is_tag = |kind| Insn::jump32(Test::Eq, value, network(kind), 0);
        let is_no_tag = |kind| Insn::jump32(Test::Ne, value, network(kind), 0);
        code.emit_jump(is_tag(libc::ETH_P_8021Q), tagged);
        code.emit_jump(is_no_tag(libc::ETH_P_8021AD), network_header);
        code.place(tagged);
        code.emit(Insn::alu64(Alu::Add, PACKET, constant(TAG)));
        check(code, ETHERNET, otherwise);
        code.emit(Insn::load(Size::H, value, PACKET, ETHER_TYPE));
    }

    code.place(network_header);
    code.emit(Insn::alu64(Alu::Add, PACKET, constant(ETHERNET)));
    code.emit_jump(Insn::jump32(Test::Eq, value, network(libc::ETH_P_IPV6), 0), ipv6);
    code.emit_jump(Insn::jump32(Test::Ne, value, network(libc::ETH_P_IP), 0), otherwise);

    check(code, IPV4, otherwise);
    code.emit(Insn::load(Size::H, value, PACKET, IPV4_FRAGMENT));
    let offset = network(i32::from(IPV4_FRAGMENT_OFFSET));
    code.emit_jump(Insn::jump32(Test::Set, value, offset, 0), otherwise);
    code.emit(Insn::load(Size::B, length, PACKET, 0));
    code.emit(Insn::alu32(Alu::And, length, Imm(0xf)));
    code.emit(Insn::alu32(Alu::Lsh, length, Imm(2)));
    code.emit_jump(Insn::jump32(Test::Lt, length, constant(IPV4), 0), otherwise);
    code.emit(Insn::load(Size::B, value, PACKET, IPV4_PROTOCOL));
    code.emit(Insn::alu64(Alu::Add, PACKET, Operand::Reg(length)));
    // Options that reach beyond the end of the frame.
    code.emit_jump(Insn::jump64(Test::Gt, PACKET, Operand::Reg(END), 0), otherwise);
    code.emit_jump(Insn::jump(0), protocol);

    code.place(ipv6);
    check(code, IPV6, otherwise);
    code.emit(Insn::load(Size::B, value, PACKET, IPV6_NEXT_HEADER));
    code.emit(Insn::alu64(Alu::Add, PACKET, constant(IPV6)));

    code.place(protocol);
    jump_if_ip(code, value, found);
    code.emit_jump(Insn::jump32(Test::Ne, value, Imm(libc::IPPROTO_UDP), 0), otherwise);
    find_in_gue(code, gue, found, otherwise);
    code.place(found);
    // Many ways lead here. The verifier would follow what comes next once for each, as they differ in how far into
    // the frame they lead, and in what is known to be there. A difference of pointers is a number that it knows
    // nothing about, so that the ways look alike.
    code.emit(Insn::load(Size::W, Reg::R2, CONTEXT, data));
    code.emit(Insn::alu64(Alu::Sub, PACKET, Operand::Reg(Reg::R2)));
    code.emit_jump(Insn::jump64(Test::Gt, PACKET, constant(MAX_OFFSET), 0), otherwise);
    code.emit(Insn::alu64(Alu::Add, PACKET, Operand::Reg(Reg::R2)));
}

/// Goes to `found` if the protocol in `value` says that IP is in IP.
fn jump_if_ip(code: &mut Assembler, value: Reg, found: Label) {
    for protocol in [libc::IPPROTO_IPIP, libc::IPPROTO_IPV6] {
        code.emit_jump(Insn::jump32(Test::Eq, value, Imm(protocol), 0), found);
    }
}

/// Moves [`PACKET`] from the UDP header to the packet inside, and continues at its end; or goes to `found`, or to
/// `otherwise`.
fn find_in_gue(code: &mut Assembler, gue: GuePorts, found: Label, otherwise: Label) {
    let value = Reg::R0;
    let length = Reg::R1;
    let to_gue = code.label();
    check(code, UDP + 1, otherwise);
    code.emit(Insn::load(Size::H, value, PACKET, UDP_DESTINATION));
    for port in gue.each() {
        code.emit_jump(Insn::jump32(Test::Eq, value, network(port.into()), 0), to_gue);
    }
    code.emit_jump(Insn::jump(0), otherwise);

    code.place(to_gue);
    code.emit(Insn::alu64(Alu::Add, PACKET, constant(UDP)));
    code.emit(Insn::load(Size::B, length, PACKET, 0));
    // Variant 1 has no header: this is the IP version, whose first two bits tell the variants apart.
    code.emit(Insn::alu32(Alu::Mov, value, Operand::Reg(length)));
    code.emit(Insn::alu32(Alu::Rsh, value, Imm(4)));
    for version in [4, 6] {
        code.emit_jump(Insn::jump32(Test::Eq, value, Imm(version), 0), found);
    }

    code.emit_jump(Insn::jump32(Test::Set, length, Imm(GUE_NO_PACKET), 0), otherwise);
    check(code, GUE, otherwise);
    code.emit(Insn::load(Size::B, value, PACKET, GUE_PROTOCOL));
    code.emit(Insn::alu32(Alu::And, length, constant(GUE_WORDS)));
    code.emit(Insn::alu32(Alu::Lsh, length, Imm(2)));
    code.emit(Insn::alu64(Alu::Add, PACKET, Operand::Reg(length)));
    code.emit(Insn::alu64(Alu::Add, PACKET, constant(GUE)));
    code.emit_jump(Insn::jump64(Test::Gt, PACKET, Operand::Reg(END), 0), otherwise);
    jump_if_ip(code, value, found);
    code.emit_jump(Insn::jump(0), otherwise);
}

/// Goes to `otherwise` unless this many bytes follow [`PACKET`].
fn check(code: &mut Assembler, bytes: u32, otherwise: Label) {
    code.emit(Insn::alu64(Alu::Mov, Reg::R2, Operand::Reg(PACKET)));
    code.emit(Insn::alu64(Alu::Add, Reg::R2, constant(bytes)));
    code.emit_jump(Insn::jump64(Test::Gt, Reg::R2, Operand::Reg(END), 0), otherwise);
}
