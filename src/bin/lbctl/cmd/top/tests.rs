//! What is drawn, and what keys do.

use std::time::Duration;
use std::time::Instant;

use l4lb::Condition;
use l4lb::Count;
use l4lb::Health;
use l4lb::HealthDetails;
use l4lb::RealState;
use l4lb::ReasonCount;
use l4lb::Stats;
use l4lb::Verdict;
use l4lb::VipCount;
use l4lb::VipRealStatus;
use l4lb::VipStatus;
use l4lb::condition::Finding;
use l4lb::condition::Problem;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::app::App;
use super::app::Sample;
use super::view;

/// A reading after this many seconds: VIP number n gets n thousand packets a second.
fn sample(start: Instant, seconds: u64, vips: u8) -> Sample {
    let count = |thousands: u64| {
        let packets = thousands * seconds * 1000;
        Count { packets, bytes: packets * 125 }
    };
    let of_reals = [RealState::Up, RealState::Drain, RealState::Down];
    let names = (1..=vips).map(|n| (n, format!("tcp://10.200.1.{n}:80").parse().expect("a VIP")));
    let reals = || (1..).zip(of_reals).map(|(n, state)| (n, [10, 0, 0, n].into(), state));
    let vips: Vec<_> = names
        .map(|(n, vip)| VipStatus {
            vip,
            sent: count(n.into()),
            dropped: 0,
            other_ports: l4lb::OtherPorts::default(),
            no_real: l4lb::NoReal::default(),
            echo: l4lb::Echo::default(),
            check: None,
            check_interval: None,
            fails_open: false,
            reals: reals()
                .map(|(n, address, state)| VipRealStatus {
                    address,
                    weight: n.into(),
                    state,
                    share: 0.25,
                    health: HealthDetails::default(),
                    ring_weight: if state == RealState::Up { n.into() } else { 0 },
                    sent: Some(count(n.into())),
                    sent_for_all_vips: count(n.into()),
                    encapsulation: l4lb::SentBy::default(),
                    neighbour: None,
                })
                .collect(),
        })
        .collect();
    let reason = ReasonCount { reason: "ring", verdict: Verdict::Tx, count: count(6) };
    let stats = Stats {
        total: count(6),
        reasons: vec![reason],
        table: vec![("hit", 500 * seconds), ("inserted", 20 * seconds)],
        vips: vips
            .iter()
            .map(|vip| {
                let of = |part| vip.sent.packets / part;
                let count = VipCount { sent: vip.sent, dropped: of(100), new_flows: of(10) };
                (vip.vip, count)
            })
            .collect(),
        reals: reals().map(|(n, address, _)| (address, count(n.into()))).collect(),
        sent: vips
            .iter()
            .flat_map(|vip| reals().map(|(n, address, _)| ((vip.vip, address), count(n.into()))))
            .collect(),
        cpus: Vec::new(),
        healthcheck: Vec::new(),
    };
    Sample { at: start + Duration::from_secs(seconds), stats, vips, draining_since: None }
}

fn app(vips: u8) -> App {
    let (mut app, start) = (App::new("default"), Instant::now());
    for seconds in 0..3 {
        app.sample(Ok(sample(start, seconds, vips)));
    }
    app
}

fn screen(app: &App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| view::draw(frame, app)).expect("draws");
    let cells = terminal.backend().buffer().content();
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    cells.chunks(width.into()).map(line).collect()
}

/// The line with one blank between words.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn finding(vip: &str) -> Finding {
    Problem::NoUsableReal { vips: vec![vip.parse().expect("a VIP")], unhealthy: Vec::new() }.into()
}

#[test]
fn vips_reasons_and_the_table_at_80_by_24() {
    let screen = screen(&app(3), 80, 24);
    assert_eq!(screen.len(), 24);
    assert_eq!(screen[0], "default: 6.00 kpackets/s, 6.00 Mbit/s");
    assert_eq!(screen[3], "VIP                 REALS   PACKETS/S DROPPED/S   BIT/S HISTORY");
    assert_eq!(screen[4], "tcp://10.200.1.3:80   1/3      3.00 k        30  3.00 M ██");
    assert!(screen[6].starts_with("tcp://10.200.1.1:80 "), "{screen:#?}");
    let lines: Vec<_> = screen.iter().map(|line| words(line)).collect();
    assert!(lines.contains(&"ring tx 6.00 k 6.00 M hit 500".to_owned()), "{screen:#?}");
    assert!(lines.contains(&"inserted 20".to_owned()), "{screen:#?}");
    assert_eq!(screen[23], "q quit  Enter reals  arrows move");
}

#[test]
fn a_vip_shows_its_own_rates_its_reals_and_the_way_back() {
    let mut app = app(3);
    assert!(app.key(KeyCode::Down.into()).is_continue());
    assert!(app.key(KeyCode::Enter.into()).is_continue());
    let inside = screen(&app, 80, 24);
    assert_eq!(
        inside[..2].join(" "),
        "default, tcp://10.200.1.2:80: 1/3 reals usable, 2.00 kpackets/s, 2.00 Mbit/s, dropped/s 20, new flows/s 200"
    );
    assert_eq!(words(&inside[4]), "REAL STATE PACKETS/S BIT/S SHARE WEIGHT");
    assert_eq!(inside[5], "10.0.0.3 down     3.00 k   3.00 M  25.00 %      3");
    assert!(inside[6].starts_with("10.0.0.2 drain "), "{inside:#?}");
    assert!(inside.iter().any(|line| words(line) == "INSTANCE INSTANCE INSTANCE"), "{inside:#?}");
    assert!(app.key(KeyCode::Esc.into()).is_continue());
    assert!(screen(&app, 80, 24)[4].starts_with("tcp://10.200.1.3:80"));
    assert!(app.key(KeyCode::Char('q').into()).is_break());
}

#[test]
fn a_vip_keeps_its_figures_on_small_screens() {
    let mut app = app(3);
    app.condition(Ok(Condition {
        well: false,
        warnings: 0,
        findings: vec![finding("tcp://10.200.1.1:80")],
    }));
    let _ = app.key(KeyCode::Enter.into());
    let small = screen(&app, 40, 12);
    let all = "default, tcp://10.200.1.3:80: 1/3 reals usable, 3.00 kpackets/s, 3.00 Mbit/s, dropped/s 30, new flows/s 300";
    assert_eq!(small[..3].join(" "), all);
    assert!(small[3].starts_with("NOT WELL: ") && small[6].starts_with("10.0.0.3 "), "{small:#?}");
    let tiny = screen(&app, 30, 8);
    assert_eq!(tiny[2], "3.00 kpackets/s, 3.00 Mbit/s,…");
    assert!(tiny[3].starts_with("NOT WELL: ") && tiny[5].starts_with("10.0.0.3 "), "{tiny:#?}");
}

#[test]
fn what_has_no_room_goes_before_what_counts() {
    let app = app(3);
    let row = |width, height| {
        let screen = screen(&app, width, height);
        let row = screen.iter().find(|line| line.starts_with("tcp://10.200.1.3:80 "));
        words(row.unwrap_or_else(|| panic!("{width}×{height}: {screen:#?}")))
    };
    assert_eq!(row(60, 20), "tcp://10.200.1.3:80 1/3 3.00 k 30 3.00 M");
    assert_eq!(row(40, 12), "tcp://10.200.1.3:80 1/3 3.00 k");
    assert_eq!(row(30, 8), "tcp://10.200.1.3:80 1/3");
    // The column is as wide as the longest reason.
    let narrow = screen(&app, 40, 20);
    assert!(narrow.iter().any(|line| words(line) == "REASON VERDICT PACKETS/S"), "{narrow:#?}");
    let wide = screen(&app, 200, 50);
    assert!(wide[4].ends_with("  3.00 M ██") && wide[4].len() < 80, "{wide:#?}");
}

#[test]
fn long_names_differ_at_their_ends() {
    let mut sample = sample(Instant::now(), 1, 2);
    for (n, status) in (1..).zip(&mut sample.vips) {
        let vip = format!("tcp://[2001:db8:1234:5678:9abc:def0:1234:567{n}]:443");
        status.vip = vip.parse().expect("a VIP");
    }
    let mut app = App::new("default");
    app.sample(Ok(sample));
    let rows = |width| {
        let screen = screen(&app, width, 24);
        screen.into_iter().filter(|line| line.starts_with("tcp://")).collect::<Vec<_>>()
    };
    let at_80 = rows(80);
    assert!(at_80[0].contains("9abc:def0:1234:5671]:443   1/3 "), "in full: {at_80:#?}");
    let at_60 = rows(60);
    assert!(at_60[0].starts_with("tcp://[2001:db8:1234…c:def0:1234:5671]:443 "), "{at_60:#?}");
    assert!(at_60[1].contains("5672]:443   1/3 "), "{at_60:#?}");
    let at_40 = rows(40);
    assert!(at_40[0].starts_with("tcp://[200…4:5671]:443   1/3 "), "{at_40:#?}");
}

#[test]
fn condition_is_what_status_says_first() {
    let mut app = app(3);
    assert_eq!(screen(&app, 80, 24)[1], "condition: not read yet");
    app.condition(Ok(Condition { well: true, warnings: 0, findings: Vec::new() }));
    assert_eq!(screen(&app, 80, 24)[1], "well");
    let findings = vec![finding("tcp://10.200.1.1:80")];
    app.condition(Ok(Condition { well: false, warnings: 0, findings: findings.clone() }));
    let one = "NOT WELL: no real takes new flows of tcp://10.200.1.1:80";
    assert_eq!(screen(&app, 80, 24)[1], one);
    app.condition(Ok(Condition {
        well: false,
        warnings: 0,
        findings: [findings.clone(), findings].concat(),
    }));
    let all = screen(&app, 80, 24);
    assert_eq!(all[1..3].join(" "), format!("{one}, and 1 more: lbctl status"));
    let small = screen(&app, 30, 8);
    assert_eq!(small[2..4], ["NOT WELL: no real …00.1.1:80,", "and 1 more: lbctl status"]);
    assert!(small[5].starts_with("tcp://"), "{small:#?}");
    app.condition(Err("too many open files".to_owned()));
    assert_eq!(screen(&app, 80, 24)[1], "condition: too many open files");
}

#[test]
fn a_drained_node_says_since_when() {
    let mut sample = sample(Instant::now(), 1, 3);
    // The time zone is the machine's.
    sample.draining_since = Some(1_795_781_400);
    let mut app = App::new("default");
    app.sample(Ok(sample));
    let drained = "default (DRAINING since 2026-11-2";
    assert!(screen(&app, 100, 24)[0].starts_with(drained), "{:#?}", screen(&app, 100, 24));
    let _ = app.key(KeyCode::Enter.into());
    assert!(screen(&app, 100, 24)[0].starts_with(drained), "{:#?}", screen(&app, 100, 24));
}

#[test]
fn vips_without_a_usable_real_are_marked_counted_and_found() {
    let mut sample = sample(Instant::now(), 1, 100);
    sample.vips[40].reals.clear();
    sample.vips[60].reals.truncate(2);
    sample.vips[60].reals[0].state = RealState::Down;
    sample.vips[60].reals[0].ring_weight = 0;
    let mut app = App::new("default");
    app.sample(Ok(sample));
    let count = "2 of 100 VIPs without a usable real (!)";
    let by_rate = screen(&app, 100, 24);
    assert!(!by_rate.iter().any(|line| line.contains("/2 !")), "below the fold: {by_rate:#?}");
    let _ = app.key(KeyCode::End.into());
    assert_eq!(by_rate[0], format!("default: 0 packets/s, 0 bit/s, {count}"));
    assert_eq!(by_rate[23], "q quit  Enter reals  arrows move  ! those marked first");
    let _ = app.key(KeyCode::Char('!').into());
    let first = screen(&app, 100, 24);
    let rows: Vec<_> = first[4..7].iter().map(|line| words(line)).collect();
    assert!(rows[0].starts_with("tcp://10.200.1.41:80 0/0 ! 0"), "{first:#?}");
    assert!(rows[1].starts_with("tcp://10.200.1.61:80 0/2 ! 0"), "{first:#?}");
    assert!(rows[2].starts_with("tcp://10.200.1.1:80 1/3 0"), "{first:#?}");
    let _ = app.key(KeyCode::Enter.into());
    assert!(
        screen(&app, 100, 24)[0].starts_with("default, tcp://10.200.1.41:80: 0/0 ! reals usable")
    );
    let _ = app.key(KeyCode::Esc.into());
    let _ = app.key(KeyCode::Char('!').into());
    assert!(screen(&app, 100, 24)[23].ends_with("! those marked first"), "and back");
}

#[test]
fn the_health_of_reals_is_shown_where_there_is_a_check() {
    let mut sample = sample(Instant::now(), 1, 2);
    let vip = &mut sample.vips[1];
    vip.check = Some("web".to_owned());
    vip.fails_open = true;
    vip.reals[0].health = HealthDetails {
        state: Health::Unhealthy,
        reason: "HTTP 503".to_owned(),
        ..HealthDetails::default()
    };
    let mut app = App::new("default");
    app.sample(Ok(sample));
    let all = screen(&app, 100, 24);
    assert!(all[0].ends_with(", 1 of 2 VIPs fail open (!)"), "{all:#?}");
    let _ = app.key(KeyCode::Char('!').into());
    let all = screen(&app, 100, 24);
    assert!(all[4].starts_with("tcp://10.200.1.2:80   1/3 !"), "{all:#?}");
    let _ = app.key(KeyCode::Enter.into());
    let reals = screen(&app, 100, 24);
    let lines: Vec<_> = reals.iter().map(|line| words(line)).collect();
    let header = "REAL STATE HEALTH PACKETS/S BIT/S SHARE WEIGHT WHY";
    assert!(lines.contains(&header.to_owned()), "{reals:#?}");
    let sick = lines.iter().find(|line| line.starts_with("10.0.0.1 up unhealthy "));
    assert!(sick.is_some_and(|line| line.ends_with(" HTTP 503")), "{reals:#?}");
    assert!(lines.iter().any(|line| line.starts_with("10.0.0.2 drain unknown ")), "{reals:#?}");
}

#[test]
fn what_is_old_is_not_shown_as_if_it_were_not() {
    let failure = "instance 'default' does not run (no pins in /sys/fs/bpf/l4lb/default); start it with 'lbctl apply -f FILE'";
    for inside in [false, true] {
        let mut app = app(3);
        app.condition(Ok(Condition { well: true, warnings: 0, findings: Vec::new() }));
        if inside {
            let _ = app.key(KeyCode::Enter.into());
        }
        app.sample(Err(failure.to_owned()));
        app.condition(Err(failure.to_owned()));
        let old = screen(&app, 80, 24);
        assert_eq!(old[..2].join(" "), failure, "all of it");
        let text = old.join("\n");
        assert!(!text.contains("well") && !text.contains("condition"), "{text}");
        let rows: Vec<_> =
            old[3..22].iter().filter(|line| line.contains(" -")).map(|line| words(line)).collect();
        let (name, figures) = if inside { ("10.0.0.3", 5) } else { ("tcp://10.200.1.3:80", 4) };
        assert_eq!(rows.len(), 3, "{text}");
        assert_eq!(rows[0], format!("{name}{}", " -".repeat(figures)), "{text}");
        assert!(!text.contains("ring") && !text.contains("hit"), "{text}");
        app.sample(Ok(sample(Instant::now(), 9, 3)));
        assert_eq!(screen(&app, 80, 24)[if inside { 2 } else { 1 }], "condition: not read yet");
    }
}

#[test]
fn the_selection_is_scrolled_to_and_survives_its_vip() {
    let mut app = app(100);
    let _ = app.key(KeyCode::End.into());
    let last = screen(&app, 80, 24);
    assert!(last[13].starts_with("tcp://10.200.1.1:80 "), "{last:#?}");
    let _ = app.key(KeyCode::Enter.into());
    app.sample(Ok(sample(Instant::now(), 9, 0)));
    assert!(screen(&app, 80, 24)[0].starts_with("default: "), "the VIP is gone");
    for key in [KeyCode::Up, KeyCode::Enter, KeyCode::Down, KeyCode::Home] {
        let _ = app.key(key.into());
        screen(&app, 80, 24);
    }
    app.sample(Err("instance 'default' does not run".to_owned()));
    assert_eq!(screen(&app, 80, 24)[0], "instance 'default' does not run");
}

#[test]
fn no_screen_is_too_small() {
    let mut app = app(3);
    app.condition(Ok(Condition {
        well: false,
        warnings: 0,
        findings: vec![finding("tcp://10.200.1.1:80"); 2],
    }));
    for key in [KeyCode::Enter, KeyCode::Esc, KeyCode::Enter] {
        if key == KeyCode::Esc {
            app.sample(Err("instance 'default' does not run".to_owned()));
        }
        for (width, height) in [(0, 0), (1, 1), (3, 2), (10, 40), (200, 3), (20, 17)] {
            screen_or_nothing(&app, width, height);
        }
        let _ = app.key(key.into());
    }
}

fn screen_or_nothing(app: &App, width: u16, height: u16) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| view::draw(frame, app)).expect("draws");
}
