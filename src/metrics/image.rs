//! Lookups of images' platforms, as metrics. In: what became of each. Out: `isobar_image_*`.

use std::time::Duration;

use metrics::{Counter, Histogram};

use super::{
    Metrics,
    table::{IMAGE_LOOKUP_DURATION, IMAGE_LOOKUPS},
};

/// What became of a question for an image's platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It was answered without asking anyone.
    Cached,
    /// The registry answered.
    Known,
    /// It refused, or its answer says nothing.
    Unknown,
    /// It did not answer in time.
    Timeout,
}

impl Lookup {
    const ALL: [Self; 4] = [Self::Cached, Self::Known, Self::Unknown, Self::Timeout];

    fn label(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Timeout => "timeout",
        }
    }
}

/// Handles of all lookups.
pub struct ImageMetrics {
    lookups: [Counter; 4],
    durations: [Histogram; 4],
}

impl ImageMetrics {
    /// Takes the handles.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            lookups: Lookup::ALL.map(|result| metrics.counter(&IMAGE_LOOKUPS, &[result.label()])),
            durations: Lookup::ALL.map(|result| metrics.histogram(&IMAGE_LOOKUP_DURATION, &[result.label()])),
        }
    }

    /// A question was answered.
    pub fn lookup(&self, result: Lookup) {
        self.lookups[result as usize].increment(1);
    }

    /// A registry was asked for so long.
    pub fn took(&self, result: Lookup, duration: Duration) {
        self.durations[result as usize].record(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_counted_by_result() {
        let metrics = Metrics::new();
        let image = ImageMetrics::new(&metrics);
        image.lookup(Lookup::Cached);
        image.lookup(Lookup::Timeout);
        image.took(Lookup::Timeout, Duration::from_secs(10));
        let text = metrics.render();
        for line in [
            "isobar_image_lookups_total{result=\"cached\"} 1\n",
            "isobar_image_lookups_total{result=\"unknown\"} 0\n",
            "isobar_image_lookup_duration_seconds_bucket{result=\"timeout\",le=\"5.12\"} 0\n",
            "isobar_image_lookup_duration_seconds_count{result=\"timeout\"} 1\n",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }
}
