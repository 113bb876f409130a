//! Random packets go through the BPF program and through the reference: both must agree about each, to the
//! byte.
//!
//! `LB_TEST_SEED` repeats a run that failed, `LB_TEST_PACKETS` sets how many packets there are.

mod traffic;
mod tunnels;

use crate::fixtures::setting;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use fastrand::Rng;
use l4lb::Config;
use l4lb::packet_test::Outcome;
use l4lb::packet_test::Sandbox;

use crate::packets::checksums::check_sent;
use crate::packets::reference::Judgement;
use crate::packets::reference::Reference;
use traffic::Traffic;
use traffic::random_config;
use traffic::random_neighbours;

const PACKETS: usize = 100_000;
const CONFIGS: usize = 20;

/// Answers of the balancer, and the reasons why a limit prevents one.
const ANSWERS: [&str; 4] = ["echo_reply", "too_big_reply", "reset_reply", "unreachable_reply"];
const LIMITED: [&str; 3] = ["too_big_limited", "source_limited", "refusal_limited"];

#[test]
fn program_and_reference_agree_on_random_packets() {
    let seed: u64 = setting("LB_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let packets: usize = setting("LB_TEST_PACKETS").unwrap_or(PACKETS);
    println!("LB_TEST_SEED={seed} LB_TEST_PACKETS={packets}");

    let mut rng = Rng::with_seed(seed);
    let mut ends = BTreeMap::new();
    for number in 0..CONFIGS {
        // Of its own, so that a configuration's packets do not depend on those before.
        let mut rng = rng.fork();
        // One of them does not serve the interface.
        let config = random_config(&mut rng, number != CONFIGS / 2);
        let sandbox = Sandbox::new(&config).expect("the balancer loads");
        let mut reference = Reference::new(&config);
        for (real, mac) in random_neighbours(&mut rng) {
            sandbox.neighbour(real, mac).expect("the map takes it");
            reference.neighbour(real, mac);
        }
        let mut traffic = Traffic::new(&mut rng, &config);
        for index in 0..packets.div_ceil(CONFIGS) {
            let frame = traffic.frame();
            let expected = reference.judge(&frame);
            let outcome = sandbox.run(&frame, 0).expect("the program runs");
            if let Err(what) = compare(&expected, &outcome, &reference, &config) {
                panic!(
                    "LB_TEST_SEED={seed} LB_TEST_PACKETS={packets}: configuration {number}, \
                     packet {index}\n{what}\nframe {}\nconfig {}",
                    hex::encode(&frame),
                    serde_json::to_string(&config).expect("a configuration is JSON"),
                );
            }
            *ends.entry(outcome.reasons[0].name).or_insert(0_usize) += 1;
        }
    }
    println!("{ends:?}");
    if packets >= PACKETS {
        // Reasons that random traffic cannot cause.
        let not_here = ["no_headroom", "small_mtu", "gue_checksum"].into_iter().chain(LIMITED);
        let not_here: Vec<_> = not_here.collect();
        for reason in l4lb::reasons().iter().filter(|reason| !not_here.contains(&reason.name)) {
            let name = reason.name;
            assert!(
                ends.contains_key(name),
                "no random packet ended with {name}: let traffic.rs make some, or name it in `not_here`: {ends:?}"
            );
        }
    }
}

/// Says what differs.
fn compare(
    expected: &Judgement,
    outcome: &Outcome,
    reference: &Reference,
    config: &Config,
) -> Result<(), String> {
    let reasons: Vec<_> = outcome.reasons.iter().map(|reason| reason.name).collect();
    // The reference does not know whether a second went by.
    let by_limit = |reason: &str| LIMITED.contains(&reason) || ANSWERS.contains(&reason);
    if reference.near_a_limit()
        && reasons != [expected.reason]
        && by_limit(expected.reason)
        && reasons.iter().all(|reason| by_limit(reason))
    {
        return Ok(());
    }
    let mut text = String::new();
    if outcome.action != expected.action || reasons != [expected.reason] {
        let _ = writeln!(
            text,
            "expected {} {} {:?}, got {} {reasons:?}",
            expected.action, expected.reason, expected.real, outcome.action,
        );
    }
    if let Some(bytes) = &expected.frame
        && outcome.action == expected.action
        && *bytes != outcome.frame
    {
        let _ = writeln!(text, "to {:?}", expected.real);
        text += &l4lb::packet_test::difference(bytes, &outcome.frame);
    }
    if outcome.action == "XDP_TX"
        && let Err(what) = check_sent(expected.reason, &outcome.frame, config)
    {
        text += &what;
    }
    if text.is_empty() { Ok(()) } else { Err(text) }
}
