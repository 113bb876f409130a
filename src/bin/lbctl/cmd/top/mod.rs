//! `lbctl top`

mod app;
mod columns;
mod condition;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use l4lb::Balancer;
use l4lb::Instance;
use ratatui::DefaultTerminal;
use ratatui::TerminalOptions;
use ratatui::Viewport;
use ratatui::crossterm::event;
use ratatui::crossterm::event::Event;
use ratatui::crossterm::event::KeyEventKind;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal;
use ratatui::crossterm::terminal::EnterAlternateScreen;
use ratatui::layout::Rect;

use self::app::App;
use self::app::Sample;
use self::condition::Readings;
use crate::Exit;
use crate::Failure;
use crate::Result;
use crate::signals::interruption;

/// The largest part of a terminal that is used.
const MOST_COLUMNS: u16 = 1000;
const MOST_ROWS: u16 = 500;

/// How long a signal may have to wait.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn top(instance: &Instance, interval: Duration, json: bool) -> Result {
    if json || !io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "top needs a terminal on standard output; for programs: 'lbctl stats --watch --json'"
                .to_owned(),
        ));
    }
    let mut app = App::new(instance.name());
    app.sample(Ok(read(instance)?));
    let interrupted = interruption()?;
    let mut condition = Readings::start(instance)?;
    // It also restores the terminal after a panic.
    let viewport = Viewport::Fixed(area()?);
    let mut terminal = ratatui::try_init_with_options(TerminalOptions { viewport })?;
    execute!(io::stdout(), EnterAlternateScreen)?;
    let ended = run(&mut terminal, &mut app, instance, &mut condition, interval, || {
        interrupted.load(Ordering::Relaxed)
    });
    ratatui::try_restore()?;
    ended?;
    Ok(Exit::Done)
}

fn run(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    instance: &Instance,
    condition: &mut Readings,
    interval: Duration,
    interrupted: impl Fn() -> bool,
) -> io::Result<()> {
    let events = events()?;
    let mut due = Instant::now() + interval;
    draw(terminal, app)?;
    while !interrupted() {
        let reading = condition.latest();
        let mut redraw = reading.is_some();
        if let Some(reading) = reading {
            app.condition(reading);
        }
        let left = due.saturating_duration_since(Instant::now());
        match events.recv_timeout(left.min(PAUSE)) {
            Ok(event) => {
                if let Event::Key(key) = event?
                    && key.kind != KeyEventKind::Release
                    && app.key(key).is_break()
                {
                    break;
                }
                redraw = true;
            }
            Err(_) if left.is_zero() => {
                // An instance that is taken down may come back.
                app.sample(read(instance).map_err(|error| error.to_string()));
                due = Instant::now() + interval;
                redraw = true;
            }
            Err(_) => {}
        }
        if redraw {
            draw(terminal, app)?;
        }
    }
    Ok(())
}

/// Draws what has changed, or everything if the terminal's size has changed.
fn draw(terminal: &mut DefaultTerminal, app: &mut App) -> io::Result<()> {
    let area = area()?;
    if terminal.get_frame().area() != area {
        terminal.resize(area)?;
    }
    terminal.draw(|frame| view::draw(frame, app)).map(drop)
}

/// The screen. It never takes more memory than there is, whatever size the terminal reports.
fn area() -> io::Result<Rect> {
    let (columns, rows) = terminal::size()?;
    Ok(Rect::new(0, 0, columns.min(MOST_COLUMNS), rows.min(MOST_ROWS)))
}

/// A separate thread reads the terminal's events: crossterm 0.29 never returns from a terminal that is gone.
fn events() -> io::Result<Receiver<io::Result<Event>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("events".to_owned()).spawn(move || {
        let mut goes_on = true;
        while goes_on {
            let event = event::read();
            goes_on = event.is_ok();
            goes_on &= sender.send(event).is_ok();
        }
    })?;
    Ok(receiver)
}

fn read(instance: &Instance) -> l4lb::Result<Sample> {
    let balancer = Balancer::open(instance)?;
    let (at, stats) = (Instant::now(), balancer.stats()?);
    let draining_since = balancer.draining_since()?;
    Ok(Sample { at, vips: balancer.vips_with(&stats)?, draining_since, stats })
}
