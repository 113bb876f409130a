//! How `lbctl top` looks. It uses only the 16 colours, and colour is never the only sign. The only characters beyond
//! ASCII are the sparklines' blocks and the ellipsis.

use l4lb::Health;
use l4lb::Rate;
use l4lb::RealState;
use l4lb::VipRate;
use l4lb::VipRealStatus;
use l4lb::VipStatus;
use ratatui::Frame;
use ratatui::layout::Constraint;
use ratatui::layout::Layout;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Modifier;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Sparkline;
use ratatui::widgets::TableState;

use super::app::App;
use super::app::HISTORY;
use super::app::is_marked;
use super::columns::BOLD;
use super::columns::Column;
use super::columns::Listing;
use super::columns::length;
use super::columns::longest;
use super::columns::shorten;
use super::columns::unbroken;
use super::columns::wrap;
use super::columns::wrap_within;
use crate::numbers::si;
use crate::numbers::si_unit;
use crate::output;

/// Lines of the panels at the bottom, including their header.
const PANELS: u16 = 8;

/// The gap between the panels.
const GAP: u16 = 2;

/// Names of VIPs and reals are not cut below this many characters while there are columns to leave out.
const NAME: u16 = 20;

/// The same for reasons, whose names are known.
const REASON: u16 = 10;

const ALERT: Style = BOLD.fg(Color::Red);

/// The style of data from before a failed reading.
const STALE: Style = Style::new().add_modifier(Modifier::DIM);

pub(super) fn draw(frame: &mut Frame, app: &App) {
    let Rect { width, height, .. } = frame.area();
    let header = header(app, width, height);
    // If there is no room for everything, the panels go first, with the blank lines around them.
    let panels = if height >= PANELS * 2 { PANELS } else { 0 };
    let blank = Constraint::Length(u16::from(panels != 0));
    let [head, _, main, _, bottom, foot] = Layout::vertical([
        Constraint::Length(u16::try_from(header.len()).unwrap_or(height)),
        blank,
        Constraint::Fill(1),
        blank,
        Constraint::Length(panels),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    for (line, place) in header.into_iter().zip(head.rows()) {
        frame.render_widget(line, place);
    }
    match app.shown_vip() {
        Some(_) => reals(frame, app, main),
        None => vips(frame, app, main),
    }
    if panels != 0 && app.failure.is_none() {
        counters(frame, app, bottom);
    }
    frame.render_widget(footer(app, width), foot);
}

fn header(app: &App, width: u16, height: u16) -> Vec<Line<'static>> {
    let styled = |lines: Vec<String>, style| lines.into_iter().map(move |l| Line::styled(l, style));
    if let Some(failure) = &app.failure {
        return styled(wrap(failure, width), ALERT).collect();
    }
    let most = usize::from(height / 2).clamp(4, PANELS.into());
    // If there is no room for everything, the figures of a VIP stay, and so does what is wrong with the instance.
    let (title, style, for_condition) = match app.shown_vip() {
        Some(vip) if vip.usable_reals() == 0 => (vip_title(app, vip), ALERT, 1),
        Some(vip) => (vip_title(app, vip), BOLD, 1),
        None => (title(app), BOLD, most / 2),
    };
    let mut title = wrap(&title, width);
    let for_condition = condition(app, width, for_condition).0.len();
    shorten(&mut title, width, most - for_condition);
    let (condition, condition_style) = condition(app, width, most - title.len());
    styled(title, style).chain(styled(condition, condition_style)).collect()
}

fn rate(rate: Rate) -> String {
    let (packets, bits) = (si_unit(rate.packets, "packets/s"), si_unit(rate.bits, "bit/s"));
    format!("{}, {}", unbroken(&packets), unbroken(&bits))
}

/// The instance, and since when the node is drained.
fn instance(app: &App) -> String {
    match app.draining_since() {
        Some(since) => format!("{} ({})", app.instance, output::draining(since)),
        None => app.instance.clone(),
    }
}

fn title(app: &App) -> String {
    let total = app.rates.total;
    let title = format!("{}: {}", instance(app), rate(total));
    let ((dark, all), open) = (app.dark_vips(), app.open_vips());
    let mut marked = Vec::new();
    if dark != 0 {
        marked.push(format!("{dark} of {all} VIPs without a usable real"));
    }
    if open != 0 {
        marked.push(format!("{open} of {all} VIPs fail open"));
    }
    if marked.is_empty() { title } else { format!("{title}, {} (!)", marked.join(", ")) }
}

fn vip_title(app: &App, vip: &VipStatus) -> String {
    let VipRate { sent, dropped, new_flows } = app.vip_rate(vip.vip);
    format!(
        "{}, {}: {} reals usable, {}, {}, {}",
        instance(app),
        vip.vip,
        unbroken(usable(vip).trim_end()),
        rate(sent),
        unbroken(&format!("dropped/s {}", si(dropped))),
        unbroken(&format!("new flows/s {}", si(new_flows))),
    )
}

/// The first lines of `lbctl status`, on at most this many lines.
fn condition(app: &App, width: u16, most: usize) -> (Vec<String>, Style) {
    let condition = match &app.condition {
        None => return (wrap_within("", "condition: not read yet", "", width, most), Style::new()),
        Some(Err(error)) => return (wrap_within("condition: ", error, "", width, most), ALERT),
        Some(Ok(condition)) => condition,
    };
    let Some((first, others)) = condition.findings.split_first() else {
        return (wrap_within("", "well", "", width, most), Style::new());
    };
    let more = match others.len() {
        0 => String::new(),
        more => format!(", and {more} more: lbctl status"),
    };
    (wrap_within("NOT WELL: ", &first.what, &more, width, most), ALERT)
}

/// As many keys as there is room for.
fn footer(app: &App, width: u16) -> Line<'static> {
    let marked = app.dark_vips().0 + app.open_vips();
    let keys: &[&str] = match (app.shown_vip(), app.dark_first, marked) {
        (Some(_), ..) => &["q quit", "Esc back", "arrows move"],
        (None, true, _) => &["q quit", "Enter reals", "arrows move", "! by rate"],
        (None, false, 0) => &["q quit", "Enter reals", "arrows move"],
        (None, false, _) => &["q quit", "Enter reals", "arrows move", "! those marked first"],
    };
    let mut line = String::new();
    for key in keys {
        let gap = if line.is_empty() { "" } else { "  " };
        if length(&line) + length(gap) + length(key) > width {
            break;
        }
        line.extend([gap, key]);
    }
    line.into()
}

/// Usable reals and all reals, and a mark or the space for one.
fn usable(vip: &VipStatus) -> String {
    let usable = vip.usable_reals();
    let mark = if is_marked(vip) { " !" } else { "  " };
    format!("{usable}/{}{mark}", vip.reals.len())
}

/// A figure, unless it is from before a failed reading.
fn figure(app: &App, text: impl Into<String>, style: Style) -> Line<'static> {
    match app.failure {
        Some(_) => "-".into(),
        None => Line::styled(text.into(), style),
    }
}

fn vips(frame: &mut Frame, app: &App, area: Rect) {
    const REALS: &str = "REALS  ";
    let vips = app.vips();
    let reals = longest(vips.iter().map(|vip| usable(vip))).max(length(REALS));
    let history = Column::text("HISTORY", length("HISTORY"));
    let columns = [
        Column::numeric(REALS, reals),
        Column::numeric("PACKETS/S", 9),
        Column::numeric("DROPPED/S", 9),
        Column::numeric("BIT/S", 7),
        history,
    ];
    let listing = Listing {
        title: "VIP",
        longest: longest(vips.iter().map(|vip| vip.vip.to_string())),
        columns: &columns,
        kept: 2,
        least: NAME,
    };
    let rows = vips.iter().map(|vip| {
        let (rate, plain) = (app.vip_rate(vip.vip), Style::new());
        let dark = is_marked(vip);
        let figures = [
            figure(app, usable(vip), if dark { ALERT } else { plain }),
            figure(app, si(rate.sent.packets), plain),
            figure(app, si(rate.dropped), plain),
            figure(app, si(rate.sent.bits), plain),
        ];
        (vip.vip.to_string(), figures.into())
    });
    let fit = listing.fit(area.width);
    let mut state = TableState::new().with_selected(app.selected_vip());
    frame.render_stateful_widget(style(listing.table(fit, rows), app), area, &mut state);

    if fit.columns < columns.len() || app.failure.is_some() {
        return;
    }
    // The sparklines get the room that the listing leaves.
    let before = listing.width() - history.width;
    let most = u16::try_from(HISTORY).unwrap_or(u16::MAX);
    let room = Rect { x: area.x + before, width: (area.width - before).min(most), ..area };
    for (place, vip) in room.rows().skip(1).zip(vips.iter().skip(state.offset())) {
        let history = app.history(vip.vip, place.width.into());
        frame.render_widget(Sparkline::default().data(&history), place);
    }
}

fn style<'a>(table: ratatui::widgets::Table<'a>, app: &App) -> ratatui::widgets::Table<'a> {
    if app.failure.is_some() { table.style(STALE) } else { table }
}

fn reals(frame: &mut Frame, app: &App, area: Rect) {
    let reals = app.reals();
    let is_checked = app.shown_vip().is_some_and(|vip| vip.check.is_some());
    let is_known = |real: &&VipRealStatus| real.health.state != Health::Unknown;
    let with_health = is_checked || reals.iter().any(is_known);
    let (health, why) = if with_health {
        let why = longest(reals.iter().map(|real| real.health.why()));
        (Some(Column::text("HEALTH", 9)), Some(Column::text("WHY", why.max(length("WHY")))))
    } else {
        (None, None)
    };
    let figures = [
        Column::numeric("PACKETS/S", 9),
        Column::numeric("BIT/S", 8),
        Column::numeric("SHARE", 8),
        Column::numeric("WEIGHT", 6),
    ];
    let columns: Vec<_> =
        [Column::text("STATE", 5)].into_iter().chain(health).chain(figures).chain(why).collect();
    let listing = Listing {
        title: "REAL",
        longest: longest(reals.iter().map(|real| real.address.to_string())),
        columns: &columns,
        kept: 2,
        least: NAME,
    };
    let rows = reals.iter().map(|real| {
        let (rate, plain) = (app.real_rate(real), Style::new());
        // Without counters of this VIP's reals there is no rate.
        let rate = |of: fn(Rate) -> f64| rate.map_or_else(|| "-".to_owned(), |rate| si(of(rate)));
        let state = match real.state {
            RealState::Up => plain,
            RealState::Drain => plain.fg(Color::Yellow),
            _ => plain.fg(Color::Red),
        };
        let health = match real.health.state {
            Health::Unhealthy => plain.fg(Color::Red),
            _ => plain,
        };
        let figures = [
            Some(figure(app, real.state.to_string(), state)),
            with_health.then(|| figure(app, real.health.state.to_string(), health)),
            Some(figure(app, rate(|rate| rate.packets), plain)),
            Some(figure(app, rate(|rate| rate.bits), plain)),
            Some(figure(app, output::percent(real.share), plain)),
            Some(figure(app, real.weight.to_string(), plain)),
            with_health.then(|| figure(app, real.health.why(), plain)),
        ];
        (real.address.to_string(), figures.into_iter().flatten().collect())
    });
    let table = listing.table(listing.fit(area.width), rows);
    let mut state = TableState::new().with_selected(app.selected_real());
    frame.render_stateful_widget(style(table, app), area, &mut state);
}

/// What happened to packets, and the connection table beside it if there is room.
fn counters(frame: &mut Frame, app: &App, area: Rect) {
    // Neither is counted for each VIP.
    let about = if app.shown_vip().is_some() { "INSTANCE" } else { "" };
    let of_reasons = [
        Column::text("VERDICT", 7),
        Column::numeric("PACKETS/S", 9).about(about),
        Column::numeric("BIT/S", 8).about(about),
    ];
    let of_events = [Column::numeric("EVENTS/S", 8).about(about)];
    let reasons = Listing {
        title: "REASON",
        longest: longest(l4lb::reasons().iter().map(|reason| reason.name)),
        columns: &of_reasons,
        kept: 2,
        least: REASON,
    };
    let events = Listing {
        title: "CONNECTION TABLE",
        longest: longest(l4lb::table_events().iter().map(|event| event.name)),
        columns: &of_events,
        kept: 1,
        least: REASON,
    };
    let beside = area.width.saturating_sub(GAP + events.width()).min(reasons.width());
    let (left, right) = if reasons.fit(beside).columns < reasons.kept {
        (area, None)
    } else {
        let [left, _, right] = Layout::horizontal([
            Constraint::Length(beside),
            Constraint::Length(GAP),
            Constraint::Length(events.width()),
        ])
        .areas(area);
        (left, Some(right))
    };
    let rows = app.rates.busiest_reasons().into_iter().map(|reason| {
        let figures = [
            reason.verdict.to_string().into(),
            si(reason.rate.packets).into(),
            si(reason.rate.bits).into(),
        ];
        (reason.reason.to_owned(), figures.into())
    });
    frame.render_widget(reasons.table(reasons.fit(left.width), rows), left);
    if let Some(right) = right {
        let rows = table_events(app)
            .map(|event| (event.to_owned(), vec![si(app.rates.event(event)).into()]));
        frame.render_widget(events.table(events.fit(right.width), rows), right);
    }
}

/// Hits and misses, even if there are none, and everything else that is not zero.
fn table_events(app: &App) -> impl Iterator<Item = &'static str> {
    const ALWAYS: [&str; 3] = ["hit", "miss_syn", "miss_tcp"];
    let others = app.rates.table.iter().map(|(event, _)| *event);
    ALWAYS.into_iter().chain(others.filter(|event| !ALWAYS.contains(event)))
}
