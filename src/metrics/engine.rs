//! What the engine reports, as metrics. In: [`Observer`]'s calls on the engine's thread. Out: kube-scheduler's `scheduler_*` series.

use std::time::Instant;

use metrics::{Counter, Gauge, Histogram};

use super::{
    Metrics,
    family::Family,
    seconds, size,
    table::{
        CACHE_SIZE, CLASSES, EVENT_HANDLING_DURATION, EXTENSION_POINT_DURATION, IMPOSSIBLE_STATES, PENDING_PODS, PERMIT_WAIT_DURATION,
        PLUGIN_EVALUATION, PLUGIN_EXECUTION_DURATION, POD_SCHEDULED_AFTER_FLUSH, POD_SCHEDULING_ATTEMPTS, POD_SCHEDULING_SLI_DURATION,
        PREEMPTION_ATTEMPTS, PREEMPTION_VICTIMS, QUEUE_INCOMING_PODS, QUEUEING_HINTS, SCHEDULE_ATTEMPTS, SCHEDULING_ALGORITHM_DURATION,
        SCHEDULING_ATTEMPT_DURATION, SYMBOLS, UNSCHEDULABLE_PODS, VIEW_BYTES, VIEW_EVALUATIONS, VIEW_UPDATES, WAITING_PODS,
    },
};
use crate::{
    model::time::DurationMs,
    scheduler::observe::{AttemptResult, Gauges, Observer},
};

/// Attempts that have a label of their own on the SLI histogram; more share the last.
const SLI_ATTEMPTS_MAX: usize = 15;

/// kube-scheduler's labels for the number of attempts.
const SLI_ATTEMPTS: [&str; SLI_ATTEMPTS_MAX] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15+"];

/// The status label of plugin timings: one plugin is asked about all nodes at once, so there is no refusal of the whole.
const PLUGIN_STATUS: &str = "Success";

/// The engine's observer. One for each engine; lives on the engine's thread.
pub struct EngineMetrics {
    started: Instant,
    algorithm: Histogram,
    attempts: Family<Counter, 2>,
    attempt_durations: Family<Histogram, 2>,
    extension_points: Family<Histogram, 3>,
    plugin_evaluations: Family<Counter, 3>,
    plugin_durations: Family<Histogram, 3>,
    incoming: Family<Counter, 2>,
    scheduling_attempts: Histogram,
    sli: Vec<Histogram>,
    unschedulable: Family<Gauge, 2>,
    hints: Family<Counter, 3>,
    views: [[Counter; 2]; 2],
    permit_waits: Family<Histogram, 1>,
    after_flush: Counter,
    preemption_attempts: Counter,
    preemption_victims: Histogram,
    impossible: Family<Counter, 1>,
    facts: Family<Histogram, 1>,
}

impl EngineMetrics {
    /// Takes the handles. Series of the given profiles (their `schedulerName`s) exist from the start, so that a rate over them never misses
    /// the first pod; those of other profiles begin with their first report.
    #[expect(clippy::disallowed_methods, reason = "the stopwatch of `Observer::ticks`; no decision reads it")]
    pub fn new<'a>(metrics: &Metrics, profiles: impl IntoIterator<Item = &'a str>) -> Self {
        let view = |kind: &str| [metrics.counter(&VIEW_UPDATES, &[kind]), metrics.counter(&VIEW_EVALUATIONS, &[kind])];
        let mut engine = Self {
            started: Instant::now(),
            algorithm: metrics.histogram(&SCHEDULING_ALGORITHM_DURATION, &[]),
            attempts: Family::new(metrics, &SCHEDULE_ATTEMPTS),
            attempt_durations: Family::new(metrics, &SCHEDULING_ATTEMPT_DURATION),
            extension_points: Family::new(metrics, &EXTENSION_POINT_DURATION),
            plugin_evaluations: Family::new(metrics, &PLUGIN_EVALUATION),
            plugin_durations: Family::new(metrics, &PLUGIN_EXECUTION_DURATION),
            incoming: Family::new(metrics, &QUEUE_INCOMING_PODS),
            scheduling_attempts: metrics.histogram(&POD_SCHEDULING_ATTEMPTS, &[]),
            sli: SLI_ATTEMPTS.iter().map(|attempts| metrics.histogram(&POD_SCHEDULING_SLI_DURATION, &[attempts])).collect(),
            unschedulable: Family::new(metrics, &UNSCHEDULABLE_PODS),
            hints: Family::new(metrics, &QUEUEING_HINTS),
            views: [view("incremental"), view("full")],
            permit_waits: Family::new(metrics, &PERMIT_WAIT_DURATION),
            after_flush: metrics.counter(&POD_SCHEDULED_AFTER_FLUSH, &[]),
            preemption_attempts: metrics.counter(&PREEMPTION_ATTEMPTS, &[]),
            preemption_victims: metrics.histogram(&PREEMPTION_VICTIMS, &[]),
            impossible: Family::new(metrics, &IMPOSSIBLE_STATES),
            facts: Family::new(metrics, &EVENT_HANDLING_DURATION),
        };
        for profile in profiles {
            for result in [AttemptResult::Scheduled, AttemptResult::Unschedulable, AttemptResult::Error] {
                engine.attempts.get([result.label(), profile]);
                engine.attempt_durations.get([result.label(), profile]);
            }
        }
        engine
    }

    /// One fact was taken in (`NodeAdd`, `UnscheduledPodAdd`, ..): called by whoever feeds the engine.
    pub fn fact(&mut self, event: &str, nanos: u64) {
        self.facts.get([event]).record(seconds(nanos));
    }
}

impl Observer for EngineMetrics {
    fn ticks(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn algorithm(&mut self, nanos: u64) {
        self.algorithm.record(seconds(nanos));
    }

    fn attempt(&mut self, profile: &str, result: AttemptResult, nanos: u64) {
        self.attempts.get([result.label(), profile]).increment(1);
        self.attempt_durations.get([result.label(), profile]).record(seconds(nanos));
    }

    fn extension_point(&mut self, profile: &str, point: &'static str, status: &'static str, nanos: u64) {
        self.extension_points.get([point, status, profile]).record(seconds(nanos));
    }

    fn plugin(&mut self, profile: &str, plugin: &str, point: &'static str, nanos: Option<u64>) {
        self.plugin_evaluations.get([plugin, point, profile]).increment(1);
        if let Some(nanos) = nanos {
            self.plugin_durations.get([plugin, point, PLUGIN_STATUS]).record(seconds(nanos));
        }
    }

    fn queued(&mut self, queue: &'static str, event: &'static str) {
        self.incoming.get([queue, event]).increment(1);
    }

    fn scheduled(&mut self, _profile: &str, attempts: u32, since_first_queued: DurationMs) {
        self.scheduling_attempts.record(f64::from(attempts));
        let label = usize::try_from(attempts).unwrap_or(SLI_ATTEMPTS_MAX).clamp(1, SLI_ATTEMPTS_MAX) - 1;
        self.sli[label].record(since_first_queued.as_secs_f64());
    }

    fn unschedulable_pods(&mut self, profile: &str, plugin: &str, change: i64) {
        let gauge = self.unschedulable.get([plugin, profile]);
        #[allow(clippy::cast_precision_loss)] // numbers of pods
        gauge.increment(change as f64);
    }

    fn hint(&mut self, plugin: &str, event: &'static str, queue: bool) {
        self.hints.get([plugin, event, if queue { "Queue" } else { "QueueSkip" }]).increment(1);
    }

    fn view(&mut self, nodes_evaluated: usize, from_scratch: bool) {
        let [updates, evaluations] = &self.views[usize::from(from_scratch)];
        updates.increment(1);
        evaluations.increment(u64::try_from(nodes_evaluated).unwrap_or(u64::MAX));
    }

    fn permit_wait(&mut self, result: &'static str, nanos: u64) {
        self.permit_waits.get([result]).record(seconds(nanos));
    }

    fn scheduled_after_flush(&mut self) {
        self.after_flush.increment(1);
    }

    fn preemption(&mut self, victims: Option<usize>) {
        self.preemption_attempts.increment(1);
        if let Some(victims) = victims {
            self.preemption_victims.record(size(victims));
        }
    }

    fn impossible(&mut self, what: &'static str) {
        self.impossible.get([what]).increment(1);
    }
}

/// Sizes of queue and cache: whoever drives the engine sets them about once a second.
pub struct EngineGauges {
    handles: [Gauge; 11],
}

impl EngineGauges {
    /// Takes the handles.
    pub fn new(metrics: &Metrics) -> Self {
        let pending = |queue: &str| metrics.gauge(&PENDING_PODS, &[queue]);
        let cache = |kind: &str| metrics.gauge(&CACHE_SIZE, &[kind]);
        Self {
            handles: [
                pending("active"),
                pending("backoff"),
                pending("unschedulable"),
                pending("gated"),
                cache("nodes"),
                cache("pods"),
                cache("assumed_pods"),
                metrics.gauge(&WAITING_PODS, &[]),
                metrics.gauge(&CLASSES, &[]),
                metrics.gauge(&VIEW_BYTES, &[]),
                metrics.gauge(&SYMBOLS, &[]),
            ],
        }
    }

    /// Takes up the engine's sizes.
    pub fn set(&self, sizes: &Gauges) {
        let Gauges { active, backoff, unschedulable, gated, nodes, pods, assumed, waiting, classes, view_bytes, symbols } = *sizes;
        let values = [active, backoff, unschedulable, gated, nodes, pods, assumed, waiting, classes, view_bytes, symbols];
        for (handle, value) in self.handles.iter().zip(values) {
            handle.set(size(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }

    #[test]
    fn reports_become_upstreams_series() {
        let metrics = Metrics::new();
        let mut engine = EngineMetrics::new(&metrics, ["p"]);
        engine.algorithm(2_000_000);
        engine.attempt("p", AttemptResult::Unschedulable, 1_000_000);
        engine.extension_point("p", "Filter", "Success", 50_000);
        engine.plugin("p", "NodeName", "Filter", None);
        engine.plugin("p", "NodeName", "Filter", Some(10_000));
        engine.queued("active", "NodeAdd");
        engine.unschedulable_pods("p", "NodeName", 2);
        engine.unschedulable_pods("p", "NodeName", -1);
        engine.hint("NodeName", "NodeAdd", true);
        engine.view(7, true);
        engine.impossible("x");
        assert_has(
            &metrics.render(),
            &[
                "scheduler_schedule_attempts_total{result=\"unschedulable\",profile=\"p\"} 1",
                "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"p\"} 0",
                "scheduler_scheduling_algorithm_duration_seconds_sum 0.002",
                "scheduler_framework_extension_point_duration_seconds_bucket{extension_point=\"Filter\",status=\"Success\",profile=\"p\",le=\"0.0001\"} 1",
                "scheduler_plugin_evaluation_total{plugin=\"NodeName\",extension_point=\"Filter\",profile=\"p\"} 2",
                "scheduler_plugin_execution_duration_seconds_count{plugin=\"NodeName\",extension_point=\"Filter\",status=\"Success\"} 1",
                "scheduler_queue_incoming_pods_total{queue=\"active\",event=\"NodeAdd\"} 1",
                "scheduler_unschedulable_pods{plugin=\"NodeName\",profile=\"p\"} 1",
                "isobar_queueing_hints_total{plugin=\"NodeName\",event=\"NodeAdd\",hint=\"Queue\"} 1",
                "isobar_view_evaluations_total{kind=\"full\"} 7",
                "isobar_view_updates_total{kind=\"incremental\"} 0",
                "isobar_impossible_states_total{state=\"x\"} 1",
            ],
        );
    }

    #[test]
    fn attempts_from_fifteen_on_share_a_label() {
        for (attempts, label) in [(0, "1"), (1, "1"), (14, "14"), (15, "15+"), (16, "15+"), (u32::MAX, "15+")] {
            let metrics = Metrics::new();
            EngineMetrics::new(&metrics, []).scheduled("p", attempts, DurationMs(1500));
            let line = format!("scheduler_pod_scheduling_sli_duration_seconds_sum{{attempts=\"{label}\"}} 1.5\n");
            assert!(metrics.render().contains(&line), "{attempts}: {line}");
        }
    }

    #[test]
    fn each_size_reaches_its_own_gauge() {
        let metrics = Metrics::new();
        let sizes = Gauges {
            active: 1,
            backoff: 2,
            unschedulable: 3,
            gated: 4,
            nodes: 5,
            pods: 6,
            assumed: 7,
            waiting: 8,
            classes: 9,
            view_bytes: 10,
            symbols: 11,
        };
        EngineGauges::new(&metrics).set(&sizes);
        let lines = [
            "scheduler_pending_pods{queue=\"active\"} 1\n",
            "scheduler_pending_pods{queue=\"backoff\"} 2\n",
            "scheduler_pending_pods{queue=\"unschedulable\"} 3\n",
            "scheduler_pending_pods{queue=\"gated\"} 4\n",
            "scheduler_cache_size{type=\"nodes\"} 5\n",
            "scheduler_cache_size{type=\"pods\"} 6\n",
            "scheduler_cache_size{type=\"assumed_pods\"} 7\n",
            "isobar_permit_waiting_pods 8\n",
            "isobar_pod_classes 9\n",
            "isobar_view_bytes 10\n",
            "isobar_symbols 11\n",
        ];
        assert_has(&metrics.render(), &lines);
    }
}
