//! Tasks and their runs, as metrics. In: what the executor of tasks does, and how runs stand. Out: `isobar_task_*`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};

use super::{
    Metrics,
    family::Family,
    table::{
        TASK_ARRIVALS, TASK_ATTEMPTS, TASK_CLOCKS, TASK_LATE, TASK_LOG_BYTES, TASK_LOGS_INCOMPLETE, TASK_MISSED, TASK_OLDEST_WAITING,
        TASK_ORDER_DURATION, TASK_ORDERS_IN_FLIGHT, TASK_REAP_SECONDS, TASK_REAPS, TASK_REPORTS, TASK_RUN_PHASES, TASK_RUNS_FINISHED,
        TASK_RUNS_STARTED,
    },
};

/// Phases of a run by number, and after them that nobody has looked at it yet.
const PHASES: [&str; 9] = ["Waiting", "Queued", "Launching", "Pending", "Running", "Finishing", "Recycling", "Reaped", "New"];

/// Handles. Cloning is cheap and shares them.
#[derive(Clone)]
pub struct TaskMetrics(Arc<Inner>);

struct Inner {
    families: Mutex<Families>,
    phases: [Gauge; PHASES.len()],
    clocks: [(&'static str, Histogram); 3],
    reap_seconds: Histogram,
    oldest_waiting: Gauge,
    log_bytes: Counter,
    logs_incomplete: Counter,
    in_flight: Gauge,
}

struct Families {
    finished: Family<Counter, 3>,
    started: Family<Counter, 1>,
    attempts: Family<Counter, 1>,
    reaps: Family<Counter, 1>,
    arrivals: Family<Counter, 1>,
    late: Family<Counter, 2>,
    missed: Family<Counter, 1>,
    reports: Family<Counter, 1>,
    orders: Family<Histogram, 2>,
}

impl TaskMetrics {
    /// Takes the handles.
    pub fn new(metrics: &Metrics) -> Self {
        let families = Families {
            finished: Family::new(metrics, &TASK_RUNS_FINISHED),
            started: Family::new(metrics, &TASK_RUNS_STARTED),
            attempts: Family::new(metrics, &TASK_ATTEMPTS),
            reaps: Family::new(metrics, &TASK_REAPS),
            arrivals: Family::new(metrics, &TASK_ARRIVALS),
            late: Family::new(metrics, &TASK_LATE),
            missed: Family::new(metrics, &TASK_MISSED),
            reports: Family::new(metrics, &TASK_REPORTS),
            orders: Family::new(metrics, &TASK_ORDER_DURATION),
        };
        Self(Arc::new(Inner {
            families: Mutex::new(families),
            phases: PHASES.map(|phase| metrics.gauge(&TASK_RUN_PHASES, &[phase])),
            clocks: ["queue", "start", "run"].map(|clock| (clock, metrics.histogram(&TASK_CLOCKS, &[clock]))),
            reap_seconds: metrics.histogram(&TASK_REAP_SECONDS, &[]),
            oldest_waiting: metrics.gauge(&TASK_OLDEST_WAITING, &[]),
            log_bytes: metrics.counter(&TASK_LOG_BYTES, &[]),
            logs_incomplete: metrics.counter(&TASK_LOGS_INCOMPLETE, &[]),
            in_flight: metrics.gauge(&TASK_ORDERS_IN_FLIGHT, &[]),
        }))
    }

    fn families(&self, act: impl FnOnce(&mut Families)) {
        act(&mut self.0.families.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A run was created by this trigger.
    pub fn started(&self, trigger: &str) {
        self.families(|families| families.started.get([trigger]).increment(1));
    }

    /// A run has ended so.
    pub fn finished(&self, task: &str, outcome: &str, trigger: &str) {
        self.families(|families| families.finished.get([task, outcome, trigger]).increment(1));
    }

    /// An attempt has ended so; its three clocks showed these seconds.
    pub fn attempt(&self, ended: &str, clocks: [(&str, Option<f64>); 3]) {
        self.families(|families| families.attempts.get([ended]).increment(1));
        for ((_, histogram), (_, seconds)) in self.0.clocks.iter().zip(clocks) {
            if let Some(seconds) = seconds {
                histogram.record(seconds);
            }
        }
    }

    /// What became of a pod, and how long that took.
    pub fn reaped(&self, result: &str, seconds: Option<f64>) {
        self.families(|families| families.reaps.get([result]).increment(1));
        if let Some(seconds) = seconds {
            self.0.reap_seconds.record(seconds);
        }
    }

    /// An alarm of a run went off.
    pub fn late(&self, task: &str, clock: &str) {
        self.families(|families| families.late.get([task, clock]).increment(1));
    }

    /// So many scheduled times of a task are not made up for.
    pub fn missed(&self, task: &str, count: usize) {
        self.families(|families| families.missed.get([task]).increment(u64::try_from(count).unwrap_or(u64::MAX)));
    }

    /// A run was announced, or not.
    pub fn report(&self, result: &str) {
        self.families(|families| families.reports.get([result]).increment(1));
    }

    /// How long the run that has waited longest has waited.
    pub fn oldest_waiting(&self, waits: Duration) {
        self.0.oldest_waiting.set(waits.as_secs_f64());
    }

    /// So much was kept of the logs of an attempt.
    pub fn logs(&self, bytes: u64, complete: bool) {
        self.0.log_bytes.increment(bytes);
        self.0.logs_incomplete.increment(u64::from(!complete));
    }

    /// An arrival was answered so.
    pub fn arrival(&self, answer: &str) {
        self.families(|families| families.arrivals.get([answer]).increment(1));
    }

    /// An order ended so.
    pub fn order(&self, effect: &str, outcome: &str, took: Duration) {
        self.families(|families| families.orders.get([effect, outcome]).record(took.as_secs_f64()));
    }

    /// How many orders wait or are under way.
    pub fn in_flight(&self, count: usize) {
        self.0.in_flight.set(super::size(count));
    }

    /// Numbers of phases of all runs there are; `None` for one that nobody has looked at.
    pub fn phases(&self, numbers: impl Iterator<Item = Option<usize>>) {
        let mut counts = [0_usize; PHASES.len()];
        numbers.for_each(|number| counts[number.unwrap_or(PHASES.len() - 1).min(PHASES.len() - 1)] += 1);
        self.0.phases.iter().zip(counts).for_each(|(gauge, count)| gauge.set(super::size(count)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_how_they_stand_and_end() {
        let metrics = Metrics::new();
        let tasks = TaskMetrics::new(&metrics);
        tasks.started("Cron");
        tasks.finished("ns/radar", "Succeeded", "Cron");
        tasks.attempt("Succeeded", [("queue", Some(0.1)), ("start", None), ("run", Some(3.0))]);
        tasks.reaped("Deleted", Some(2.0));
        tasks.late("ns/radar", "queue");
        tasks.missed("ns/radar", 3);
        tasks.report("delivered");
        tasks.oldest_waiting(Duration::from_secs(7));
        tasks.logs(1024, false);
        tasks.arrival("duplicate");
        tasks.order("CreatePod", "Pod", Duration::from_millis(6));
        tasks.phases([Some(4), Some(4), None].into_iter());
        let text = metrics.render();
        for line in [
            "isobar_task_runs_started_total{trigger=\"Cron\"} 1\n",
            "isobar_task_runs_total{task=\"ns/radar\",outcome=\"Succeeded\",trigger=\"Cron\"} 1\n",
            "isobar_task_attempts_total{ended=\"Succeeded\"} 1\n",
            "isobar_task_clock_seconds_count{clock=\"run\"} 1\n",
            "isobar_task_reaps_total{result=\"Deleted\"} 1\n",
            "isobar_task_reap_seconds_sum 2\n",
            "isobar_task_late_total{task=\"ns/radar\",clock=\"queue\"} 1\n",
            "isobar_task_missed_total{task=\"ns/radar\"} 3\n",
            "isobar_task_reports_total{result=\"delivered\"} 1\n",
            "isobar_task_oldest_waiting_seconds 7\n",
            "isobar_task_logs_incomplete_total 1\n",
            "isobar_task_arrivals_total{answer=\"duplicate\"} 1\n",
            "isobar_task_order_duration_seconds_count{effect=\"CreatePod\",outcome=\"Pod\"} 1\n",
            "isobar_task_run_phases{phase=\"Running\"} 2\n",
            "isobar_task_run_phases{phase=\"New\"} 1\n",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }
}
