//! `lbctl stats --watch`

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use l4lb::Balancer;
use l4lb::Instance;
use l4lb::Rates;
use l4lb::Stats;
use ratatui::crossterm::cursor::MoveTo;
use ratatui::crossterm::queue;
use ratatui::crossterm::terminal;
use ratatui::crossterm::terminal::Clear;
use ratatui::crossterm::terminal::ClearType;
use serde::Serialize;

use crate::Exit;
use crate::Result;
use crate::numbers::si;
use crate::numbers::si_unit;
use crate::output;
use crate::output::JsonLines;

/// Counters, and when they were read.
struct Reading {
    at: Instant,
    time: Timestamp,
    stats: Stats,
}

impl Reading {
    /// Open the instance each time, as it may be taken down and set up meanwhile.
    fn take(instance: &Instance) -> l4lb::Result<Self> {
        let stats = Balancer::open(instance)?.stats()?;
        Ok(Self { at: Instant::now(), time: Timestamp::now(), stats })
    }
}

/// The rates of one interval.
#[derive(Debug, Default, Serialize)]
struct Round {
    /// The time of the later reading: RFC 3339, in UTC, with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    time: Timestamp,
    #[serde(flatten)]
    rates: Rates,
}

impl Round {
    fn between(before: &Reading, after: &Reading) -> Self {
        let rates = Rates::between(&before.stats, &after.stats, after.at - before.at);
        Self { time: after.time, rates }
    }
}

fn rfc3339<S: serde::Serializer>(
    time: &Timestamp,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// Prints rates after every interval, `count` times or until nobody reads.
pub(super) fn watch(
    instance: &Instance,
    interval: Duration,
    count: Option<u64>,
    json: bool,
) -> Result {
    let redraw = !json && io::stdout().is_terminal();
    let zone = TimeZone::system();
    let mut before = Reading::take(instance)?;
    let mut due = before.at;
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        due = (due + interval).max(before.at);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let after = Reading::take(instance)?;
        let round = Round::between(&before, &after);
        before = after;
        shown += 1;
        if json {
            let mut lines = JsonLines::new();
            lines.line(&round)?;
            lines.finish()?;
        } else if redraw {
            let (width, height) = terminal::size()?;
            draw(&block(&round, &zone, Some(height.into())), width.into(), shown == 1)?;
        } else {
            let mut block = block(&round, &zone, None).join("\n");
            block.push_str("\n\n");
            output::text(block)?;
        }
    }
    Ok(Exit::Done)
}

/// Overwrites the screen, which flickers less than clearing it first.
fn draw(lines: &[String], width: usize, first: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if first {
        queue!(out, Clear(ClearType::All))?;
    }
    queue!(out, MoveTo(0, 0))?;
    for line in lines {
        // A line that wraps would push the others away.
        let end = line.char_indices().nth(width).map_or(line.len(), |(end, _)| end);
        write!(out, "{}", &line[..end])?;
        queue!(out, Clear(ClearType::UntilNewLine))?;
        writeln!(out)?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    out.flush()
}

/// The rates as lines. They leave the last line of a screen of this height empty, for the cursor.
fn block(round: &Round, zone: &TimeZone, height: Option<usize>) -> Vec<String> {
    let Round { time, rates } = round;
    let mut vips: Vec<_> = rates.vips.iter().collect();
    vips.sort_by(|(_, a), (_, b)| b.packets().total_cmp(&a.packets()));
    let mut reals: Vec<_> = rates.reals.iter().collect();
    reals.sort_by(|(_, a), (_, b)| b.packets.total_cmp(&a.packets));
    let reasons = rates.busiest_reasons();

    let wanted = [vips.len(), reals.len(), reasons.len(), rates.table.len()];
    let given = height.map_or(wanted, |height| {
        // The first line and the last, and a blank line and a header for each part.
        fit(wanted, height.saturating_sub(2 + 2 * wanted.len()))
    });
    let mut lines = vec![format!(
        "{}  total {}, {}, in {:.1} s",
        time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S"),
        si_unit(rates.total.packets, "packets/s"),
        si_unit(rates.total.bits, "bit/s"),
        rates.seconds
    )];
    let mut part = |table: Vec<String>, wanted: usize, given: usize| {
        if wanted == 0 || (given == 0 && height.is_some()) {
            return;
        }
        lines.push(String::new());
        lines.extend(table);
        if wanted > given {
            lines.push(format!("… and {} more", wanted - (given - 1)));
        }
    };
    // If there is no room for all, the last line says so.
    let rows = |index: usize| {
        if wanted[index] > given[index] { given[index].saturating_sub(1) } else { given[index] }
    };
    let vips = vips.iter().take(rows(0)).map(|(vip, rate)| {
        [
            vip.to_string(),
            si(rate.sent.packets),
            si(rate.sent.bits),
            si(rate.dropped),
            si(rate.new_flows),
        ]
    });
    let header = ["VIP", "PACKETS/S", "BIT/S", "DROPPED/S", "NEW FLOWS/S"];
    part(output::table_lines(header, &[1, 2, 3, 4], vips), wanted[0], given[0]);
    let reals = reals
        .iter()
        .take(rows(1))
        .map(|(real, rate)| [real.to_string(), si(rate.packets), si(rate.bits)]);
    let header = ["REAL", "PACKETS/S", "BIT/S"];
    part(output::table_lines(header, &[1, 2], reals), wanted[1], given[1]);
    let reasons = reasons.iter().take(rows(2)).map(|reason| {
        [
            reason.reason.to_owned(),
            reason.verdict.to_string(),
            si(reason.rate.packets),
            si(reason.rate.bits),
        ]
    });
    let header = ["REASON", "VERDICT", "PACKETS/S", "BIT/S"];
    part(output::table_lines(header, &[2, 3], reasons), wanted[2], given[2]);
    let events =
        rates.table.iter().take(rows(3)).map(|(event, rate)| [(*event).to_owned(), si(*rate)]);
    let header = ["CONNECTION TABLE", "EVENTS/S"];
    part(output::table_lines(header, &[1], events), wanted[3], given[3]);
    lines
}

/// Shares lines out. Each part gets a fair share, and the next parts get what it does not need.
fn fit<const N: usize>(wanted: [usize; N], room: usize) -> [usize; N] {
    let mut given = [0; N];
    let mut left = room;
    while left != 0 && given != wanted {
        for part in 0..N {
            if left != 0 && given[part] < wanted[part] {
                given[part] += 1;
                left -= 1;
            }
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use l4lb::Rate;
    use l4lb::VipRate;

    use super::*;

    fn round(vips: u8, reals: u8) -> Round {
        let rate = |n: u8| Rate { packets: f64::from(n) * 1000.0, bits: 8e6 };
        let rates = Rates {
            seconds: 1.0,
            total: rate(1),
            vips: (1..=vips)
                .map(|n| {
                    let vip = format!("tcp://10.200.1.{n}:80").parse().expect("a VIP");
                    (vip, VipRate { sent: rate(n), ..VipRate::default() })
                })
                .collect(),
            reals: (1..=reals).map(|n| ([10, 0, 0, n].into(), rate(n))).collect(),
            table: vec![("hit", 900.0), ("inserted", 12.5)],
            ..Rates::default()
        };
        Round { time: "2026-03-01T12:34:56.789Z".parse().expect("a time"), rates }
    }

    fn lines(round: &Round, height: Option<usize>) -> Vec<String> {
        block(round, &TimeZone::UTC, height)
    }

    #[test]
    fn the_busiest_come_first() {
        let block = lines(&round(12, 2), None);
        assert_eq!(block[0], "2026-03-01 12:34:56  total 1.00 kpackets/s, 8.00 Mbit/s, in 1.0 s");
        assert_eq!(block[1..3].len(), 2);
        assert!(block[3].starts_with("tcp://10.200.1.12:80 "), "{block:#?}");
        assert_eq!(
            block.len(),
            1 + (2 + 12) + (2 + 2) + (2 + 2),
            "no part without rows: {block:#?}"
        );
        assert_eq!(
            block[20..],
            [
                "CONNECTION TABLE  EVENTS/S",
                "hit                    900",
                "inserted              12.5"
            ]
        );
        assert_eq!(lines(&Round::default(), None).len(), 1);
    }

    #[test]
    fn a_program_is_told_the_time() {
        let json = serde_json::to_value(round(1, 1)).expect("JSON");
        assert_eq!(
            (&json["time"], &json["seconds"]),
            (&"2026-03-01T12:34:56.789Z".into(), &1.0.into())
        );
    }

    #[test]
    fn a_screen_is_never_too_small() {
        for height in 0..40 {
            let lines = lines(&round(20, 10), Some(height));
            assert!(lines.len() < height.max(2), "{height}: {lines:#?}");
        }
        let lines = lines(&round(20, 10), Some(24));
        assert_eq!(lines.iter().filter(|line| line.contains("… and")).count(), 2, "{lines:#?}");
        let rows = lines.iter().filter(|line| line.starts_with("tcp://")).count();
        assert!(lines.contains(&format!("… and {} more", 20 - rows)), "{lines:#?}");
    }

    #[test]
    fn lines_are_shared_out() {
        assert_eq!(fit([10, 10, 10], 100), [10, 10, 10]);
        assert_eq!(fit([10, 2, 10], 10), [4, 2, 4]);
        assert_eq!(fit([3, 3, 3], 2), [1, 1, 0]);
        assert_eq!(fit([0, 0, 5], 3), [0, 0, 3]);
    }
}
