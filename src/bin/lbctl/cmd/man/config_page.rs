//! docs/config.md as a man page.

use std::fmt::Write as _;

use pulldown_cmark::Event;
use pulldown_cmark::HeadingLevel;
use pulldown_cmark::Options;
use pulldown_cmark::Parser;
use pulldown_cmark::Tag;
use pulldown_cmark::TagEnd;

const SOURCE: &str = include_str!("../../../../../docs/config.md");

/// `l4lb.toml(5)`.
pub(super) fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let out = format!(
        ".TH l4lb.toml 5 \"\" \"l4lb {version}\" \"l4lb\"\n.SH NAME\nl4lb.toml \\- configuration of an l4lb instance\n\
         .SH DESCRIPTION\n"
    );
    let mut page = Page { out, ..Page::default() };
    for event in Parser::new_ext(SOURCE, Options::ENABLE_TABLES) {
        page.event(event);
    }
    page.out.push_str(
        ".SH FILES\n.TP\n.I /etc/l4lb/INSTANCE.toml\nThe file of an instance, if commands are given no other.\n\
         .SH SEE ALSO\n.BR lbctl (1),\n.BR lbctl\\-plan (1),\n.BR lbctl\\-apply (1),\n.BR lbctl\\-serve (1)\n",
    );
    page.out
}

#[derive(Debug, Default)]
struct Page {
    out: String,
    /// The text of a paragraph, heading or cell that is not finished.
    text: String,
    /// Inside the title of the page, which the header has.
    title: bool,
    /// In a block of code.
    code: bool,
    /// In items of a list.
    items: usize,
    header: Vec<String>,
    row: Vec<String>,
}

impl Page {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code => self.out.push_str(&lines(&text)),
            Event::Text(text) => self.text.push_str(&escape(&text)),
            Event::Code(code) => {
                let _ = write!(self.text, "\\fB{}\\fR", escape(&code));
            }
            Event::SoftBreak | Event::HardBreak => self.text.push(' '),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => self.title = *level == HeadingLevel::H1,
            Tag::Item => {
                self.items += 1;
                self.out.push_str(".IP \\(bu 2\n");
            }
            Tag::CodeBlock(_) => {
                self.paragraph();
                self.code = true;
                self.out.push_str(".PP\n.in +4n\n.nf\n");
            }
            Tag::Strong => self.text.push_str("\\fB"),
            Tag::Emphasis => self.text.push_str("\\fI"),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let text = std::mem::take(&mut self.text);
                let (name, text) = match level {
                    HeadingLevel::H1 => return,
                    HeadingLevel::H2 => ("SH", text),
                    _ => ("SS", text),
                };
                let _ = writeln!(self.out, ".{name} {}", text.replace('"', "\\(dq"));
            }
            TagEnd::Paragraph if self.items == 0 => {
                self.out.push_str(".PP\n");
                self.paragraph();
            }
            TagEnd::Paragraph => self.paragraph(),
            TagEnd::Item => {
                self.paragraph();
                self.items -= 1;
            }
            TagEnd::CodeBlock => {
                self.code = false;
                self.out.push_str(".fi\n.in\n");
            }
            TagEnd::Strong | TagEnd::Emphasis => self.text.push_str("\\fR"),
            TagEnd::TableCell => self.row.push(std::mem::take(&mut self.text)),
            TagEnd::TableHead => self.header = std::mem::take(&mut self.row),
            TagEnd::TableRow => self.table_row(),
            _ => {}
        }
    }

    /// Ends a paragraph.
    fn paragraph(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.out.push_str(&line(&text));
        }
    }

    /// A row is an entry: the first column above the others. Cells between the first and the last tell their column.
    fn table_row(&mut self) {
        let row = std::mem::take(&mut self.row);
        let Some((first, rest)) = row.split_first() else { return };
        let _ = write!(self.out, ".TP\n{}", line(first));
        let last = rest.len().saturating_sub(1);
        for (n, cell) in rest.iter().enumerate().rev().filter(|(_, cell)| !cell.is_empty()) {
            let column = self.header.get(n + 1).map(String::as_str).unwrap_or_default();
            let text = if n == last { cell.clone() } else { format!("[{column}: {cell}]") };
            self.out.push_str(&line(&text));
        }
    }
}

/// Text that roff reads as text.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A line of the page, which no request may begin.
fn line(text: &str) -> String {
    let text = text.trim();
    let guard = if text.starts_with('.') { "\\&" } else { "" };
    format!("{guard}{text}\n")
}

/// Lines of code.
fn lines(text: &str) -> String {
    let guarded = |text: &str| {
        let text = escape(text);
        if text.starts_with('.') { format!("\\&{text}\n") } else { format!("{text}\n") }
    };
    text.lines().map(guarded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_key() {
        let page = page();
        let keys = SOURCE.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let mut seen = 0;
        for key in keys {
            let entry = format!(".TP\n\\fB{}\\fR", escape(key));
            assert!(page.contains(&entry), "{key}");
            seen += 1;
        }
        assert!(seen > 60, "{seen} keys");
        assert!(page.contains(".SH \\fB[[interfaces]]\\fR\n"));
        assert!(!page.contains('`'));
    }
}
