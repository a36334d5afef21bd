//! Handles of one metric by their label values. In: borrowed strings. Out: the handle, without allocating or hashing after the first time.

use metrics::{Counter, Gauge, Histogram};

use super::{Metrics, table::Spec};

/// Series of one metric before further ones share the series `other`. Labels are plugins, profiles and kinds of events: a hundred or two in
/// the largest real set-up. The bound keeps a mistake from growing without end.
const SERIES_MAX: usize = 1024;

/// The value of every label in the overflow series.
const OTHER: &str = "other";

/// Something that a registry can make for a series.
pub(super) trait Handle: Sized {
    fn register(metrics: &Metrics, spec: &'static Spec, values: &[&str]) -> Self;
}

impl Handle for Counter {
    fn register(metrics: &Metrics, spec: &'static Spec, values: &[&str]) -> Self {
        metrics.counter(spec, values)
    }
}

impl Handle for Gauge {
    fn register(metrics: &Metrics, spec: &'static Spec, values: &[&str]) -> Self {
        metrics.gauge(spec, values)
    }
}

impl Handle for Histogram {
    fn register(metrics: &Metrics, spec: &'static Spec, values: &[&str]) -> Self {
        metrics.histogram(spec, values)
    }
}

/// All series of one metric that were used so far.
///
/// A cycle reports the same plugins in the same order as the cycle before, so the search begins after the last hit and mostly ends there.
pub(super) struct Family<H, const LABELS: usize> {
    spec: &'static Spec,
    metrics: Metrics,
    series: Vec<([Box<str>; LABELS], H)>,
    next: usize,
}

impl<H: Handle, const LABELS: usize> Family<H, LABELS> {
    pub(super) fn new(metrics: &Metrics, spec: &'static Spec) -> Self {
        Self { spec, metrics: metrics.clone(), series: Vec::new(), next: 0 }
    }

    pub(super) fn get(&mut self, values: [&str; LABELS]) -> &H {
        let index = self.find(&values).unwrap_or_else(|| self.insert(values));
        self.next = index + 1;
        &self.series[index].1
    }

    fn find(&self, values: &[&str; LABELS]) -> Option<usize> {
        let matches = |index: &usize| self.series[*index].0.iter().zip(values).all(|(have, want)| **have == **want);
        let from = self.next.min(self.series.len());
        (from..self.series.len()).chain(0..from).find(matches)
    }

    fn insert(&mut self, values: [&str; LABELS]) -> usize {
        let values = if self.series.len() < SERIES_MAX { values } else { [OTHER; LABELS] };
        if let Some(index) = self.find(&values) {
            return index;
        }
        self.series.push((values.map(Box::from), H::register(&self.metrics, self.spec, &values)));
        self.series.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::UNSCHEDULABLE_PODS;

    #[test]
    fn finds_the_same_series_in_any_order_and_bounds_their_number() {
        let metrics = Metrics::new();
        let mut family = Family::<Gauge, 2>::new(&metrics, &UNSCHEDULABLE_PODS);
        for (plugin, profile) in [("a", "x"), ("b", "x"), ("a", "y"), ("b", "x"), ("a", "x"), ("a", "x")] {
            family.get([plugin, profile]).increment(1.0);
        }
        let text = metrics.render();
        for (series, value) in [("plugin=\"a\",profile=\"x\"", 3), ("plugin=\"b\",profile=\"x\"", 2), ("plugin=\"a\",profile=\"y\"", 1)] {
            assert!(text.contains(&format!("scheduler_unschedulable_pods{{{series}}} {value}\n")), "{text}");
        }
        for number in 0..SERIES_MAX + 10 {
            family.get([&number.to_string(), "x"]).increment(1.0);
        }
        assert_eq!(family.series.len(), SERIES_MAX + 1);
        assert!(metrics.render().contains("plugin=\"other\",profile=\"other\"} 13\n"));
    }
}
