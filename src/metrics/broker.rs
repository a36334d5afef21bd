//! Messages of brokers, as metrics. In: what became of each, and whether the broker is reached. Out: `isobar_task_broker_*`.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge};

use super::{
    Metrics,
    family::Family,
    table::{TASK_BROKER_MESSAGES, TASK_BROKER_UP},
};

/// Handles. Cloning is cheap and shares them.
#[derive(Clone)]
pub struct BrokerMetrics(Arc<Mutex<Families>>);

struct Families {
    messages: Family<Counter, 2>,
    up: Family<Gauge, 1>,
}

impl BrokerMetrics {
    /// Takes the handles.
    pub fn new(metrics: &Metrics) -> Self {
        let families = Families { messages: Family::new(metrics, &TASK_BROKER_MESSAGES), up: Family::new(metrics, &TASK_BROKER_UP) };
        Self(Arc::new(Mutex::new(families)))
    }

    fn families(&self, act: impl FnOnce(&mut Families)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A message of a source ended so.
    pub fn message(&self, source: &str, result: &str) {
        self.families(|families| families.messages.get([source, result]).increment(1));
    }

    /// Whether a source's messages are read.
    pub fn up(&self, source: &str, up: bool) {
        self.families(|families| families.up.get([source]).set(f64::from(u8::from(up))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_source_and_result() {
        let metrics = Metrics::new();
        let broker = BrokerMetrics::new(&metrics);
        broker.message("radar-in", "unreadable");
        broker.up("radar-in", true);
        let text = metrics.render();
        for line in [
            "isobar_task_broker_messages_total{source=\"radar-in\",result=\"unreadable\"} 1\n",
            "isobar_task_broker_up{source=\"radar-in\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
