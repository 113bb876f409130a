//! The pure parts of the benchmark (`tests/bench`), which has no test harness of its own.
#![expect(clippy::cast_precision_loss, reason = "counts become figures")]

#[path = "../bench/comparison.rs"]
mod comparison;
#[path = "../bench/spread.rs"]
mod spread;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use comparison::FEWEST_ROUNDS;
use comparison::FORMAT;
use comparison::Figure;
use comparison::LEAST_CHANGE;
use comparison::Run;
use comparison::Unit;
use comparison::Verdict;
use comparison::YARDSTICK;
use comparison::compare;
use spread::Spread;
use spread::order;
use spread::quantile;

#[test]
fn a_spread_is_the_median_and_the_quartiles() {
    let spread = Spread::of([5.0, 1.0, 3.0, 2.0, 4.0]);
    assert_eq!(spread, Spread { median: 3.0, low: 2.0, high: 4.0 });
    assert_eq!(spread.text(1), "3.0 (2.0–4.0)");
    assert_eq!(Spread::of([1.0, 2.0]), Spread { median: 1.5, low: 1.25, high: 1.75 });
    assert_eq!(Spread::of([7.0]), Spread { median: 7.0, low: 7.0, high: 7.0 });
    assert!((quantile(&[1.0, 3.0], 1.0) - 3.0).abs() < 1e-9);
}

#[test]
fn everybody_has_one_turn_in_a_round_and_nobody_is_always_the_first() {
    for subjects in 0..9 {
        let mut first = BTreeSet::new();
        for round in 0..20 {
            let mut turns = order(round, subjects);
            first.extend(turns.first().copied());
            turns.sort_unstable();
            assert_eq!(turns, (0..subjects).collect::<Vec<_>>());
        }
        assert_eq!(first.len(), subjects);
    }
}

/// Rounds about a middle, the farthest of them 3 % away.
fn rounds(middle: f64, seed: u64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..15).map(|_| middle * (1.0 + 0.03 * (random.f64() * 2.0 - 1.0))).collect()
}

fn figure(path: &str, program: &str, nanoseconds: Vec<f64>) -> Figure {
    let (path, program) = (path.to_owned(), program.to_owned());
    Figure { path, table: "sets".to_owned(), program, nanoseconds, instructions: Some(100.0) }
}

/// A run on a machine that is `slow` times as slow as another one, with a balancer that takes `balancer` ns there.
fn run(slow: f64, balancer: f64, seed: u64) -> Run {
    let mut figures = Vec::new();
    for (path, at) in ["a", "b", "c", "d"].into_iter().zip(0..) {
        let yardstick = rounds(90.0 * slow, seed + 10 * at);
        let ours = rounds(balancer * slow, seed + 10 * at + 1);
        figures.push(figure(path, YARDSTICK, yardstick));
        figures.push(figure(path, "balancer", ours));
    }
    Run { format: FORMAT, settings: BTreeMap::new(), host: BTreeMap::new(), figures }
}

fn verdicts(before: &Run, after: &Run) -> Vec<Verdict> {
    compare(before, after).lines.iter().map(|line| line.verdict).collect()
}

#[test]
fn programs_that_did_not_change_are_the_same_on_a_slower_machine_too() {
    for seed in 0..50 {
        let (before, after) = (run(1.0, 50.0, 1000 * seed), run(1.3, 50.0, 1000 * seed + 500));
        let found = verdicts(&before, &after);
        let changed = |verdict| matches!(verdict, Verdict::Slower | Verdict::Faster);
        assert!(!found.iter().copied().any(changed), "{seed}: {found:?}");
    }
}

#[test]
fn a_change_beyond_the_noise_is_seen() {
    for seed in 0..50 {
        let (before, after) = (run(1.0, 50.0, 1000 * seed), run(1.3, 57.5, 1000 * seed + 500));
        assert_eq!(verdicts(&before, &after), [Verdict::Slower; 4], "{seed}");
        assert_eq!(verdicts(&after, &before), [Verdict::Faster; 4], "{seed}");
    }
}

#[test]
fn noise_between_runs_that_the_yardstick_shows_hides_a_change() {
    let before = run(1.0, 50.0, 1);
    let mut after = run(1.0, 55.0, 2);
    assert_eq!(verdicts(&before, &after), [Verdict::Slower; 4]);
    for (figure, factor) in after
        .figures
        .iter_mut()
        .filter(|figure| figure.program == YARDSTICK)
        .zip([0.75, 1.0, 1.0, 1.3])
    {
        figure.nanoseconds.iter_mut().for_each(|nanoseconds| *nanoseconds *= factor);
    }
    let found = compare(&before, &after);
    assert_eq!(found.references, 4);
    assert!((0.2..0.4).contains(&found.noise), "{}", found.noise);
    assert_eq!(verdicts(&before, &after)[1], Verdict::Unclear);
}

#[test]
fn wide_rounds_and_few_rounds_are_unclear() {
    let mut wide = run(1.0, 50.0, 1);
    for figure in &mut wide.figures {
        for (nanoseconds, at) in figure.nanoseconds.iter_mut().zip(0..) {
            *nanoseconds *= if at % 2 == 0 { 0.7 } else { 1.3 };
        }
    }
    let mut also = wide.clone();
    for figure in also.figures.iter_mut().filter(|figure| figure.program != YARDSTICK) {
        figure.nanoseconds.reverse();
        figure.nanoseconds.rotate_left(1);
    }
    assert!(verdicts(&wide, &also).contains(&Verdict::Unclear));

    let short = |mut run: Run| {
        for figure in &mut run.figures {
            figure.nanoseconds.truncate(FEWEST_ROUNDS - 1);
        }
        run
    };
    let (before, after) = (short(run(1.0, 50.0, 1)), short(run(1.0, 90.0, 2)));
    assert_eq!(verdicts(&before, &after), [Verdict::Unclear; 4]);
}

#[test]
fn what_has_no_yardstick_is_compared_by_nanoseconds_and_what_one_run_lacks_is_left_out() {
    let ours = |nanoseconds| figure("echo", "balancer", nanoseconds);
    let only = |figures| Run { figures, ..run(1.0, 50.0, 1) };
    let before = only(vec![ours(rounds(30.0, 1))]);
    let after = only(vec![ours(rounds(20.0, 2)), figure("new", "balancer", rounds(1.0, 3))]);
    let found = compare(&before, &after);
    assert_eq!((found.references, found.noise), (0, LEAST_CHANGE));
    let [line] = &found.lines[..] else { panic!("{found:?}") };
    assert_eq!((line.unit, line.verdict), (Unit::Nanoseconds, Verdict::Faster));
    assert!((line.before - 30.0).abs() < 1.0 && (line.after - 20.0).abs() < 1.0);
    assert!(line.low <= line.change && line.change <= line.high, "{line:?}");
    assert_eq!(line.instructions, Some((100.0, 100.0)));

    // A run that has the yardstick, and one that has not.
    let with = only(vec![ours(rounds(30.0, 1)), figure("echo", YARDSTICK, rounds(60.0, 2))]);
    let found = compare(&before, &with);
    assert_eq!((found.lines[0].unit, found.lines[0].verdict), (Unit::Nanoseconds, Verdict::Same));
}

#[test]
fn figures_that_are_zero_end_nothing() {
    let zero = Run { figures: vec![figure("a", "balancer", vec![0.0; 9])], ..run(1.0, 50.0, 1) };
    assert_eq!(verdicts(&zero, &zero), [Verdict::Unclear]);
}

#[test]
fn a_file_is_read_as_it_was_written_or_refused() {
    let run = run(1.0, 50.0, 1);
    let text = serde_json::to_string(&run).expect("JSON");
    assert_eq!(Run::parse(&text), Ok(run.clone()));
    assert!(Run::parse("{}").expect_err("no run").starts_with("it is no file of --save"));
    assert!(Run::parse(&text[1..]).expect_err("no JSON").starts_with("it is no file of --save"));
    let other = serde_json::to_string(&Run { format: 9, ..run.clone() }).expect("JSON");
    assert_eq!(Run::parse(&other), Err("it has format 9, and this build reads 1".to_owned()));
    let empty = Run { figures: vec![figure("a", "balancer", vec![])], ..run };
    let empty = serde_json::to_string(&empty).expect("JSON");
    assert_eq!(Run::parse(&empty), Err("a, balancer has no figures".to_owned()));
}
