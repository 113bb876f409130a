//! Damaged object files. Whatever they hold, the command prints one line and ends without a signal or a panic.

use std::fs;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::fixtures::Host;
use crate::fixtures::Output;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::path_of;

/// Fails the test unless the command ended as commands do, with no byte in its output that a terminal obeys.
#[track_caller]
fn is_told(output: &Output, what: &str) {
    assert!(matches!(output.code(), Some(0 | 1)), "{what}: {output}");
    let said = &output.stderr;
    assert!(!said.contains("panicked") && said.len() < 2_000, "{what}: {output}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{what}: {output}");
    if output.code() == Some(1) {
        assert_eq!(said.lines().count(), 1, "{what}: {output}");
    }
}

/// The object with every occurrence of some bytes replaced by as many others.
fn with(object: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (mut bent, mut at) = (object.to_vec(), 0);
    while let Some(found) = bent[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        bent[at..at + to.len()].copy_from_slice(to);
        at += to.len();
    }
    assert_ne!(bent, object, "it has {}", String::from_utf8_lossy(from));
    bent
}

#[test]
fn objects_that_are_bent() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let good = fs::read(Built::tracer("good", &[]).path()).expect("read the object");
    let file = tempfile::NamedTempFile::with_suffix(".bpf.o").expect("a file");
    let path = path_of(&file);
    let try_it = |bytes: &[u8], what: &str| {
        fs::write(file.path(), bytes).expect("write the object");
        let insert = ["chain", "insert", "4", path, "--name", "bent", "--interface", UPLINK];
        let output = lbctl.run(&insert);
        is_told(&output, what);
        if output.code() == Some(0) {
            lbctl.ok(&["chain", "remove", "bent"]);
        }
        output
    };

    // Names of programs, maps and sections, in the symbols and in BTF.
    for (from, to, words) in [
        (&b"\0tracer\0"[..], &b"\0\xff\xfe\x1b[2J\0"[..], "program '"),
        (b"\0seen\0", b"\0\xff\x1b\x07\xc3\0", "map '"),
        (b"\0seen\0", b"\0../x\0", "map '../x' has a name of other characters"),
        (b"\0.maps\0", b"\0\xffmap\x1b\0", ""),
        (b"xdp\0", b"\xff\xfe\xfd\0", "no program of SEC(\"xdp\")"),
        (b"\0l4lb_slot\0", b"\0l4lb_\xff\xfe\x1b\xc3\0", "no variable 'l4lb_slot'"),
        (b"\0license\0", b"\0\xff\x1b[2Jxx\0", ""),
    ] {
        let what = String::from_utf8_lossy(from).into_owned();
        let output = try_it(&with(&good, from, to), &what);
        if !words.is_empty() {
            assert_eq!(output.code(), Some(1), "{what}: {output}");
        }
        assert!(output.stderr.contains(words), "'{words}' is not in {output}");
        assert!(!host.has_pins("default") || output.code() == Some(0), "{what}");
    }
    for length in [0, 1, 16, 63, 64, 65, 100, good.len() / 2, good.len() - 1] {
        try_it(&good[..length], &format!("the first {length} bytes"));
    }
    let seed = std::env::var("LB_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    let mut random = SmallRng::seed_from_u64(seed);
    for round in 0..60 {
        let mut bent = good.clone();
        for _ in 0..random.random_range(1..12) {
            let at = random.random_range(0..bent.len());
            bent[at] = if random.random() { 0xff } else { random.random() };
        }
        try_it(&bent, &format!("round {round} of LB_TEST_SEED={seed}"));
    }
}
