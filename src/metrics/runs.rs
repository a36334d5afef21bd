//! Runs on compute clusters, as metrics. In: what workers of runs do. Out: `isobar_runs_*`, by cluster.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};

use super::{
    EventDrop, Metrics,
    family::Family,
    table::{
        RUNS, RUNS_CREATED, RUNS_DEBTS, RUNS_DECISION_TO_RUN, RUNS_EVENTS_DROPPED, RUNS_EVENTS_TOLD, RUNS_HOME_PODS, RUNS_LOG_BYTES,
        RUNS_MIRRORED, RUNS_ORDER_DURATION, RUNS_ORDERS_IN_FLIGHT, RUNS_ORPHANS, RUNS_REAPED,
    },
};

/// What became of the creation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunCreation {
    /// It is new.
    Created,
    /// It was there: an earlier try had succeeded.
    Adopted,
    /// The server refused it, or the pod cannot travel.
    Refused,
    /// Something that is not ours has its name.
    NameTaken,
}

impl RunCreation {
    const ALL: [Self; 4] = [Self::Created, Self::Adopted, Self::Refused, Self::NameTaken];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Adopted => "adopted",
            Self::Refused => "refused",
            Self::NameTaken => "name_taken",
        }
    }
}

/// Handles of one cluster. Cloning is cheap and shares them.
#[derive(Clone)]
pub struct RunsMetrics(Arc<Inner>);

struct Inner {
    cluster: Box<str>,
    created: [Counter; 4],
    mirrored: Counter,
    reaped: Counter,
    in_flight: Gauge,
    orders: Mutex<Family<Histogram, 3>>,
    decision_to_run: Histogram,
    log_bytes: Counter,
    orphans: Counter,
    debts: Counter,
    events_told: Counter,
    events_dropped: [Counter; 3],
    home_pods: Gauge,
    runs: Gauge,
}

impl RunsMetrics {
    /// Takes the handles of one cluster.
    pub fn new(metrics: &Metrics, cluster: &str) -> Self {
        let dropped = |reason: EventDrop| metrics.counter(&RUNS_EVENTS_DROPPED, &[cluster, reason.label()]);
        Self(Arc::new(Inner {
            cluster: cluster.into(),
            created: RunCreation::ALL.map(|result| metrics.counter(&RUNS_CREATED, &[cluster, result.label()])),
            mirrored: metrics.counter(&RUNS_MIRRORED, &[cluster]),
            reaped: metrics.counter(&RUNS_REAPED, &[cluster]),
            in_flight: metrics.gauge(&RUNS_ORDERS_IN_FLIGHT, &[cluster]),
            orders: Mutex::new(Family::new(metrics, &RUNS_ORDER_DURATION)),
            decision_to_run: metrics.histogram(&RUNS_DECISION_TO_RUN, &[cluster]),
            log_bytes: metrics.counter(&RUNS_LOG_BYTES, &[cluster]),
            orphans: metrics.counter(&RUNS_ORPHANS, &[cluster]),
            debts: metrics.counter(&RUNS_DEBTS, &[cluster]),
            events_told: metrics.counter(&RUNS_EVENTS_TOLD, &[cluster]),
            events_dropped: [EventDrop::Full, EventDrop::Rate, EventDrop::Failed].map(dropped),
            home_pods: metrics.gauge(&RUNS_HOME_PODS, &[cluster]),
            runs: metrics.gauge(&RUNS, &[cluster]),
        }))
    }

    /// A run was to be created.
    pub fn creation(&self, result: RunCreation) {
        self.0.created[result as usize].increment(1);
    }

    /// A status was written at home.
    pub fn mirrored(&self) {
        self.0.mirrored.increment(1);
    }

    /// Nothing of a run is left over there.
    pub fn reaped(&self) {
        self.0.reaped.increment(1);
    }

    /// How many orders are being carried out.
    pub fn in_flight(&self, count: usize) {
        self.0.in_flight.set(super::size(count));
    }

    /// An order ended so.
    pub fn order(&self, effect: &str, outcome: &str, took: Duration) {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.get([&self.0.cluster, effect, outcome]).record(took.as_secs_f64());
    }

    /// From the decision to the run so long.
    pub fn decision_to_run(&self, seconds: f64) {
        self.0.decision_to_run.record(seconds);
    }

    /// So much of a log was kept.
    pub fn logs_kept(&self, bytes: u64) {
        self.0.log_bytes.increment(bytes);
    }

    /// Something over there that belonged to nothing was deleted.
    pub fn orphan_deleted(&self) {
        self.0.orphans.increment(1);
    }

    /// A run could not be wiped.
    pub fn debt(&self) {
        self.0.debts.increment(1);
    }

    /// An event of a run was told at home.
    pub fn event_told(&self) {
        self.0.events_told.increment(1);
    }

    /// One was not.
    pub fn event_dropped(&self, reason: EventDrop) {
        self.0.events_dropped[reason as usize].increment(1);
    }

    /// How many there are on both sides.
    pub fn counts(&self, home_pods: usize, runs: usize) {
        self.0.home_pods.set(super::size(home_pods));
        self.0.runs.set(super::size(runs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted_by_cluster() {
        let metrics = Metrics::new();
        let runs = RunsMetrics::new(&metrics, "cloud");
        RunCreation::ALL.iter().for_each(|result| runs.creation(*result));
        runs.mirrored();
        runs.reaped();
        runs.in_flight(3);
        runs.order("CreateRun", "Run", Duration::from_millis(60));
        runs.decision_to_run(0.2);
        runs.logs_kept(1024);
        runs.orphan_deleted();
        runs.debt();
        runs.event_told();
        runs.event_dropped(EventDrop::Full);
        runs.counts(7, 6);
        let text = metrics.render();
        for line in [
            "isobar_runs_creations_total{cluster=\"cloud\",result=\"name_taken\"} 1\n",
            "isobar_runs_orders_in_flight{cluster=\"cloud\"} 3\n",
            "isobar_runs_order_duration_seconds_count{cluster=\"cloud\",effect=\"CreateRun\",outcome=\"Run\"} 1\n",
            "isobar_runs_log_bytes_total{cluster=\"cloud\"} 1024\n",
            "isobar_runs_events_dropped_total{cluster=\"cloud\",reason=\"full\"} 1\n",
            "isobar_runs{cluster=\"cloud\"} 6\n",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }
}
