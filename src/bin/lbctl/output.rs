//! Tables for people, JSON for programs, both from the same reports.

use std::fmt::Display;
use std::io;
use std::io::BufWriter;
use std::io::Write as _;

use bytesize::ByteSize;
use comfy_table::CellAlignment;
use comfy_table::Table;
use comfy_table::presets;
use serde::Serialize;

/// Prints a line. An error is not a panic: the reader may have gone.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
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

/// Standard output by itself makes a system call for every line, and reports may have fifty thousand.
fn buffered() -> BufWriter<io::StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Prints a report that has a form for people, or as JSON.
pub(crate) fn report(report: &(impl Serialize + Display), as_json: bool) -> io::Result<()> {
    if as_json { json(report) } else { text(report) }
}

/// Prints rows below a header. Columns that `numeric` names are aligned to the right.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    numeric: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<()> {
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
    let mut out = buffered();
    for row in table.lines() {
        writeln!(out, "{}", row.trim_end())?;
    }
    out.flush()
}

/// A share of one as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A number of bytes: `61.2 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    format!("{:.1}", ByteSize::b(bytes).display().si())
}
