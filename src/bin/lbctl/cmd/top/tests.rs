//! What is drawn, and what keys do.

use std::time::Duration;
use std::time::Instant;

use l4lb::Count;
use l4lb::RealState;
use l4lb::ReasonCount;
use l4lb::Stats;
use l4lb::Verdict;
use l4lb::VipCount;
use l4lb::VipRealStatus;
use l4lb::VipStatus;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::app::App;
use super::app::Sample;
use super::view;

/// A reading after so many seconds: VIP number n gets n thousand packets a second.
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
            reals: reals()
                .map(|(n, address, state)| VipRealStatus {
                    address,
                    weight: n.into(),
                    state,
                    share: 0.25,
                    sent_for_all_vips: count(n.into()),
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
            .map(|vip| (vip.vip, VipCount { sent: vip.sent, ..<_>::default() }))
            .collect(),
        reals: reals().map(|(n, address, _)| (address, count(n.into()))).collect(),
        cpus: Vec::new(),
    };
    Sample { at: start + Duration::from_secs(seconds), stats, vips }
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

#[test]
fn vips_reasons_and_the_table_at_80_by_24() {
    let screen = screen(&app(3), 80, 24);
    assert_eq!(screen.len(), 24);
    assert_eq!(screen[0], "default: 6.00 kpackets/s, 6.00 Mbit/s in all");
    assert_eq!(
        screen[2],
        "VIP                             REALS PACKETS/S   BIT/S DROPPED/S HISTORY"
    );
    assert_eq!(screen[3], "tcp://10.200.1.3:80               1/3    3.00 k  3.00 M         0 ██");
    assert!(screen[5].starts_with("tcp://10.200.1.1:80 "), "{screen:#?}");
    let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = screen.iter().map(words).collect();
    assert!(lines.contains(&"ring tx 6.00 k 6.00 M hit 500".to_owned()), "{screen:#?}");
    assert!(lines.contains(&"inserted 20".to_owned()), "{screen:#?}");
    assert_eq!(screen[23], "q quit  arrows move  Enter reals  Esc back");
}

#[test]
fn a_vip_shows_its_reals_and_the_way_back() {
    let mut app = app(3);
    assert!(app.key(KeyCode::Down.into()).is_continue());
    assert!(app.key(KeyCode::Enter.into()).is_continue());
    let inside = screen(&app, 80, 24);
    assert!(inside[0].starts_with("default, tcp://10.200.1.2:80: "), "{inside:#?}");
    assert_eq!(
        inside[3],
        "10.0.0.3                                 down       3  25.00 %    3.00 k  3.00 M"
    );
    assert!(inside[4].starts_with("10.0.0.2   "), "{inside:#?}");
    assert!(app.key(KeyCode::Esc.into()).is_continue());
    assert!(screen(&app, 80, 24)[3].starts_with("tcp://10.200.1.3:80"));
    assert!(app.key(KeyCode::Char('q').into()).is_break());
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
    for _ in 0..2 {
        for (width, height) in [(0, 0), (1, 1), (3, 2), (10, 40), (200, 3), (20, 17)] {
            screen_or_nothing(&app, width, height);
        }
        let _ = app.key(KeyCode::Enter.into());
    }
}

fn screen_or_nothing(app: &App, width: u16, height: u16) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| view::draw(frame, app)).expect("draws");
}
