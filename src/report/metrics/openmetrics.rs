//! The `OpenMetrics` text format, which the crate prometheus does not write:
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>.

use std::fmt;
use std::fmt::Write;

use prometheus::proto::LabelPair;
use prometheus::proto::MetricFamily;
use prometheus::proto::MetricType;

/// What the format is called in HTTP.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The last line.
pub(super) const END: &str = "# EOF\n";

/// Writes families, the last line included.
#[cfg(test)]
pub(super) fn write(
    families: impl IntoIterator<Item = MetricFamily>,
) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for family in families {
        write_family(&mut out, &family)?;
    }
    out.push_str(END);
    Ok(out)
}

/// Writes a family.
pub(super) fn write_family(out: &mut String, family: &MetricFamily) -> fmt::Result {
    let kind = family.get_field_type();
    // A counter is called without the ending that its samples have.
    let name = match kind {
        MetricType::COUNTER => family.name().strip_suffix("_total").unwrap_or(family.name()),
        _ => family.name(),
    };
    let kind_name = match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "unknown",
    };
    writeln!(out, "# HELP {name} {}", Escaped(family.help()))?;
    writeln!(out, "# TYPE {name} {kind_name}")?;
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match kind {
            MetricType::COUNTER => {
                sample(out, name, "_total", labels, None, metric.get_counter().get_value())?;
            }
            MetricType::GAUGE => {
                sample(out, name, "", labels, None, metric.get_gauge().get_value())?;
            }
            // The crate makes none.
            MetricType::UNTYPED => {}
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let buckets = histogram.get_bucket().iter();
                let buckets = buckets
                    .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                    .filter(|(bound, _)| bound.is_finite());
                let all = std::iter::once((f64::INFINITY, histogram.get_sample_count()));
                for (bound, count) in buckets.chain(all) {
                    sample(out, name, "_bucket", labels, Some(("le", bound)), number(count))?;
                }
                sample(out, name, "_sum", labels, None, histogram.get_sample_sum())?;
                sample(out, name, "_count", labels, None, number(histogram.get_sample_count()))?;
            }
            MetricType::SUMMARY => {
                let summary = metric.get_summary();
                for quantile in summary.get_quantile() {
                    let bound = Some(("quantile", quantile.quantile()));
                    sample(out, name, "", labels, bound, quantile.value())?;
                }
                sample(out, name, "_sum", labels, None, summary.sample_sum())?;
                sample(out, name, "_count", labels, None, number(summary.sample_count()))?;
            }
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "samples are floats")]
fn number(count: u64) -> f64 {
    count as f64
}

fn sample(
    out: &mut String,
    name: &str,
    ending: &str,
    labels: &[LabelPair],
    bound: Option<(&str, f64)>,
    value: f64,
) -> fmt::Result {
    write!(out, "{name}{ending}")?;
    let mut between = '{';
    for label in labels {
        write!(out, "{between}{}=\"{}\"", label.name(), Escaped(label.value()))?;
        between = ',';
    }
    if let Some((label, bound)) = bound {
        // Bounds are written in one way only: 1.0, not 1.
        let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() };
        write!(out, "{between}{label}=\"{bound}\"")?;
        between = ',';
    }
    if between == ',' {
        out.push('}');
    }
    if value.is_infinite() {
        writeln!(out, " {}Inf", if value > 0.0 { '+' } else { '-' })
    } else {
        writeln!(out, " {value}")
    }
}

/// Text with backslashes, quotes and ends of lines escaped.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            let (text, last) = match part.char_indices().next_back() {
                Some((at, last @ ('\\' | '"' | '\n'))) => (&part[..at], Some(last)),
                _ => (part, None),
            };
            f.write_str(text)?;
            match last {
                Some('\n') => f.write_str("\\n")?,
                Some(last) => write!(f, "\\{last}")?,
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::GaugeVec;
    use prometheus::HistogramOpts;
    use prometheus::HistogramVec;
    use prometheus::IntCounter;
    use prometheus::Opts;
    use prometheus::Registry;

    #[test]
    fn it_is_written_as_specified() {
        let registry = Registry::new();
        let counter = IntCounter::new("a_total", "Counts \"all\" of\nit.").unwrap();
        counter.inc_by(3);
        let gauge = GaugeVec::new(Opts::new("b", "A gauge."), &["x", "y"]).unwrap();
        gauge.with_label_values(&["back\\slash", "quote\" and\nline"]).set(0.5);
        gauge.with_label_values(&["", "infinite"]).set(f64::INFINITY);
        let options = HistogramOpts::new("c_seconds", "How long.").buckets(vec![0.25, 1.0]);
        let histogram = HistogramVec::new(options, &["z"]).unwrap();
        histogram.with_label_values(&["1"]).observe(0.5);
        registry.register(Box::new(counter)).unwrap();
        registry.register(Box::new(gauge)).unwrap();
        registry.register(Box::new(histogram)).unwrap();
        let expected = r#"# HELP a Counts \"all\" of\nit.
# TYPE a counter
a_total 3
# HELP b A gauge.
# TYPE b gauge
b{x="",y="infinite"} +Inf
b{x="back\\slash",y="quote\" and\nline"} 0.5
# HELP c_seconds How long.
# TYPE c_seconds histogram
c_seconds_bucket{z="1",le="0.25"} 0
c_seconds_bucket{z="1",le="1.0"} 1
c_seconds_bucket{z="1",le="+Inf"} 1
c_seconds_sum{z="1"} 0.5
c_seconds_count{z="1"} 1
# EOF
"#;
        assert_eq!(super::write(registry.gather()).unwrap(), expected);
    }
}
