//! Writes metrics as text while they are collected, so that no scrape is in memory as a whole.

use std::fmt::Write as _;
use std::io;
use std::io::Write;

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use super::families::Family;
use super::families::Kind;
use super::openmetrics;
use super::openmetrics::Escaped;
use super::sink::Sink;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// That of Prometheus, version 0.0.4.
    Prometheus,
    /// `OpenMetrics`.
    OpenMetrics,
}

/// How much is written at once.
const CHUNK: usize = 64 * 1024;

/// Writes metrics in a format.
pub(crate) struct Text<W> {
    format: Format,
    out: W,
    /// What is not written yet.
    chunk: String,
    written: u64,
    /// The metric that was begun last, and whether it has series.
    last: Option<(&'static Family, bool)>,
    error: Option<io::Error>,
}

impl<W: Write> Text<W> {
    pub(crate) fn new(format: Format, out: W) -> Self {
        let chunk = String::with_capacity(CHUNK + CHUNK / 4);
        Self { format, out, chunk, written: 0, last: None, error: None }
    }

    /// Writes a metric of another collector.
    pub(crate) fn gathered(&mut self, family: &MetricFamily) {
        let written = match self.format {
            Format::Prometheus => TextEncoder::new()
                .encode_utf8(std::slice::from_ref(family), &mut self.chunk)
                .map_err(io::Error::other),
            Format::OpenMetrics => {
                openmetrics::write_family(&mut self.chunk, family).map_err(io::Error::other)
            }
        };
        if let Err(error) = written {
            self.error.get_or_insert(error);
        }
        self.flush_from(CHUNK);
    }

    /// Ends the text. Returns what it was written to, and how many bytes it has.
    pub(crate) fn finish(mut self) -> io::Result<(W, u64)> {
        if self.format == Format::OpenMetrics {
            self.chunk.push_str(openmetrics::END);
        }
        self.flush_from(0);
        self.error.map_or(Ok((self.out, self.written)), Err)
    }

    /// Writes what is there if it has so many bytes.
    fn flush_from(&mut self, bytes: usize) {
        if self.chunk.len() < bytes {
            return;
        }
        if self.error.is_none() {
            self.error = self.out.write_all(self.chunk.as_bytes()).err();
        }
        self.written += self.chunk.len() as u64;
        self.chunk.clear();
    }

    /// What precedes the series of a metric.
    fn head(&mut self, family: &Family) {
        let Family { name, help, .. } = family;
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let chunk = &mut self.chunk;
        // A String takes everything.
        let _ = match self.format {
            Format::Prometheus => {
                // Quotes stay as they are here.
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                write!(chunk, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
            }
            Format::OpenMetrics => {
                // A counter is called without the ending that its samples have.
                let name = name.strip_suffix("_total").unwrap_or(name);
                let help = Escaped(help);
                write!(chunk, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
            }
        };
    }
}

impl<W: Write> Sink for Text<W> {
    fn family(&mut self, family: &'static Family) {
        self.last = Some((family, false));
    }

    fn series(&mut self, labels: &[&str], value: f64) {
        let Some((family, begun)) = self.last else { return };
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        if !begun {
            self.head(family);
            self.last = Some((family, true));
        }
        let chunk = &mut self.chunk;
        chunk.push_str(family.name);
        let mut between = '{';
        for (name, label) in family.labels.iter().zip(labels) {
            chunk.push(between);
            chunk.push_str(name);
            chunk.push_str("=\"");
            if label.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
                let _ = write!(chunk, "{}", Escaped(label));
            } else {
                chunk.push_str(label);
            }
            chunk.push('"');
            between = ',';
        }
        if between == ',' {
            chunk.push('}');
        }
        chunk.push(' ');
        number(chunk, value);
        chunk.push('\n');
        self.flush_from(CHUNK);
    }
}

/// Writes a value. Nearly all are whole, and these take a tenth of the time as integers.
fn number(out: &mut String, value: f64) {
    /// Floats have all whole numbers up to here.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let _ = if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
        let whole = value as i64;
        write!(out, "{whole}")
    } else {
        write!(out, "{value}")
    };
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::super::families;
    use super::super::openmetrics;
    use super::super::sink::Gathered;
    use super::super::sink::Sink;
    use super::Format;
    use super::Text;

    /// Every metric, with labels and values that are hard to write.
    fn fill(sink: &mut dyn Sink) {
        let labels = ["plain", "", "quote\" back\\slash\nline", "ü"];
        let values = [0.0, -1.0, 0.25, 1e15, 1e17, 1.5e300, 1e-9];
        for (at, family) in families().iter().enumerate() {
            sink.family(family);
            for (row, value) in values.iter().enumerate().skip(at % 2) {
                let label = |n: usize| labels[(at + row + n) % labels.len()];
                let labels: Vec<_> = (0..family.labels.len()).map(label).collect();
                sink.series(&labels, *value);
            }
        }
        // Without series it leaves no trace.
        sink.family(&families()[0]);
    }

    #[test]
    fn it_is_what_the_crate_writes() {
        let mut gathered = Gathered::default();
        fill(&mut gathered);
        gathered.families.retain(|family| !family.get_metric().is_empty());
        for (format, expected) in [
            (Format::Prometheus, TextEncoder::new().encode_to_string(&gathered.families).unwrap()),
            (Format::OpenMetrics, openmetrics::write(gathered.families.clone()).unwrap()),
        ] {
            let mut text = Text::new(format, Vec::new());
            fill(&mut text);
            let (out, bytes) = text.finish().unwrap();
            assert_eq!(bytes, out.len() as u64);
            let text = String::from_utf8(out).unwrap();
            for (line, expected) in text.lines().zip(expected.lines()) {
                assert_eq!(line, expected, "{format:?}");
            }
            assert_eq!(text.len(), expected.len(), "{format:?}");
        }
    }
}
