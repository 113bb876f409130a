//! Where the series of a scrape go: into text, as they are made, or into the crate prometheus' own types, which take five
//! times as much memory.

use prometheus::proto::MetricFamily;

use super::families::Family;

/// Takes metrics, one after the other.
pub(crate) trait Sink {
    /// Begins a metric. One that gets no series is left out.
    fn family(&mut self, family: &'static Family);

    /// A series of the metric that was begun last, with a value for each of its labels.
    fn series(&mut self, labels: &[&str], value: f64);
}

impl dyn Sink + '_ {
    /// A metric without labels.
    pub(super) fn single(&mut self, family: &'static Family, value: f64) {
        self.family(family);
        self.series(&[], value);
    }

    /// A metric whose series are told apart by one label.
    pub(super) fn by<L: AsRef<str>>(
        &mut self,
        family: &'static Family,
        values: impl IntoIterator<Item = (L, f64)>,
    ) {
        self.family(family);
        for (label, value) in values {
            self.series(&[label.as_ref()], value);
        }
    }
}

/// What a registry of the crate prometheus gathers.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) families: Vec<MetricFamily>,
    last: Option<&'static Family>,
}

impl Sink for Gathered {
    fn family(&mut self, family: &'static Family) {
        self.last = Some(family);
        self.families.push(family.empty());
    }

    fn series(&mut self, labels: &[&str], value: f64) {
        if let (Some(family), Some(gathered)) = (self.last, self.families.last_mut()) {
            gathered.mut_metric().push(family.series(labels, value));
        }
    }
}
