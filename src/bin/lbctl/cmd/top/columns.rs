//! Which columns fit, and how to shorten text that does not.

use ratatui::layout::Constraint;
use ratatui::style::Modifier;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::text::Text;
use ratatui::widgets::Row;
use ratatui::widgets::Table;
use textwrap::WordSplitter;

pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// A column of figures beside the names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    /// What the figures are about, if the title alone would mislead.
    about: &'static str,
    pub(super) width: u16,
    right: bool,
}

impl Column {
    pub(super) const fn numeric(title: &'static str, width: u16) -> Self {
        Self { title, about: "", width, right: true }
    }

    pub(super) const fn text(title: &'static str, width: u16) -> Self {
        Self { title, about: "", width, right: false }
    }

    pub(super) const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }
}

/// A table of names and figures. If there is no room for all columns, the rightmost ones are left out first.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    pub(super) title: &'static str,
    /// Length of the longest name in characters.
    pub(super) longest: u16,
    pub(super) columns: &'a [Column],
    /// To keep this many columns, names are cut …
    pub(super) kept: usize,
    /// … but not to fewer characters than this.
    pub(super) least: u16,
}

/// The columns that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) name: u16,
    pub(super) columns: usize,
}

impl Listing<'_> {
    fn name(&self) -> u16 {
        self.longest.max(length(self.title))
    }

    /// The width with all columns.
    pub(super) fn width(&self) -> u16 {
        self.columns.iter().fold(self.name(), |width, column| width + 1 + column.width)
    }

    pub(super) fn fit(&self, width: u16) -> Fit {
        let name = self.name();
        let left = |columns: usize| {
            let figures = self.columns[..columns].iter().map(|column| 1 + column.width);
            width.checked_sub(figures.sum())
        };
        let fits = |columns: &usize, least: u16| left(*columns).is_some_and(|left| left >= least);
        let all = (self.kept..=self.columns.len()).rev().find(|columns| fits(columns, name));
        let least = name.min(self.least);
        let kept = || (0..=self.kept).rev().find(|columns| fits(columns, least));
        let columns = all.or_else(kept).unwrap_or_default();
        Fit { name: left(columns).unwrap_or_default().min(name), columns }
    }

    pub(super) fn table(
        &self,
        fit: Fit,
        rows: impl Iterator<Item = (String, Vec<Line<'static>>)>,
    ) -> Table<'static> {
        let columns = &self.columns[..fit.columns];
        let align = |column: &Column, line: Line<'static>| {
            if column.right { line.right_aligned() } else { line }
        };
        let rows = rows.map(|(name, figures)| {
            let figures = columns.iter().zip(figures).map(|(column, line)| align(column, line));
            Row::new([Line::from(cut(&name, fit.name))].into_iter().chain(figures))
        });
        let height = if columns.iter().all(|column| column.about.is_empty()) { 1 } else { 2 };
        let titles = columns.iter().map(|column| {
            Text::from_iter([column.title, column.about].map(|text| align(column, text.into())))
        });
        let header = Row::new([Text::from(self.title)].into_iter().chain(titles));
        let widths = columns.iter().map(|column| Constraint::Length(column.width));
        Table::new(rows, [Constraint::Length(fit.name)].into_iter().chain(widths))
            .header(header.style(BOLD).height(height))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
    }
}

/// The characters of a text, each one column wide.
pub(super) fn length(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

/// The longest of these texts.
pub(super) fn longest(names: impl Iterator<Item = impl AsRef<str>>) -> u16 {
    names.map(|name| length(name.as_ref())).max().unwrap_or_default()
}

/// A text with its middle left out: addresses differ at their ends.
pub(super) fn cut(text: &str, width: u16) -> String {
    let (count, width) = (text.chars().count(), usize::from(width));
    if count <= width {
        return text.to_owned();
    }
    let Some(kept) = width.checked_sub(1) else { return String::new() };
    let (head, tail) = (kept / 2, kept - kept / 2);
    let chars = |from, count| text.chars().skip(from).take(count);
    chars(0, head).chain(['…']).chain(chars(count - tail, tail)).collect()
}

/// A figure and its unit, which stay together.
pub(super) fn unbroken(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

/// A text wrapped to lines.
pub(super) fn wrap(text: &str, width: u16) -> Vec<String> {
    let options = textwrap::Options::new(width.max(1).into());
    let lines = textwrap::wrap(text, options.word_splitter(WordSplitter::NoHyphenation));
    lines.into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// A sentence makes no sense with fewer characters of its middle than this.
const TELLS: u16 = 16;

/// Shortens `middle` until the whole text takes at most this many lines, at least one.
pub(super) fn wrap_within(
    before: &str,
    middle: &str,
    after: &str,
    width: u16,
    most: usize,
) -> Vec<String> {
    let lines = |length| wrap(&format!("{before}{}{after}", cut(middle, length)), width);
    let all = length(middle);
    let mut fitting = (all.min(TELLS)..=all).rev().map(lines);
    fitting.find(|lines| lines.len() <= most).unwrap_or_else(|| {
        let mut lines = lines(all);
        shorten(&mut lines, width, most);
        lines
    })
}

/// Keeps this many lines, at least one, and marks where more were cut off.
pub(super) fn shorten(lines: &mut Vec<String>, width: u16, most: usize) {
    let most = most.max(1);
    if lines.len() > most {
        lines.truncate(most);
        let last = lines[most - 1].chars().take(usize::from(width).saturating_sub(1));
        lines[most - 1] = last.chain(['…']).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::numeric("REALS", 7),
        Column::numeric("PACKETS/S", 9),
        Column::numeric("BIT/S", 7),
        Column::text("HISTORY", 7),
    ];

    #[test]
    fn columns_go_before_names_are_cut() {
        let listing = Listing { title: "VIP", longest: 50, columns: &COLUMNS, kept: 2, least: 20 };
        assert_eq!(listing.width(), 50 + 8 + 10 + 8 + 8);
        for (width, name, columns) in [
            (200, 50, 4),
            (84, 50, 4),
            (83, 50, 3),
            (75, 50, 2),
            (68, 50, 2),
            (67, 49, 2),
            (38, 20, 2),
            (37, 29, 1),
            (28, 20, 1),
            (27, 27, 0),
            (5, 5, 0),
            (0, 0, 0),
        ] {
            assert_eq!(listing.fit(width), Fit { name, columns }, "{width}");
        }
        let short = Listing { longest: 12, ..listing };
        assert_eq!(short.fit(29), Fit { name: 12, columns: 1 }, "none is cut to less than it has");
    }

    #[test]
    fn the_middle_is_left_out() {
        assert_eq!(cut("tcp://[2001:db8::1]:80", 22), "tcp://[2001:db8::1]:80");
        assert_eq!(cut("tcp://[2001:db8::1]:80", 12), "tcp:/…:1]:80");
        assert_eq!((cut("abc", 1), cut("abc", 0)), ("…".to_owned(), String::new()));
    }

    #[test]
    fn what_follows_stays_where_the_middle_is_cut() {
        let (middle, after) = ("no real takes new flows of the VIP", ", and 1 more");
        let within = |most| wrap_within("NOT WELL: ", middle, after, 30, most);
        assert_eq!(within(9), ["NOT WELL: no real takes new", "flows of the VIP, and 1 more"]);
        assert_eq!(within(2), within(9));
        assert_eq!(within(1), ["NOT WELL: no real takes new…"], "too little for both");
        let narrower = wrap_within("NOT WELL: ", middle, after, 26, 2);
        assert_eq!(narrower, ["NOT WELL: no real take…ws", "of the VIP, and 1 more"]);
        assert_eq!(wrap(&format!("now {}", unbroken("1.00 kbit/s")), 12), ["now", "1.00 kbit/s"]);
        assert_eq!(wrap("", 0).len(), 1);
    }
}
