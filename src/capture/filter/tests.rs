use std::net::Ipv4Addr;

use super::ClassicInsn;
use super::Exits;
use super::Filter;
use super::FilterError;
use super::FilterScope;
use super::classic;
use super::classic::Op;
use super::flow::analyse;
use super::unroll::MOST_TURNS;
use super::unroll::unroll;
use super::verdict;
use crate::kernel::insn::Insn;

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> ClassicInsn {
    ClassicInsn { code, jt, jf, k }
}

const ACCEPT: ClassicInsn = ClassicInsn { code: 0x06, jt: 0, jf: 0, k: 1 };
const REJECT: ClassicInsn = ClassicInsn { code: 0x06, jt: 0, jf: 0, k: 0 };

fn filter(program: &[ClassicInsn]) -> Result<Filter, FilterError> {
    Filter::from_classic(program.to_vec(), FilterScope::Frame)
}

fn compile(expression: &str) -> Result<Filter, FilterError> {
    Filter::compile(expression, FilterScope::Frame, None)
}

fn translate(program: &[ClassicInsn]) -> Vec<Insn> {
    let exits = Exits { on_match: verdict(1), otherwise: verdict(2) };
    filter(program).expect("valid").translate(&exits).expect("short")
}

/// Instructions in eBPF's usual notation: opcode, registers, offset, constant.
fn text(code: &[Insn]) -> Vec<String> {
    code.iter().map(|i| format!("{:02x} {}{} {} {}", i.code, i.dst, i.src, i.off, i.imm)).collect()
}

#[test]
fn a_program_is_as_short_as_it_can_be() {
    // tcp: the only check is that the frame reaches to the protocol, and no jump leads to the next instruction.
    let program = [
        insn(0x28, 0, 0, 12),
        insn(0x15, 0, 3, 0x800),
        insn(0x30, 0, 0, 23),
        insn(0x15, 0, 1, 6),
        ACCEPT,
        REJECT,
    ];
    let expected = [
        "bf 61 0 0",  // R6 = the context
        "61 76 0 0",  // R7 = data
        "61 86 4 0",  // R8 = data_end
        "bf 27 0 0",  // R2 = R7
        "07 20 0 24", // R2 += 24
        "2d 28 7 0",  // if R2 > R8, no match
        "69 07 12 0", // R0 = the EtherType
        "dc 00 0 16",
        "56 00 4 2048", // if R0 != IPv4, no match
        "71 07 23 0",   // R0 = the protocol
        "56 00 2 6",    // if R0 != TCP, no match
        "b7 00 0 1",
        "95 00 0 0",
        "b7 00 0 2",
        "95 00 0 0",
    ];
    let code = text(&translate(&program));
    let code: Vec<_> = code.iter().map(String::as_str).collect();
    assert_eq!(code, expected);
}

#[test]
fn what_is_never_reached_is_left_out() {
    // The verifier refuses unreachable code. Here that is "otherwise", and the code that the jump skips.
    let program = [insn(0x05, 0, 0, 2), insn(0x30, 0, 0, 5), REJECT, ACCEPT];
    assert_eq!(text(&translate(&program)), ["bf 61 0 0", "b7 00 0 1", "95 00 0 0"]);

    // If the code for a match does not end the program, it continues in "otherwise".
    let filter = filter(&[ACCEPT]).expect("valid");
    let nop = Insn::jump(0);
    let end = verdict(2);
    for (on_match, len) in [
        (vec![], 3),
        (vec![Insn::neg32(super::Reg::R0)], 4),
        // The piece ends with an exit, and jumps over it.
        ([vec![Insn { off: 2, ..nop }], verdict(1)].concat(), 6),
        (verdict(1), 3),
    ] {
        let exits = Exits { on_match, otherwise: end.clone() };
        assert_eq!(filter.translate(&exits).expect("short").len(), len, "{exits:?}");
    }
}

#[test]
fn invalid_programs_are_refused() {
    for (program, at, what) in [
        (vec![], 0, "the program is empty"),
        (vec![insn(0x30, 0, 0, 0)], 0, "it runs past the end of the program"),
        (vec![insn(0x15, 0, 1, 6), ACCEPT], 0, "it jumps out of the program"),
        (vec![insn(0x05, 0, 0, 1), ACCEPT], 0, "it jumps out of the program"),
        (vec![insn(0x05, 0, 0, u32::MAX - 1), ACCEPT], 0, "it jumps out of the program"),
        (vec![insn(0x34, 0, 0, 0), ACCEPT], 0, "it divides by zero"),
        (vec![insn(0x94, 0, 0, 0), ACCEPT], 0, "it divides by zero"),
        (vec![ACCEPT, insn(0x02, 0, 0, 16), ACCEPT], 1, "there is no such word of scratch memory"),
        (vec![insn(0x61, 0, 0, 16), ACCEPT], 0, "there is no such word of scratch memory"),
    ] {
        let error = filter(&program).expect_err("invalid").to_string();
        let expected = format!("filter in classic BPF: classic BPF instruction {at}: {what}");
        assert_eq!(error, expected);
    }
    // The translation knows all opcodes of libpcap's interpreter, and no others.
    let known = (0..=0x1ff)
        .filter(|code| {
            let program = [insn(*code, 0, 0, 1), ACCEPT, ACCEPT];
            match filter(&program) {
                Ok(_) => true,
                Err(FilterError::Classic { what: "unknown opcode", instruction: 0, .. }) => false,
                Err(error) => panic!("{code:#x}: {error}"),
            }
        })
        .count();
    assert_eq!(known, 49);
}

#[test]
fn what_is_needed_behind_another_x_is_not_asked_for_before() {
    let load = |at| insn(0x50, 0, 0, at);
    // Everything that changes X.
    for (code, k) in [(0x01, 9), (0x07, 0), (0x61, 3), (0x81, 0), (0xb1, 14)] {
        let program = [
            insn(0x03, 0, 0, 3),
            load(7),
            load(4),
            load(9),
            insn(code, 0, 0, k),
            load(30),
            insn(0x16, 0, 0, 0),
        ];
        let ops = classic::decode(&program, 0xffff).expect("valid");
        let flow = analyse(&ops, 0xffff);
        let needs: Vec<_> = flow.needs.iter().map(|need| need.expect("a match").behind_x).collect();
        assert_eq!(needs, [10, 10, 10, 10, 0, 31, 0], "{code:#x}");
        let known: Vec<_> =
            flow.known.iter().map(|known| known.expect("reached").behind_x).collect();
        let ten = Some(10);
        assert_eq!(known, [None, None, ten, ten, ten, None, Some(31)], "{code:#x}");
    }
}

#[test]
fn loops_are_written_out() {
    // while (P[X] != 6) X += 1, as libpcap writes `protochain`.
    let program = [
        insn(0x01, 0, 0, 40),
        insn(0x50, 0, 0, 0),
        insn(0x15, 4, 0, 6),
        insn(0x87, 0, 0, 0),
        insn(0x04, 0, 0, 1),
        insn(0x07, 0, 0, 0),
        insn(0x05, 0, 0, u32::MAX - 5),
        ACCEPT,
    ];
    let ops = classic::decode(&program, 0xffff).expect("valid");
    assert_eq!(ops[6], Op::Goto(1));
    let unrolled = unroll(ops);
    assert_eq!(unrolled.len(), 1 + 6 * MOST_TURNS + 1);
    let accept = unrolled.len() - 1;
    assert_eq!(unrolled[accept], Op::Accept);
    for turn in 0..MOST_TURNS {
        let start = 1 + 6 * turn;
        let Op::Branch { then, otherwise, .. } = unrolled[start + 1] else { panic!("a branch") };
        assert_eq!((then, otherwise), (accept, start + 2));
        let end = if turn + 1 < MOST_TURNS { Op::Turn(start + 6) } else { Op::Reject };
        assert_eq!(unrolled[start + 5], end);
    }
    // A loop that never ends has no match.
    let forever = [insn(0x05, 0, 0, u32::MAX), ACCEPT];
    assert!(matches!(filter(&forever), Err(FilterError::NeverMatches { .. })));
}

#[test]
fn shifts_by_more_than_there_are_bits_leave_nothing() {
    // libpcap's interpreter leaves these shifts undefined, and the kernel refuses them. libpcap's optimiser gives 0.
    for (code, k) in [(0x64, 32), (0x74, 32), (0x64, u32::MAX)] {
        let program = [insn(0x00, 0, 0, 7), insn(code, 0, 0, k), insn(0x16, 0, 0, 0)];
        let code = text(&translate(&program));
        assert!(code.contains(&"b4 00 0 0".to_owned()), "{code:?}");
    }
}

#[test]
fn what_libpcap_refuses_is_said_in_one_line() {
    for (expression, error) in [
        ("tcp prot 80", "filter 'tcp prot 80': can't parse filter expression: syntax error"),
        ("host", "filter 'host': can't parse filter expression: syntax error"),
        ("tcp\n  and (udp", "filter 'tcp and (udp': can't parse filter expression: syntax error"),
        ("port 70000", "filter 'port 70000': illegal port number 70000 > 65535"),
        (
            "ip broadcast",
            "filter 'ip broadcast': netmask not known, so 'ip broadcast' not supported",
        ),
        ("tcp\0udp", "filter 'tcp\\u{0}udp': the expression holds a NUL byte"),
    ] {
        let text = compile(expression).expect_err("refused").to_string();
        assert_eq!(text, error);
    }
    let long = vec!["host 192.0.2.1"; 100].join(" or ") + " or";
    let text = compile(&long).expect_err("refused").to_string();
    assert!(text.contains("192.0.2.1 or host 192.0…': ") && text.len() < 200, "{text}");

    let inner = Filter::compile("vlan 7", FilterScope::Inner, None).expect_err("refused");
    assert_eq!(inner.to_string(), "filter 'vlan 7': no VLAN support for Raw IP");
    let mask = Some(Ipv4Addr::new(255, 255, 255, 0));
    assert!(Filter::compile("ip broadcast", FilterScope::Frame, mask).is_ok());
}

#[test]
fn what_can_never_match_is_refused() {
    for expression in ["outbound", "outbound and tcp", "ether[65535] = 1", "not inbound and udp"] {
        let error = compile(expression).expect_err("refused");
        assert!(matches!(error, FilterError::NeverMatches { .. }), "{error:?}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
    for expression in ["inbound", "not outbound", "outbound or tcp", "ether[65534] = 1"] {
        assert!(compile(expression).is_ok(), "{expression}");
    }
}
