//! Everything that is measured. In: handles that other rooms hold and bump. Out: the text of `/metrics`.
//!
//! There is no global recorder: [`Metrics`] is made once, handed down, and each room takes its own group of handles, so that recording is an
//! atomic addition and never a search by name. Names, labels and buckets are in [`table`].

mod api;
mod broker;
mod cluster;
mod document;
mod engine;
mod extender;
mod family;
mod image;
mod process;
mod program;
mod runs;
pub mod table;
mod tasks;

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use self::table::{Kind, Spec, TABLE};
pub use self::{
    api::{ApiMetrics, CallType, EventDrop, WatchRestart},
    broker::BrokerMetrics,
    cluster::ClusterMetrics,
    document::reference_page,
    engine::{EngineGauges, EngineMetrics},
    extender::ExtenderMetrics,
    image::{ImageMetrics, Lookup},
    program::{ConfigMetrics, HttpMetrics, KubeletMetrics, LeaderMetrics, NodeGauges, NodeGroup},
    runs::{RunCreation, RunsMetrics},
    tasks::TaskMetrics,
};

/// How often histograms are drained: they keep raw samples until then, so without a scraper memory would grow. A burst of 100,000 decisions a
/// second holds some 10 MB for this long.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The registry: makes handles, and the text that is scraped. Cloning is cheap and shares it.
#[derive(Clone, Debug)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry with the table's buckets and help texts, and `isobar_build_info`.
    #[allow(clippy::expect_used)] // refused only for an empty list of bounds, which the table's own test excludes
    pub fn new() -> Self {
        let histograms = TABLE.iter().filter(|spec| spec.kind == Kind::Histogram);
        let builder = histograms.fold(PrometheusBuilder::new(), |builder, spec| {
            let name = Matcher::Full(spec.name.to_owned());
            builder.set_buckets_for_metric(name, &spec.buckets.bounds()).expect("every histogram of the table has buckets")
        });
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let metrics = Self { recorder: Arc::new(recorder), handle };
        for spec in TABLE {
            metrics.describe(spec);
        }
        let revision = option_env!("ISOBAR_REVISION").unwrap_or("unknown");
        metrics.gauge(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), revision]).set(1.0);
        metrics
    }

    /// The handle of one series of a counter; `values` in the order of the table's labels.
    pub fn counter(&self, spec: &'static Spec, values: &[&str]) -> Counter {
        debug_assert_eq!(spec.kind, Kind::Counter, "{}", spec.name);
        self.recorder.register_counter(&key(spec, values), &METADATA)
    }

    /// The handle of one series of a gauge.
    pub fn gauge(&self, spec: &'static Spec, values: &[&str]) -> Gauge {
        debug_assert_eq!(spec.kind, Kind::Gauge, "{}", spec.name);
        self.recorder.register_gauge(&key(spec, values), &METADATA)
    }

    /// The handle of one series of a histogram.
    pub fn histogram(&self, spec: &'static Spec, values: &[&str]) -> Histogram {
        debug_assert_eq!(spec.kind, Kind::Histogram, "{}", spec.name);
        self.recorder.register_histogram(&key(spec, values), &METADATA)
    }

    /// What a scraper gets: Prometheus text format 0.0.4, metrics in order of their names.
    pub fn render(&self) -> String {
        let text = self.handle.render() + &process::render();
        // One block a metric, divided by empty lines. Sorted, two scrapes can be compared by eye.
        let mut blocks: Vec<&str> = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()).collect();
        blocks.sort_unstable();
        blocks.join("\n\n") + "\n"
    }

    /// Drains histograms every 5 s, for ever. Spawn it beside the server; drop it to stop.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP_EVERY);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }

    fn describe(&self, spec: &'static Spec) {
        let help = format!("[{}] {}", spec.stability.word(), spec.help);
        match spec.kind {
            Kind::Counter => self.recorder.describe_counter(spec.name.into(), None, help.into()),
            Kind::Gauge => self.recorder.describe_gauge(spec.name.into(), None, help.into()),
            Kind::Histogram => self.recorder.describe_histogram(spec.name.into(), None, help.into()),
        }
    }
}

static METADATA: Metadata<'static> = Metadata::new("isobar", Level::INFO, None);

fn key(spec: &'static Spec, values: &[&str]) -> Key {
    debug_assert_eq!(spec.labels.len(), values.len(), "labels of {}: {:?} for {values:?}", spec.name, spec.labels);
    let labels: Vec<Label> = spec.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(spec.name, labels)
}

/// Nanoseconds as the seconds that Prometheus wants.
#[allow(clippy::cast_precision_loss)] // exact for 104 days; histograms need three digits
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)] // sizes stay far below 2^53
fn size(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::{PENDING_PODS, SCHEDULE_ATTEMPTS, SCHEDULING_ATTEMPT_DURATION};

    #[test]
    fn renders_what_was_recorded_with_the_tables_buckets_and_help() {
        let metrics = Metrics::new();
        metrics.counter(&SCHEDULE_ATTEMPTS, &["scheduled", "a"]).increment(3);
        metrics.gauge(&PENDING_PODS, &["active"]).set(2.0);
        metrics.histogram(&SCHEDULING_ATTEMPT_DURATION, &["scheduled", "a"]).record(0.003);
        let text = metrics.render();
        for line in [
            "# HELP scheduler_schedule_attempts_total [STABLE] Attempts to schedule pods",
            "# TYPE scheduler_schedule_attempts_total counter",
            "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"a\"} 3",
            "scheduler_pending_pods{queue=\"active\"} 2",
            "# TYPE scheduler_scheduling_attempt_duration_seconds histogram",
            "scheduler_scheduling_attempt_duration_seconds_bucket{result=\"scheduled\",profile=\"a\",le=\"0.002\"} 0",
            "scheduler_scheduling_attempt_duration_seconds_bucket{result=\"scheduled\",profile=\"a\",le=\"0.004\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_bucket{result=\"scheduled\",profile=\"a\",le=\"16.384\"} 1",
            "isobar_build_info{version=",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }

    #[test]
    fn registries_do_not_share() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.counter(&SCHEDULE_ATTEMPTS, &["error", "only-here"]).increment(1);
        assert!(one.render().contains("only-here") && !other.render().contains("only-here"));
    }
}
