//! What `lbctl top` looks like. Only the 16 colours, and no characters beyond ASCII but the sparklines' blocks.

use l4lb::RealState;
use ratatui::Frame;
use ratatui::layout::Constraint;
use ratatui::layout::Layout;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Modifier;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Cell;
use ratatui::widgets::Row;
use ratatui::widgets::Sparkline;
use ratatui::widgets::Table;
use ratatui::widgets::TableState;

use super::app::App;
use crate::numbers::si;
use crate::numbers::si_unit;
use crate::output;

/// Lines of the panels at the bottom, their header included.
const PANELS: u16 = 8;

const SPARKLINE: u16 = 14;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

pub(super) fn draw(frame: &mut Frame, app: &App) {
    // Where there is no room for both, the panels go first.
    let panels = if frame.area().height >= PANELS * 2 { PANELS } else { 0 };
    let [head, _, main, _, bottom, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(u16::from(panels != 0)),
        Constraint::Length(panels),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(header(app), head);
    if app.shown_vip().is_some() {
        reals(frame, app, main);
    } else {
        vips(frame, app, main);
    }
    if panels != 0 {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(bottom);
        reasons(frame, app, left);
        events(frame, app, right);
    }
    frame.render_widget(Line::from("q quit  arrows move  Enter reals  Esc back"), foot);
}

fn header(app: &App) -> Line<'static> {
    if let Some(failure) = &app.failure {
        return Line::styled(failure.clone(), BOLD.fg(Color::Red));
    }
    let total = app.rates.total;
    let name = match app.shown_vip() {
        Some(vip) => format!("{}, {}", app.instance, vip.vip),
        None => app.instance.clone(),
    };
    let packets = si_unit(total.packets, "packets/s");
    Line::styled(format!("{name}: {packets}, {} in all", si_unit(total.bits, "bit/s")), BOLD)
}

fn right(text: String) -> Cell<'static> {
    Cell::new(Line::from(text).right_aligned())
}

fn titles<const N: usize>(titles: [&'static str; N], numeric: &[usize]) -> Row<'static> {
    let cells = titles.into_iter().enumerate().map(|(column, title)| {
        if numeric.contains(&column) { right(title.to_owned()) } else { Cell::new(title) }
    });
    Row::new(cells).style(BOLD)
}

fn vips(frame: &mut Frame, app: &App, area: Rect) {
    let vips = app.vips();
    let rows = vips.iter().map(|vip| {
        let rate = app.vip_rate(vip.vip);
        let (usable, all) = (vip.usable_reals(), vip.reals.len());
        let reals = right(format!("{usable}/{all}"));
        Row::new([
            Cell::new(vip.vip.to_string()),
            if usable == 0 { reals.style(Color::Red) } else { reals },
            right(si(rate.sent.packets)),
            right(si(rate.sent.bits)),
            right(si(rate.dropped)),
        ])
    });
    // An IPv6 address in full pushes nothing else out.
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(SPARKLINE),
    ];
    let header =
        titles(["VIP", "REALS", "PACKETS/S", "BIT/S", "DROPPED/S", "HISTORY"], &[1, 2, 3, 4]);
    let table = Table::new(rows, widths).header(header).row_highlight_style(SELECTED);
    let mut state = TableState::new().with_selected(app.selected_vip());
    frame.render_stateful_widget(table, area, &mut state);

    let shown = usize::from(area.height.saturating_sub(1));
    for (y, vip) in (area.y + 1..).zip(vips.iter().skip(state.offset()).take(shown)) {
        let width = SPARKLINE.min(area.width);
        let place =
            Rect { x: area.right() - width, y, width, height: 1 }.intersection(frame.area());
        let history = app.history(vip.vip, width.into());
        frame.render_widget(Sparkline::default().data(&history), place);
    }
}

fn reals(frame: &mut Frame, app: &App, area: Rect) {
    let reals = app.reals();
    let rows = reals.iter().map(|real| {
        let rate = app.real_rate(real.address);
        let state = Cell::new(real.state.to_string());
        Row::new([
            Cell::new(real.address.to_string()),
            match real.state {
                RealState::Up => state,
                RealState::Drain => state.style(Color::Yellow),
                RealState::Down => state.style(Color::Red),
            },
            right(real.weight.to_string()),
            right(output::percent(real.share)),
            right(si(rate.packets)),
            right(si(rate.bits)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(7),
    ];
    let header = titles(
        ["REAL (for any VIP)", "STATE", "WEIGHT", "SHARE", "PACKETS/S", "BIT/S"],
        &[2, 3, 4, 5],
    );
    let table = Table::new(rows, widths).header(header).row_highlight_style(SELECTED);
    let mut state = TableState::new().with_selected(app.selected_real());
    frame.render_stateful_widget(table, area, &mut state);
}

fn reasons(frame: &mut Frame, app: &App, area: Rect) {
    let reasons = app.rates.busiest_reasons();
    let rows = reasons.iter().map(|reason| {
        Row::new([
            Cell::new(reason.reason),
            Cell::new(reason.verdict.to_string()),
            right(si(reason.rate.packets)),
            right(si(reason.rate.bits)),
        ])
    });
    let widths =
        [Constraint::Fill(1), Constraint::Length(7), Constraint::Length(9), Constraint::Length(7)];
    let header = titles(["REASON", "VERDICT", "PACKETS/S", "BIT/S"], &[2, 3]);
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

/// Hits and misses, also while there are none, and what else there is.
fn events(frame: &mut Frame, app: &App, area: Rect) {
    const ALWAYS: [&str; 3] = ["hit", "miss_syn", "miss_tcp"];
    let others = app.rates.table.iter().map(|(event, _)| *event);
    let events = ALWAYS.into_iter().chain(others.filter(|event| !ALWAYS.contains(event)));
    let rows = events.map(|event| {
        Row::new([Cell::new(format!("  {event}")), right(si(app.rates.event(event)))])
    });
    let header = titles(["  CONNECTION TABLE", "EVENTS/S"], &[1]);
    let table = Table::new(rows, [Constraint::Fill(1), Constraint::Length(9)]).header(header);
    frame.render_widget(table, area);
}
