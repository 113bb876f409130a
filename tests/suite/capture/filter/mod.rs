//! Filters in the kernel: programs that were translated from classic BPF, beside libpcap's own interpreter,
//! which must say the same of every packet.
//!
//! `LB_TEST_SEED` repeats a run that failed, `LB_TEST_PACKETS` sets how many packets there are in all.

mod exits;
mod expressions;
mod frames;
pub(crate) mod judges;
mod programs;
mod reference;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use fastrand::Rng;
use l4lb::capture::filter::ClassicInsn;
use l4lb::capture::filter::Exits;
use l4lb::capture::filter::Filter;
use l4lb::capture::filter::FilterError;
use l4lb::capture::filter::FilterScope;
use l4lb::capture::filter::verdict;

use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::eth;
use crate::fixtures::setting;

/// In all tests together.
const PACKETS: usize = 300_000;

/// How often a frame is asked about: as it is, then bent again and again.
const FORMS: usize = 8;

const MATCH: u32 = 1;
const NO_MATCH: u32 = 2;

fn exits() -> Exits {
    Exits { on_match: verdict(MATCH), otherwise: verdict(NO_MATCH) }
}

/// A loaded filter, and libpcap's judgement beside it.
struct Pair<'a> {
    what: &'a str,
    filter: Filter,
    scope: FilterScope,
    program: OwnedFd,
    /// Opcodes that were run.
    opcodes: BTreeSet<u16>,
    /// How many packets matched, and how many did not.
    matches: [usize; 2],
}

impl<'a> Pair<'a> {
    #[track_caller]
    fn new(what: &'a str, filter: Filter, scope: FilterScope) -> Self {
        let program = filter.load("filter", &exits()).unwrap_or_else(|error| panic!("{error}"));
        Self { what, filter, scope, program, opcodes: BTreeSet::new(), matches: [0; 2] }
    }

    /// Where the packet that the filter looks at begins.
    fn packet(&self, frame: &[u8]) -> Option<usize> {
        match self.scope {
            FilterScope::Frame => Some(0),
            FilterScope::Inner => frames::inner(frame),
        }
    }

    /// Asks all of them about a frame. An error says how they differ.
    fn judge(&mut self, frame: &[u8]) -> Result<(), String> {
        let classic = self.filter.classic();
        let expected = self.packet(frame).is_some_and(|start| {
            let packet = &frame[start..];
            let run = reference::run(classic, packet);
            self.opcodes.extend(&run.opcodes);
            match run.matches {
                Some(matches) if run.undefined => matches,
                Some(matches) => {
                    let libpcap = judges::libpcap_matches(classic, packet);
                    assert_eq!(
                        matches,
                        libpcap,
                        "{}: the reference, {} {:?}",
                        self.what,
                        hex::encode(packet),
                        classic
                    );
                    libpcap
                }
                // Libpcap would never return.
                None => false,
            }
        });
        let got = judges::run(&self.program, frame).map_err(|error| error.to_string())?;
        self.matches[usize::from(expected)] += 1;
        if got == if expected { MATCH } else { NO_MATCH } {
            return Ok(());
        }
        Err(format!(
            "{}: expected match {expected}, got {got}\nframe {}",
            self.what,
            hex::encode(frame)
        ))
    }

    /// Asks about frames, and about what becomes of each when it is bent towards the filter.
    #[track_caller]
    fn compare(&mut self, rng: &mut Rng, frames: &[Vec<u8>], context: &str) {
        for frame in frames {
            let mut frame = frame.clone();
            for _ in 0..FORMS {
                if let Err(what) = self.judge(&frame) {
                    panic!("{context}: {what}\nprogram {:?}", self.filter.classic());
                }
                let start = self.packet(&frame).unwrap_or(0);
                frames::bend(rng, self.filter.classic(), &mut frame, start);
            }
        }
    }
}

fn random(default: usize) -> (Rng, usize, String) {
    let seed: u64 = setting("LB_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let packets: usize = setting("LB_TEST_PACKETS").unwrap_or(default);
    let context = format!("LB_TEST_SEED={seed} LB_TEST_PACKETS={packets}");
    println!("{context}");
    (Rng::with_seed(seed), packets, context)
}

fn compile(expression: &str, scope: FilterScope) -> Filter {
    Filter::compile(expression, scope, Some(Ipv4Addr::new(255, 255, 255, 0)))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Compares every expression over random frames.
fn compare_all(expressions: &[&str], scope: FilterScope, default: usize) {
    let (mut rng, packets, context) = random(default);
    let each = packets.div_ceil(expressions.len() * FORMS);
    let mut emitted = BTreeSet::new();
    let mut run = BTreeSet::new();
    let mut one_sided = Vec::new();
    for expression in expressions {
        let mut rng = rng.fork();
        let mut pair = Pair::new(expression, compile(expression, scope), scope);
        emitted.extend(pair.filter.classic().iter().map(|insn| insn.code));
        let frames: Vec<_> = (0..each).map(|_| frames::frame(&mut rng, scope)).collect();
        pair.compare(&mut rng, &frames, &context);
        run.extend(&pair.opcodes);
        if pair.matches.contains(&0) {
            one_sided.push(*expression);
        }
    }
    println!("{} expressions, {each} frames in {FORMS} forms for each", expressions.len());
    println!("opcodes run: {run:02x?}");
    println!("always the same answer: {one_sided:?}");
    assert!(emitted.iter().all(|code| programs::OPCODES.contains(code)), "{emitted:02x?}");
    if packets >= default {
        assert_eq!(emitted, run, "{context}: opcodes that libpcap emits were never run");
        let few = expressions.len() / 10;
        assert!(one_sided.len() <= few, "{context}: always the same answer: {one_sided:?}");
    }
}

#[test]
fn every_expression_answers_as_libpcap_does() {
    compare_all(expressions::FRAME, FilterScope::Frame, PACKETS);
}

#[test]
fn inner_packets_are_matched_as_libpcap_does() {
    compare_all(expressions::INNER, FilterScope::Inner, PACKETS / 10);
}

/// Expressions with long lists: the program's jumps lead far, and the verifier has much to follow.
#[test]
fn long_expressions_answer_as_libpcap_does() {
    let long = expressions::long();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    compare_all(&long, FilterScope::Frame, PACKETS / 50);
}

#[test]
fn random_programs_answer_as_libpcap_does() {
    const FRAMES: usize = 20;
    let (mut rng, packets, context) = random(PACKETS / 3);
    let mut run = BTreeSet::new();
    let mut never = 0;
    for number in 0..packets.div_ceil(FRAMES * FORMS) {
        let mut rng = rng.fork();
        let program = programs::program(&mut rng);
        let scope = if number % 4 == 0 { FilterScope::Inner } else { FilterScope::Frame };
        let what = format!("program {number} ({scope:?})");
        let frames: Vec<_> = (0..FRAMES).map(|_| frames::frame(&mut rng, scope)).collect();
        match Filter::from_classic(program.clone(), scope) {
            Ok(filter) => {
                let mut pair = Pair::new(&what, filter, scope);
                pair.compare(&mut rng, &frames, &context);
                run.extend(pair.opcodes);
            }
            Err(FilterError::NeverMatches { .. }) => {
                never += 1;
                for frame in &frames {
                    let matches = judges::libpcap_matches(&program, frame);
                    assert!(
                        !matches,
                        "{context}: {what} matches\n{program:?}\n{}",
                        hex::encode(frame)
                    );
                }
            }
            Err(error) => panic!("{context}: {what}: {error}\n{program:?}"),
        }
    }
    println!("{never} programs never match; opcodes run: {run:02x?}");
    if packets >= PACKETS / 3 {
        assert_eq!(run, BTreeSet::from(programs::OPCODES), "{context}");
    }
}

/// What libpcap leaves to the socket that a filter is attached to: its interpreter finds no packet that is
/// long enough for it.
#[test]
fn direction_and_interface() {
    // BPF_PROG_TEST_RUN says that frames come in by the loopback, which has index 1.
    let matching = ["inbound", "not outbound", "ifindex 1", "inbound and ip and ifindex 1"];
    let others = ["ifindex 2", "not inbound or ifindex 7", "inbound and arp", "not ifindex 1"];
    let frame = eth().ip4("192.0.2.1", "198.51.100.7").udp(1, 2).bytes();
    for (expressions, verdict) in [(matching, MATCH), (others, NO_MATCH)] {
        for expression in expressions {
            let filter = compile(expression, FilterScope::Frame);
            let program = filter.load("filter", &exits()).expect("it loads");
            assert_eq!(judges::run(&program, &frame).expect("it runs"), verdict, "{expression}");
        }
    }
}

/// libpcap wants the netmask the other way round than it gives netmasks out.
#[test]
fn broadcasts_of_the_network() {
    let filter = compile("ip broadcast", FilterScope::Frame);
    let program = filter.load("filter", &exits()).expect("it loads");
    for (destination, verdict) in [
        ("192.0.2.255", MATCH),
        ("192.0.2.0", MATCH),
        ("255.255.255.255", MATCH),
        ("192.0.2.1", NO_MATCH),
        ("255.0.2.1", NO_MATCH),
    ] {
        let frame = eth().ip4("192.0.2.1", destination).udp(1, 2).bytes();
        assert_eq!(judges::run(&program, &frame).expect("it runs"), verdict, "{destination}");
    }
}

/// Chains as long as the translation follows them, and one header longer.
#[test]
fn chains_of_headers_have_an_end() {
    let filter = compile("ip6 protochain 6", FilterScope::Frame);
    let program = filter.load("filter", &exits()).expect("it loads");
    for (headers, verdict) in [(0, MATCH), (1, MATCH), (183, MATCH), (184, NO_MATCH)] {
        let mut frame = eth().ip6("2001:db8::1", "2001:db8::2").tcp(1, 443);
        for _ in 0..headers {
            frame = frame.extension(DESTINATION_OPTIONS, 8);
        }
        let frame = frame.bytes();
        assert!(judges::libpcap_matches(filter.classic(), &frame), "{headers}");
        assert_eq!(judges::run(&program, &frame).expect("it runs"), verdict, "{headers}");
    }
}

/// The limits of eBPF and of its verifier, in one line each.
#[test]
fn what_is_too_much_is_said() {
    let insn = |code, jt, jf, k| ClassicInsn { code, jt, jf, k };
    let filter = |count: u32, item: &dyn Fn(u32) -> Vec<ClassicInsn>| {
        let mut program = vec![insn(0x20, 0, 0, 26)];
        program.extend((0..count).flat_map(item));
        program.push(insn(0x06, 0, 0, 0));
        Filter::from_classic(program, FilterScope::Frame).expect("a valid program")
    };
    // "A = k or …", and the same with loads that each has to be checked.
    let compare = |k| vec![insn(0x15, 0, 1, k), insn(0x06, 0, 0, 1)];
    let search = |k| {
        let load = [insn(0x20, 0, 0, k % 50), insn(0x07, 0, 0, 0), insn(0x40, 0, 0, k % 60)];
        [load.as_slice(), &compare(k)].concat()
    };
    // As many as the kernel has for classic BPF.
    filter(2047, &compare).load("filter", &exits()).expect("it loads");
    filter(818, &search).load("filter", &exits()).expect("it loads");

    let complex = filter(9000, &compare).load("filter", &exits()).expect_err("too complex");
    assert!(matches!(complex, FilterError::TooComplex { .. }), "{complex:?}");
    let long = filter(9000, &search).load("filter", &exits()).expect_err("too long");
    assert!(matches!(long, FilterError::TooLong { .. }), "{long:?}");
    for error in [complex, long] {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
