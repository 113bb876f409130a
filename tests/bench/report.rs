//! The output: Markdown tables, as in docs/performance.md, or JSON.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde_json::Value;
use serde_json::json;

use crate::comparison::Figure;

/// A table with a title.
#[derive(Debug)]
pub(crate) struct Section {
    name: &'static str,
    title: &'static str,
    head: Vec<String>,
    rows: Vec<(Vec<String>, Value)>,
    notes: Vec<String>,
    figures: Vec<Figure>,
}

impl Section {
    /// An empty one.
    pub(crate) fn new<H: AsRef<str>>(
        name: &'static str,
        title: &'static str,
        head: impl IntoIterator<Item = H>,
    ) -> Self {
        let head = head.into_iter().map(|cell| cell.as_ref().to_owned()).collect();
        Self { name, title, head, rows: Vec::new(), notes: Vec::new(), figures: Vec::new() }
    }

    /// Adds a line, and the same as JSON.
    pub(crate) fn row(&mut self, cells: Vec<String>, json: Value) {
        self.rows.push((cells, json));
    }

    /// Adds a line of text below the table.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Adds a figure for `--save` and `--compare`.
    pub(crate) fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// The figures.
    pub(crate) fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// Whether it is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.notes.is_empty()
    }

    /// Prints it, unless it is empty.
    pub(crate) fn print(&self) {
        if !self.rows.is_empty() {
            let mut table = Table::new();
            table.load_style(ASCII_MARKDOWN).set_header(&self.head);
            for (cells, _) in &self.rows {
                table.add_row(cells);
            }
            println!("\n### {}\n\n{table}", self.title);
        }
        if !self.notes.is_empty() {
            println!();
        }
        for note in &self.notes {
            println!("- {note}");
        }
    }

    /// The table as JSON, with its name.
    pub(crate) fn json(&self) -> (String, Value) {
        let rows: Vec<&Value> = self.rows.iter().map(|(_, json)| json).collect();
        (self.name.to_owned(), json!({ "rows": rows, "notes": self.notes }))
    }
}

/// A number of flows, short: 10k.
pub(crate) fn count(number: u32) -> String {
    match number {
        1_000_000.. if number.is_multiple_of(1_000_000) => format!("{}M", number / 1_000_000),
        1000.. if number.is_multiple_of(1000) => format!("{}k", number / 1000),
        _ => number.to_string(),
    }
}
