//! Tables for people, JSON for programs, both from the same reports.

use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::io::BufWriter;
use std::io::Write as _;

use bytesize::ByteSize;
use comfy_table::CellAlignment;
use comfy_table::Table;
use comfy_table::presets;
use l4lb::agent::MAX_OUTPUT;
use l4lb::outside::message;
use l4lb::time_in_words;
use serde::Serialize;
use serde_json::json;

use crate::log;

/// What a command printed that was run for somebody else.
#[derive(Debug, Default)]
pub(crate) struct Caught {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

thread_local! {
    /// Where this thread prints, if not to standard output and standard error: bytes of either.
    static CAUGHT: RefCell<Option<[Vec<u8>; 2]>> = const { RefCell::new(None) };
}

/// Runs something, and catches what this thread prints meanwhile.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> (T, Caught) {
    /// A panic must not leave the thread mute.
    struct Speak;
    impl Drop for Speak {
        fn drop(&mut self) {
            CAUGHT.set(None);
        }
    }
    let _speak = Speak;
    CAUGHT.set(Some([Vec::new(), Vec::new()]));
    let result = run();
    let caught = CAUGHT.take().unwrap_or_default();
    let [stdout, stderr] = caught.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (result, Caught { stdout, stderr })
}

/// Keeps bytes if this thread's output is caught; `None`: it is not.
fn keep(place: usize, bytes: &[u8]) -> Option<io::Result<()>> {
    CAUGHT.with_borrow_mut(|caught| {
        let kept = caught.as_mut()?.get_mut(place)?;
        if kept.len() + bytes.len() > MAX_OUTPUT {
            let what = format!("more than {} MB for somebody who may only read", MAX_OUTPUT >> 20);
            return Some(Err(io::Error::other(what)));
        }
        kept.extend_from_slice(bytes);
        Some(Ok(()))
    })
}

/// Standard output, or where this thread's output is caught.
#[derive(Debug)]
pub(crate) struct Out;

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match keep(0, bytes) {
            Some(kept) => kept.map(|()| bytes.len()),
            None => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Whether this thread's output is caught: it is for a person or program elsewhere.
pub(crate) fn is_caught() -> bool {
    CAUGHT.with_borrow(Option::is_some)
}

/// The same of standard error.
pub(crate) fn complain_bytes(bytes: &[u8]) -> io::Result<()> {
    keep(1, bytes).unwrap_or_else(|| io::stderr().write_all(bytes))
}

/// Prints a line. A failure is an error, not a panic, as the reader may have gone.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(Out, "{text}")
}

/// Prints a line to standard error. If that fails, there is nowhere to report it; `eprintln!` would panic.
pub(crate) fn complain(text: impl Display) {
    let prefix = if is_caught() { "" } else { log::error_prefix() };
    let _ = complain_bytes(format!("{prefix}{text}\n").as_bytes());
}

/// Prints what ended a command: one line on standard error, or as JSON one object in one line.
pub(crate) fn error(kind: &str, text: &str, as_json: bool) {
    if as_json {
        complain(json!({ "error": { "kind": kind, "message": text } }));
    } else {
        complain(format_args!("error: {text}"));
    }
}

/// The same of an error of the library. As JSON, an error of a file says where it is.
pub(crate) fn library_error(error: &l4lb::Error, as_json: bool) {
    let text = message(&error.to_string());
    if !as_json {
        return self::error(&error.kind(), &text, false);
    }
    let mut object = json!({ "kind": error.kind(), "message": text });
    if let l4lb::Error::Config(error) = error {
        object["file"] = error.file().into();
        object["line"] = error.line().into();
        object["key"] = Some(error.key()).filter(|key| !key.is_empty()).into();
    }
    complain(json!({ "error": object }));
}

/// Prints text that ends its own lines.
pub(crate) fn text(text: impl Display) -> io::Result<()> {
    let mut out = buffered();
    write!(out, "{text}")?;
    out.flush()
}

/// Prints a report as JSON.
pub(crate) fn json(report: &impl Serialize) -> io::Result<()> {
    let mut out = buffered();
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)?;
    out.flush()
}

/// Standard output would make a system call for every line, and reports may have fifty thousand.
fn buffered() -> BufWriter<Out> {
    BufWriter::with_capacity(1 << 16, Out)
}

/// Since when the node is drained: `DRAINING since 12:03:11`.
pub(crate) fn draining(since: u64) -> String {
    format!("DRAINING since {}", time_in_words(since))
}

/// Prints a report as text, or as JSON.
pub(crate) fn report(report: &(impl Serialize + Display), as_json: bool) -> io::Result<()> {
    if as_json { json(report) } else { text(report) }
}

/// Prints rows below a header. Columns that `numeric` names are aligned to the right.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    numeric: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut out = buffered();
    for row in table_lines(header, numeric, rows) {
        writeln!(out, "{row}")?;
    }
    out.flush()
}

/// The lines of a [`table`].
pub(crate) fn table_lines<const N: usize>(
    header: [&str; N],
    numeric: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for column in numeric {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|row| row.trim_end().to_owned()).collect()
}

/// How many rows arrive before the widths of the columns are fixed.
const ROWS_AHEAD: usize = 1000;

/// A table of any number of rows that is printed as the rows arrive. The first rows set the widths of the columns;
/// longer values later on are still printed.
pub(crate) struct Rows<const N: usize> {
    header: [&'static str; N],
    numeric: &'static [usize],
    ahead: Vec<[String; N]>,
    widths: Option<[usize; N]>,
    out: BufWriter<Out>,
}

impl<const N: usize> Rows<N> {
    /// A table with this header. Columns that `numeric` names are aligned to the right.
    pub(crate) fn new(header: [&'static str; N], numeric: &'static [usize]) -> Self {
        Self { header, numeric, ahead: Vec::new(), widths: None, out: buffered() }
    }

    pub(crate) fn row(&mut self, row: [String; N]) -> io::Result<()> {
        if let Some(widths) = self.widths {
            return self.print(row.each_ref().map(String::as_str), widths);
        }
        self.ahead.push(row);
        if self.ahead.len() >= ROWS_AHEAD { self.settle() } else { Ok(()) }
    }

    /// Prints the rows that are not printed yet.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.widths.is_none() {
            self.settle()?;
        }
        self.out.flush()
    }

    fn settle(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.ahead);
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].len());
            cells.chain([self.header[column].len()]).max().unwrap_or_default()
        };
        let widths = std::array::from_fn(width);
        self.widths = Some(widths);
        self.print(self.header, widths)?;
        rows.iter().try_for_each(|row| self.print(row.each_ref().map(String::as_str), widths))
    }

    fn print(&mut self, cells: [&str; N], widths: [usize; N]) -> io::Result<()> {
        // `{:<width$}` writes its spaces one by one, which takes a sixth of the time of a long list.
        const SPACES: [u8; 64] = [b' '; 64];
        let mut gap = 0;
        for (column, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
            let padding = width.saturating_sub(cell.len());
            let right = self.numeric.contains(&column);
            gap += if right { padding } else { 0 };
            while gap != 0 {
                let spaces = gap.min(SPACES.len());
                self.out.write_all(&SPACES[..spaces])?;
                gap -= spaces;
            }
            self.out.write_all(cell.as_bytes())?;
            gap = 2 + if right { 0 } else { padding };
        }
        writeln!(self.out)
    }
}

/// Prints long JSON: an object a line.
pub(crate) struct JsonLines(BufWriter<Out>);

impl JsonLines {
    pub(crate) fn new() -> Self {
        Self(buffered())
    }

    pub(crate) fn line(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, object)?;
        writeln!(self.0)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A share of one as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A number of bytes: `61.2 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    format!("{:.1}", ByteSize::b(bytes).display().si())
}
